"""Several targets, groups and commands in one reply."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maubot.matrix import parse_formatted

from toggle_plugin import listing
from toggle_plugin.errors import ClusterError, NotFound
from toggle_plugin.groups import Group
from toggle_plugin.models import AuditEntry, Outcome, Phase, Progress, Result, RolloutStatus, Verb
from toggle_plugin.steps import Standing

from .builders import ALICE, BOB

OFF = RolloutStatus(Phase.OFF, 0, 0, 0)
UP = RolloutStatus(Phase.RUNNING, 1, 1, 1)
THREE = RolloutStatus(Phase.RUNNING, 3, 3, 3)
STARTING = RolloutStatus(Phase.STARTING, 1, 0, 0, "0 of 1 available")
STUCK = RolloutStatus(Phase.STUCK, 1, 0, 0, "pod db-0 has no node")
GONE = NotFound("There is no Deployment web in namespace games; check kind, namespace and name of the target.")
STACK = Group("stack", ("db", "api", "web"))


async def plain(markdown: str) -> list[str]:
    body, _ = await parse_formatted(markdown)
    return body.splitlines()


# How targets stand


async def test_one_status_is_a_sentence() -> None:
    assert await plain(listing.statuses([("web", UP)])) == ["🟢 **web** is running (desired 1, ready 1, available 1)"]
    assert await plain(listing.statuses([("web", GONE)])) == [f"❔ **web** is not known: {GONE}"]


async def test_what_is_well_is_gathered_and_what_is_not_comes_first_with_its_reason() -> None:
    found: list[tuple[str, listing.Found]] = [
        ("web", UP),
        ("db", STUCK),
        ("ark", OFF),
        ("api", THREE),
        ("old", GONE),
        ("new", STARTING),
    ]
    assert await plain(listing.statuses(found)) == [
        f"● ❔ **old** is not known: {GONE}",
        "● 🔴 **db** is stuck (desired 1, ready 0, available 0): pod db-0 has no node",
        "● 🟡 **new** is starting (desired 1, ready 0, available 0): 0 of 1 available",
        "● 🟢 **2 running**: web, api (3)",
        "● ⚪ **1 off**: ark",
    ]


async def test_where_very_much_is_not_well_the_names_are_gathered_too() -> None:
    found = [(f"web-{number}", STUCK) for number in range(listing.ONE_BY_ONE + 1)]
    (line,) = await plain(listing.statuses(found))
    assert line.startswith("🔴 **31 stuck**: web-0, web-1,")
    assert "no node" not in line


@pytest.mark.parametrize(
    ("states", "line"),
    [
        ((UP, UP, THREE), "● 🟢 **stack**: all 3 running"),
        ((OFF, OFF, OFF), "● ⚪ **stack**: all 3 off"),
        ((UP, OFF, OFF), "● ◐ **stack**: 1 running, 2 off"),
        ((UP, STUCK, OFF), "● 🔴 **stack**: 1 stuck, 1 running, 1 off"),
        ((GONE, STARTING, UP), "● ❔ **stack**: 1 not known, 1 starting, 1 running"),
    ],
)
async def test_a_group_is_told_by_its_targets(states: tuple[Any, ...], line: str) -> None:
    found = list(zip(STACK.targets, states, strict=True))
    assert (await plain(listing.statuses(found, [STACK])))[0] == line


@given(st.lists(st.sampled_from([UP, OFF, THREE, STARTING, STUCK, GONE]), min_size=1, max_size=60))
async def test_every_target_is_in_the_list_once(states: list[Any]) -> None:
    found = [(f"<{number}>", each) for number, each in enumerate(states)]
    text = "\n".join(await plain(listing.statuses(found)))
    assert [text.count(name) for name, _ in found] == [1] * len(found)


# How a group's command goes


def ended(target: str, result: Result, status: RolloutStatus | None = UP, **more: Any) -> Outcome:
    return Outcome(result, target, Verb.START, 2.0, status, **more)


START = Standing("stack", Verb.START, STACK.targets, seconds=14.0)
DONE = (ended("db", Result.DONE), ended("api", Result.UNCHANGED), ended("web", Result.DONE))


async def test_while_it_lasts_each_target_is_told_in_turn() -> None:
    how = replace(START, ended=DONE[:1], now=Progress("api", STARTING, 1.0))
    assert await plain(listing.standing(how)) == [
        "🟡 **stack** is starting, 1 of 3 done",
        "",
        "● 🟢 **db** is running (desired 1, ready 1, available 1), after 2.0 s.",
        "● 🟡 **api** is starting (desired 1, ready 0, available 0): 0 of 1 available",
        "● ⏸ **web** waits",
    ]


async def test_in_the_end_the_whole_is_told_first() -> None:
    lines = await plain(listing.standing(replace(START, ended=DONE)))
    assert lines[0] == "🟢 **stack** is running, after 14s."
    assert lines[3] == "● 🟢 **api** is running (desired 1, ready 1, available 1), as it was already."
    assert await plain(listing.call(replace(START, ended=DONE))) == lines[:1]


async def test_a_group_that_was_so_already_is_told_as_such() -> None:
    same = tuple(replace(each, result=Result.UNCHANGED) for each in DONE)
    how = replace(START, verb=Verb.STOP, ended=same)
    assert (await plain(listing.standing(how)))[0] == "⚪ **stack** is off, as it was already."


async def test_one_that_fails_says_who_did_what_and_who_had_no_turn() -> None:
    failed = ended("api", Result.TIMED_OUT, STUCK)
    how = replace(START, ended=(DONE[0], failed))
    lines = await plain(listing.standing(how, "!toggle "))
    assert lines[0] == "🔴 The start of **stack** ended at **api**, so **web** had no turn."
    assert lines[3].startswith(
        "● 🔴 **api** is stuck (desired 1, ready 0, available 0): pod db-0 has no node. I followed"
    )
    assert lines[4] == "● ⏸ **web** was not started"
    called = await plain(listing.call(how, "!toggle "))
    assert called == [lines[0], "", lines[3].removeprefix("● ")]


async def test_a_stop_that_fails_says_what_was_not_stopped() -> None:
    failed = Outcome(Result.FAILED, "web", Verb.STOP, error=ClusterError("The cluster broke."), before=1, after=1)
    how = Standing("stack", Verb.STOP, ("web", "api", "db"), (failed,))
    assert await plain(listing.standing(how)) == [
        "🔴 The stop of **stack** ended at **web**, so **api** and **db** had no turn.",
        "",
        "● The cluster broke. **web** was left as it was.",
        "● ⏸ **api** was not stopped",
        "● ⏸ **db** was not stopped",
    ]


async def test_one_that_a_newer_command_ended_follows_nothing_any_more() -> None:
    how = replace(START, ended=(DONE[0], ended("api", Result.SUPERSEDED, STARTING, by=BOB)))
    assert await plain(listing.standing(how)) == [
        f"🔴 The start of **stack** ended, because a newer command of {BOB} for one of its targets took over.",
        "",
        "● 🟢 **db** is running (desired 1, ready 1, available 1), after 2.0 s.",
        "● 🟡 **api** is starting (desired 1, ready 0, available 0): 0 of 1 available. I follow it no longer.",
        "● ⏸ **web** was not started",
    ]
    before_it_began = replace(START, ended=(ended("db", Result.SUPERSEDED, None, by=BOB),))
    assert (await plain(listing.standing(before_it_began)))[2] == "● ⏸ **db** was not started"


BACK = Outcome(Result.CHANGED, "t1", Verb.START, 9.0, OFF, 1, 0, by="Flux")


async def test_what_was_put_back_is_told_in_its_place() -> None:
    how = replace(START, ended=DONE, put_back=(replace(BACK, target="api"),))
    lines = await plain(listing.standing(how))
    assert lines[0] == "🔴 **stack** did not stay on."
    assert [line.split(" ")[2] for line in lines[2:]] == ["**db**", "**api**", "**web**"]
    assert "**api** did not stay on: somebody else (Flux) set it to 0 after 9.0 s." in lines[3]
    assert (await plain(listing.standing(replace(how, verb=Verb.STOP))))[0] == "🔴 **stack** did not stay off."


async def test_in_a_large_group_what_was_put_back_has_its_line_and_is_not_among_those_that_are_done() -> None:
    names = tuple(f"t{number}" for number in range(listing.ONE_BY_ONE + 1))
    done = tuple(ended(name, Result.DONE) for name in names)
    lines = await plain(listing.standing(Standing("all-of-it", Verb.START, names, done, put_back=(BACK,))))
    assert "**t1** did not stay on" in lines[2]
    assert lines[3].startswith("● 🟢 **30 done**: t0, t2, t3,")
    assert len(lines) == 4


async def test_a_large_group_has_a_line_for_what_goes_on_and_only_names_for_the_rest() -> None:
    names = tuple(f"t{number}" for number in range(listing.ONE_BY_ONE + 1))
    how = Standing("all-of-it", Verb.START, names, (ended("t0", Result.DONE), ended("t1", Result.DONE)))
    lines = await plain(listing.standing(replace(how, now=Progress("t2", STARTING, 1.0))))
    assert lines[2].startswith("● 🟡 **t2** is starting")
    assert lines[3] == "● 🟢 **2 done**: t0, t1"
    assert lines[4].startswith("● ⏸ **28 had no turn yet**: t3, t4,")
    failed = replace(how, ended=(*how.ended, ended("t2", Result.TIMED_OUT, STUCK)))
    assert (await plain(listing.standing(failed)))[2].startswith("● 🔴 **t2** is stuck")


# What was done


def entry(**changes: Any) -> AuditEntry:
    made = AuditEntry("$1", "!room", ALICE, "", "", "start", "web", received_at=1_000_000, outcome="done")
    return replace(made, **changes)


async def test_a_history_says_who_what_when_and_how_it_ended() -> None:
    entries = [
        entry(outcome="", user=BOB, verb="stop"),
        entry(replicas_before=0, replicas_after=2, duration_ms=14_200, received_at=940_000),
        entry(target="stack", outcome="failed: Forbidden", duration_ms=500, received_at=1_000_000 - 10_920_000),
        entry(outcome="refused", target="", received_at=-3 * 86_400_000),
    ]
    assert await plain(listing.history("web", entries, 1000.0)) == [
        "The last commands for **web**:",
        "",
        f"● 0s ago: {BOB} `stop web`: under way",
        f"● 1m ago: {ALICE} `start web`: done, 0 → 2, after 14s",
        f"● 3h2m ago: {ALICE} `start stack`: failed: Forbidden, after 0.5 s",
        f"● 3 days ago: {ALICE} `start`: refused",
    ]


async def test_a_history_without_anything_says_so() -> None:
    assert await plain(listing.history("", [], 0.0)) == ["No start, stop or restart is written down."]
    assert await plain(listing.history("web", [], 0.0)) == ["No start, stop or restart for **web** is written down."]
