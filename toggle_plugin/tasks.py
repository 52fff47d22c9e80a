"""Ending what runs, giving up on what takes too long, keeping cancellations out of transactions, and a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

CANCEL_AGAIN = 3.0
"""Seconds until what did not end is cancelled again; longer than the last words of a command may take."""


async def cancelled(*futures: asyncio.Future[Any]) -> None:
    """Cancel `futures` and wait until they have ended, however they end.

    Repeated, for up to Python 3.11 `asyncio.wait_for` loses a cancellation that meets the end of what it waits for.
    """
    running = {future for future in futures if not future.done()}
    while running:
        for future in running:
            future.cancel()
        _, running = await asyncio.wait(running, timeout=CANCEL_AGAIN)
    # so that nobody's failure is called unseen
    await asyncio.gather(*futures, return_exceptions=True)


async def within(seconds: float, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled after `seconds`: as `asyncio.wait_for`, but no cancellation is lost.

    Raises:
        asyncio.TimeoutError: it took longer.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            raise asyncio.TimeoutError
        return task.result()
    finally:
        if not task.done():
            task.cancel()


async def in_daemon_thread(work: Callable[[], T]) -> T:
    """The result of `work`, as of `asyncio.to_thread`; but the process ends without waiting for such a thread."""
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it goes to whoever awaits
            result.set_exception(error)

    # Running: else a cancellation would leave a future that takes no result.
    result.set_running_or_notify_cancel()
    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(result)


class Shield:
    """Runs work that no cancellation of its caller may cut: inside a transaction, one would leave it open."""

    def __init__(self) -> None:
        self._running: set[asyncio.Future[Any]] = set()

    async def __call__(self, work: Awaitable[T]) -> T:
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def drain(self) -> None:
        """Wait for what goes on though its caller was cancelled; whoever gives up waiting does not cut it either."""
        # Not asyncio.gather, which hands on its own cancellation to what it waits for.
        if self._running:
            await asyncio.wait(set(self._running))
