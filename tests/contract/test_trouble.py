"""The chat when the API server is restarted, slow or too busy: each answer is true, and nothing is written twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.conftest import servers
from tests.stack.chat import ChatClient
from tests.stack.proxy import Proxy
from tests.stack.stack import Servers, Stack
from tests.stack.timeline import Message

from .server import Server

__all__ = ["servers"]

pytestmark = pytest.mark.timeout(600)

SECONDS = 120.0
BUSY = "is too busy right now"
UNREACHABLE = ("refuses connections", "broke off", "did not answer", "no way to the cluster")


class Chat:
    """Alice's room with a bot whose one target is a workload of the server under test, behind a `proxy`."""

    def __init__(self, server: Server, name: str, proxy: Proxy, alice: ChatClient, room: str) -> None:
        self.proxy = proxy
        self._server = server
        self._name = name
        self._alice = alice
        self._room = room

    async def say(self, command: str) -> Message:
        """Send a command, and wait for the first form of its reply."""
        return await self._alice.wait_reply(await self._alice.send(self._room, command), SECONDS)

    async def until(self, reply: Message, *ends: str) -> str:
        """Wait until the reply, as edited by then, has one of `ends`, and give back which."""

        def reached() -> str | None:
            body = self._alice.message(reply.event_id).body
            return next((end for end in ends if end in body), None)

        return await self._alice.wait_for(reached, SECONDS, f"one of {ends}")

    async def insist(self, command: str, end: str) -> int:
        """Say a command until it is not answered with the server's being too busy; how often it was said.

        Such an answer has to be true: the count is then what it was.
        """
        for times in range(1, 10):
            before = await self.generation()
            if await self.until(await self.say(command), end, BUSY) == end:
                return times
            assert await self.generation() == before
        raise AssertionError(f"nine times {command} came to nothing")

    async def generation(self) -> int:
        """How often the workload's spec was written; asked until the server has time to say it."""
        for _ in range(100):
            answer = await self._server.client("GET", self._server.path("Deployment", self._name))
            if answer.status == 200:
                return int(answer.body["metadata"]["generation"])
        raise AssertionError("the server never had time")


@pytest.fixture
async def chat(servers: Servers, server: Server, tmp_path: Path) -> AsyncIterator[Chat]:
    name = await server.workload()
    target = {"kind": "Deployment", "namespace": server.namespace, "name": name, "replicas": 1}
    settings = {"targets": {"web": target}, "rollout_timeout": "2m"}
    async with Proxy(server.client.access.url) as proxy:
        kubeconfig = server.kubeconfig(tmp_path, proxy.url)
        async with servers.stack(settings, kubeconfig=kubeconfig) as stack:
            yield await _open(server, name, proxy, stack)


async def _open(server: Server, name: str, proxy: Proxy, stack: Stack) -> Chat:
    alice = await stack.person("alice")
    return Chat(server, name, proxy, alice, await stack.room_with_bot(alice))


async def test_a_start_is_followed_through_a_restart_of_the_server(server: Server, chat: Chat) -> None:
    reply = await chat.say("start")
    async with server.down():
        await asyncio.sleep(3)  # an outage has a length
    await chat.until(reply, "is running")
    assert await chat.generation() == 2


async def test_a_command_while_the_server_is_down_is_told_or_done_and_not_both(server: Server, chat: Chat) -> None:
    await chat.until(await chat.say("status"), "is off")
    async with server.down():
        end = await chat.until(await chat.say("start"), *UNREACHABLE)
    assert end in UNREACHABLE
    assert await chat.generation() == 1
    await chat.until(await chat.say("start"), "is running")
    assert await chat.generation() == 2


async def test_a_server_that_takes_three_seconds_for_each_answer(chat: Chat) -> None:
    chat.proxy.delay(3)
    await chat.until(await chat.say("start"), "is running")
    chat.proxy.delay(0)
    assert await chat.generation() == 2
    chat.proxy.delay(3)
    await chat.until(await chat.say("stop"), "is off")
    chat.proxy.delay(0)
    assert await chat.generation() == 3


async def test_a_server_that_turns_half_of_the_requests_away(server: Server, chat: Chat) -> None:
    async with server.turning_half_away():
        await chat.insist("start", "is running")
        await chat.insist("status", "is running")
        await chat.insist("stop", "is off")
    assert await chat.generation() == 3
