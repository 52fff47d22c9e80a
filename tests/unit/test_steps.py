"""What is kept of a group's command: its steps, who overtook it, and what of it a history tells."""

from __future__ import annotations

from dataclasses import replace

import pytest

from toggle_plugin import store as store_module
from toggle_plugin.models import BETWEEN, AuditEntry
from toggle_plugin.steps import Step
from toggle_plugin.store import Store

from .builders import ALICE, BOB, DATABASE, ROOM, WEB

COMMAND = AuditEntry("$1", ROOM, ALICE, "PHONE", "abcd", "start", "web", 1_000, workload=str(WEB), arrival=1)
GROUP = replace(COMMAND, event="$2", user=BOB, target="stack", workload=f"{DATABASE}{BETWEEN}{WEB}", arrival=2)
STEP = Step("$2", "db", str(DATABASE), 0, 1)


async def test_a_step_is_kept_from_before_it_is_written_to_its_end(store: Store) -> None:
    assert await store.steps("$2") == []
    await store.begin_step(STEP)
    assert await store.steps("$2") == [STEP]
    await store.wrote_step("$2", "db")
    await store.end_step("$2", "db", "done")
    assert await store.steps("$2") == [replace(STEP, written=True, outcome="done")]


async def test_a_step_that_is_begun_again_was_written_all_the_same(store: Store) -> None:
    await store.begin_step(STEP)
    await store.wrote_step("$2", "db")
    await store.begin_step(STEP)
    assert await store.steps("$2") == [replace(STEP, written=True)]


async def test_steps_are_those_of_their_command(store: Store) -> None:
    await store.begin_step(STEP)
    await store.begin_step(replace(STEP, event="$3"))
    await store.wrote_step("$3", "db")
    await store.end_step("$3", "web", "done")
    assert await store.steps("$2") == [STEP]
    assert await store.steps("$3") == [replace(STEP, event="$3", written=True)]


async def test_a_group_that_has_begun_overtakes_a_command_for_any_of_its_workloads(store: Store) -> None:
    await store.receive(COMMAND)
    await store.receive(GROUP)
    assert await store.overtaken_by(COMMAND) == "", "it was only received"
    await store.begin_step(STEP)
    assert await store.overtaken_by(COMMAND) == BOB, "although it has not come to this workload"
    assert await store.overtaken_by(replace(COMMAND, workload="Deployment games/other")) == ""
    assert await store.overtaken_by(GROUP) == "", "not by itself"


async def test_a_group_is_overtaken_by_a_command_for_any_of_its_workloads(store: Store) -> None:
    newer = replace(COMMAND, event="$3", arrival=3)
    await store.receive(GROUP)
    await store.receive(newer)
    assert await store.overtaken_by(GROUP) == ""
    await store.intend("$3", 1, 0)
    assert await store.overtaken_by(GROUP) == ALICE
    await store.finish(replace(newer, outcome="refused"))
    assert await store.overtaken_by(GROUP) == ""


async def test_a_history_is_of_some_names_the_newest_first(store: Store) -> None:
    other = replace(COMMAND, event="$4", target="other", arrival=4)
    question = replace(COMMAND, event="$5", verb="status", arrival=5)
    for entry in (COMMAND, GROUP, other, question):
        await store.receive(entry)
    await store.begin_step(STEP)
    assert await store.history(["web", "stack", "other"], 10) == [other, GROUP, COMMAND]
    assert await store.history(["web", "stack", "other"], 1) == [other]
    assert await store.history(["db"], 10) == [GROUP], "it is one of the group's steps"
    assert await store.history(["web"], 10) == [COMMAND], "the group did not come to it"


async def test_a_history_of_five_hundred_names_is_one_question(store: Store) -> None:
    await store.receive(COMMAND)
    assert await store.history([f"t{number}" for number in range(500)] + ["web"], 10) == [COMMAND]


async def test_steps_are_forgotten_with_their_command(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "KEEP_ROWS", 1)
    await store.receive(replace(GROUP, outcome="done"))
    await store.begin_step(STEP)
    await store.receive(replace(GROUP, event="$3", arrival=3, outcome="done"))
    await store.begin_step(replace(STEP, event="$3"))
    await store.prune()
    assert await store.steps("$2") == []
    assert len(await store.steps("$3")) == 1
