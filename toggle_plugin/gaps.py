"""What a sync response left out of a room's timeline, and what of a new room's timeline was not meant for us."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from mautrix.api import Method, Path
from mautrix.client import Client
from mautrix.errors import MatrixInvalidToken, MatrixRequestError
from mautrix.types import RoomID

from .reach import Reach
from .tasks import within

PAGE = 100
"""Events that one request asks for."""
LARGEST = 5000
"""Events of one gap that are fetched at most, newest first; only people whom we know count."""
PATIENCE = 20.0
"""Seconds for one page."""
AGAIN = 2.0
"""Seconds until a page that failed is asked for again."""
GIVE_UP = 120.0
"""Seconds that a page is asked for while the homeserver answers otherwise: it may never have what is missing, and all
rooms wait for this one."""
WAITING = "the homeserver does not give the messages that a sync left out"

Event = dict[str, Any]


class Gaps:
    """Fetches what is missing.

    Args:
        people: whose messages may matter; nobody else's are asked for, so that a stranger's flood costs nothing.
        maximum_age: how many seconds old a message may be to matter when it is not known since when we were away.
    """

    def __init__(
        self,
        client: Client,
        people: Callable[[], Iterable[str]],
        maximum_age: Callable[[], float],
        reach: Reach,
        log: logging.Logger,
    ) -> None:
        self._client = client
        self._reach = reach
        self._people = people
        self._maximum_age = maximum_age
        self._log = log
        self.trouble = ""
        """What everything waits for, or nothing."""

    async def filled(self, room: str, timeline: dict[str, Any], since: str | None) -> list[Event]:
        """All events of `timeline` that we should see, oldest first, the messages that are missing before it included.

        Raises MatrixInvalidToken; any other trouble is waited for, without end if the homeserver is silent.
        """
        events = [event for event in timeline.get("events", []) if not before_us(event)]
        joined = invited_at(events, self._client.mxid)
        if joined is not None:
            return events[joined:]
        begin = timeline.get("prev_batch")
        if not timeline.get("limited") or not begin or _just_joined(events, self._client.mxid):
            return events
        older = await self._before(room, str(begin), since)
        if older:
            self._log.info("room=%s gap=filled events=%d", room, len(older))
        known = {event.get("event_id") for event in events}
        missing = (event for event in older if event.get("event_id") not in known and not before_us(event))
        # The response has the state as it was after the gap: an older one would put back whom somebody else threw out.
        return [*(event for event in missing if "state_key" not in event), *events]

    async def _before(self, room: str, begin: str, since: str | None) -> list[Event]:
        """Events before the token `begin`, back to the token `since`, oldest first."""
        found: list[Event] = []
        people = sorted(self._people())
        token: str | None = begin
        while people and token and len(found) < LARGEST:
            page = await self._page(room, token, since, people)
            self.trouble = ""
            events = [event for event in page.get("chunk", []) if isinstance(event, dict)]
            found += events
            begin, token = token, page.get("end")
            if token == begin:
                break
            if since is None and _all_older(events, time.time() - self._maximum_age()):
                break
        if len(found) >= LARGEST:
            self._log.warning("room=%s gap=too_large events=%d", room, len(found))
        return found[::-1]

    async def _page(self, room: str, token: str, since: str | None, people: list[str]) -> dict[str, Any]:
        query = {"dir": "b", "from": token, "limit": str(PAGE), "filter": json.dumps({"senders": people})}
        if since:
            query["to"] = since
        patience = GIVE_UP
        while True:
            began = time.monotonic()
            request = self._client.api.request(
                Method.GET, Path.v3.rooms[RoomID(room)].messages, query_params=query, retry_count=0
            )
            try:
                return dict(await within(PATIENCE, request))
            except MatrixInvalidToken:
                # Who syncs again from the same token finds the same gap.
                raise
            except Exception as error:  # noqa: BLE001 - a boundary: nothing goes on before the gap is filled
                if _final(error) or patience <= 0:
                    self._log.warning("room=%s gap=not_filled error=%r", room, error)
                    return {}
                self._log.info("room=%s gap=waiting error=%r", room, error)
                self.trouble = WAITING
            if await self._reach.sign_of_life():
                patience -= time.monotonic() - began
            await asyncio.sleep(AGAIN)


def before_us(event: Event) -> bool:
    """Whether it was sent when we were not in the room, nor invited: it was not for us."""
    # MSC4115: homeservers that say what we were to the room at that moment say it here.
    unsigned = event.get("unsigned") if isinstance(event, dict) else None
    return isinstance(unsigned, dict) and unsigned.get("membership") in ("leave", "ban")


def invited_at(events: list[Event], own_user: str) -> int | None:
    """Where in a timeline we were invited, if it shows how we came in: what was said before that was not for us."""
    if not _just_joined(events, own_user):
        return None
    return next((at for at, event in enumerate(events) if _membership(event, own_user) == "invite"), None)


def _just_joined(events: list[Event], own_user: str) -> bool:
    return any(_membership(event, own_user) == "join" and _came_in(event) for event in events)


def _came_in(event: Event) -> bool:
    unsigned = event.get("unsigned")
    previous = unsigned.get("prev_content") if isinstance(unsigned, dict) else None
    return not (isinstance(previous, dict) and previous.get("membership") == "join")


def _membership(event: Event, user: str) -> str:
    if not isinstance(event, dict) or (event.get("type"), event.get("state_key")) != ("m.room.member", user):
        return ""
    content = event.get("content")
    return str(content.get("membership", "")) if isinstance(content, dict) else ""


def _all_older(events: list[Event], moment: float) -> bool:
    return all(event.get("origin_server_ts", 0) / 1000 < moment for event in events)


def _final(error: Exception) -> bool:
    """Whether the homeserver will not say anything else when it is asked again."""
    if not isinstance(error, MatrixRequestError):
        return False
    if error.http_status == HTTPStatus.NOT_FOUND and not getattr(error, "errcode", None):
        return False  # a proxy that has no homeserver behind it at the moment
    passing = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
    return (
        HTTPStatus.BAD_REQUEST <= error.http_status < HTTPStatus.INTERNAL_SERVER_ERROR
        and error.http_status not in passing
    )
