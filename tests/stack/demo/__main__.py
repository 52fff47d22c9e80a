"""Starts the stack, shows what runs where, plays a script or opens the chat, and stops everything, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from tests.stack.chat import ChatClient, Silence
from tests.stack.cluster import SLOW, Behaviour
from tests.stack.maubot import MaubotError
from tests.stack.processes import ProcessFailed
from tests.stack.stack import Servers, Stack

from .kubeconfigs import server_of, with_context
from .options import NoTruth, Options, Target, WrongUse, parse_options

WRONG_USE = 2
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
BRISK = Behaviour(observe=0.1, step=0.3, terminate=0.6, retry=0.5)
"""For scripts: slow enough that the answer is seen to change."""
ROLLOUT_TIMEOUT = {"simulated": 60, "real": 300}
"""Seconds; the plugin's setting."""
MARGIN_SECONDS = 30
READY_SECONDS = 20
HINT = "Type start, stop, status, history, help or check. PageUp scrolls; quit, Ctrl-D or Ctrl-C ends everything."
EXPECTED = (NoTruth, ProcessFailed, MaubotError, FileNotFoundError, AssertionError, Silence)
"""Errors that say all in their text."""


def main(arguments: Sequence[str]) -> int:
    """The exit status: 0 if all went well, 1 if not, 2 for wrong use, 128 and the signal's number for a signal."""
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    try:
        return asyncio.run(until_signal(run(parse_options(arguments, terminal=terminal))))
    except WrongUse as error:
        print(f"demo: {error}", file=sys.stderr)
        return WRONG_USE
    except EXPECTED as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1


async def until_signal(work: Coroutine[Any, Any, int]) -> int:
    """Cancel the work on the first signal and wait for its clean-up; more signals do not disturb that."""
    task = asyncio.ensure_future(work)
    received: list[int] = []

    def stop(number: int) -> None:
        if not received:
            task.cancel()
        received.append(number)

    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not received:
            raise
        return 128 + received[0]


async def run(options: Options) -> int:
    """Start, show, play or chat, stop."""
    async with AsyncExitStack() as parts:
        directory = parts.enter_context(working_directory(options.keep))
        logging.basicConfig(filename=directory / "chat.log", force=True)  # not onto the screen
        kubeconfig = options.kubeconfig and with_context(options.kubeconfig, options.context, directory)
        if kubeconfig is not None:
            await look_at(kubeconfig, options.target)
        began = time.monotonic()
        servers, stack = await parts.enter_async_context(running(options, directory, kubeconfig))
        with step("alice is in an encrypted room with the bot"):
            alice = await stack.person("alice")
            room = await stack.room_with_bot(alice, direct=True, name="Toggle demo")
            await stack.wait_ready(READY_SECONDS)
        print(f"\nReady after {time.monotonic() - began:.1f} s.\n")
        places = whereabouts(stack, options.target)
        print("\n".join(places), flush=True)
        return await first_of(servers.wait_failure(), use(options, stack, alice, room, places))


async def look_at(kubeconfig: Path, target: Target) -> None:
    """Find out before anything is started whether there is such a workload in a real cluster."""
    from .truth import Truth  # noqa: PLC0415

    server = server_of(kubeconfig)
    with step(f"{target} is there, in {server}"):
        await Truth(kubeconfig, target).read()


async def use(options: Options, stack: Stack, alice: ChatClient, room: str, places: Sequence[str]) -> int:
    if options.script is None:
        await chat(alice, room, places)
        return 0
    return 0 if await play(options, stack, alice, room, options.script) else 1


async def play(options: Options, stack: Stack, alice: ChatClient, room: str, script: Sequence[str]) -> bool:
    from .script import Script  # noqa: PLC0415 - the Kubernetes client takes half a second, and a chat does without
    from .truth import Truth  # noqa: PLC0415

    follow = rollout_timeout(options) + MARGIN_SECONDS
    truth = Truth(stack.kubeconfig, options.target)
    show(f"\nThe cluster has {await truth.read()}.\n")
    broken = options.broken.words if options.broken else ""
    right = await Script(alice, room, truth, follow=follow, show=show, broken=broken).play(script)
    show("\nEvery answer was right." if right else "\nNot every answer was right.")
    return right


async def chat(alice: ChatClient, room: str, places: Sequence[str]) -> None:
    from .screen import ChatScreen  # noqa: PLC0415 - a script needs no terminal

    screen = ChatScreen(alice, room, [*places, "", HINT, ""])
    try:
        await screen.run()
    finally:  # the screen is gone; what was said stays
        print("\n".join(["", *screen.transcript(shutil.get_terminal_size().columns)]), flush=True)


@asynccontextmanager
async def running(options: Options, directory: Path, kubeconfig: Path | None) -> AsyncIterator[tuple[Servers, Stack]]:
    """The servers, and a stack whose only target is the one that was asked for."""
    target = options.target
    targets = {target.name: {**vars(target), "replicas": 1}}
    settings = {"targets": targets, "rollout_timeout": f"{rollout_timeout(options)}s"}
    behaviour = SLOW if options.script is None else BRISK
    async with (
        Servers.open(directory, step=step) as servers,
        servers.stack(settings, kubeconfig=kubeconfig, behaviour=behaviour, sync=False, tidy=False, step=step) as stack,
    ):
        if kubeconfig is None and not stack.has_workload(**vars(target)):
            stack.cluster.add(**vars(target))
        if options.broken is not None:
            stack.cluster.behave(**vars(target), outcome=options.broken.outcome)
        yield servers, stack


def rollout_timeout(options: Options) -> int:
    return ROLLOUT_TIMEOUT["simulated" if options.kubeconfig is None else "real"]


def whereabouts(stack: Stack, target: Target) -> list[str]:
    """What runs where, for a person who wants to look at it."""
    maubot = stack.maubot
    return [
        f"Admin UI    {maubot.url}/_matrix/maubot",
        f"            user {maubot.user}, password {maubot.password}",
        f"Homeserver  {stack.synapse.url}",
        f"API server  {server_of(stack.kubeconfig)}",
        f"kubectl     kubectl --kubeconfig {stack.kubeconfig} -n {target.namespace} get {target.kind.lower()}s",
        f"Target      {target}",
        f"You         {stack.user_id('alice')}",
        f"Bot         {stack.bot_id}",
    ]


async def first_of(failure: Coroutine[Any, Any, None], work: Coroutine[Any, Any, int]) -> int:
    """The result of `work`, unless `failure` raises first; neither goes on afterwards."""
    tasks = [asyncio.ensure_future(failure), asyncio.ensure_future(work)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            await tasks[0]
        return int(await tasks[1] or 0)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def working_directory(keep: Path | None) -> Iterator[Path]:
    """`keep`, or a temporary directory that is removed in the end."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
    else:
        with tempfile.TemporaryDirectory(prefix="toggle-demo-") as name:
            yield Path(name)


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Show how one step of the start ended, and how long it took."""
    began, mark = time.monotonic(), "✗"
    try:
        yield
        mark = "✓"
    finally:
        show(f"{mark} {what}  ({time.monotonic() - began:.1f} s)")


def show(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
