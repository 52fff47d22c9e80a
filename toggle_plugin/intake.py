"""Lines in the order of their arrival: one person's one after the other, people side by side, and not without bound.

A line is first admitted (who, how, written down), then run. Admitting goes in order; what runs does not hold it up.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass, field
from typing import Any

from .tasks import cancelled

MOST = 500
"""Lines of one person that may wait or run at a time."""

Run = Coroutine[Any, Any, None]
Admit = Callable[[], Coroutine[Any, Any, "Run | None"]]
"""Admits a line; gives what runs it, if anything does."""


@dataclass
class _Person:
    waiting: deque[tuple[Admit, asyncio.Future[None]]] = field(default_factory=deque)
    worker: asyncio.Future[None] | None = None
    unfinished: int = 0
    told: bool = False


@dataclass(frozen=True)
class _All:
    """All of these futures, as they are now; unlike a coroutine, nobody complains if it is never awaited."""

    futures: list[asyncio.Future[None]]

    def __await__(self) -> Generator[Any, None, None]:
        return self._wait().__await__()

    async def _wait(self) -> None:
        if self.futures:
            await asyncio.wait(self.futures)


class Intake:
    """Takes lines, until it is closed."""

    def __init__(self, log: logging.Logger, most: int = MOST) -> None:
        self._log = log
        self._most = most
        self._people: dict[str, _Person] = {}
        self._admitting: set[asyncio.Future[None]] = set()
        self._tasks: set[asyncio.Future[Any]] = set()
        self._closing = False

    def take(self, user: str, admit: Admit) -> bool:
        """Take a line of `user`; False if too many of theirs wait already."""
        if self._closing:
            return True  # it is not lost: nobody has written down that it was handed over
        person = self._people.setdefault(user, _Person())
        if person.unfinished >= self._most:
            return False
        person.unfinished += 1
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._admitting.add(admitted)
        person.waiting.append((admit, admitted))
        if person.worker is None:
            person.worker = self._begin(self._work(user, person))
        return True

    def first_refusal(self, user: str) -> bool:
        """Whether `user` was not told yet, in this flood, that there is no room for more."""
        person = self._people.get(user)
        if person is None or person.told:
            return False
        person.told = True
        return True

    def begin(self, work: Run) -> None:
        """Run something that belongs to no line in the queue, and end it in `close`."""
        _ = self._begin(work)

    def settled(self) -> Awaitable[object]:
        """What to await until every line that was taken so far is admitted."""
        return _All(list(self._admitting))

    def hold(self) -> asyncio.Future[None]:
        """Something that is not settled before the future that this gives is done."""
        held: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._admitting.add(held)
        held.add_done_callback(self._admitting.discard)
        return held

    async def close(self) -> None:
        """Cancel what waits and runs, and wait for it."""
        self._closing = True
        await cancelled(*(person.worker for person in self._people.values() if person.worker is not None))
        # What was just begun has to get to its own `finally`: cancelled before its first step, it never would.
        await asyncio.sleep(0)
        await cancelled(*self._tasks)

    async def _work(self, user: str, person: _Person) -> None:
        while person.waiting:
            admit, admitted = person.waiting.popleft()
            try:
                run = await admit()
            except Exception:  # noqa: BLE001 - a boundary: nothing may stop the queue
                self._log.exception("intake=broken")
                run = None
            # Not in a finally: what was cut off is not settled, so that it comes again after the restart.
            self._admitting.discard(admitted)
            admitted.set_result(None)
            if run is None:
                self._finished(user)
            else:
                self._begin(run).add_done_callback(lambda _: self._finished(user))
        person.worker = None
        self._forget(user)

    def _begin(self, work: Run) -> asyncio.Future[Any]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _finished(self, user: str) -> None:
        self._people[user].unfinished -= 1
        self._forget(user)

    def _forget(self, user: str) -> None:
        """Nobody is remembered for longer than they have something to do."""
        person = self._people[user]
        if not person.unfinished and person.worker is None:
            del self._people[user]
