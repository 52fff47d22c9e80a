"""SIGTERM at bad moments: maubot ends by itself, in order, and nothing in its whole log says otherwise.

Within five seconds; while it starts, five seconds after the start at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from pathlib import Path

import aiohttp
import pytest

from tests.integration.conversation import ask, told
from tests.stack.chat import ChatClient
from tests.stack.cluster.behaviour import Outcome
from tests.stack.maubot import Maubot
from tests.stack.stack import Servers, Stack
from toggle_plugin.shutdown import PATIENCE

SECONDS = 5.0
COMPLAINTS = (
    *("Traceback", "Task was destroyed", "never awaited", "Unclosed", "never retrieved", "CRITICAL"),
    "[ERROR@maubot.instance",
)
START_SECONDS = 60.0
MOMENTS_OF_THE_START = (
    "sigterm=ours",  # the plugin is being imported
    "Loaded and imported plugin",  # its database is opened
    "settings=loaded",  # its start() is under way
    "sync=own",  # its first sync runs
    "Listening on",  # maubot's start ends
    "Startup actions complete",
    "command=status",  # the command that waited is answered
)
"""What the log says as each of them begins, in this order."""
DEBUG = {"PYTHONASYNCIODEBUG": "1"}
"""So that a session that was not closed says who opened it."""


def complaints(maubot: Maubot) -> list[str]:
    """What Python, maubot or any plugin complained of; of sessions that were not closed, only those that we opened."""
    messages = re.split(r"^(?=\[\d{4}-)", maubot.log.read_text(errors="replace"), flags=re.MULTILINE)
    ours = (message for message in messages if "Unclosed" not in message or "toggle_plugin" in message)
    return [message for message in ours if any(word in message for word in COMPLAINTS)]


async def seconds_to_stop(maubot: Maubot, at_most: float = 4 * SECONDS) -> float:
    """Send SIGTERM and wait for the end, which must come by itself."""
    began = time.monotonic()
    maubot.process.terminate()
    await asyncio.wait_for(maubot.process.wait(), at_most)
    return time.monotonic() - began


async def probe(url: str, until: asyncio.Event) -> None:
    """Ask all the time, as probes do, only more often."""
    async with aiohttp.ClientSession() as session:
        while not until.is_set():
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(url) as response:
                    await response.read()
            await asyncio.sleep(0.01)


async def seconds_to_stop_under_load(stack: Stack, person: ChatClient, room: str) -> float:
    """The same while probes ask and commands come in."""
    enough = asyncio.Event()
    probing = asyncio.ensure_future(probe(f"{stack.maubot.url}/_matrix/maubot/plugin/{stack.instance}/readyz", enough))
    asking = [asyncio.ensure_future(person.send(room, "status")) for _ in range(5)]
    await asyncio.sleep(0.2)
    seconds = await seconds_to_stop(stack.maubot)
    enough.set()
    await asyncio.gather(probing, *asking)
    return seconds


async def test_while_the_homeserver_does_not_answer(tmp_path: Path) -> None:
    async with Servers.open(tmp_path, environment=DEBUG) as servers, servers.stack(sync=False, tidy=False) as stack:
        alice = await stack.person("alice")
        room = await stack.room_with_bot(alice)
        await told(alice, room, "start", "is running")
        await alice.send(room, "status")
        stack.synapse.process.pause()
        try:
            await asyncio.sleep(0.5)
            assert await seconds_to_stop(servers.maubot) < SECONDS
        finally:
            stack.synapse.process.resume()
        assert complaints(servers.maubot) == []


async def test_while_the_api_server_is_silent(tmp_path: Path) -> None:
    async with (
        Servers.open(tmp_path, environment=DEBUG) as servers,
        servers.stack(sync=False, proxied=True, tidy=False) as stack,
    ):
        assert stack.cluster_proxy is not None
        alice = await stack.person("alice")
        room = await stack.room_with_bot(alice)
        await ask(alice, room, "status")
        stack.cluster_proxy.drop()
        events = [await alice.send(room, line) for line in ("start", "status", "check")]
        await asyncio.sleep(1.5)
        assert await seconds_to_stop(servers.maubot) < SECONDS
        assert complaints(servers.maubot) == []
        await stack.cluster_proxy.pass_on()
        await servers.maubot.run()
        await alice.wait_text(await alice.wait_reply(events[0], 30), "is running", 40)
        for event in events[1:]:
            await alice.wait_reply(event, 30)
        assert len(stack.cluster.asked("PATCH")) == 1


async def stop_when(maubot: Maubot, logged: str) -> None:
    """Start it, and send SIGTERM as soon as it logs that."""
    before = len(maubot.log_lines())
    starting = asyncio.ensure_future(maubot.run())
    await asyncio.wait_for(maubot.wait_logged(logged, before), START_SECONDS)
    await seconds_to_stop(maubot, PATIENCE + SECONDS)
    await asyncio.gather(starting, return_exceptions=True)


@pytest.mark.timeout(600)  # fourteen starts, which a busy machine takes long for
async def test_while_the_plugin_starts(tmp_path: Path) -> None:
    """From its import on, the signal is the plugin's; before that, maubot alone cannot be stopped in its start."""
    async with Servers.open(tmp_path, environment=DEBUG) as servers, servers.stack(sync=False, tidy=False) as stack:
        alice = await stack.person("alice")
        room = await stack.room_with_bot(alice)
        await ask(alice, room, "status")
        await servers.maubot.stop()
        for logged in MOMENTS_OF_THE_START:
            event = await alice.send(room, "status")
            await stop_when(servers.maubot, logged)
            assert complaints(servers.maubot) == [], logged
            await servers.maubot.run()
            assert "is off" in (await alice.wait_reply(event)).body
            await alice.settle()
            assert len(alice.timeline.replies(event)) == 1, logged
            await servers.maubot.stop()
        assert any("sigterm=waits" in line for line in servers.maubot.log_lines()), "no signal came during the start"


