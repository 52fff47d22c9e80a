"""Whose SIGTERM is: maubot's, or ours for as long as one of our instances runs."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from maubot.client import Client as Entry

from toggle_plugin.shutdown import OrderlyShutdown

LOG = logging.getLogger("test.shutdown")


@pytest.fixture
async def maubot(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """A running maubot, as far as signals go."""
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    running = SimpleNamespace()
    monkeypatch.setattr(Entry, "maubot", running, raising=False)
    yield running
    asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)


def is_maubots() -> bool:
    return signal.getsignal(signal.SIGTERM) is signal.default_int_handler


async def test_it_is_ours_until_the_last_of_us_has_stopped(maubot: Any) -> None:
    first, second = OrderlyShutdown(LOG), OrderlyShutdown(LOG)
    first.install()
    second.install()
    first.remove()
    assert not is_maubots(), "the second one still needs it"
    third = OrderlyShutdown(LOG)
    third.install()
    second.remove()
    assert not is_maubots()
    third.remove()
    assert is_maubots()
    assert vars(maubot) == {}, "nothing of ours stays behind"


async def test_to_remove_it_twice_or_without_having_it_does_nothing(maubot: Any) -> None:
    first, second = OrderlyShutdown(LOG), OrderlyShutdown(LOG)
    first.install()
    second.remove()
    assert not is_maubots()
    first.remove()
    first.remove()
    assert is_maubots()
    assert vars(maubot) == {}


async def test_a_signal_that_somebody_else_took_stays_theirs(maubot: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    shutdown = OrderlyShutdown(LOG)
    shutdown.install()
    shutdown.remove()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    assert vars(maubot) == {}


@pytest.mark.usefixtures("maubot")
def test_the_signal_ends_what_runs_as_an_interrupt_and_loses_no_answer() -> None:
    loop = asyncio.new_event_loop()
    answered: list[str] = []

    async def run() -> None:
        shutdown = OrderlyShutdown(LOG)
        shutdown.install()
        loop.call_soon(os.kill, os.getpid(), signal.SIGTERM)
        # In this step of the loop the signal comes, and the answer behind it must not be lost.
        loop.call_soon(answered.append, "answer")
        await asyncio.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(run())
    assert answered == ["answer"]
    loop.remove_signal_handler(signal.SIGTERM)
    for task in asyncio.all_tasks(loop):
        task.cancel()
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
