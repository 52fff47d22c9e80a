"""The fault proxy itself: what it does to bytes and connections is what the network tests take it for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.stack.processes import LOOPBACK
from tests.stack.proxy import Proxy

LONG_ANSWER = b"x" * 5_000_000
SOON = 0.3


class Echo:
    """A server that gives back what it gets; `long` is answered with megabytes and the end, `end` with the end."""

    def __init__(self) -> None:
        self.got = b""
        self.url = ""
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        while data := await reader.read(1000):
            self.got += data
            writer.write(LONG_ANSWER if data == b"long" else data)
            if data in (b"long", b"end"):
                break
        writer.close()


@asynccontextmanager
async def echoing() -> AsyncIterator[Echo]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, LOOPBACK, 0)
    echo.url = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
    try:
        yield echo
    finally:
        server.close()
        for writer in echo.writers:
            if not writer.is_closing():  # asyncio fails when it aborts what has been closed
                writer.transport.abort()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with echoing() as echo:
        yield echo


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[Proxy]:
    async with Proxy(echo.url) as proxy:
        yield proxy


class Caller:
    """A connection through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def call(cls, proxy: Proxy) -> Caller:
        return cls(*await asyncio.open_connection(LOOPBACK, proxy.port))

    async def say(self, data: bytes) -> bytes:
        self.writer.write(data)
        return await asyncio.wait_for(self.reader.read(1000), 5)

    async def hears_nothing(self) -> bool:
        """Neither bytes nor the end, for a while."""
        try:
            await asyncio.wait_for(self.reader.read(1000), SOON)
        except asyncio.TimeoutError:
            return True
        return False

    async def is_cut(self) -> bool:
        """Whether the connection has ended, in order or not."""
        try:
            return await self.say(b"hello") == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        self.writer.transport.abort()


@pytest.fixture
async def caller(proxy: Proxy) -> AsyncIterator[Caller]:
    caller = await Caller.call(proxy)
    yield caller
    caller.close()


async def test_it_passes_on_and_counts(proxy: Proxy, caller: Caller) -> None:
    assert await caller.say(b"hello") == b"hello"
    assert (proxy.connections, proxy.received, proxy.sent) == (1, 5, 5)


async def test_a_long_answer_before_the_end_is_whole(proxy: Proxy, caller: Caller) -> None:
    caller.writer.write(b"long")
    await asyncio.sleep(SOON)  # a reader that is slower than the server
    assert len(await asyncio.wait_for(caller.reader.read(), 20)) == len(LONG_ANSWER)


async def test_who_says_that_it_has_no_more_to_say_is_still_answered(proxy: Proxy, caller: Caller) -> None:
    proxy.delay(SOON)
    caller.writer.write(b"the last")
    caller.writer.write_eof()
    assert await asyncio.wait_for(caller.reader.read(), 5) == b"the last"


async def test_cut_ends_connections_and_refuses_new_ones_until_it_passes_on(proxy: Proxy, caller: Caller) -> None:
    await caller.say(b"hello")
    await proxy.cut()
    assert await caller.is_cut()
    with pytest.raises(ConnectionRefusedError):
        await Caller.call(proxy)
    await proxy.pass_on()
    again = await Caller.call(proxy)
    assert await again.say(b"again") == b"again"
    again.close()


async def test_cut_twice_and_pass_on_twice(proxy: Proxy) -> None:
    for _ in range(2):
        await proxy.cut()
        await proxy.cut()
        await proxy.pass_on()
        await proxy.pass_on()
    caller = await Caller.call(proxy)
    assert await caller.say(b"hello") == b"hello"
    caller.close()


async def test_a_page_is_the_answer_to_every_new_request_until_it_passes_on(
    echo: Echo, proxy: Proxy, caller: Caller
) -> None:
    await caller.say(b"before")
    await proxy.answer("<html>", "text/html")
    assert await caller.is_cut()
    for request in (b"GET / HTTP/1.1\r\n\r\n", b"PUT / HTTP/1.1\r\n\r\nbody"):
        asking = await Caller.call(proxy)
        head, _, body = (await asking.say(request)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n")
        assert body == b"<html>"
        asking.close()
    await proxy.pass_on()
    again = await Caller.call(proxy)
    assert await again.say(b"again") == b"again"
    assert echo.got == b"beforeagain"
    again.close()


async def test_dropped_bytes_go_nowhere_and_are_not_replayed(echo: Echo, proxy: Proxy, caller: Caller) -> None:
    await caller.say(b"before")
    proxy.drop()
    caller.writer.write(b"lost")
    assert await caller.hears_nothing()
    await proxy.pass_on()
    caller.writer.write(b"lost too")
    assert await caller.hears_nothing()
    assert echo.got == b"before"


async def test_an_answer_that_comes_while_it_drops_is_lost(echo: Echo, proxy: Proxy, caller: Caller) -> None:
    await caller.say(b"before")
    proxy.drop()
    echo.writers[0].write(b"news")
    assert await caller.hears_nothing()
    await proxy.pass_on()
    assert await caller.hears_nothing()


async def test_a_new_connection_while_it_drops_is_mute_for_ever(echo: Echo, proxy: Proxy) -> None:
    proxy.drop()
    caller = await Caller.call(proxy)
    caller.writer.write(b"lost")
    assert await caller.hears_nothing()
    await proxy.pass_on()
    assert await caller.hears_nothing()
    assert echo.got == b""
    other = await Caller.call(proxy)
    assert await other.say(b"hello") == b"hello"
    for each in (caller, other):
        each.close()


async def test_the_end_of_the_server_does_not_come_through_either(echo: Echo, proxy: Proxy, caller: Caller) -> None:
    await caller.say(b"before")
    proxy.drop()
    echo.writers[0].transport.abort()
    assert await caller.hears_nothing()
    await proxy.pass_on()
    assert await caller.hears_nothing()


async def test_the_server_does_not_hear_that_a_mute_caller_has_gone(echo: Echo, proxy: Proxy, caller: Caller) -> None:
    await caller.say(b"before")
    proxy.drop()
    caller.close()
    await asyncio.sleep(SOON)
    assert not echo.writers[0].is_closing()
    await proxy.cut()
    await asyncio.sleep(SOON)
    assert echo.writers[0].is_closing()


async def test_what_it_holds_back_while_it_drops_begins_is_lost(proxy: Proxy, caller: Caller) -> None:
    proxy.delay(SOON)
    caller.writer.write(b"hello")
    await asyncio.sleep(SOON / 3)
    proxy.drop()
    await asyncio.sleep(SOON)
    assert await caller.hears_nothing()


async def test_a_delay_is_one_for_a_long_answer_too(proxy: Proxy, caller: Caller) -> None:
    proxy.delay(SOON)
    began = time.monotonic()
    caller.writer.write(b"long")
    assert len(await asyncio.wait_for(caller.reader.read(), 20)) == len(LONG_ANSWER)
    assert SOON <= time.monotonic() - began < 5 * SOON
    proxy.delay(0)


async def test_a_server_that_is_not_there_ends_the_connection() -> None:
    async with echoing() as echo, Proxy(echo.url) as proxy:
        pass
    async with Proxy(proxy.url) as before_nobody:
        caller = await Caller.call(before_nobody)
        assert await caller.is_cut()
        caller.close()