@pytest.mark.parametrize("sync", [False, True])
async def test_under_load(tmp_path: Path, sync: bool) -> None:
    async with Servers.open(tmp_path) as servers, servers.stack(sync=sync, tidy=False) as stack:
        alice = await stack.person("alice")
        room = await stack.room_with_bot(alice)
        await ask(alice, room, "status")
        for _ in range(3):
            assert await seconds_to_stop_under_load(stack, alice, room) < SECONDS
            assert complaints(servers.maubot) == []
            await servers.maubot.run()


async def test_under_load_when_another_instance_has_stopped_before(tmp_path: Path) -> None:
    """Two bots in one maubot: whoever took the signal first, it stays taken until the last has stopped."""
    async with (
        Servers.open(tmp_path, environment=DEBUG) as servers,
        servers.stack(sync=False, tidy=False) as first,
        servers.stack(sync=False, tidy=False) as second,
    ):
        alice = await second.person("alice")
        room = await second.room_with_bot(alice)
        await ask(alice, room, "status")
        for _ in range(3):
            await first.api.change_instance(first.instance, started=False)
            assert await seconds_to_stop_under_load(second, alice, room) < SECONDS
            await servers.maubot.run()
        assert complaints(servers.maubot) == []


@pytest.mark.parametrize("sync", [False, True])
async def test_during_a_roll_out_that_is_stuck(tmp_path: Path, sync: bool) -> None:
    async with Servers.open(tmp_path, environment=DEBUG) as servers, servers.stack(sync=sync, tidy=False) as stack:
        alice = await stack.person("alice")
        room = await stack.room_with_bot(alice)
        stack.cluster.behave("demo", "web", outcome=Outcome.NEVER_READY)
        reply = await ask(alice, room, "start")
        assert await seconds_to_stop(servers.maubot) < SECONDS
        await alice.wait_text(reply, "I tell you when I am back")
        stack.cluster.behave("demo", "web", outcome=Outcome.NORMAL)
        await servers.maubot.run()
        await alice.wait_text(reply, "is running", 40)
        assert complaints(servers.maubot) == []
