"""A stock homeserver allows one message in five seconds after ten: nothing is lost, and the last state goes out."""

from __future__ import annotations

import pytest

from tests.integration.conversation import ask, audit, room_of
from tests.stack.chat import ChatClient
from tests.stack.cluster.behaviour import Outcome
from tests.stack.stack import Stack

FLOOD = 18
"""Commands of one person: more than the burst, so that their replies wait."""


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


def unanswered(person: ChatClient, events: list[str]) -> int:
    return sum(not person.timeline.replies(event) for event in events)


@pytest.mark.timeout(300)
async def test_under_a_limit_the_end_comes_before_first_replies_and_others_get_their_turn(stock_stack: Stack) -> None:
    stack = stock_stack
    alice, bob = await stack.person("alice"), await stack.person("bob")
    await stack.settings(allowed_users=[alice.user_id, bob.user_id])
    room = await room_of(stack, alice, bob)
    stack.cluster.behave("demo", "web", outcome=Outcome.NEVER_READY)
    start = await alice.wait_text(await ask(alice, room, "!toggle start"), "is starting")
    flood = [await alice.send(room, "!toggle help") for _ in range(FLOOD)]
    asked = await bob.send(room, "!toggle help")
    stack.cluster.behave("demo", "web", outcome=Outcome.NORMAL)
    await alice.wait_text(start, "is running", 60)
    after_the_end = unanswered(alice, flood)
    await alice.wait_reply(asked, 60)
    after_bob = unanswered(alice, flood)
    assert any("limited_for" in line for line in stack.instance_log())
    # Each of them would be the last if it had to wait until the flood, which came first, is over.
    assert after_the_end >= 3
    assert after_bob >= 3
