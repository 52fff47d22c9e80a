"""What goes out: encrypted where the room is, in turn where the homeserver limits us, once where an answer was lost.

mautrix drops ``retry_after_ms`` and encrypts only while its crypto is there, so the last step, the PUT, is made here.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from aiohttp import ClientError, ClientResponse, ClientTimeout
from mautrix.api import Path
from mautrix.client import Client
from mautrix.errors import EncryptionError, MatrixConnectionError, MatrixError, MatrixRequestError, SessionShareError
from mautrix.types import EventType, MessageEventContent, RoomID

from .reach import Reach
from .tasks import Shield

TIMEOUT = 10.0
"""Seconds for one request; a slower one goes on at the homeserver, and the next try gets its result."""
ENCRYPTING = 30.0
"""Seconds that encrypting may take: it may have to ask for keys, and mautrix would wait for minutes."""
GIVE_UP = 15 * 60.0
"""Seconds that one event is tried for when the homeserver does not answer; limits are waited for without end."""
ODD_PATIENCE = 10.0
"""Seconds that one event is tried for when it is we who fail, for example because a database is locked."""
BACKOFF_MAX = 2.0
"""Seconds between two tries: an outage is over for us soon after it is over."""
LIMIT_WITHOUT_A_NUMBER = 5.0
"""Seconds to wait where a limit does not say: one message in five seconds is the stock limit."""
FINAL, FIRST, EDIT = range(3)
"""Urgencies: the last word of a command, the first, and what lies between."""


class NotSent(Exception):
    """An event could not be sent; the message says why, for the log."""


class _Limited(Exception):
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class _TryAgain(Exception):
    """The homeserver did not answer, or was broken; `patience` is how many seconds that is tried again for."""

    def __init__(self, what: str, patience: float | None = None) -> None:
        super().__init__(what)
        self.patience = GIVE_UP if patience is None else patience


Urgency = Callable[[], int]
"""Asked when a turn is given, for it can change while somebody waits: FINAL, FIRST or EDIT."""
Make = Callable[[], Awaitable[MessageEventContent | None]]


@dataclass(eq=False)
class _Turn:
    urgency: Urgency
    number: int
    user: str
    released: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    used: bool = True
    """Whether something went out; what the homeserver refused for its limit was no turn."""


class Gate:
    """Lets everybody through until the homeserver says how long to wait; then one at a time.

    People take turns then, so that nobody waits for somebody else's flood; of one person the most urgent goes first.
    Edits come last, whosever they are.
    """

    def __init__(self) -> None:
        self._closed_until = 0.0
        self._waiting: list[_Turn] = []
        self._numbers = itertools.count()
        self._served: dict[str, int] = {}
        """When somebody got a turn last, counted in turns; forgotten when nobody waits."""
        self._porter: asyncio.Task[None] | None = None

    @property
    def open(self) -> bool:
        """Whether an event sent now would go out at once, as far as we know."""
        return self._porter is None and time.monotonic() >= self._closed_until

    def close(self, seconds: float) -> None:
        """Nothing goes out for `seconds` from now."""
        self._closed_until = max(self._closed_until, time.monotonic() + seconds)

    def number(self) -> int:
        """A place in the order of arrival, to be kept over all tries."""
        return next(self._numbers)

    async def turn(self, urgency: Urgency, number: int, user: str) -> _Turn:
        """Wait for a turn to say something to `user`; whoever got it must call `done` with it."""
        turn = _Turn(urgency, number, user)
        if self.open:
            turn.released.set()
            return turn
        self._waiting.append(turn)
        if self._porter is None:
            self._porter = asyncio.ensure_future(self._release())
        try:
            await turn.released.wait()
        except asyncio.CancelledError:
            turn.used = False
            turn.ended.set()
            raise
        return turn

    def done(self, turn: _Turn) -> None:
        turn.ended.set()

    async def stop(self) -> None:
        if self._porter is not None:
            self._porter.cancel()
            await asyncio.gather(self._porter, return_exceptions=True)

    async def _release(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(max(0.0, self._closed_until - time.monotonic()))
                if time.monotonic() >= self._closed_until:
                    turn = min(self._waiting, key=self._rank)
                    self._waiting.remove(turn)
                    turn.released.set()
                    await turn.ended.wait()
                    if turn.used:
                        self._served[turn.user] = next(self._numbers)
        finally:
            self._porter = None
            self._served.clear()

    def _rank(self, turn: _Turn) -> tuple[bool, int, int, int]:
        urgency = turn.urgency()
        return urgency == EDIT, self._served.get(turn.user, -1), urgency, turn.number


class Outbox:
    """Sends events for one client.

    Args:
        encrypted: whether a room is encrypted.
    """

    def __init__(
        self, client: Client, encrypted: Callable[[str], Awaitable[bool]], reach: Reach, log: logging.Logger
    ) -> None:
        self._client = client
        self._reach = reach
        self._encrypted = encrypted
        self._log = log
        self._gate = Gate()
        self._whole = Shield()

    async def send(self, room: str, make: Make, urgency: Urgency, transaction: str = "", user: str = "") -> str | None:
        """Send what `make` returns when it is our turn, so that it is the newest; nothing when that is None.

        Args:
            transaction: the homeserver makes one event of all that is sent under it, also after a restart.
            user: who waits for it.

        Returns:
            The event ID, or None if nothing was sent.

        Raises:
            NotSent: it cannot be sent, or the homeserver did not answer for GIVE_UP seconds.
        """
        transaction, number = transaction or _transaction(), self._gate.number()
        failures, failing_since = 0, 0.0
        ready: tuple[EventType, Any] | None = None
        while True:
            turn = await self._gate.turn(urgency, number, user)
            try:
                ready = ready or await self._made(room, make)
                return await self._put(room, *ready, transaction) if ready else None
            except _Limited as limit:
                self._log.info("room=%s limited_for=%.1fs", room, limit.seconds)
                self._gate.close(limit.seconds)
                turn.used = False
                if not failures:
                    ready = None  # refused for certain, so the next try may say something newer
                failing_since = 0.0  # it answers
                continue
            except _TryAgain as error:
                # It may have arrived: the same content under the same transaction ID is one event.
                failures += 1
                failing_since = failing_since or time.monotonic()
                if time.monotonic() - failing_since > error.patience:
                    raise NotSent(f"given up after {error.patience:.0f} s: {error}") from error
            finally:
                self._gate.done(turn)
            await asyncio.sleep(min(2.0 ** (failures - 1), BACKOFF_MAX))

    async def react(self, room: str, event_id: str, key: str) -> None:
        """React to an event, if that is possible at once: a reaction is worth no waiting."""
        if not self._gate.open:
            return
        content = {"m.relates_to": {"rel_type": "m.annotation", "event_id": event_id, "key": key}}
        try:
            await self._put(room, EventType.REACTION, content, _transaction())
        except (NotSent, _TryAgain) as error:
            self._log.info("room=%s event=%s reaction=not_sent error=%r", room, event_id, str(error))
        except _Limited as limit:
            self._gate.close(limit.seconds)

    async def stop(self) -> None:
        """Let nobody wait any longer."""
        await self._gate.stop()
        await self._whole.drain()

    async def _made(self, room: str, make: Make) -> tuple[EventType, Any] | None:
        try:
            content = await make()
            return None if content is None else await self._prepared(room, content)
        except (NotSent, _TryAgain):
            raise
        except Exception as error:  # a boundary: a database that is locked now may not be so in a second
            raise _TryAgain(f"preparing: {error!r}", ODD_PATIENCE) from error

    async def _prepared(self, room: str, content: MessageEventContent) -> tuple[EventType, Any]:
        if not await self._encrypted(room):
            return EventType.ROOM_MESSAGE, content.serialize()
        if self._client.crypto is None:
            # After a re-login the plugin still holds the old client, which would send in plaintext.
            raise NotSent("the room is encrypted and this client's encryption is gone: restart the instance in maubot")
        try:
            work = self._whole(self._client.encrypt(RoomID(room), EventType.ROOM_MESSAGE, content))
            encrypted = await asyncio.wait_for(work, ENCRYPTING)
        except MatrixRequestError as error:
            again = (
                error.http_status == HTTPStatus.TOO_MANY_REQUESTS
                or error.http_status >= HTTPStatus.INTERNAL_SERVER_ERROR
            )
            raise (_TryAgain if again else NotSent)(f"encrypting: {error!r}") from error
        except (ClientError, OSError, asyncio.TimeoutError, MatrixConnectionError) as error:
            raise _TryAgain(f"encrypting: {error!r}") from error
        except (EncryptionError, SessionShareError) as error:
            # Somebody else was sharing the room's key, and failed; this time we share it.
            raise _TryAgain(f"encrypting: {error!r}") from error
        except MatrixError as error:
            raise NotSent(f"encrypting: {error!r}") from error
        return EventType.ROOM_ENCRYPTED, encrypted.serialize()

    async def _put(self, room: str, kind: EventType, content: Any, transaction: str) -> str:
        api = self._client.api
        path = str(Path.v3.rooms[RoomID(room)].send[str(kind)][transaction])
        url = api.base_url.with_path(f"{api.base_url.raw_path.rstrip('/')}/{path.lstrip('/')}", encoded=True)
        headers = {"Authorization": f"Bearer {api.token}", "Content-Type": "application/json"}
        request = api.session.put(url, data=json.dumps(content), headers=headers, timeout=ClientTimeout(total=TIMEOUT))
        try:
            return _event_id(*await self._reach(_answer(request)))
        except (ClientError, OSError, asyncio.TimeoutError, MatrixConnectionError) as error:
            raise _TryAgain(repr(error)) from error
        except RuntimeError as error:
            # aiohttp's word for a session that maubot has closed, as it does with a client that it replaces
            raise NotSent(repr(error)) from error


async def _answer(request: AbstractAsyncContextManager[ClientResponse]) -> tuple[int, dict[str, Any]]:
    async with request as response:
        return response.status, _json(await response.read())


def _transaction() -> str:
    return f"toggle-{uuid.uuid4().hex}"


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _event_id(status: int, body: dict[str, Any]) -> str:
    """The event ID in the homeserver's answer, or what to do without one."""
    if status == HTTPStatus.OK and isinstance(body.get("event_id"), str):
        return str(body["event_id"])
    if status == HTTPStatus.TOO_MANY_REQUESTS or body.get("errcode") == "M_LIMIT_EXCEEDED":
        wait = body.get("retry_after_ms")
        raise _Limited(wait / 1000 if isinstance(wait, (int, float)) and wait > 0 else LIMIT_WITHOUT_A_NUMBER)
    if status == HTTPStatus.OK or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise _TryAgain(f"status {status}")
    raise NotSent(f"the homeserver refused it: {status} {body.get('errcode', '')} {str(body.get('error', ''))[:200]}")
