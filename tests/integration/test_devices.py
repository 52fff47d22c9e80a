"""What is not known of a device when it matters: revoked while we were away, our own keys gone, a new login."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator

import pytest

from tests.integration.conversation import ask, told
from tests.stack.chat import ChatClient
from tests.stack.stack import Servers, Stack

RESTART = "the bot was logged in anew: restart this instance"
LOST = "log it in again as a new device"


@pytest.fixture
async def stack(servers: Servers) -> AsyncIterator[Stack]:
    async with servers.stack(sync=False) as stack:
        yield stack


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


async def test_after_a_new_login_nothing_goes_out_in_plaintext(stack: Stack, alice: ChatClient, room: str) -> None:
    await ask(alice, room, "status")
    local = stack.bot_id[1:].split(":")[0]
    login = await stack.api.login_bot(stack.synapse.server_name, local, stack.bot_password)
    await stack.api.change_client(
        stack.bot_id,
        access_token=login.access_token,
        device_id=login.device_id,
        homeserver=stack.synapse.url,
    )
    await wait_reason(stack, alice, RESTART)
    assert any("ERROR" in line and RESTART in line for line in stack.instance_log())
    await alice.send(room, "status")
    await alice.settle(2.0)
    assert plaintext_of_the_bot(stack, alice, room) == []
    await stack.api.change_instance(stack.instance, started=False)
    await stack.api.change_instance(stack.instance, started=True)
    await stack.api.verify(stack.bot_id, stack.recovery_key)
    await told(alice, room, "start", "is running")
    await stack.wait_ready()
    assert plaintext_of_the_bot(stack, alice, room) == []


async def test_lost_keys_are_told_and_nothing_goes_out_in_plaintext(stack: Stack, alice: ChatClient, room: str) -> None:
    await ask(alice, room, "status")
    await stack.maubot.stop()
    with sqlite3.connect(stack.maubot.directory / "maubot.db") as database:
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchall():
            if table.startswith("crypto_") and table != "crypto_version":
                database.execute(f"DELETE FROM {table}")  # noqa: S608
    await stack.maubot.run()
    await wait_reason(stack, alice, LOST)
    assert any("ERROR" in line and LOST in line for line in stack.instance_log())
    await alice.send(room, "status")
    await alice.settle(3.0)
    assert plaintext_of_the_bot(stack, alice, room) == []
