"""SIGTERM while our plugin is loaded: whose it is, and when it interrupts maubot."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from maubot.client import Client as Entry
from maubot.instance import PluginInstance

from toggle_plugin import shutdown
from toggle_plugin.shutdown import OrderlyShutdown, take_sigterm


class Maubot:
    """A maubot, as far as its start goes."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()

    async def start(self) -> None:
        await self.ready.wait()


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    for task in asyncio.all_tasks(loop):
        task.cancel()
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()


@pytest.fixture
def maubot(monkeypatch: pytest.MonkeyPatch, loop: asyncio.AbstractEventLoop) -> Iterator[Maubot]:
    """The running maubot, whose signal it is."""
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    running = Maubot()
    monkeypatch.setattr(Entry, "maubot", running, raising=False)
    yield running
    loop.remove_signal_handler(signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)


def is_maubots() -> bool:
    return signal.getsignal(signal.SIGTERM) is signal.default_int_handler


async def load_plugin() -> None:
    take_sigterm()


def send_sigterm() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def interrupted(loop: asyncio.AbstractEventLoop, run: Coroutine[Any, Any, object]) -> bool:
    try:
        loop.run_until_complete(run)
    except KeyboardInterrupt:
        return True
    return False


def instance_that_loads(until: asyncio.Event) -> PluginInstance:
    """An instance as `PluginInstance.start` needs it, until it loads its plugin, and then fails."""

    async def load() -> None:
        await until.wait()
        raise LookupError

    loader = SimpleNamespace(load=load)
    return cast(PluginInstance, SimpleNamespace(started=False, enabled=True, client=object(), loader=loader))


def instance_that_stops(until: asyncio.Event) -> PluginInstance:
    """An instance as `PluginInstance.stop` needs it, until it closes its database, and then fails."""

    class Log:
        def debug(self, _: str) -> None: ...

    class Plugin:
        async def internal_stop(self) -> None:
            await until.wait()
            raise asyncio.CancelledError

    return cast(PluginInstance, SimpleNamespace(started=True, log=Log(), plugin=Plugin()))


STEPS: dict[str, Callable[[Maubot], Awaitable[None]]] = {
    "maubot starts": lambda maubot: maubot.start(),
    "an instance starts": lambda maubot: PluginInstance.start(instance_that_loads(maubot.ready)),
    "an instance stops": lambda maubot: PluginInstance.stop(instance_that_stops(maubot.ready)),
}


def test_a_plugin_that_replaces_ours_takes_it_over(
    maubot: Maubot, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop.run_until_complete(load_plugin())
    assert not is_maubots()
    taken: list[str] = []
    monkeypatch.setattr(OrderlyShutdown, "begin", lambda _: taken.append("the new one's"))
    loop.run_until_complete(load_plugin())
    send_sigterm()
    assert not interrupted(loop, asyncio.sleep(4 * shutdown.LOOK))
    assert taken == ["the new one's"]


def test_a_signal_that_somebody_else_took_stays_theirs(maubot: Maubot, loop: asyncio.AbstractEventLoop) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    loop.run_until_complete(load_plugin())
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_without_a_maubot_that_runs_nothing_is_taken(maubot: Maubot, monkeypatch: pytest.MonkeyPatch) -> None:
    take_sigterm()
    assert is_maubots(), "no event loop runs"
    monkeypatch.setattr(Entry, "maubot", None)
    take_sigterm()
    assert is_maubots()


@pytest.mark.usefixtures("maubot")
def test_it_ends_what_runs_as_an_interrupt_and_loses_no_answer(loop: asyncio.AbstractEventLoop) -> None:
    answered: list[str] = []

    async def run() -> None:
        take_sigterm()
        loop.call_soon(send_sigterm)
        # In this step of the loop the signal comes, and the answer behind it must not be lost.
        loop.call_soon(answered.append, "answer")
        await asyncio.sleep(5)

    assert interrupted(loop, run())
    assert answered == ["answer"]


@pytest.mark.parametrize("step", STEPS)
def test_it_waits_for_what_maubot_cannot_be_stopped_in(
    maubot: Maubot, loop: asyncio.AbstractEventLoop, step: str
) -> None:
    ended: list[str] = []

    async def deep() -> None:
        with contextlib.suppress(LookupError, asyncio.CancelledError):
            await STEPS[step](maubot)
        ended.append(step)

    async def run() -> None:
        take_sigterm()
        begun = asyncio.ensure_future(deep())
        send_sigterm()
        await asyncio.sleep(4 * shutdown.LOOK)
        assert not begun.done()
        maubot.ready.set()
        await asyncio.sleep(5)

    assert interrupted(loop, run())
    assert ended == [step]


def test_it_does_not_wait_for_ever(
    maubot: Maubot, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutdown, "PATIENCE", 2 * shutdown.LOOK)

    async def run() -> None:
        take_sigterm()
        send_sigterm()
        await asyncio.wait_for(maubot.start(), 5)

    assert interrupted(loop, run())


def test_a_second_one_does_not_end_the_stop_that_the_first_began(
    maubot: Maubot, loop: asyncio.AbstractEventLoop
) -> None:
    stopped: list[str] = []

    async def run() -> None:
        take_sigterm()
        starting = asyncio.ensure_future(maubot.start())
        send_sigterm()
        await asyncio.sleep(2 * shutdown.LOOK)
        send_sigterm()
        await asyncio.sleep(2 * shutdown.LOOK)
        maubot.ready.set()
        await starting
        await asyncio.sleep(5)

    async def stop() -> None:
        send_sigterm()
        await asyncio.sleep(4 * shutdown.LOOK)
        stopped.append("in order")

    assert interrupted(loop, run())
    loop.run_until_complete(stop())
    assert stopped == ["in order"]


def test_where_the_start_has_just_ended_it_interrupts_what_comes_next(
    maubot: Maubot, loop: asyncio.AbstractEventLoop
) -> None:
    """The loop halts for an ended start one round later: an interrupt before that would leave the halt to the stop."""
    sigterm = OrderlyShutdown(maubot)

    async def start() -> None:
        # Its first round comes after our end, and before the loop is told of it.
        sigterm.begin()

    async def stop() -> str:
        await asyncio.sleep(0)
        return "in order"

    assert not interrupted(loop, start())
    assert interrupted(loop, asyncio.sleep(5))
    assert loop.run_until_complete(stop()) == "in order"
