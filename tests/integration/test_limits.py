"""A stock homeserver allows one message in five seconds after ten: nothing is lost, and the last state goes out."""

from __future__ import annotations

import asyncio

import pytest

from tests.integration.conversation import ask, audit, room_of
from tests.stack.chat import ChatClient
from tests.stack.stack import TARGETS, Stack

FLOOD = 16
"""Commands of one person: more than the burst, so that several of their replies wait."""
WAITING = 3
"""That many at least wait still when somebody's turn comes, who would be the last if the order of arrival decided."""


def unanswered(person: ChatClient, events: list[str]) -> int:
    return sum(not person.timeline.replies(event) for event in events)


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


@pytest.mark.timeout(300)
async def test_under_a_limit_the_end_of_a_roll_out_comes_before_first_replies(stock_stack: Stack) -> None:
    stack = stock_stack
    names = [f"web{number}" for number in range(FLOOD)]
    for name in names:
        stack.cluster.add("Deployment", "demo", name, frozen=True)
    alice = await stack.person("alice")
    room = await stack.room_with_bot(alice)
    await stack.settings(targets={**TARGETS, **{name: {**TARGETS["web"], "name": name} for name in names}})
    stack.cluster.behave("demo", "web", frozen=True)  # nothing happens to it, and there is nothing to call anybody for
    reply = await alice.wait_text(await ask(alice, room, "start web"), "is starting")
    flood = [await alice.send(room, f"start {name}") for name in names]
    while len(stack.cluster.asked("PATCH")) <= FLOOD:
        await alice.settle(0.1)
    await asyncio.sleep(0.5)  # so that all first replies wait before the end does
    stack.cluster.behave("demo", "web", frozen=False)
    await alice.wait_text(reply, "is running", 90)
    assert unanswered(alice, flood) >= WAITING


@pytest.mark.timeout(300)
async def test_under_a_limit_nobody_waits_for_somebody_elses_flood(stock_stack: Stack) -> None:
    alice, bob = await stock_stack.person("alice"), await stock_stack.person("bob")
    await stock_stack.settings(allowed_users=[alice.user_id, bob.user_id])
    room = await room_of(stock_stack, alice, bob)
    flood = [await alice.send(room, "!toggle help") for _ in range(FLOOD)]
    event = await bob.send(room, "!toggle help")
    await alice.wait_reply(event, 90)
    assert unanswered(alice, flood) >= WAITING
