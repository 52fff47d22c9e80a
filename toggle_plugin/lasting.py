"""After the answer: whether what was done lasts is watched for a while, and told where it does not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
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
class Done:
    """A command of `by` that ended as it was meant to; `arrival` is its place in the order of arrival."""

    target: Target
    outcome: Outcome
    by: str
    arrival: int


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
        try:
            back = await self._service.put_back(done.target, done.outcome, done.by, done.arrival)
            if back is not None:
                await changed(back)
                await reply.amend(render.put_back(back), render.did_not_last(back))
        except Exception:  # noqa: BLE001 - a boundary: the command itself was answered
            self._log.exception("target=%s aftermath=failed", done.target.name)
        finally:
            await reply.close()
