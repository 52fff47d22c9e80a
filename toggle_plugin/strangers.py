"""Says in the log, at a bounded rate, who got no answer and which setting would give them one.

Without it the first run is a riddle; without the bound, anybody could fill the disk.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable

AGAIN = 3600.0
"""Seconds until the same person in the same room is named again."""
MINUTE = 60.0
PER_MINUTE = 10
REMEMBERED = 256


class Strangers:
    """The log of those who were ignored.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._named: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self._minute = 0.0
        self._lines = 0
        self._unnamed = 0

    def ignored(self, what: str, user: str, room: str, setting: str) -> None:
        """`user` got no answer to `what` (``command`` or ``invite``) in `room`; `setting` would let them in."""
        now = self._clock()
        key = (what, user, room)
        if now - self._named.get(key, -AGAIN) < AGAIN:
            return
        if not self._may_write(now):
            self._unnamed += 1
            return
        self._named[key] = now
        self._named.move_to_end(key)
        if len(self._named) > REMEMBERED:
            self._named.popitem(last=False)
        self._log.info(
            "ignored=%s user=%r room=%r setting=%s hint=%r",
            what,
            user,
            room,
            setting,
            f"to let them in, add them to {setting}"
            if setting == "allowed_users"
            else "to allow the room, add its ID to allowed_rooms",
        )

    def _may_write(self, now: float) -> bool:
        if now - self._minute >= MINUTE:
            if self._unnamed:
                self._log.info("ignored_more=%d", self._unnamed)
            self._minute, self._lines, self._unnamed = now, 0, 0
        self._lines += 1
        return self._lines <= PER_MINUTE
