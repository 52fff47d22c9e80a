"""SIGTERM, taken between two steps of the event loop and not in the middle of one; and not before maubot can stop.

maubot 0.6.0 lets Python raise KeyboardInterrupt wherever the process is when the signal comes. If that is a callback
that hands a database's answer to whoever waits for it, the answer is lost, the connection never comes back to its
pool, and maubot waits for it without end: under load, about every second time.

While maubot starts, it cannot stop: its web server refuses to before it was set up, and then maubot closes no database.
Nor does it close that of an instance that has not quite started. Each open one of SQLite has a thread that keeps the
process alive.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Iterator
from types import CodeType
from typing import Any

from maubot.client import Client as Entry
from maubot.instance import PluginInstance

PATIENCE = 20.0
"""Seconds that maubot has to end what it starts; Kubernetes kills after 30, if not told otherwise."""
LOOK = 0.05
"""Seconds between two looks at whether it has."""

_TAKEN = "io.github.k8s_toggle.sigterm"
"""The attribute of the running maubot that says that the signal is ours; a replaced plugin finds it."""

_log = logging.getLogger("maubot.plugin.io.github.k8s_toggle")
"""Not an instance's: there is none yet, and it is about all of them."""


def take_sigterm() -> None:
    """Let SIGTERM interrupt maubot in order, if it is maubot's to this day: whoever else took it knows why.

    It stays so for as long as maubot runs, also without the plugin: maubot's own way is never the better one.
    """
    maubot: Any = getattr(Entry, "maubot", None)
    is_maubots = signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    if maubot is None or not (is_maubots or hasattr(maubot, _TAKEN)):
        return
    try:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, OrderlyShutdown(maubot).begin)
    except (NotImplementedError, RuntimeError, ValueError) as error:
        # Not on this system, or not in the main thread: then it stays as it was.
        _log.info("sigterm=maubots error=%r", error)
        return
    setattr(maubot, _TAKEN, True)
    _log.debug("sigterm=ours")


class OrderlyShutdown:
    """Interrupts the running `maubot`, once: a second interrupt would end it in the middle of its stop."""

    def __init__(self, maubot: Any) -> None:
        steps = (type(maubot).start, PluginInstance.start, PluginInstance.stop)
        self._steps = frozenset(step.__code__ for step in steps)
        self._waiting: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Interrupt maubot, once it and its instances have ended their start, or PATIENCE has."""
        if self._waiting is None:
            self._waiting = asyncio.ensure_future(self._interrupt())

    async def _interrupt(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE
        if _under_way(self._steps):
            _log.info("sigterm=waits why='maubot or an instance starts or stops'")
        while _under_way(self._steps) and loop.time() < deadline:  # noqa: ASYNC110 - nobody tells when
            await asyncio.sleep(LOOK)
        # Not in this round of the loop: if maubot's start has just ended, the loop halts for that only after the next
        # one, and would halt a stop that has begun by then.
        loop.call_soon(_raise)


def _raise() -> None:
    # The event loop lets this one through, so maubot stops as it does by itself.
    raise KeyboardInterrupt


def _under_way(steps: frozenset[CodeType]) -> bool:
    """Whether any task is in one of `steps`, however deep."""
    return any(not steps.isdisjoint(_codes(task.get_coro())) for task in asyncio.all_tasks())


def _codes(coroutine: Any) -> Iterator[CodeType]:
    """The code of a coroutine, of what it awaits, of what that awaits, and so on."""
    while hasattr(coroutine, "cr_code"):
        yield coroutine.cr_code
        coroutine = coroutine.cr_await
