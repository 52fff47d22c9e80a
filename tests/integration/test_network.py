"""A network that drops, delays and cuts, between the bot and the homeserver, and between it and the API server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from mautrix.types import EventType, RoomID

from tests.integration.conversation import ask, audited, told
from tests.stack.chat import ChatClient
from tests.stack.proxy import Proxy
from tests.stack.stack import Servers, Stack


@pytest.fixture
async def stack(servers: Servers) -> AsyncIterator[Stack]:
    async with servers.stack(sync=False, proxied=True) as stack:
        yield stack


@pytest.fixture
def homeserver(stack: Stack) -> Proxy:
    assert stack.homeserver_proxy is not None
    return stack.homeserver_proxy


@pytest.fixture
def api_server(stack: Stack) -> Proxy:
    assert stack.cluster_proxy is not None
    return stack.cluster_proxy


async def test_a_homeserver_out_of_reach_for_a_minute(
    stack: Stack, alice: ChatClient, room: str, homeserver: Proxy
) -> None:
    await ask(alice, room, "status")
    await newcomer(stack, alice, room)
    stack.cluster.fail(method="GET", delay=1.5, times=1)
    before = await alice.send(room, "!toggle status")
    await asyncio.sleep(0.8)
    # The answer to it is encrypted anew, for somebody who just came: mautrix asks for keys, and hears nothing.
    homeserver.drop()
    meanwhile = await alice.send(room, "!toggle start")
    await asyncio.sleep(60)
    await homeserver.pass_on()
    began = time.monotonic()
    for event in (before, meanwhile):
        await alice.wait_reply(event, 30)
    assert time.monotonic() - began < 10
    await alice.settle()
    assert [len(alice.timeline.replies(event)) for event in (before, meanwhile)] == [1, 1]
    assert len(stack.cluster.asked("PATCH")) == 1


async def newcomer(stack: Stack, host: ChatClient, room: str) -> None:
    """Somebody joins, so that what is encrypted next needs another room key."""
    bob = await stack.person("bob")
    await host.invite(room, bob.user_id)
    await bob.wait_invite(room)
    await bob.join(room)
    await host.wait_membership(room, bob.user_id)
    await host.settle(1.0)


async def test_an_outage_while_a_gap_is_filled(stack: Stack, alice: ChatClient, room: str, homeserver: Proxy) -> None:
    await ask(alice, room, "status")
    await alice.settle(1.0)
    stack.maubot.process.pause()
    events = [await alice.send(room, "help") for _ in range(70)]
    homeserver.delay(2.0)
    stack.maubot.process.resume()
    # By now the sync is answered, and the first page is asked for.
    await asyncio.sleep(5.5)
    homeserver.drop()
    await asyncio.sleep(26)
    await homeserver.pass_on()
    began = time.monotonic()
    await alice.wait_reply(events[0], 60)
    assert time.monotonic() - began < 10
    assert any("gap=waiting" in line for line in stack.instance_log()), "else it was no gap that waited"
    for event in events:
        await alice.wait_reply(event, 30)


async def test_a_reply_whose_answer_was_lost_is_there_once(
    stack: Stack, alice: ChatClient, room: str, homeserver: Proxy
) -> None:
    await ask(alice, room, "status")
    for _ in range(3):
        event = await alice.send(room, "status")
        await asyncio.sleep(0.05)
        await homeserver.cut()
        await asyncio.sleep(1)
        await homeserver.pass_on()
        await alice.wait_reply(event, 30)
        await alice.settle(1.0)
        assert len(alice.timeline.replies(event)) == 1


async def encrypted_by(device: ChatClient, room: str, text: str) -> dict[str, Any]:
    """A message encrypted by a device, which does not send it."""
    content: Any = {"msgtype": "m.text", "body": text}
    crypto = device._crypto
    return (await crypto.encrypt_megolm_event(RoomID(room), EventType.ROOM_MESSAGE, content)).serialize()


@pytest.mark.parametrize("sync", [False, True], ids=["own sync", "maubot's sync"])
async def test_a_device_that_was_signed_out_is_refused_though_its_keys_could_not_be_asked_for_then(
    servers: Servers, sync: bool
) -> None:
    async with servers.stack(sync=sync, proxied=True) as stack:
        alice, homeserver = await stack.person("alice"), stack.homeserver_proxy
        assert homeserver is not None
        room = await stack.room_with_bot(alice)
        phone = await alice.second_device(cross_signed=True)
        await ask(phone, room, "status")
        stolen = await encrypted_by(phone, room, "start")
        await ask(alice, room, "status")
        await alice.settle(2)
        homeserver.delay(1.5)
        began = time.monotonic()
        await phone.log_out()
        # The news come 1.5 seconds late; then the question for the keys is out for as long, and is cut.
        await asyncio.sleep(max(0.0, began + 2.2 - time.monotonic()))
        await homeserver.cut()
        await asyncio.sleep(1)
        await homeserver.pass_on()
        assert any("Failed to run handler" in line for line in stack.maubot.log_lines()), "mautrix lost the question"
        event = await alice.send_event(room, "m.room.encrypted", stolen, plaintext=True)
        assert "I do not know the device that sent this" in (await alice.wait_reply(event, 60)).body
        assert (await audited(stack, alice, event))["outcome"] == "refused"
        assert stack.cluster.asked("PATCH") == []


async def test_a_slow_homeserver_is_only_slow(stack: Stack, alice: ChatClient, room: str, homeserver: Proxy) -> None:
    homeserver.delay(1.0)
    await told(alice, room, "start", "is running", 60)
    assert len(stack.cluster.asked("PATCH")) == 1


async def test_an_api_server_out_of_reach_is_told_and_found_again(
    stack: Stack, alice: ChatClient, room: str, api_server: Proxy
) -> None:
    await ask(alice, room, "status")
    await api_server.cut()
    assert (
        "**web** was left as it was" in (await alice.wait_text(await ask(alice, room, "start"), "left as it was")).body
    )
    await api_server.pass_on()
    await told(alice, room, "start", "is running")
    assert len(stack.cluster.asked("PATCH")) == 1


async def test_a_watch_that_was_cut_goes_on(stack: Stack, alice: ChatClient, room: str, api_server: Proxy) -> None:
    stack.cluster.behave("demo", "web", step=1.0)
    reply = await alice.wait_text(await ask(alice, room, "start"), "is starting")
    await api_server.cut()
    await api_server.pass_on()
    await alice.wait_text(reply, "is running", 30)
