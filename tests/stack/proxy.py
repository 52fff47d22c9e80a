"""A TCP proxy on loopback that can drop, delay and cut what goes through it; it understands nothing of it."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from urllib.parse import urlsplit

from .processes import LOOPBACK, free_port

CHUNK = 65536


class Proxy:
    """Stands before one server; to be entered with ``async with``.

    Attributes:
        connections: how many were accepted so far.
        received: bytes that came from the client's side.
    """

    def __init__(self, target: str) -> None:
        """`target` is a URL, of which host and port count."""
        parts = urlsplit(target)
        self._target = (parts.hostname or LOOPBACK, parts.port or 80)
        self._scheme = parts.scheme
        self.port = free_port()
        self.connections = 0
        self.received = 0
        self._dropping = False
        self._delay = 0.0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._mute: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"{self._scheme}://{LOOPBACK}:{self.port}"

    async def __aenter__(self) -> Proxy:  # noqa: PYI034 - typing.Self came with Python 3.11
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def pass_on(self) -> None:
        """Let everything through again; what was lost stays lost, and its connections stay mute."""
        self._dropping, self._delay = False, 0.0
        if self._server is None:
            await self._listen()

    def drop(self) -> None:
        """As a firewall that drops packets: connections stay open, and nothing comes through any more."""
        self._dropping = True
        self._mute |= self._open

    def delay(self, seconds: float) -> None:
        """Hold everything that comes back for `seconds`."""
        self._delay = seconds

    async def cut(self) -> None:
        """Close every connection, and refuse new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._open):
            writer.transport.abort()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, self.port)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._open.add(writer)
        if self._dropping:
            self._mute.add(writer)
        try:
            with contextlib.suppress(OSError):
                their_reader, their_writer = await asyncio.open_connection(*self._target)
                self._open.add(their_writer)
                await self._both_ways(reader, writer, their_reader, their_writer)
        finally:
            writer.transport.abort()
            self._open.discard(writer)
            self._mute.discard(writer)

    async def _both_ways(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        their_reader: asyncio.StreamReader,
        their_writer: asyncio.StreamWriter,
    ) -> None:
        there = asyncio.ensure_future(self._pump(reader, their_writer, writer, back=False))
        back = asyncio.ensure_future(self._pump(their_reader, writer, writer, back=True))
        try:
            await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            there.cancel()
            back.cancel()
            await asyncio.gather(there, back, return_exceptions=True)
            their_writer.transport.abort()
            self._open.discard(their_writer)

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, client: asyncio.StreamWriter, *, back: bool
    ) -> None:
        while data := await source.read(CHUNK):
            if not back:
                self.received += len(data)
            elif self._delay:
                await asyncio.sleep(self._delay)
            if client not in self._mute:
                sink.write(data)
                await sink.drain()
