"""Commands that came too late to be run: one answer for all of a room."""

from __future__ import annotations

import asyncio
import time

from . import render
from .lines import Line
from .models import Command
from .progress import ProgressMessage

TOGETHER = 1.0
"""Seconds without another command that came too late, until all of them are answered together."""


class Late:
    """What came too late to be run, of one room: said once, together, when no more of it comes for a moment."""

    def __init__(self) -> None:
        self._rooms: dict[str, _Together] = {}

    async def tell(self, line: Line, maximum_age: float, reply: ProgressMessage) -> None:
        """Say that `line` is not run; returns when that is said."""
        room = line.requester.room
        together = self._rooms.get(room)
        if together is None:
            together = self._rooms[room] = _Together()
            together.lines.append(line)
            reply.hush()
            try:
                await together.quiet()
            finally:
                del self._rooms[room]
            try:
                await reply.finish(together.words(maximum_age))
            finally:
                together.said.set()
        else:
            reply.hush()
            together.lines.append(line)
            await together.said.wait()


class _Together:
    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.said = asyncio.Event()

    async def quiet(self) -> None:
        count = 0
        while count < len(self.lines):
            count = len(self.lines)
            await asyncio.sleep(TOGETHER)

    def words(self, maximum_age: float) -> str:
        first = self.lines[0]
        if len(self.lines) == 1:
            return render.too_old(maximum_age, time.time() - first.sent_ms / 1000)
        oldest = min(line.sent_ms for line in self.lines)
        return render.all_too_old(
            maximum_age,
            time.time() - oldest / 1000,
            [(line.requester.user, line.parsed) for line in self.lines if isinstance(line.parsed, Command)],
        )
