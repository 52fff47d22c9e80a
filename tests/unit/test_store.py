"""What outlives a restart: commands once, their ends, and counts to restore; whatever happens to those who wait."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from toggle_plugin import store as store_module
from toggle_plugin.models import AuditEntry, WorkloadRef
from toggle_plugin.store import PRUNE_EVERY, Store

from .builders import ALICE, DATABASE, ROOM, WEB
from .conftest import opened

ENTRY = AuditEntry("$1", ROOM, ALICE, "PHONE", "abcd", "start", "web", 1_800_000_000_123)


def entry(number: int, outcome: str = "done") -> AuditEntry:
    received_at = ENTRY.received_at + number
    return replace(ENTRY, event=f"${number}", received_at=received_at, arrival=received_at, outcome=outcome)


async def test_a_command_is_received_once(store: Store) -> None:
    assert await store.receive(ENTRY)
    assert not await store.receive(ENTRY)
    assert not await store.receive(replace(ENTRY, verb="stop", user="@bob:example.org"))
    assert await store.entries(10) == [ENTRY]


async def test_of_many_at_once_one_receives_it(store: Store) -> None:
    assert sorted(await asyncio.gather(*(store.receive(ENTRY) for _ in range(10)))) == [False] * 9 + [True]


async def test_a_command_gets_its_end(store: Store) -> None:
    done = replace(ENTRY, workload=str(WEB), outcome="done", replicas_before=0, replicas_after=3, duration_ms=4200)
    await store.receive(ENTRY)
    await store.receive(entry(2))
    await store.finish(done)
    assert await store.entries(10) == [entry(2), done]


async def test_how_many_there_were_before_stays_known_and_how_many_there_are_after_does_not(store: Store) -> None:
    await store.receive(ENTRY)
    await store.intend(ENTRY.event, 2, 0)
    await store.finish(replace(ENTRY, outcome="interrupted"))
    (kept,) = await store.entries(1)
    assert (kept.replicas_before, kept.replicas_after) == (2, None)


async def test_what_was_received_is_not_changed_by_its_end(store: Store) -> None:
    await store.receive(ENTRY)
    await store.finish(replace(ENTRY, user="@bob:example.org", verb="stop", received_at=1, outcome="done"))
    assert await store.entries(1) == [replace(ENTRY, outcome="done")]


async def test_a_finished_command_is_not_received_again(store: Store) -> None:
    await store.receive(ENTRY)
    await store.finish(replace(ENTRY, outcome="done"))
    assert not await store.receive(ENTRY)
    assert (await store.entries(1))[0].outcome == "done"


async def test_the_newest_entries_come_first(store: Store) -> None:
    for number in (2, 5, 1, 4, 3):
        await store.receive(entry(number))
    assert await store.entries(3) == [entry(5), entry(4), entry(3)]


async def test_commands_outlive_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path / "plugin.db") as database:
        assert await Store(database).receive(ENTRY)
        await Store(database).remember(WEB, 3)
    async with opened(tmp_path / "plugin.db") as database:
        assert not await Store(database).receive(ENTRY)
        assert await Store(database).recall(WEB) == 3


async def test_only_the_newest_commands_are_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(8):
        await store.receive(entry(number))
    monkeypatch.setattr(store_module, "KEEP_ROWS", 5)
    await store.prune()
    assert await store.entries(10) == [entry(number) for number in (7, 6, 5, 4, 3)]


async def test_a_clock_that_was_put_back_does_not_make_the_newest_ones_the_first_to_go(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(8):
        await store.receive(replace(entry(number), received_at=-number))
    monkeypatch.setattr(store_module, "KEEP_ROWS", 5)
    await store.prune()
    assert [kept.event for kept in await store.entries(10)] == [f"${number}" for number in (3, 4, 5, 6, 7)]


async def test_what_has_not_ended_is_kept_however_old_it_is(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.receive(entry(0, outcome=""))
    for number in range(1, 9):
        await store.receive(entry(number))
    monkeypatch.setattr(store_module, "KEEP_ROWS", 5)
    await store.prune()
    assert [kept.event for kept in await store.unfinished()] == ["$0"]


async def test_fewer_commands_than_are_kept_are_all_kept(store: Store) -> None:
    for number in range(3):
        await store.receive(entry(number))
    await store.prune()
    assert len(await store.entries(10)) == 3


async def test_old_commands_are_forgotten_by_and_by_without_being_asked(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "KEEP_ROWS", 5)
    for number in range(2 * PRUNE_EVERY):
        await store.receive(entry(number))
        await store.finish(entry(number))
    assert len(await store.entries(1000)) <= 5 + PRUNE_EVERY


async def test_questions_do_not_push_out_who_stopped_what(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "KEEP_ROWS", 5)
    await store.receive(replace(entry(0), verb="stop"))
    for number in range(1, 20):
        await store.receive(replace(entry(number), verb="status"))
    await store.receive(replace(entry(20), verb="stop", outcome="refused"))
    await store.prune()
    kept = [(kept.event, kept.verb) for kept in await store.entries(1000)]
    assert len(kept) == 6
    assert kept[-1] == (entry(0).event, "stop")


async def test_a_count_is_remembered_for_its_workload(store: Store) -> None:
    assert await store.recall(WEB) is None
    await store.remember(WEB, 3)
    await store.remember(DATABASE, 2)
    await store.remember(WEB, 4)
    assert (await store.recall(WEB), await store.recall(DATABASE)) == (4, 2)


@pytest.mark.parametrize(
    "other",
    [
        WorkloadRef("StatefulSet", "games", "web"),
        WorkloadRef("Deployment", "other", "web"),
        WorkloadRef("Deployment", "games", "db"),
    ],
)
async def test_workloads_that_differ_in_anything_have_counts_of_their_own(store: Store, other: WorkloadRef) -> None:
    await store.remember(WEB, 3)
    assert await store.recall(other) is None


@pytest.mark.parametrize("count", [0, -1])
async def test_nothing_to_restore_is_never_remembered(store: Store, count: int) -> None:
    await store.remember(WEB, 3)
    with pytest.raises(ValueError, match="nothing to restore"):
        await store.remember(WEB, count)
    assert await store.recall(WEB) == 3


async def test_what_a_database_raises_comes_through(tmp_path: Path) -> None:
    async with opened(tmp_path / "plugin.db") as database:
        await database.execute("DROP TABLE command")
        with pytest.raises(sqlite3.OperationalError):
            await Store(database).receive(ENTRY)


async def test_a_command_is_overtaken_by_a_newer_one_that_was_begun_or_has_ended_and_was_not_refused(
    store: Store,
) -> None:
    older = replace(ENTRY, event="$older", workload=str(WEB), arrival=1)
    newer = replace(ENTRY, event="$newer", workload=str(WEB), arrival=2, user="@bob:example.org", verb="stop")
    await store.receive(older)
    await store.receive(newer)
    assert await store.overtaken_by(older) == "", "it may still be refused"
    await store.intend("$newer", 1, 0)
    assert await store.overtaken_by(older) == "@bob:example.org"
    assert await store.overtaken_by(newer) == ""
    assert await store.overtaken_by(replace(older, workload=str(DATABASE))) == ""
    await store.finish(replace(newer, outcome="done"))
    assert await store.overtaken_by(older) == "@bob:example.org"
    await store.finish(replace(newer, outcome="refused"))
    assert await store.overtaken_by(older) == ""


# Cancellation

MOMENTS = range(60)
"""How many turns of the event loop a statement gets before whoever waits for it is cancelled."""


async def cancelled_after(turns: int, work: asyncio.Task[object]) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)


async def test_a_cancelled_caller_leaves_a_whole_statement_and_no_open_transaction(
    store: Store, tmp_path: Path
) -> None:
    for turns in MOMENTS:
        await cancelled_after(turns + 1, asyncio.ensure_future(store.receive(entry(turns))))
        await cancelled_after(turns + 1, asyncio.ensure_future(store.remember(WEB, turns + 1)))
    await store.drain()
    with contextlib.closing(sqlite3.connect(tmp_path / "plugin.db", timeout=5)) as outside:
        # Another connection sees only what was committed, and can write only where no transaction is open.
        assert outside.execute("SELECT count(*) FROM command").fetchone() == (len(MOMENTS),)
        assert outside.execute("SELECT replicas FROM replica_count").fetchone() == (len(MOMENTS),)
        outside.execute("DELETE FROM command")
        outside.commit()


async def test_a_statement_whose_caller_went_away_is_waited_for_before_the_end(store: Store, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "plugin.db", isolation_level=None)) as outside:
        outside.execute("BEGIN EXCLUSIVE")
        await cancelled_after(5, asyncio.ensure_future(store.receive(ENTRY)))
        draining = asyncio.ensure_future(store.drain())
        done, _ = await asyncio.wait({draining}, timeout=0.05)
        assert not done
        outside.execute("ROLLBACK")
    await draining
    assert await store.entries(10) == [ENTRY]
