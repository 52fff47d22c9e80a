"""Follows one object of the cluster by watches of it, one after the other; what passes by itself is waited out."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from .api_failures import deleted, refusal_of, refused
from .api_objects import newer
from .api_requests import Request
from .api_transport import NO_ROLES_YET, Again, Transport, failure_text, json_object
from .errors import ClusterError, Forbidden, TimedOut, Unavailable, Unreachable
from .models import Workload

SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
SETTLED_WATCH = 5.0
"""Seconds after which a stream was a good one."""


class Watch:
    """The states of one object.

    Args:
        get, watch: the requests for the object as it is, and for one stream of its changes.
        read: its JSON → the state, perhaps by another request.
    """

    def __init__(
        self,
        transport: Transport,
        log: logging.Logger,
        get: Request,
        watch: Request,
        read: Callable[[Any], Awaitable[Workload]],
    ) -> None:
        self._transport = transport
        self._log = log
        self._get = get
        self._watch = watch
        self._read = read

    async def states(self) -> AsyncGenerator[Workload, None]:
        """The object as it is now, then each newer state, for as long as the caller iterates."""
        seen = ""
        failures = 0
        refused_since = None
        while True:
            began, asked_for = _now(), 0.0
            try:
                async with aclosing(self._once()) as states:
                    async for workload in states:
                        refused_since = None
                        if not seen or newer(workload.resource_version, seen):
                            seen = workload.resource_version
                            yield workload
            except Again as again:
                asked_for = again.asked_for
                self._log.info("watch interrupted %s", failure_text(self._watch, again.error))
            except ClusterError as error:
                if isinstance(error, Forbidden):
                    refused_since = refused_since or _now()
                if not _passes(error, was_allowed=bool(seen), refused_for=_now() - (refused_since or _now())):
                    self._log.warning("watch ended %s", failure_text(self._watch, error))
                    raise
                self._log.info("watch interrupted %s", failure_text(self._watch, error))
            failures = 0 if _now() - began >= SETTLED_WATCH else failures + 1
            await asyncio.sleep(max(pause(failures), asked_for))

    async def _once(self) -> AsyncGenerator[Workload, None]:
        """The object, then one stream of its changes until that ends; raises whatever else happens."""
        transport = self._transport
        response = await transport.open_stream(self._watch)
        try:
            # A stream alone is silent about an object that is not there; asked for before it, one deleted in between.
            # Tried again like any request: where every other one fails, the two together would never succeed.
            yield await self._read(await transport.json(self._get))
            async with aclosing(transport.lines(response)) as lines:
                async for line in lines:
                    obj = transport.parse(self._watch, line, self._changed)
                    if obj is not None:
                        yield await self._read(obj)
        finally:
            # Not released: what the server has still to say on it is not wanted.
            response.close()

    def _changed(self, line: bytes) -> Any:
        """The object of a watch event, None where it has none to tell; raises what an ERROR or a deletion means."""
        event = json_object(line) if line.strip() else {}
        kind = event.get("type")
        if kind == "DELETED":
            raise deleted(self._watch.asked)
        if kind == "ERROR":
            raise refused(refusal_of(event["object"]), self._watch.asked, self._transport.server)
        return event["object"] if kind in ("ADDED", "MODIFIED") else None


def _passes(error: ClusterError, *, was_allowed: bool, refused_for: float) -> bool:
    """Whether waiting may mend a failure."""
    if isinstance(error, Forbidden):
        # A right that was there counts on for a while.
        return was_allowed and refused_for < NO_ROLES_YET
    return isinstance(error, (TimedOut, Unavailable, Unreachable))


def pause(failures: int) -> float:
    """Seconds between two streams: half a second at least, growing to five, partly by chance."""
    longest = min(LONGEST_PAUSE, SHORTEST_PAUSE * 2 ** min(failures, 8))
    return max(SHORTEST_PAUSE, random.uniform(longest / 2, longest))  # noqa: S311 - spreads load, guards nothing


def _now() -> float:
    return asyncio.get_running_loop().time()
