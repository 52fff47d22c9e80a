"""SIGTERM, taken between two steps of the event loop and not in the middle of one.

maubot 0.6.0 lets Python raise KeyboardInterrupt wherever the process is when the signal comes. If that is a callback
that hands a database's answer to whoever waits for it, the answer is lost, the connection never comes back to its
pool, and maubot waits for it without end: under load, about every second time.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import Any

from maubot.client import Client as Entry

_USERS = "io.github.k8s_toggle.sigterm"
"""The attribute of the running maubot that lists whose signal it is; a replaced plugin finds it, and so do instances
of one plugin among themselves."""


class OrderlyShutdown:
    """While one is installed, SIGTERM interrupts maubot as ever, but in a callback of its own; the last undoes that."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log

    def install(self) -> None:
        """Take the signal over, if it is maubot's to this day: whoever else took it knows why."""
        maubot: Any = getattr(Entry, "maubot", None)
        if maubot is None or not (hasattr(maubot, _USERS) or self._take()):
            return
        setattr(maubot, _USERS, [*getattr(maubot, _USERS, []), self])

    def remove(self) -> None:
        """Give the signal back, unless others of ours still need it so."""
        maubot: Any = getattr(Entry, "maubot", None)
        users = getattr(maubot, _USERS, [])
        if self not in users:
            return
        others = [user for user in users if user is not self]
        if others:
            setattr(maubot, _USERS, others)
        else:
            delattr(maubot, _USERS)
            asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
            signal.signal(signal.SIGTERM, signal.default_int_handler)

    def _take(self) -> bool:
        if signal.getsignal(signal.SIGTERM) is not signal.default_int_handler:
            return False
        try:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _interrupt)
        except (NotImplementedError, RuntimeError, ValueError) as error:
            # Not on this system, or not in the main thread: then it stays as it was.
            self._log.info("sigterm=maubots error=%r", error)
            return False
        return True


def _interrupt() -> None:
    # The event loop lets this one through, so maubot stops as it does by itself, also while it still starts.
    raise KeyboardInterrupt
