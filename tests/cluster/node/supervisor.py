"""The process that a node lives and dies with: it starts the components, and cleans up whatever ends it.

It runs in network and mount namespaces of its own (`unshare`), so both are gone with the last of its processes. Its
components end with it even if it is killed; what containers then leave behind the next `up` or `down` removes.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from .build import Programs
from .command import CommandFailed
from .layout import Layout
from .node import Node, NodeFailed
from .remains import end_containers, remove

READY = "ready"


class Supervisor:
    """Keeps one node up until it is told to stop."""

    def __init__(self, layout: Layout, programs: Programs) -> None:
        self._layout = layout
        self._node = Node(layout, programs)
        self._stopping = asyncio.Event()

    async def run(self, *, until_input_ends: bool) -> None:
        """Start the node, say "ready" on standard output, wait for the end, and leave nothing behind.

        Raises:
            NodeFailed, CommandFailed: it did not start.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stopping.set)
        if until_input_ends:
            loop.add_reader(sys.stdin.fileno(), self._read_input)
        try:
            if await self._unless_stopped():
                await self._serve()
        finally:
            await self._node.down()

    def _read_input(self) -> None:
        if not os.read(sys.stdin.fileno(), 1):
            self._stopping.set()

    async def _unless_stopped(self) -> bool:
        """Whether the node came up before somebody wanted it to stop."""
        starting, stopped = asyncio.ensure_future(self._node.up()), asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                await starting
            return starting.done()
        finally:
            for task in (starting, stopped):
                task.cancel()
            await asyncio.gather(starting, stopped, return_exceptions=True)

    async def _serve(self) -> None:
        server = await asyncio.start_unix_server(self._answer, self._layout.control)
        try:
            print(READY, flush=True)
            await self._stopping.wait()
        finally:
            server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if request := await reader.readline():
                writer.write(json.dumps(await self._do(json.loads(request))).encode() + b"\n")
                await writer.drain()
        finally:
            writer.close()

    async def _do(self, request: dict[str, Any]) -> dict[str, str]:
        component = request["component"]
        try:
            match request["command"]:
                case "keep":
                    asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
                case "start":
                    await self._node.start(component, request["flags"])
                case "stop":
                    await self._node.stop(component)
                case "kill":
                    await self._node.kill(component)
                case other:
                    raise NodeFailed(f"there is no command {other!r}")
        except (NodeFailed, CommandFailed) as error:
            return {"error": str(error)}
        return {}


async def supervise(layout: Layout, programs: Programs, *, until_input_ends: bool) -> None:
    """Run a node until SIGTERM or, if so asked, the end of standard input."""
    with _locked(layout):
        clean(layout)
        await Supervisor(layout, programs).run(until_input_ends=until_input_ends)


def end(layout: Layout) -> None:
    """End the supervisor, if there is one, wait for it, and remove what a killed one left."""
    with _locked(layout, end_other=True):
        clean(layout)


def clean(layout: Layout) -> None:
    end_containers(layout)
    remove(layout)


@contextmanager
def _locked(layout: Layout, *, end_other: bool = False) -> Iterator[None]:
    """One at a time has the node's directory; whoever dies gives it back. Its process ID is in the file meanwhile."""
    layout.base.mkdir(mode=0o700, parents=True, exist_ok=True)
    if layout.base.stat().st_uid != os.getuid():
        raise NodeFailed(f"{layout.base} is somebody else's: name another directory in TOGGLE_CLUSTER")
    with layout.lock.open("a+") as file:
        _lock(file, end_other=end_other)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
        file.truncate(0)


def _lock(file: TextIO, *, end_other: bool) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        other = file.read()
        if not end_other or not other:
            raise NodeFailed(
                f"process {other or '(just started)'} has {file.name}: ./build.sh cluster down ends it"
            ) from None
        os.kill(int(other), signal.SIGTERM)
        fcntl.flock(file, fcntl.LOCK_EX)
