"""A TCP proxy on loopback that can drop, delay, cut and replace what goes through it; it understands nothing of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from .processes import LOOPBACK

CHUNK = 65536
HELD_CHUNKS = 1024
"""Chunks that one direction of a connection may hold back before it reads no more."""
RESET = None
"""Stands where bytes would be for the end of a connection that was broken; no bytes are its end in order."""

Held = asyncio.Queue["tuple[float, bytes | None]"]


@dataclass
class _Line:
    """A caller's connection with ours to the server; what `mute` it loses, both sides never learn."""

    mute: bool = False


class Proxy:
    """Stands before one server; to be entered with ``async with``, and then passes everything on.

    Attributes:
        port: on which it listens; it stays reserved while connections are refused.
        connections: how many were accepted so far.
        received: bytes that came from the callers so far, the lost ones too.
        sent: bytes that callers were sent so far.
    """

    port: int

    def __init__(self, target: str) -> None:
        """`target` is a URL, of which scheme, host and port count."""
        parts = urlsplit(target)
        self._target = (parts.hostname or LOOPBACK, parts.port or 80)
        self._scheme = parts.scheme
        self.connections = 0
        self.received = 0
        self.sent = 0
        self._dropping = False
        self._delay = 0.0
        self._page: bytes | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"{self._scheme}://{LOOPBACK}:{self.port}"

    async def __aenter__(self) -> Proxy:  # noqa: PYI034 - typing.Self came with Python 3.11
        # A socket that is bound and does not listen: calls are refused, and nobody else gets the port meanwhile.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._reserved.bind((LOOPBACK, 0))
        self.port = self._reserved.getsockname()[1]
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.cut()
        self._reserved.close()

    async def pass_on(self) -> None:
        """Let everything through again; what was lost stays lost, and its connections stay mute."""
        self._dropping, self._delay, self._page = False, 0.0, None
        if self._server is None:
            await self._listen()

    def drop(self) -> None:
        """As a firewall that drops packets: connections stay open, and neither bytes nor an end comes through.

        A connection that lost anything, or was made meanwhile, is mute for ever: each side has to give up by itself.
        """
        self._dropping = True

    def delay(self, seconds: float) -> None:
        """Hold everything that comes back for `seconds`."""
        self._delay = seconds

    async def answer(self, page: str, content_type: str = "application/json") -> None:
        """Break every connection, and answer each HTTP request on a new one with 200 and `page`, whatever was asked."""
        await self.cut()
        body = page.encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        self._page = f"{head}Connection: close\r\n\r\n".encode() + body
        await self._listen()

    async def cut(self) -> None:
        """Break every connection, and refuse new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await _cancel(self._tasks)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, self.port, reuse_port=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Not a coroutine: asyncio would complain of its cancellation."""
        if self._server is None:
            writer.transport.abort()
            return
        self.connections += 1
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError):
                if self._dropping:
                    await self._swallow(reader)
                elif self._page is not None:
                    await self._reply(reader, writer, self._page)
                else:
                    await self._connect(reader, writer)
        finally:
            writer.transport.abort()

    async def _swallow(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(CHUNK):
            self.received += len(data)

    async def _reply(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, page: bytes) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(page)
            await writer.drain()
            await self._swallow(reader)  # until the caller has read all and closes: a reset would take it away

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        their_reader, their_writer = await asyncio.open_connection(*self._target)
        line, there, back = _Line(), Held(HELD_CHUNKS), Held(HELD_CHUNKS)
        try:
            await _all_or_none(
                self._read(reader, there, back=False),
                self._write(line, there, their_writer, back=False),
                self._read(their_reader, back, back=True),
                self._write(line, back, writer, back=True),
            )
        finally:
            their_writer.transport.abort()

    async def _read(self, source: asyncio.StreamReader, held: Held, *, back: bool) -> None:
        """Put what comes, and its end, with the time when it is due."""
        clock = asyncio.get_running_loop().time
        data: bytes | None = b"begin"
        while data:
            try:
                data = await source.read(CHUNK)
            except ConnectionError:
                data = RESET
            if not back:
                self.received += len(data or b"")
            await held.put((clock() + (self._delay if back else 0.0), data))

    async def _write(self, line: _Line, held: Held, sink: asyncio.StreamWriter, *, back: bool) -> None:
        data: bytes | None = b"begin"
        while data:
            due, data = await held.get()
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            line.mute = line.mute or self._dropping
            if line.mute:
                continue
            if data is RESET:
                raise ConnectionResetError
            await _hand_over(sink, data)
            if back:
                self.sent += len(data)


async def _hand_over(sink: asyncio.StreamWriter, data: bytes) -> None:
    """Write bytes, or the end if there are none."""
    if data:
        sink.write(data)
        await sink.drain()
    else:
        sink.write_eof()


async def _all_or_none(*parts: Coroutine[Any, Any, None]) -> None:
    """Await all; when one fails, or we are cancelled, end the others."""
    tasks = {asyncio.ensure_future(part) for part in parts}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        await _cancel(tasks)


async def _cancel(tasks: set[asyncio.Task[None]]) -> None:
    for task in list(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
