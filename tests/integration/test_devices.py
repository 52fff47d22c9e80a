"""What is not known of a device when it matters: revoked while we were away, our own keys gone, a new login."""

from __future__ import annotations

import sqlite3

import pytest
from mautrix.types import DeviceID, EncryptionAlgorithm, RequestedKeyInfo, RoomID, UserID

from tests.integration.conversation import ask, audited, room_of, told
from tests.integration.test_undecryptable import forget_keys
from tests.stack.chat import ChatClient
from tests.stack.stack import Stack

RESTART = "the bot was logged in anew: restart this instance"
LOST = "log it in again as a new device"

pytestmark = pytest.mark.own_sync


async def wait_reason(stack: Stack, person: ChatClient, text: str, seconds: float = 40.0) -> None:
    for _ in range(round(seconds / 0.5)):
        _, answer = await stack.readyz()
        if answer and text in " ".join(answer["reasons"]):
            return
        await person.settle(0.5)
    raise AssertionError((await stack.readyz())[1])


def plaintext_of_the_bot(stack: Stack, person: ChatClient, room: str) -> list[str]:
    return [message.body for message in person.timeline.messages(room, stack.bot_id) if not message.encrypted]


async def test_a_device_that_was_signed_out_while_we_were_away_is_refused(
    stack: Stack, alice: ChatClient, room: str
) -> None:
    phone = await alice.second_device(cross_signed=True)
    try:
        await ask(phone, room, "status")
        await stack.maubot.stop()
        event = await phone.send(room, "start")
        await phone.log_out()
    finally:
        await phone.close()
    await stack.maubot.run()
    assert "I do not know the device that sent this" in (await alice.wait_reply(event)).body
    assert stack.cluster.asked("PATCH") == []
    row = await audited(stack, alice, event)
    assert (row["outcome"], row["device_id"], row["fingerprint"]) == ("refused", "", phone.fingerprint)


def as_if_it_had_died_before_the_end(stack: Stack, event: str) -> None:
    """Let the audit say of a command what it says while the command is under way."""
    (path,) = stack.maubot.directory.rglob(f"{stack.instance}.db")
    with sqlite3.connect(path, timeout=10) as database:
        assert database.execute("UPDATE command SET outcome='' WHERE event_id=?", (event,)).rowcount == 1


async def test_what_is_gone_on_with_after_a_crash_is_refused_as_it_was_before(
    stack: Stack, alice: ChatClient, room: str
) -> None:
    phone = await alice.second_device(cross_signed=False)
    try:
        event = await phone.send(room, "start")
        reply = await alice.wait_reply(event)
        await stack.maubot.stop()
        as_if_it_had_died_before_the_end(stack, event)
        await stack.maubot.run()
        row = await audited(stack, alice, event)
    finally:
        await phone.close()
    assert "Your device is not verified by you" in reply.body
    assert (row["outcome"], row["fingerprint"], row["trust"]) == ("refused", phone.fingerprint, "unverified")
    assert stack.cluster.asked("PATCH") == []
    assert alice.timeline.replies(event) == [reply]


async def forward_keys(forwarder: ChatClient, stack: Stack, room: str) -> None:
    """Give the bot the keys of a room that it did not ask for, from a device that did not make them."""
    crypto = forwarder._crypto
    bot = await crypto.get_or_fetch_device(UserID(stack.bot_id), DeviceID(stack.bot.device_id))
    assert bot is not None
    database = forwarder._database
    rows = await database.fetch(
        "SELECT session_id, sender_key FROM crypto_megolm_inbound_session WHERE room_id=$1", room
    )
    for row in rows:
        key = RequestedKeyInfo(
            algorithm=EncryptionAlgorithm.MEGOLM_V1,
            room_id=RoomID(room),
            sender_key=row["sender_key"],
            session_id=row["session_id"],
        )
        await crypto._handle_room_key_request(bot, key)


