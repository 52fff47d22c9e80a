"""A network that drops, delays and cuts, between the bot and the homeserver, and between it and the API server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.integration.conversation import ask, told
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
