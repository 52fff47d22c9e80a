"""A stock homeserver allows one message in five seconds after ten: nothing is lost, and the last state goes out."""

from __future__ import annotations

import pytest

from tests.integration.conversation import ask, audit
from tests.stack.stack import Stack


@pytest.mark.timeout(300)
async def test_more_commands_than_the_limit_allows_are_all_answered(stock_stack: Stack) -> None:
    alice = await stock_stack.person("alice")
    room = await stock_stack.room_with_bot(alice)
    events = [await alice.send(room, "status") for _ in range(16)]
    replies = [await alice.wait_reply(event, 120) for event in events]
    assert all("is off" in reply.body for reply in replies)
    assert all(len(alice.timeline.replies(event)) == 1 for event in events)
    assert len(await audit(stock_stack)) == 16
    assert any("limited_for" in line for line in stock_stack.instance_log())


@pytest.mark.timeout(300)
async def test_under_a_limit_edits_are_merged_and_the_last_state_goes_out(stock_stack: Stack) -> None:
    alice = await stock_stack.person("alice")
    room = await stock_stack.room_with_bot(alice)
    for _ in range(10):  # the burst is used up
        await ask(alice, room, "help")
    stock_stack.cluster.behave("demo", "web", step=1.0)
    start = await alice.send(room, "start")
    reply = await alice.wait_text(await alice.wait_reply(start, 120), "is running", 120)
    assert len(reply.history) <= 3
    stop = await alice.send(room, "stop")
    await alice.wait_text(await alice.wait_reply(stop, 120), "is off", 120)
