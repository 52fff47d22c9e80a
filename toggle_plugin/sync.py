"""The sync loop, where it is ours: keys before rooms, rooms in order, gaps filled, then the token.

maubot's own loop throws away the first response after every start, room keys included, hands over keys and messages
side by side, and after an outage waits for minutes (trap B). It is ours when the client's `sync` is off in maubot.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

from mautrix.client import Client, InternalEventType
from mautrix.errors import MatrixInvalidToken
from mautrix.types import JSON, FilterID, SyncToken

from .account import Account
from .device_lists import StrangersDevices
from .gaps import Gaps
from .reach import Reach
from .tasks import Shield, cancelled, within

POLL = 25.0
"""Seconds that the homeserver holds a request when there is no news."""
PATIENCE = 10.0
"""Seconds more after which a request without an answer is given up: within 45 s we know that nobody answers."""
FIRST_PATIENCE = 300.0
"""The same for a sync from the beginning, which is much work for a homeserver."""
BACKOFF = 2.0
"""Seconds until a request that failed is made again, if there is a sign of life then."""
LONGEST_PATIENCE = 120.0
TOKEN_PAUSE = 60.0
"""Seconds until a token that the homeserver does not know is tried again."""
HAND_OVER = 30.0
"""Seconds that one event may hold up the next."""
STRANGERS = 2.0
"""Seconds that what strangers sent may hold up one response: to read it, a homeserver of theirs may be asked."""
BREATHE, LONGEST_BREATH = 1.0, 60.0
"""Seconds until a loop that broke is begun again, the first time and at most."""
LOOK = 10.0
"""Seconds between two looks at who syncs; what ends is noticed at once."""
SILENT = 45.0
"""Seconds without an answer after which we say that we are cut off."""

FILTER = FilterID(
    json.dumps(
        {
            # maubot's own, so that its other plugins get what they are used to
            "room": {
                "timeline": {"limit": 50, "lazy_load_members": True},
                "state": {"lazy_load_members": True},
            },
            "presence": {"not_types": ["m.presence"]},
        }
    )
)

ENOUGH = {"device_one_time_keys_count": {"signed_curve25519": 1000}}
"""What all pieces but the first say. mautrix takes a missing count for none, and uploads keys each time that it hears
of few: in the end more of them than it keeps the private parts of."""

BROKEN = "what the homeserver sends breaks the sync loop: maubot's log says why"
UNKNOWN_TOKEN = "the homeserver does not know this client's access token: log in again in maubot"  # noqa: S105 - a text
REPLACED = "the bot was logged in anew: restart this instance"
SYNC_ON = (
    "maubot syncs this client itself, so after a restart the first messages can be lost: "
    "switch Sync off for this client in maubot"
)

Settled = Callable[[], Awaitable[object]]
"""Gives what to wait for until everything that was handed over so far is written down."""


@dataclass(frozen=True)
class Piece:
    """A part of a sync response, whole for `Syncer.handle_sync`.

    Attributes:
        awaited: whether what comes after it must wait for it.
        ours: whether it can matter to us; else it is only for other plugins on the same account. mautrix keeps a row
            of each session, message and device that a stranger shows it.
    """

    data: dict[str, Any]
    awaited: bool = True
    ours: bool = True


def pieces(data: dict[str, Any], known: Callable[[str], bool], own_user: str = "") -> Iterator[Piece]:
    """The parts of a sync response in the order in which they must be handled, but for the devices of strangers.

    Args:
        known: whether somebody's messages matter. What strangers encrypted holds up nobody.
        own_user: ourselves: our other devices may ask us for keys.
    """
    counts = {"device_one_time_keys_count": data.get("device_one_time_keys_count", {})}
    for piece in _parts(data, known, own_user):
        yield replace(piece, data={**counts, **piece.data})
        counts = ENOUGH


def _parts(data: dict[str, Any], known: Callable[[str], bool], own_user: str) -> Iterator[Piece]:
    # Always, for they go with the count of our keys.
    yield Piece({"device_lists": _device_lists(data, known)})
    for event in _events(data, "to_device"):
        ours = known(_sender(event)) or _sender(event) == own_user
        yield Piece({"to_device": {"events": [event]}}, ours, ours)
    for part in ("account_data", "ephemeral"):
        for event in _events(data, part):
            yield Piece({part: {"events": [event]}})
    for rooms, ours in _rooms(data.get("rooms", {}), known):
        yield Piece({"rooms": rooms}, ours, ours)


def _rooms(rooms: dict[str, Any], known: Callable[[str], bool]) -> Iterator[tuple[dict[str, Any], bool]]:
    for kind in ("invite", "leave"):
        for room, content in rooms.get(kind, {}).items():
            yield {kind: {room: content}}, True
    for room, content in rooms.get("join", {}).items():
        for part in ("state", "timeline", "ephemeral"):
            for event in _events(content, part):
                encrypted = part == "timeline" and event.get("type") == "m.room.encrypted"
                yield {"join": {room: {part: {"events": [event]}}}}, not encrypted or known(_sender(event))


def _device_lists(data: dict[str, Any], known: Callable[[str], bool]) -> dict[str, Any]:
    return {**data.get("device_lists", {}), "changed": [user for user in _changed(data) if known(user)]}


def _changed(data: dict[str, Any]) -> list[str]:
    """Whose devices are others now."""
    return [user for user in data.get("device_lists", {}).get("changed", []) if isinstance(user, str)]


def _sender(event: dict[str, Any]) -> str:
    return str(event.get("sender", ""))


def _events(data: dict[str, Any], part: str) -> list[dict[str, Any]]:
    events = data.get(part, {}).get("events", [])
    return [event for event in events if isinstance(event, dict)] if isinstance(events, list) else []


def checked(data: object) -> dict[str, Any]:
    """`data`, if it is a sync response; raises ValueError if something else, perhaps a proxy, answered."""
    if not isinstance(data, dict) or not isinstance(data.get("next_batch"), str):
        raise ValueError("the answer is no sync response")
    return data


class Tokens:
    """Stores where to go on after a restart, but only once everything before it is written down."""

    def __init__(self, client: Client, log: logging.Logger) -> None:
        self._client = client
        self._log = log
        self._next: tuple[str, asyncio.Future[object]] | None = None
        self._worker: asyncio.Future[None] | None = None
        self._whole = Shield()

    def store(self, token: str, settled: Awaitable[object]) -> None:
        """Store `token` after `settled`, which must hold for all that came before it too.

        While an older one waits, only the newest of those behind it is kept.
        """
        waiting = asyncio.ensure_future(settled)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.ensure_future(self._work(token, waiting))
            return
        if self._next is not None:
            self._next[1].cancel()
        self._next = (token, waiting)

    async def close(self) -> None:
        """Store no more; what is under way is finished."""
        # What was just begun has to get to its first step: cancelled before that, it would not end what it waits for.
        await asyncio.sleep(0)
        if self._worker is not None:
            await cancelled(self._worker)
        if self._next is not None:
            await cancelled(self._next[1])
        await self._whole.drain()

    async def _work(self, token: str, settled: asyncio.Future[object]) -> None:
        while True:
            try:
                await settled
                # A token that is stored twice is harmless, a cancelled statement is not (trap "Database").
                await self._whole(self._client.sync_store.put_next_batch(SyncToken(token)))
            except Exception as error:  # noqa: BLE001 - a boundary: the next may succeed, and what comes twice is known
                self._log.warning("sync=token_not_stored error=%r", error)
            if self._next is None:
                return
            (token, settled), self._next = self._next, None


class SyncLoop:
    """One run of the loop, from the stored token on, until it is cancelled."""

    def __init__(
        self,
        account: Account,
        gaps: Gaps,
        reach: Reach,
        known: Callable[[str], bool],
        settled: Settled,
        log: logging.Logger,
    ) -> None:
        self._account = account
        self._client = client = account.client
        self._gaps = gaps
        self._reach = reach
        self._known = known
        self._settled = settled
        self._log = log
        self._tokens = Tokens(client, log)
        self._strangers = StrangersDevices(client, log)
        self._whole = Shield()
        self._late: set[asyncio.Future[None]] = set()
        self._patience = POLL + PATIENCE
        self.answered = time.monotonic()
        """When the homeserver answered last."""
        self.trouble = ""
        self.worked = False
        """Whether a response was taken in."""

    async def run(self) -> None:
        stored = await self._client.sync_store.get_next_batch()
        since = str(stored) if stored else None
        self._await_mautrix()
        # Only what came before is known to have been handed over.
        quick = True
        while True:
            data = await self._response(since, quick)
            if data is None:
                quick = True
                continue
            quick = False
            try:
                await self._take_in(data, since)
            except MatrixInvalidToken as error:
                await self._without_token(error)
                continue
            since = str(data["next_batch"])
            self._tokens.store(since, self._written_down())
            self.worked = True

    async def close(self) -> None:
        """End what the cancelled loop left behind."""
        with contextlib.suppress(asyncio.TimeoutError):
            await within(2.0, self._over())

    async def _over(self) -> None:
        await self._tokens.close()
        await self._strangers.close()
        await self._whole.drain()

    async def _written_down(self) -> None:
        """Wait for all that was handed over so far, also for what nobody else waits for any more."""
        if self._late:
            await asyncio.wait(set(self._late))
        await self._settled()

    def _await_mautrix(self) -> None:
        """Let `handle_sync` give back the work of mautrix' own handlers (keys, state, decryption), to be awaited.

        Other plugins' handlers still run beside: none of them can hold up the loop.
        """
        for handlers in (self._client.global_event_handlers, *self._client.event_handlers.values()):
            for handler, props in list(handlers.items()):
                if getattr(handler, "__module__", "").split(".")[0] == "mautrix":
                    handlers[handler] = props._replace(wait_sync=True)

    async def _response(self, since: str | None, quick: bool) -> dict[str, Any] | None:
        """The next response; None after trouble, once there is a sign of life again."""
        wait = 0.0 if quick else POLL
        patience = self._patience if since else FIRST_PATIENCE
        try:
            request = self._client.sync(
                since=SyncToken(since) if since else None,
                timeout=round(wait * 1000),
                filter_id=FILTER,
                set_presence=self._client.presence,
            )
            data = checked(await within(patience, request))
        except MatrixInvalidToken as error:
            await self._without_token(error)
            return None
        except Exception as error:  # noqa: BLE001 - a boundary: whatever it was, the loop goes on
            await self._failed(error)
            return None
        await self._answered(data)
        return data

    async def _answered(self, data: dict[str, Any]) -> None:
        if self.trouble:
            self._log.info("sync=recovered")
        self.answered, self.trouble, self._patience = time.monotonic(), "", POLL + PATIENCE
        # maubot's UI shows by this whether syncing works
        await self._client.run_internal_event(InternalEventType.SYNC_SUCCESSFUL, data=data)

    async def _without_token(self, error: Exception) -> None:
        if self.trouble != UNKNOWN_TOKEN:
            self._log.error("sync=stopped error=%r cure=%r", error, UNKNOWN_TOKEN)
        self.trouble = UNKNOWN_TOKEN
        await self._client.run_internal_event(InternalEventType.SYNC_ERRORED, error=error, sleep_for=TOKEN_PAUSE)
        await asyncio.sleep(TOKEN_PAUSE)

    async def _failed(self, error: Exception) -> None:
        if not self.trouble:
            self._log.warning("sync=failed error=%r", error)
        self.trouble = f"the homeserver does not answer ({type(error).__name__})"
        await self._client.run_internal_event(InternalEventType.SYNC_ERRORED, error=error, sleep_for=BACKOFF)
        if isinstance(error, asyncio.TimeoutError) and await self._reach.sign_of_life():
            # It lives and still did not answer in time: perhaps there is much to say.
            self._patience = min(2 * self._patience, LONGEST_PATIENCE)
        await asyncio.sleep(BACKOFF)
        await self._reach.returned()

    async def _take_in(self, data: dict[str, Any], since: str | None) -> None:
        for room, content in data.get("rooms", {}).get("join", {}).items():
            timeline = content.get("timeline", {})
            timeline["events"] = await self._gaps.filled(room, timeline, since)
        self._strangers.changed(user for user in _changed(data) if not self._known(user))
        strangers = STRANGERS
        for piece in pieces(data, self._known, str(self._client.mxid)):
            if not piece.ours and not self._account.shared:
                continue
            if piece.awaited:
                await self._hand_over(piece, HAND_OVER)
            else:
                began = time.monotonic()
                await self._hand_over(piece, strangers)
                strangers = max(0.0, strangers - (time.monotonic() - began))

    async def _hand_over(self, piece: Piece, seconds: float) -> None:
        """Hand one part to mautrix and wait for its own handlers, but no longer than that."""
        # No cancellation gets to the inside: it could leave a transaction of maubot's open (trap "Database").
        handled = asyncio.ensure_future(self._whole(self._handled(piece.data)))
        done, _ = await asyncio.wait({handled}, timeout=seconds)
        if piece.awaited and not done:
            self._log.warning("sync=slow_event seconds=%.0f", seconds)
            self._late.add(handled)
            handled.add_done_callback(self._late.discard)

    async def _handled(self, piece: dict[str, Any]) -> None:
        """A bad event must not take others with it."""
        try:
            await asyncio.gather(*self._client.handle_sync(cast(JSON, piece)))
        except Exception as error:  # noqa: BLE001 - a boundary: whoever sent it, the rest must go on
            self._log.warning("sync=bad_event error=%.200r", error)


class Sync:
    """Runs the loop when it is ours, and sees to it that somebody does.

    Args:
        known: whether somebody's messages matter.
        settled: gives what to wait for until all that was handed over is written down.
    """

    def __init__(
        self,
        account: Account,
        gaps: Gaps,
        reach: Reach,
        known: Callable[[str], bool],
        settled: Settled,
        log: logging.Logger,
    ) -> None:
        self._account = account
        self._client = account.client
        self._gaps = gaps
        self._log = log
        self._new_loop = partial(SyncLoop, account, gaps, reach, known, settled, log)
        self._loop: SyncLoop | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._began = time.monotonic()
        self._broken = ""
        self._breath = BREATHE

    def start(self) -> None:
        # Both flags: they also hold for the loop of maubot's, should it begin one later (trap B).
        self._client.ignore_first_sync = False
        self._client.ignore_initial_sync = False
        if self.caution:
            self._log.warning("sync=maubot caution=%r", self.caution)
        self._supervisor = asyncio.create_task(self._supervise())

    async def close(self) -> None:
        if self._supervisor is not None:
            await cancelled(self._supervisor)

    @property
    def trouble(self) -> str:
        """Why no messages reach us, or nothing."""
        if self._account.replaced:
            return REPLACED
        if self._loop is None:
            if self._broken:
                return self._broken
            task = self._client.syncing_task
            stopped = task is None or task.done()
            return "" if not stopped or time.monotonic() - self._began < SILENT else "nobody syncs this client"
        silent = time.monotonic() - self._loop.answered > SILENT
        broken = "" if self._loop.worked else self._broken
        return (
            self._loop.trouble or broken or self._gaps.trouble or ("the homeserver does not answer" if silent else "")
        )

    @property
    def caution(self) -> str:
        """What may be lost although all works now, or nothing."""
        return SYNC_ON if self._account.synced_by_maubot else ""

    async def _supervise(self) -> None:
        while not self._account.replaced:
            task = self._client.syncing_task
            if self._account.synced_by_maubot:
                await _ended(task)
            else:
                if task is not None and not task.done():
                    await cancelled(task)
                await self._own()
        # Only the new client may sync now: two would share one device's keys.
        self._log.error("sync=stopped cure=%r", REPLACED)

    async def _own(self) -> None:
        """Run our loop until it ends: by a bug, or because maubot ended it (Sync switched on, cache cleared)."""
        self._loop = self._new_loop()
        self._log.info("sync=own")
        # maubot cancels what it finds here when it stops, replaces or syncs the client itself
        task = self._client.syncing_task = asyncio.ensure_future(self._loop.run())
        try:
            await asyncio.wait({task})
            self._broken = ""
            if not task.cancelled() and task.exception() is not None:
                await self._broke(self._loop, task.exception())
        finally:
            await cancelled(task)
            await self._loop.close()
            self._loop = None
            if self._client.syncing_task is task:
                self._client.syncing_task = None

    async def _broke(self, loop: SyncLoop, error: BaseException | None) -> None:
        self._log.error("sync=broken", exc_info=error)
        self._breath = BREATHE if loop.worked else min(2 * self._breath, LONGEST_BREATH)
        self._broken, loop.worked = BROKEN, False
        await asyncio.sleep(self._breath)


async def _ended(task: asyncio.Future[Any] | None) -> None:
    """Return when `task` has ended, or when it is time to look again."""
    if task is None or task.done():
        await asyncio.sleep(LOOK)
    else:
        await asyncio.wait({task}, timeout=LOOK)
