"""Which events count: not our own, not notices, not edits, not twice, not too old, not from the future."""

from __future__ import annotations

import time
from collections import OrderedDict
from enum import Enum

from mautrix.types import MessageEvent, MessageType, TextMessageEventContent

FUTURE = 60.0
"""Seconds that a sender's clock may be ahead of ours."""
SEEN = 2000
"""Event IDs that are remembered; the store remembers commands for as long as it keeps their rows."""


class Age(Enum):
    """How old an event is, judged by its own clock."""

    FRESH = "fresh"
    OLD = "old"
    FUTURE = "future"


def age(sent_ms: int, now: float, maximum: float) -> Age:
    """The age of an event sent at `sent_ms` (milliseconds since the epoch), `now` and `maximum` in seconds."""
    seconds = now - sent_ms / 1000
    if seconds < -FUTURE:
        return Age.FUTURE
    return Age.OLD if seconds > maximum else Age.FRESH


class Inbox:
    """Tells whether a message counts, and remembers which did."""

    def __init__(self, own_user: str) -> None:
        self._own_user = own_user
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._numbers: OrderedDict[str, int] = OrderedDict()
        self._last = 0

    def counts(self, event: MessageEvent) -> bool:
        """Whether `event` is somebody's own new text; mautrix hands over an edit with the new text in its place."""
        content = event.content
        return (
            event.sender != self._own_user
            and isinstance(content, TextMessageEventContent)
            and content.msgtype == MessageType.TEXT
            and isinstance(content.body, str)
            and not content.get_edit()
        )

    def number(self, event_id: str) -> int:
        """The place of an event in the order of arrival, the same each time; it grows over restarts as well."""
        if event_id not in self._numbers:
            self._last = max(time.time_ns(), self._last + 1)
            self._numbers[event_id] = self._last
            if len(self._numbers) > SEEN:
                self._numbers.popitem(last=False)
        return self._numbers[event_id]

    def after(self, number: int) -> None:
        """Give only places behind `number`, also when the clock was put back."""
        self._last = max(self._last, number)

    def first_time(self, event_id: str) -> bool:
        """Whether `event_id` is new here; it is not new any more afterwards."""
        if event_id in self._seen:
            return False
        self._seen[event_id] = None
        if len(self._seen) > SEEN:
            self._seen.popitem(last=False)
        return True
