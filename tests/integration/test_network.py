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
    homeserver.drop()
    meanwhile = await alice.send(room, "start")
    await asyncio.sleep(60)
    await homeserver.pass_on()
    began = time.monotonic()
    await alice.wait_reply(meanwhile, 30)
    assert time.monotonic() - began < 10
    assert len(alice.timeline.replies(meanwhile)) == 1
    assert len(stack.cluster.asked("PATCH")) == 1


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
