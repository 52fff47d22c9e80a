"""SIGTERM, taken between two steps of the event loop and not in the middle of one.

maubot 0.6.0 lets Python raise KeyboardInterrupt wherever the process is when the signal comes. If that is a callback
that hands a database's answer to whoever waits for it, the answer is lost, the connection never comes back to its
pool, and maubot waits for it without end: under load, about every second time.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from typing import Any

from maubot.client import Client as Entry


class OrderlyShutdown:
    """While it is installed, SIGTERM is maubot's own `manual_stop`; what was there before is put back."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._before: Any = None

    def install(self) -> None:
        """Take the signal over, if it is maubot's to this day: whoever else took it knows why."""
        stop = getattr(getattr(Entry, "maubot", None), "manual_stop", None)
        if stop is None or signal.getsignal(signal.SIGTERM) is not signal.default_int_handler:
            return
        self._before = signal.default_int_handler
        try:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._terminate, stop)
        except (NotImplementedError, RuntimeError, ValueError) as error:
            # Not on this system, or not in the main thread: then it stays as it was.
            self._before = None
            self._log.info("sigterm=maubots error=%r", error)

    def remove(self) -> None:
        """Give the signal back."""
        if self._before is not None:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
            signal.signal(signal.SIGTERM, self._before)
            self._before = None

    def _terminate(self, stop: Callable[[], None]) -> None:
        self._log.info("sigterm=received")
        try:
            stop()
        except asyncio.InvalidStateError:
            self._log.debug("sigterm=again")
