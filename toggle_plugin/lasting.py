"""After the answer: whether what was done lasts is watched for a while, and told where it does not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from . import render
from .models import Outcome
from .progress import ProgressMessage
from .settings import Target
from .tasks import cancelled
from .toggle import ToggleService

Changed = Callable[[Outcome], Awaitable[None]]
"""Takes how a command ended in truth."""


@dataclass(frozen=True)
class End:
    """What was done to a target, and when that had ended, as `time.monotonic` counts."""

    target: Target
    outcome: Outcome
    at: float


@dataclass(frozen=True)
class Done:
    """A command that ended as it was meant to.

    Attributes:
        ends: what it did, to one target or to those of a group.
        by: whose it was.
        arrival: its place in the order of arrival.
        words: the reply to it once these ends were put back, as Markdown.
    """

    ends: Sequence[End]
    by: str
    arrival: int
    words: Callable[[Sequence[Outcome]], str]


class Lasting:
    """Watches what was done; nobody waits for that, and `close` ends it."""

    def __init__(self, service: ToggleService, log: logging.Logger) -> None:
        self._service = service
        self._log = log
        self._watching: set[asyncio.Future[None]] = set()

    def begin(self, done: Done, reply: ProgressMessage, changed: Changed) -> None:
        """Watch `done`, which `reply` has told; where it does not last, amend that and tell `changed`."""
        task = asyncio.ensure_future(self._watch(done, reply, changed))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    async def close(self) -> None:
        """Watch no longer."""
        await cancelled(*self._watching)

    async def _watch(self, done: Done, reply: ProgressMessage, changed: Changed) -> None:
        back: list[Outcome] = []

        async def watch(end: End) -> None:
            try:
                found = await self._service.put_back(end.target, end.outcome, done.by, done.arrival, end.at)
                if found is not None:
                    back.append(found)
                    await changed(found)
                    await reply.amend(done.words(back), render.did_not_last(found), f"amended-{len(back)}")
            except Exception:  # noqa: BLE001 - a boundary: the command itself was answered
                self._log.exception("target=%s aftermath=failed", end.target.name)

        try:
            await asyncio.gather(*map(watch, done.ends))
        finally:
            await reply.close()
