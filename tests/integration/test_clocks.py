"""Age by the event's own clock: from the future, a little ahead, too old, and too old in several rooms."""

from __future__ import annotations

import time

import pytest

from tests.integration.conversation import ask, audit, audited
from tests.stack.chat import ChatClient
from tests.stack.stack import Stack
from tests.stack.synapse import BACKDATED

pytestmark = pytest.mark.own_sync


@pytest.fixture
async def person(stack: Stack) -> ChatClient:
    """Somebody who may command, and whose homeserver may say any time."""
    person = await stack.person(BACKDATED)
    await stack.settings(allowed_users=[person.user_id])
    return person


async def said(stack: Stack, person: ChatClient, room: str, line: str, seconds: float) -> str:
    """Send an encrypted line that claims to be of so many seconds from now; its event ID."""
    content = await person.encrypted(room, line)
    return await stack.synapse.send_at(time.time() + seconds, person.user_id, room, "m.room.encrypted", content)


async def test_the_future_and_what_is_old_by_its_own_clock_are_refused(stack: Stack, person: ChatClient) -> None:
    room = await stack.room_with_bot(person)
    refused = {
        await said(stack, person, room, "start", 300): "Not executed: your message claims to be ",
        await said(stack, person, room, "start", 90): "in the future; your homeserver's clock or mine is wrong.",
        await said(stack, person, room, "start", -150): "old, more than the 2m that maximum_age allows",
    }
    for event, sentence in refused.items():
        assert sentence in (await person.wait_reply(event)).body
        assert (await audited(stack, person, event))["outcome"] == "refused"
    assert stack.cluster.asked("PATCH") == []
    ahead = await said(stack, person, room, "start", 30)
    await person.wait_text(await person.wait_reply(ahead), "is running")
    assert [len(person.timeline.replies(event)) for event in (*refused, ahead)] == [1, 1, 1, 1]
    assert [row["outcome"] for row in await audit(stack)] == [*3 * ["refused"], "done"]


async def test_what_came_too_late_is_answered_once_in_each_room(stack: Stack, person: ChatClient) -> None:
    rooms = [await stack.room_with_bot(person) for _ in range(2)]
    for room in rooms:
        await ask(person, room, "status")
    stack.maubot.process.pause()  # so that all comes in one sync
    late = [[await said(stack, person, room, line, -150) for room in rooms] for line in ("start", "status", "stop")]
    stack.maubot.process.resume()
    events = [event for line in late for event in line]
    for event in events:
        await audited(stack, person, event)
    await person.settle()
    answers = [answer for event in events for answer in person.timeline.replies(event)]
    assert sorted(answer.room for answer in answers) == sorted(rooms)
    assert all(answer.body.startswith("Not executed: 3 commands that are up to 2m") for answer in answers)
    assert stack.cluster.asked("PATCH") == []
