"""Ending what runs, giving up, and keeping cancellations outside."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from toggle_plugin.tasks import Shield, cancelled, in_daemon_thread, within

NEVER = 60.0
REPOSITORY = Path(__file__).parents[2]


async def test_futures_that_are_cancelled_are_over() -> None:
    async def stubborn() -> None:
        try:
            await asyncio.sleep(NEVER)
        finally:
            await asyncio.sleep(0.01)
            raise RuntimeError("late")

    futures = [asyncio.ensure_future(stubborn()) for _ in range(3)]
    await asyncio.sleep(0)
    await cancelled(*futures)
    assert all(future.done() for future in futures)


async def test_what_loses_its_first_cancellation_is_ended_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toggle_plugin.tasks.CANCEL_AGAIN", 0.05)

    async def stubborn() -> None:
        # As asyncio.wait_for does when the cancellation meets the end of what it waits for.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await asyncio.sleep(60)

    task = asyncio.ensure_future(stubborn())
    await asyncio.sleep(0)
    await asyncio.wait_for(cancelled(task), 2)
    assert task.cancelled()


async def test_a_cancellation_that_meets_the_end_is_not_lost() -> None:
    done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(within(60, done))
    await asyncio.sleep(0)
    done.set_result("both at once")
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()


async def test_what_takes_too_long_is_given_up() -> None:
    with pytest.raises(asyncio.TimeoutError):
        await within(0.01, asyncio.sleep(60))
    assert await within(60, asyncio.sleep(0, "in time")) == "in time"


async def test_what_is_shielded_goes_on_without_its_caller_and_can_be_waited_for() -> None:
    shield, done = Shield(), []

    async def work() -> None:
        await asyncio.sleep(0.01)
        done.append("all of it")

    caller = asyncio.ensure_future(shield(work()))
    await asyncio.sleep(0)
    await cancelled(caller)
    assert (caller.cancelled(), done) == (True, [])
    await shield.drain()
    assert done == ["all of it"]


async def test_who_gives_up_waiting_for_what_is_shielded_does_not_cut_it() -> None:
    shield, done = Shield(), []

    async def work() -> None:
        await asyncio.sleep(0.05)
        done.append("all of it")

    caller = asyncio.ensure_future(shield(work()))
    await asyncio.sleep(0)
    await cancelled(caller)
    with pytest.raises(asyncio.TimeoutError):
        await within(0.01, shield.drain())
    await shield.drain()
    assert done == ["all of it"]


async def test_a_shield_hands_on_results_and_failures() -> None:
    async def fail() -> None:
        raise KeyError("why")

    shield = Shield()
    assert await shield(asyncio.sleep(0, "result")) == "result"
    with pytest.raises(KeyError):
        await shield(fail())


async def test_a_daemon_thread_hands_on_results_and_failures() -> None:
    assert await in_daemon_thread(lambda: "result") == "result"
    with pytest.raises(KeyError):
        await in_daemon_thread(dict[str, str]().popitem)


async def test_a_daemon_thread_ends_in_peace_after_its_caller() -> None:
    caller_gone = threading.Event()
    threads: list[threading.Thread] = []

    def work() -> None:
        threads.append(threading.current_thread())
        caller_gone.wait(NEVER)

    caller = asyncio.ensure_future(in_daemon_thread(work))
    await asyncio.sleep(0.01)
    await cancelled(caller)
    caller_gone.set()
    # Were it to fail there, pytest would say so of this test.
    threads[0].join(NEVER)
    assert not threads[0].is_alive()


def test_the_process_ends_without_its_daemon_threads() -> None:
    program = """
import asyncio, time
from toggle_plugin.tasks import in_daemon_thread

async def main():
    asyncio.ensure_future(in_daemon_thread(lambda: time.sleep(600)))
    await asyncio.sleep(0.01)

asyncio.run(main())
"""
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, cwd=REPOSITORY, timeout=NEVER, capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
