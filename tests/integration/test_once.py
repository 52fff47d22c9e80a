"""Exactly once: too late after a crash, said again by somebody else, forgotten in time, cut off in a transaction."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.integration.conversation import ask, audit, audited, room_of, told
from tests.stack.chat import ChatClient
from tests.stack.cluster.behaviour import Outcome
from tests.stack.stack import PLUGIN, TARGETS, Servers, Stack
from toggle_plugin.store import KEEP_ROWS

API: dict[str, object] = {"kind": "Deployment", "namespace": "demo", "name": "api", "replicas": 1}

pytestmark = pytest.mark.own_sync


async def test_what_was_not_done_when_the_bot_died_and_is_too_old_now_is_answered_and_not_run(
    stack: Stack, alice: ChatClient, room: str
) -> None:
    stack.cluster.add("Deployment", "demo", "api")
    await stack.settings(targets={**TARGETS, "api": API})
    stack.cluster.behave("demo", "web", outcome=Outcome.NEVER_READY)
    stack.cluster.fail(method="GET", path="deployments/api", delay=30.0, times=None)
    not_begun = await alice.send(room, "start api")
    begun = await alice.send(room, "start web")
    reply = await alice.wait_text(await alice.wait_reply(begun), "is starting")
    await stack.settings(maximum_age="5s", rollout_timeout="5s")
    await stack.maubot.kill()
    stack.cluster.faults.clear()
    assert [request.path.rsplit("/", 2)[1] for request in stack.cluster.asked("PATCH")] == ["web"]
    stack.cluster.requests.clear()
    await asyncio.sleep(10.5)
    await stack.maubot.run()
    await alice.wait_text(reply, "I was stopped while I worked on **web**, and it is too late to go on")
    assert (await alice.wait_reply(not_begun)).body.startswith("Not executed: your message is ")
    outcomes = [(await audited(stack, alice, event))["outcome"] for event in (not_begun, begun)]
    assert outcomes == ["refused", "interrupted"]
    assert stack.cluster.asked("PATCH") == []
    assert stack.cluster.replicas("Deployment", "demo", "api") == 0
    assert len(alice.timeline.replies(not_begun)) == 1


async def put_event(stack: Stack, person: ChatClient, room: str, content: Any) -> str:
    """Send an encrypted event's content as it is; a new event each time."""
    path = f"/_matrix/client/v3/rooms/{room}/send/m.room.encrypted/{uuid4().hex}"
    return str((await stack.synapse.request("PUT", path, content, token=person.access_token))["event_id"])


async def content_of(stack: Stack, person: ChatClient, room: str, event_id: str) -> Any:
    """An event's content as the homeserver has it: encrypted."""
    path = f"/_matrix/client/v3/rooms/{room}/event/{event_id}"
    return (await stack.synapse.request("GET", path, token=person.access_token))["content"]


async def test_a_ciphertext_that_is_sent_again_as_another_event_changes_nothing(
    stack: Stack, alice: ChatClient
) -> None:
    mallory = await stack.person("mallory")
    room, other = await room_of(stack, alice, mallory), await stack.room_with_bot(alice)
    started = await alice.send(room, "!toggle start")
    await alice.wait_text(await alice.wait_reply(started), "is running")
    await told(alice, room, "!toggle stop", "is off")
    await stack.settings(maximum_age="6s")  # after that, what could not be read is answered
    content = await content_of(stack, alice, room, started)
    replays = [await put_event(stack, alice, room, content), await put_event(stack, mallory, room, content)]
    await stack.maubot.restart()  # what was read before is not only remembered in memory
    replays.append(await put_event(stack, alice, room, content))
    elsewhere = await put_event(stack, alice, other, content)
    assert "so I did nothing" in (await alice.wait_reply(elsewhere)).body
    assert "is off" in (await ask(alice, room, "!toggle status")).body
    await alice.settle(1.5)
    assert [alice.timeline.replies(event) for event in replays] == [[], [], []]
    assert [row["verb"] for row in await audit(stack)] == ["start", "stop", "status"]
    assert len(stack.cluster.asked("PATCH")) == 2


