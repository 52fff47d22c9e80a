"""Many people at once, and more than the bot takes of one: each gets the truth."""

from __future__ import annotations

import asyncio

import pytest

from tests.integration.conversation import ask, audit
from tests.stack.chat import ChatClient
from tests.stack.stack import Stack

PEOPLE = 10
FLOOD = 560

pytestmark = pytest.mark.own_sync


async def crowd(stack: Stack, room: str, host: ChatClient, count: int) -> list[ChatClient]:
    """So many people who may command, in the host's room; each reads everything, so no more than a test needs."""
    people = [host, *[await stack.person(f"person{number}") for number in range(1, count)]]
    await stack.settings(allowed_users=[person.user_id for person in people])
    for person in people[1:]:
        await host.invite(room, person.user_id)
        await person.wait_invite(room)
        await person.join(room)
    return people


async def test_ten_people_at_once_each_get_the_truth(stack: Stack, alice: ChatClient, room: str) -> None:
    people = await crowd(stack, room, alice, PEOPLE)
    lines = [f"!toggle {'start' if number % 2 else 'stop'}" for number in range(PEOPLE)]
    events = await asyncio.gather(*(person.send(room, line) for person, line in zip(people, lines, strict=True)))

    async def ends() -> list[str]:
        rows = {row["event_id"]: row for row in await audit(stack)}
        return [rows[event]["outcome"] if event in rows else "" for event in events]

    while not all(await ends()):
        await alice.settle(0.3)
    rows = sorted(await audit(stack), key=lambda row: int(row["arrival"]))
    last = rows[-1]
    wanted = 1 if last["verb"] == "start" else 0
    assert last["outcome"] in ("done", "unchanged")
    assert stack.cluster.replicas("Deployment", "demo", "web") == wanted
    assert {row["outcome"] for row in rows[:-1]} <= {"superseded", "done", "unchanged"}
    overtaken = {row["event_id"] for row in rows if row["outcome"] == "superseded"}

    def told() -> bool:  # what was sent may not have reached Alice yet
        said = {event: " ".join(message.body for message in alice.timeline.replies(event)) for event in events}
        return {event for event in events if "took over" in said[event]} == overtaken

    await alice.wait_for(told, what="those who were overtaken, and nobody else, to be told so")


@pytest.mark.timeout(600)  # a busy machine takes minutes to send it all
async def test_nobody_waits_for_somebody_elses_flood_and_what_is_beyond_is_told_once(
    stack: Stack, alice: ChatClient, room: str
) -> None:
    _, bob = await crowd(stack, room, alice, 2)
    stack.cluster.fail(method="GET", delay=5.0, times=None)
    stack.maubot.process.pause()
    for _ in range(FLOOD):
        await alice.send(room, "!toggle status")
    event = await bob.send(room, "!toggle help")
    stack.maubot.process.resume()
    assert "start" in (await bob.wait_reply(event, 60)).body
    await alice.wait_for(
        lambda: [m for m in alice.timeline.messages(room, stack.bot_id) if "of your commands wait already" in m.body],
        60,
        "the refusal",
    )
    refusals = [m for m in alice.timeline.messages(room, stack.bot_id) if "of your commands wait already" in m.body]
    assert len(refusals) == 1
    stack.cluster.faults.clear()
    assert (await ask(bob, room, "!toggle status")).body
