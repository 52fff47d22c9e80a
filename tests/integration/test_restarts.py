"""Restarts and gaps with the sync loop that is ours: nothing is lost, nothing runs twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.integration.conversation import ask, audit, told
from tests.stack.chat import ChatClient
from tests.stack.stack import Stack

BURST = 200

pytestmark = pytest.mark.own_sync


def scales(stack: Stack) -> int:
    """How often something was written to the cluster."""
    return len(stack.cluster.asked("PATCH"))


async def test_a_quiet_restart_loses_no_command_and_no_key(stack: Stack, alice: ChatClient, room: str) -> None:
    await told(alice, room, "start", "is running")
    for round_ in range(2):
        await stack.maubot.stop()
        await alice.rotate_session(room)
        while_down = await alice.send(room, "status")
        await stack.maubot.run()
        assert "running" in (await alice.wait_reply(while_down)).body
        afterwards = await ask(alice, room, "status")
        assert "running" in afterwards.body, round_
    rows = await audit(stack)
    assert [row["verb"] for row in rows] == ["start"] + 4 * ["status"]
    assert {row["outcome"] for row in rows} == {"done"}
    assert scales(stack) == 1


async def test_a_key_and_its_message_in_one_sync(stack: Stack, alice: ChatClient, room: str) -> None:
    await ask(alice, room, "status")
    for _ in range(3):
        stack.maubot.process.pause()
        await alice.rotate_session(room)
        sent = [await alice.send(room, "status") for _ in range(3)]
        stack.maubot.process.resume()
        for event in sent:
            await alice.wait_reply(event)
        assert [len(alice.timeline.replies(event)) for event in sent] == [1, 1, 1]
    assert not [line for line in stack.instance_log() if "key=came_late" in line], "the key was there first"


async def test_what_came_too_late_is_answered_once_and_together(stack: Stack, alice: ChatClient, room: str) -> None:
    await stack.settings(maximum_age="15s")
    await ask(alice, room, "status")
    await stack.maubot.stop()
    late = [await alice.send(room, line) for line in ("start", "status", "stop web")]
    await asyncio.sleep(15)
    await stack.maubot.run()
    fresh = await alice.send(room, "status")
    assert "is off" in (await alice.wait_reply(fresh)).body
    (answer,) = [await alice.wait_reply(late[0])]
    assert answer.body.startswith("Not executed: 3 commands that are up to ")
    assert "`start web` of" in answer.body or "start" in answer.body
    await alice.settle(2.5)
    assert sum(len(alice.timeline.replies(event)) for event in late) == 1
    assert scales(stack) == 0
    await stack.maubot.restart()
    await ask(alice, room, "status")
    assert sum(len(alice.timeline.replies(event)) for event in late) == 1, "not again after another restart"


async def test_a_burst_while_the_bot_was_down_is_answered_whole(stack: Stack, alice: ChatClient, room: str) -> None:
    await ask(alice, room, "status")
    await stack.maubot.stop()
    events: list[Any] = [await alice.send(room, "status") for _ in range(BURST)]
    await stack.maubot.run()
    for event in events:
        await alice.wait_reply(event, timeout=90)
    assert [len(alice.timeline.replies(event)) for event in events] == BURST * [1]
    rows = (await audit(stack))[1:]
    assert [row["event_id"] for row in sorted(rows, key=lambda row: row["arrival"])] == events
