"""A stranger's traffic: silence, no work, no row. The long version is in tests/soak."""

from __future__ import annotations

import sqlite3

import pytest
from mautrix.types import (
    DeviceID,
    EncryptionAlgorithm,
    EventType,
    IdentityKey,
    KeyRequestAction,
    RequestedKeyInfo,
    RoomID,
    RoomKeyRequestEventContent,
    SessionID,
    UserID,
)

from tests.integration.conversation import ask, hears_nothing, room_of
from tests.integration.flood import LEAST_ROW, NOTHING, Scene
from tests.stack.chat import ChatClient
from tests.stack.stack import Stack

MESSAGES = 200

pytestmark = pytest.mark.own_sync


def rows(stack: Stack) -> dict[str, int]:
    """How many rows each table of mautrix' has in maubot's own database."""
    with sqlite3.connect(stack.maubot.directory / "maubot.db", timeout=10) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        counted = (name for name in names if name.startswith("crypto_"))
        count = "SELECT COUNT(*) FROM {}"
        return {name: database.execute(count.format(name)).fetchone()[0] for name in counted}


@pytest.mark.parametrize("encrypted", [False, True], ids=["plaintext", "encrypted"])
async def test_a_strangers_flood_leaves_no_trace(stack: Stack, encrypted: bool) -> None:
    scene = await Scene.open(stack, encrypted=encrypted)
    before = await scene.flood(MESSAGES // 4)
    after = await scene.flood(MESSAGES)
    assert (before.visible, after.visible) == (NOTHING, NOTHING)
    assert after.database <= before.database
    # SQLite grows by pages, and what others in this maubot do meanwhile can take one.
    assert after.keys - before.keys < MESSAGES * LEAST_ROW / 2
    assert after.memory - before.memory < 10_000


async def ask_for_a_key(person: ChatClient, stack: Stack, room: str) -> None:
    """Ask the bot's device for a room key, as anybody can who knows its ID."""
    wanted = RequestedKeyInfo(
        algorithm=EncryptionAlgorithm.MEGOLM_V1,
        room_id=RoomID(room),
        session_id=SessionID("x"),
        sender_key=IdentityKey("y"),
    )
    content = RoomKeyRequestEventContent(
        action=KeyRequestAction.REQUEST,
        body=wanted,
        request_id="1",
        requesting_device_id=DeviceID(person.device_id),
    )
    await person._client.send_to_one_device(
        EventType.ROOM_KEY_REQUEST, UserID(stack.bot_id), DeviceID(stack.bot.device_id), content
    )


async def test_a_stranger_who_always_begins_anew_leaves_no_row_either(stack: Stack, alice: ChatClient) -> None:
    mallory, eve = await stack.person("mallory"), await stack.person("eve")
    room = await room_of(stack, alice, mallory)
    await ask(alice, room, "!toggle status")
    before = rows(stack)
    for _ in range(30):
        await mallory.rotate_session(room)
        await mallory.send(room, "!toggle start")
    await ask_for_a_key(eve, stack, room)
    await ask(alice, room, "!toggle status")
    after = rows(stack)
    # One for alice's second message.
    assert after.pop("crypto_message_index") == before.pop("crypto_message_index") + 1
    assert after == before


@pytest.mark.parametrize("met", [True, False], ids=["whose device the bot knew", "whose device it never saw"])
async def test_somebody_who_was_a_stranger_until_now_is_read(stack: Stack, alice: ChatClient, met: bool) -> None:
    bob = await stack.person("bob")
    room = await room_of(stack, alice, bob)
    # Who comes makes clients begin a new session: later it would be one that the bot takes.
    await bob.wait_membership(room, stack.bot_id)
    await bob.settle()
    if met:
        await ask(alice, room, "!toggle help")
    assert await hears_nothing(bob, await bob.send(room, "!toggle status"))
    await stack.settings(allowed_users=[alice.user_id, bob.user_id])
    event = await bob.send(room, "!toggle status")
    assert "**web** is" in (await bob.wait_reply(event, 40)).body
    assert any("key=requested" in line for line in stack.instance_log()), "what told the key came when it was nobody's"
    assert "**web** is" in (await ask(bob, room, "!toggle status")).body
