"""Messages whose key does not come with them: asked for, run late, or answered; and silence for strangers."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from tests.integration.conversation import ask, hears_nothing, room_of
from tests.stack.chat import ChatClient
from tests.stack.stack import Stack

SENTENCE = "I cannot read your message: its key did not reach me, so I did nothing; send it again."

pytestmark = pytest.mark.own_sync


def forget_keys(stack: Stack) -> None:
    """Take the room keys that the bot was given from its database."""
    with sqlite3.connect(stack.maubot.directory / "maubot.db", timeout=10) as database:
        database.execute("DELETE FROM crypto_megolm_inbound_session WHERE account_id=?", (stack.bot_id,))


def requests(stack: Stack) -> int:
    return sum("key=requested" in line for line in stack.instance_log())


async def test_a_key_that_was_lost_is_asked_for_and_the_command_runs_once(
    stack: Stack, alice: ChatClient, room: str
) -> None:
    await ask(alice, room, "status")
    forget_keys(stack)
    events = [await alice.send(room, "status"), await alice.send(room, "start")]
    assert "**web** is" in (await alice.wait_reply(events[0], 40)).body
    await alice.wait_text(await alice.wait_reply(events[1], 40), "is running")
    await alice.settle(1.5)
    assert [len(alice.timeline.replies(event)) for event in events] == [1, 1]
    assert len(stack.cluster.asked("PATCH")) == 1
    late = [line for line in stack.instance_log() if "key=came_late" in line]
    assert [event in line for event, line in zip(events, late, strict=True)] == [True, True], "in their order"
    assert requests(stack) == 1, "one request for the session, not one for each message"


async def test_without_the_key_one_sentence_asks_to_send_it_again(stack: Stack, alice: ChatClient, room: str) -> None:
    await stack.settings(maximum_age="6s")
    await ask(alice, room, "status")
    alice.keep_keys()
    forget_keys(stack)
    events = [await alice.send(room, "start"), await alice.send(room, "start")]

    def said() -> list[str]:
        return [reply.body for event in events for reply in alice.timeline.replies(event)]

    await alice.wait_for(lambda: said() or None, 20, "a sentence")
    await alice.settle(2)
    assert said() == [SENTENCE], "one sentence in a minute"
    assert stack.cluster.asked("PATCH") == []
    await alice.rotate_session(room)
    assert "is off" in (await ask(alice, room, "status")).body


async def test_a_stranger_who_cannot_be_read_gets_silence(stack: Stack, alice: ChatClient) -> None:
    mallory = await stack.person("mallory")
    room = await room_of(stack, alice, mallory)
    await ask(alice, room, "!toggle status")
    await mallory.send(room, "hello")
    await asyncio.sleep(0.5)
    forget_keys(stack)
    event = await mallory.send(room, "!toggle start")
    assert await hears_nothing(mallory, event, 5)
    assert requests(stack) == 0
