"""What people do in a room with the bot, as the tests say it."""

from __future__ import annotations

from typing import Any

from tests.stack.chat import ChatClient
from tests.stack.stack import Stack
from tests.stack.timeline import Message

QUIET = 1.5
"""Seconds of silence that count as no answer: replies come in a tenth of that."""


async def ask(person: ChatClient, room: str, text: str, **how: Any) -> Message:
    """Send a line and wait for the first form of the reply."""
    return await person.wait_reply(await person.send(room, text, **how))


async def told(person: ChatClient, room: str, text: str, end: str, timeout: float = 30, **how: Any) -> Message:
    """Send a line and wait until its reply, as edited by then, contains `end`."""
    reply = await ask(person, room, text, **how)
    return await person.wait_text(reply, end, timeout)


async def hears_nothing(person: ChatClient, event_id: str, seconds: float = QUIET) -> bool:
    """Whether nothing at all answers an event: no message and no reaction."""
    await person.settle(seconds)
    return not person.timeline.replies(event_id) and not person.message(event_id).reactions


async def room_of(stack: Stack, host: ChatClient, *guests: ChatClient, encrypted: bool = True) -> str:
    """A room of the bot, a host and guests, in which everybody knows of everybody."""
    room = await stack.room_with_bot(host, encrypted=encrypted)
    for guest in guests:
        await host.invite(room, guest.user_id)
        await guest.wait_invite(room)
        await guest.join(room)
        await host.wait_membership(room, guest.user_id)
    # The bot must know that it is not alone with the host any more before a bare word means anything.
    return room


async def audit(stack: Stack) -> list[dict[str, Any]]:
    """The audit rows, oldest first."""
    return await stack.rows("SELECT * FROM command ORDER BY received_at")


async def audited(stack: Stack, person: ChatClient, event_id: str) -> dict[str, Any]:
    """The audit row of an event, once its command has ended."""

    rows = [row for row in await audit(stack) if row["event_id"] == event_id]
    while not rows or not rows[0]["outcome"]:
        await person.settle(0.1)
        rows = [row for row in await audit(stack) if row["event_id"] == event_id]
    return rows[0]
