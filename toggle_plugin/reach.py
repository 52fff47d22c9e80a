"""Whether the homeserver is within reach; no request to it outlives an outage.

A connection that lost packets can stay mute for minutes after the network is back. mautrix waits for its answers up to
five minutes, and holds locks meanwhile: where it shares a room's keys, nothing more can be said in that room. So what
was under way in an outage fails as soon as there is a sign of life, and whoever asked asks again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from mautrix.client import Client
from mautrix.errors import MatrixConnectionError

from .tasks import cancelled, within

SLOW = 5.0
"""Seconds after which an answer that does not come makes us look for a sign of life."""
PROBE, PROBE_PAUSE = 3.0, 2.0
"""Seconds that a sign of life may take, and between two looks: so an outage is over for us within 5 s of its end."""

T = TypeVar("T")


@dataclass(frozen=True)
class _Times:
    """Of one request, by the monotonic clock: when it began, and from when on it is slow."""

    began: float
    slow: float


class Reach:
    """Watches the requests of one client, mautrix' own included, from `install` to `close`.

    Args:
        gone: whether maubot has put another client in the place of this one, which then says nothing any more.
    """

    def __init__(self, client: Client, gone: Callable[[], bool], log: logging.Logger) -> None:
        self._client = client
        self._gone = gone
        self._log = log
        self._under_way: dict[asyncio.Future[Any], _Times] = {}
        self._lost = False
        self._watcher: asyncio.Task[None] | None = None
        self._watched = self._request

    def install(self) -> None:
        """Take mautrix' requests through us; there is no other way to end one without cutting what asked for it."""
        self._client.api.request = self._watched  # type: ignore[method-assign]

    async def close(self) -> None:
        """Give them back, unless somebody else has taken them over meanwhile."""
        if self._client.api.__dict__.get("request") is self._watched:
            del self._client.api.__dict__["request"]
        if self._watcher is not None:
            await cancelled(self._watcher)

    async def __call__(self, request: Awaitable[T], held: float = 0.0) -> T:
        """The result of `request`.

        Args:
            held: seconds that the homeserver was asked to wait with its answer.

        Raises:
            MatrixConnectionError: it was under way in an outage.
        """
        task = asyncio.ensure_future(request)
        now = time.monotonic()
        self._under_way[task] = _Times(now, now + held + SLOW)
        alarm = asyncio.get_running_loop().call_later(held + SLOW, self._look)
        try:
            await asyncio.wait({task})
            if task.cancelled():
                raise MatrixConnectionError("it was under way in an outage")
            return task.result()
        finally:
            alarm.cancel()
            del self._under_way[task]
            task.cancel()

    async def sign_of_life(self) -> bool:
        """Ask the homeserver for the least; whether it answered. The first answer after an outage ends it."""
        began = time.monotonic()
        try:
            await within(PROBE, self._client.versions(no_cache=True))
        except Exception as error:  # noqa: BLE001 - a boundary: any failure means not yet
            self._log.debug("homeserver=silent error=%r", error)
            self._lost = True
            return False
        if self._lost:
            self._lost = False
            self._fail_what_began_before(began)
        return True

    async def returned(self) -> None:
        """Wait until the homeserver answers."""
        while not await self.sign_of_life():  # noqa: ASYNC110 - nobody tells us
            await asyncio.sleep(PROBE_PAUSE)

    async def _request(self, method: Any, path: Any, *args: Any, **options: Any) -> Any:
        plain = type(self._client.api).request(self._client.api, method, path, *args, **options)
        return await self(plain, _held(options.get("query_params")))

    def _look(self) -> None:
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        while not self._gone() and (self._lost or self._slow()):
            await self.sign_of_life()
            await asyncio.sleep(PROBE_PAUSE)

    def _slow(self) -> bool:
        now = time.monotonic()
        return any(times.slow <= now for times in self._under_way.values())

    def _fail_what_began_before(self, moment: float) -> None:
        for task, times in self._under_way.items():
            if times.began < moment:
                task.cancel()


def _held(query: Any) -> float:
    """Seconds that a sync asks the homeserver to wait for news."""
    held = query.get("timeout") if isinstance(query, dict) else None
    return int(held) / 1000 if isinstance(held, str) and held.isdecimal() else 0.0