ROWS_OF_ONE_SORT = KEEP_ROWS + 20
OLD_ROWS = """
INSERT INTO command (event_id, room_id, user_id, device_id, fingerprint, verb, target, workload, received_at, outcome,
    arrival, sent_at)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
SELECT '${verb}-' || i, '!old', '@old:localhost', '', '', '{verb}', 'web', '', 1000000 + i, 'done', i, 4000000000000 - i
FROM n
"""
"""Rows of one verb: the later they arrived, the earlier they claim to be, and all of them from the year 2096."""
COUNTS = "SELECT verb, COUNT(*) AS n, MIN(arrival) AS oldest FROM command GROUP BY verb ORDER BY verb"


async def test_rows_are_pruned_by_our_clock_each_sort_for_itself(any_stack: Stack) -> None:
    stack = any_stack
    alice = await stack.person("alice")
    room = await stack.room_with_bot(alice)
    for verb in ("start", "status"):
        sql = OLD_ROWS.format(verb=verb, rows=ROWS_OF_ONE_SORT)
        await stack.api.call("POST", f"/instance/{stack.instance}/database/query", {"query": sql})
    await ask(alice, room, "stop")
    kept = {row["verb"]: (row["n"], row["oldest"]) for row in await pruned(stack, alice)}
    gone = ROWS_OF_ONE_SORT - KEEP_ROWS
    assert kept["start"] == (KEEP_ROWS - 1, gone + 2), "with the new stop they are as many as are kept"
    assert kept["status"] == (KEEP_ROWS, gone + 1)
    assert kept["stop"][0] == 1


async def pruned(stack: Stack, person: ChatClient) -> list[dict[str, Any]]:
    """What is there of each sort, once something was forgotten, or after a while."""
    rows = await stack.rows(COUNTS)
    for _ in range(100):
        if sum(row["n"] for row in rows) <= 2 * KEEP_ROWS:
            break
        await person.settle(0.1)
        rows = await stack.rows(COUNTS)
    return rows


SLOW_DISK = """
import os, sqlite3, time
connect, slow = sqlite3.connect, os.environ["SLOW_DISK"]

class Slow(sqlite3.Connection):
    def execute(self, sql, *values):
        if sql.startswith("DELETE FROM crypto_device") and os.path.exists(slow):
            os.rename(slow, slow + ".now")
            time.sleep(1.0)
        return super().execute(sql, *values)

sqlite3.connect = lambda *values, **options: connect(*values, factory=Slow, **options)
"""
"""Makes one statement in the middle of a transaction last, as a slow disk does, once the file SLOW_DISK is there."""


def locked(path: Path, seconds: float) -> sqlite3.Connection:
    """A connection of our own that may write now, and nobody else."""
    database = sqlite3.connect(path, timeout=seconds, isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    return database


def selected(path: Path, sql: str, *values: str) -> list[Any]:
    """What another connection than maubot's sees."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        return [row[0] for row in database.execute(sql, values)]


async def test_a_reload_in_the_middle_of_a_transaction_leaves_none_open(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SLOW_DISK)
    slow, begun = tmp_path / "slow", tmp_path / "slow.now"
    environment = {"PYTHONPATH": str(tmp_path), "SLOW_DISK": str(slow)}
    async with (
        Servers.open(tmp_path / "servers", environment=environment) as servers,
        servers.stack(sync=False, tidy=False) as stack,
    ):
        alice = await stack.person("alice")
        room = await stack.room_with_bot(alice)
        await ask(alice, room, "status")
        await stack.api.reload_plugin(PLUGIN)  # so that alice's keys are asked for anew, and written
        slow.touch()
        event = await alice.send(room, "status")
        while not begun.exists():
            await alice.settle(0.05)
        await stack.api.reload_plugin(PLUGIN)
        await alice.wait_reply(event)
        await ask(alice, room, "status")
        keys, rows = stack.maubot.directory / "maubot.db", stack.maubot.directory / "plugins" / f"{stack.instance}.db"
        locked(keys, 2.0).close()
        locked(rows, 2.0).close()
        device = "SELECT device_id FROM crypto_device WHERE device_id=?"
        assert selected(keys, device, alice.device_id) == [alice.device_id]
        await stack.maubot.stop()
        assert selected(keys, device, alice.device_id) == [alice.device_id]
        assert selected(rows, "SELECT outcome FROM command") == 3 * ["done"]
        assert len(alice.timeline.replies(event)) == 1
