"""Messages whose key has not come: wait for it, ask for it, and if it does not come in time, say so.

Only for people whom we know: a stranger's message causes no request, no memory and no answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any, cast

from mautrix.client import Client
from mautrix.errors import (
    DecryptionError,
    DuplicateMessageIndex,
    MismatchingRoomError,
    SessionNotFound,
    VerificationError,
)
from mautrix.types import EncryptedEvent, EncryptedMegolmEventContent, Event, MessageEvent, RoomID

from .tasks import Shield

GRACE = 3.0
"""Seconds that a key may take that is on its way already."""
LONGEST = 300.0
"""Seconds that a key may take at most: nobody is asked to send it again after a day."""
LOOK = 0.5
"""Seconds between two looks whether the key is there: mautrix tells only one of those who wait for a session."""
MOST = 200
"""Messages that wait for a key at a time; for more than these there is no waiting."""
REMEMBERED = 1000
"""Events that mautrix read which are remembered."""
SAY_AGAIN = 60.0
"""Seconds until the same room is told again."""


class Why(Enum):
    """Why a message was not read."""

    READ = "it was, or it is a replay"
    NO_KEY = "its key is missing"
    NOT_ITS_KEY = "its key belongs to another device or room"
    FAILED = "it was we who failed, or our homeserver"


PASSING = (Why.NO_KEY, Why.FAILED)
"""What may be otherwise in a moment."""

Say = Callable[[EncryptedEvent, Why], Awaitable[None]]


class Undecryptable:
    """Sees to it that a message which cannot be read is read later, or answered.

    Args:
        say: answers an event that stays unreadable.
    """

    def __init__(self, client: Client, say: Say, log: logging.Logger) -> None:
        self._client = client
        self._say = say
        self._log = log
        self._asked: dict[str, asyncio.Future[Any]] = {}
        self._said: dict[str, float] = {}
        self._read: OrderedDict[str, None] = OrderedDict()
        self._lines: dict[str, list[str]] = {}
        self._whole = Shield()

    @property
    def _waiting(self) -> int:
        return sum(len(line) for line in self._lines.values())

    async def look(self, event: EncryptedEvent, fresh_for: float) -> None:
        """Return when `event` has been read by mautrix itself, or late by us, or is answered.

        Args:
            fresh_for: how many seconds a command in it would still be run.
        """
        if self._client.crypto is None or not isinstance(event.content, EncryptedMegolmEventContent):
            return
        why = await self._why(event)
        if why is Why.READ:
            await self._unless_read(event)
        elif why in PASSING:
            why = await self._read_late(event, why, min(fresh_for, LONGEST))
        if why is not Why.READ:
            who = (event.event_id, event.room_id, event.sender)
            self._log.warning("event=%s room=%s user=%s unread=%s", *who, why.name.lower())
            await self._say_so(event, why)

    def read(self, event_id: str) -> None:
        """mautrix handed over what it read in this event."""
        self._read[event_id] = None
        if len(self._read) > REMEMBERED:
            self._read.popitem(last=False)

    async def close(self) -> None:
        """End what waits; what has begun in the crypto database is finished."""
        requests = list(self._asked.values())
        for request in requests:
            request.cancel()
        if requests:
            # mautrix withdraws a request that is cut off, and a homeserver may be slow to take that.
            await asyncio.wait(requests, timeout=1.0)
        await self._whole.drain()

    async def _read_late(self, event: EncryptedEvent, why: Why, seconds: float) -> Why:
        """Wait until it can be read and hand it over; else why it cannot be read in time, or when too many wait."""
        line = self._lines.setdefault(str(event.content.session_id), [])
        line.append(event.event_id)
        try:
            if self._waiting <= MOST and seconds > 0:
                why = await self._comes(event, why, seconds, line)
            if why is Why.READ:
                await self._hand_over(event)
            return why
        finally:
            line.remove(event.event_id)
            if not line:
                self._lines.pop(str(event.content.session_id), None)

    async def _why(self, event: EncryptedEvent) -> Why:
        """Why mautrix did not hand it over, if it did not; what holds no Matrix event at all counts as read."""
        try:
            await self._whole(self._client.crypto.decrypt_megolm_event(event))
        except SessionNotFound:
            return Why.NO_KEY
        except DuplicateMessageIndex:
            return Why.READ  # a replay
        except (VerificationError, MismatchingRoomError):
            return Why.NOT_ITS_KEY
        except DecryptionError as error:
            # The session began later than this message, or the message is not what it seems.
            self._log.info("event=%s room=%s decryption=failed error=%r", event.event_id, event.room_id, error)
            return Why.NO_KEY if "Failed to decrypt" in str(error) else Why.READ
        except Exception as error:  # noqa: BLE001 - a boundary: mautrix failed too, and who sent it waits for an answer
            self._log.warning("event=%s room=%s reading=failed error=%r", event.event_id, event.room_id, error)
            return Why.FAILED
        return Why.READ

    async def _unless_read(self, event: EncryptedEvent) -> None:
        """Hand it over if the key came in the moment between mautrix' attempt and ours."""
        await asyncio.sleep(LOOK)
        if event.event_id not in self._read:
            await self._hand_over(event)

    async def _comes(self, event: EncryptedEvent, why: Why, seconds: float, line: list[str]) -> Why:
        """Wait for the key that is on its way, then for one that we ask for; and for our turn in `line`."""
        deadline = time.monotonic() + seconds
        grace = min(time.monotonic() + GRACE, deadline)
        asked = False
        while time.monotonic() < deadline:
            await asyncio.sleep(LOOK)
            if line[0] != event.event_id:
                continue  # whoever is first asks for all
            why = await self._why(event)
            if why not in PASSING:
                return why
            if why is Why.NO_KEY and not asked and time.monotonic() >= grace:
                asked = True
                self._ask(event, deadline - time.monotonic())
        return why

    def _ask(self, event: EncryptedEvent, seconds: float) -> None:
        """Ask the sender's devices for the key, once for each session."""
        session = str(event.content.session_id)
        if session not in self._asked:
            request = asyncio.ensure_future(self._request(event, seconds))
            self._asked[session] = request
            request.add_done_callback(lambda _: self._asked.pop(session, None))

    async def _request(self, event: EncryptedEvent, seconds: float) -> None:
        try:
            devices = await self._askable(event)
            if not devices:
                return
            self._log.info("event=%s room=%s key=requested devices=%d", event.event_id, event.room_id, len(devices))
            await self._client.crypto.request_room_key(
                RoomID(event.room_id),
                event.content.sender_key,
                event.content.session_id,
                # mautrix is typed for lists, but takes out whoever answered as from a dict
                from_devices=cast(Any, {event.sender: devices}),
                timeout=max(1.0, seconds),
            )
        except Exception as error:  # noqa: BLE001 - a boundary: without the request the key may still come
            self._log.warning("event=%s room=%s key=not_requested error=%r", event.event_id, event.room_id, error)

    async def _askable(self, event: EncryptedEvent) -> dict[str, None]:
        """The device that sent it; a key from any other counts as forwarded, so that the command would be refused."""
        crypto = self._client.crypto
        # Of somebody who was a stranger until now, no device may be known yet.
        sent_by = await self._whole(crypto.get_or_fetch_device_by_key(event.sender, event.content.sender_key))
        if sent_by is not None:
            return {str(sent_by.device_id): None}
        return dict.fromkeys(map(str, await self._whole(crypto.crypto_store.get_devices(event.sender)) or {}))

    async def _hand_over(self, event: EncryptedEvent) -> None:
        try:
            decrypted = await self._whole(self._client.crypto.decrypt_megolm_event(event))
        except DecryptionError:
            return  # a replay
        if not isinstance(decrypted, MessageEvent) or event.event_id in self._read:
            return
        self._log.info("event=%s room=%s key=came_late", event.event_id, event.room_id)
        self._client.dispatch_event(cast(Event, decrypted), cast(Any, event).source)

    async def _say_so(self, event: EncryptedEvent, why: Why) -> None:
        now = time.monotonic()
        self._said = {room: at for room, at in self._said.items() if now - at < SAY_AGAIN}
        if event.room_id not in self._said:
            self._said[event.room_id] = now
            await self._say(event, why)