@pytest.mark.parametrize("forwarder", ["the person's own device", "a viewer"])
async def test_a_forwarded_key_is_refused_whoever_forwarded_it(stack: Stack, alice: ChatClient, forwarder: str) -> None:
    mine = forwarder == "the person's own device"
    await stack.settings(viewers=[] if mine else [stack.user_id("mallory")])
    other = await alice.second_device(cross_signed=True) if mine else await stack.person("mallory")
    try:
        room = await room_of(stack, alice, *([] if mine else [other]))
        said = await ask(alice, room, "!toggle status")
        await other.wait_message(said.event_id)
        forget_keys(stack)
        await forward_keys(other, stack, room)
        event = await alice.send(room, "!toggle start")
        reply = await alice.wait_reply(event)
    finally:
        if mine:
            await other.close()
    assert "came from another device than yours" in reply.body
    row = await audited(stack, alice, event)
    assert (row["outcome"], row["device_id"], row["fingerprint"]) == ("refused", alice.device_id, alice.fingerprint)
    assert stack.cluster.asked("PATCH") == []


async def test_a_strangers_forwarded_key_is_not_even_taken(stack: Stack, alice: ChatClient) -> None:
    mallory = await stack.person("mallory")
    room = await room_of(stack, alice, mallory)
    said = await ask(alice, room, "!toggle status")
    await mallory.wait_message(said.event_id)
    forget_keys(stack)
    await forward_keys(mallory, stack, room)
    await told(alice, room, "!toggle start", "is running")
    assert any("key=requested" in line for line in stack.instance_log()), "alice's device was asked for the key"


async def log_in_anew(stack: Stack) -> None:
    """Give the bot a new device in maubot, as an administrator does; the instance is not restarted."""
    local = stack.bot_id[1:].split(":")[0]
    login = await stack.api.login_bot(stack.synapse.server_name, local, stack.bot_password)
    await stack.api.change_client(
        stack.bot_id,
        access_token=login.access_token,
        device_id=login.device_id,
        homeserver=stack.synapse.url,
    )


async def works_after_a_restart_of_the_instance(stack: Stack, alice: ChatClient, room: str) -> None:
    await stack.api.change_instance(stack.instance, started=False)
    await stack.api.change_instance(stack.instance, started=True)
    await stack.api.verify(stack.bot_id, stack.recovery_key)
    await told(alice, room, "start", "is running")
    await stack.wait_ready()
    assert plaintext_of_the_bot(stack, alice, room) == []


async def test_after_a_new_login_nothing_goes_out_in_plaintext(stack: Stack, alice: ChatClient, room: str) -> None:
    await ask(alice, room, "status")
    await log_in_anew(stack)
    await wait_reason(stack, alice, RESTART)
    assert any("ERROR" in line and RESTART in line for line in stack.instance_log())
    await alice.send(room, "status")
    await alice.settle(2.0)
    assert plaintext_of_the_bot(stack, alice, room) == []
    await works_after_a_restart_of_the_instance(stack, alice, room)


@pytest.mark.parametrize("running", [False, True], ids=["while maubot is down", "while it runs"])
async def test_lost_keys_are_told_and_nothing_goes_out_in_plaintext(
    stack: Stack, alice: ChatClient, room: str, running: bool
) -> None:
    await ask(alice, room, "status")
    if not running:
        await stack.maubot.stop()
    with sqlite3.connect(stack.maubot.directory / "maubot.db", timeout=10) as database:
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchall():
            if table.startswith("crypto_") and table != "crypto_version":
                database.execute(f"DELETE FROM {table}")  # noqa: S608
    if not running:
        await stack.maubot.run()
    await wait_reason(stack, alice, LOST)
    assert any("ERROR" in line and LOST in line for line in stack.instance_log())
    await alice.send(room, "status")
    await alice.settle(3.0)
    assert plaintext_of_the_bot(stack, alice, room) == []
    await log_in_anew(stack)
    await works_after_a_restart_of_the_instance(stack, alice, room)
