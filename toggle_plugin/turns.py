"""Who may ask the cluster, and how much at a time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

QUESTIONS = 4
"""`status` and `check` of one person that run at a time."""


class Turns:
    """Lets a few questions of each person reach the cluster at a time, so that nobody waits for another's flood."""

    def __init__(self) -> None:
        self._places: dict[str, asyncio.Semaphore] = {}
        self._asking: Counter[str] = Counter()

    @asynccontextmanager
    async def of(self, user: str) -> AsyncIterator[None]:
        places = self._places.setdefault(user, asyncio.Semaphore(QUESTIONS))
        self._asking[user] += 1
        try:
            async with places:
                yield
        finally:
            self._asking[user] -= 1
            if not self._asking[user]:
                del self._asking[user], self._places[user]
