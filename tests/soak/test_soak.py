"""An idle bot, and one in a stranger's flood: what they ask for, and whether they grow."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from tests.integration.conversation import ask
from tests.stack.stack import Servers, Stack

MINUTES = float(os.environ.get("TOGGLE_SOAK_MINUTES", "60"))
MESSAGES = int(os.environ.get("TOGGLE_SOAK_MESSAGES", "10000"))
WARM_UP = 0.1
"""The part of the time after which growth counts."""


def resident(stack: Stack) -> int:
    """maubot's resident memory in kB."""
    status = Path(f"/proc/{maubot_pid(stack)}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def files(stack: Stack) -> int:
    return len(list(Path(f"/proc/{maubot_pid(stack)}/fd").iterdir()))


def maubot_pid(stack: Stack) -> int:
    return stack.maubot.process.pid


def matrix_requests(stack: Stack) -> int:
    """Requests of the bot to the homeserver so far, by maubot's own log."""
    return sum(f"client.{stack.bot_id}] req #" in line and ": " in line for line in stack.maubot.log_lines())


async def test_an_idle_bot_polls_nobody_and_does_not_grow(servers: Servers) -> None:
    async with servers.stack(sync=False) as stack:
        alice = await stack.person("alice")
        room = await stack.room_with_bot(alice)
        for _ in range(20):
            await ask(alice, room, "status")
        await asyncio.sleep(MINUTES * 60 * WARM_UP)
        before, open_before, asked = resident(stack), files(stack), matrix_requests(stack)
        stack.cluster.requests.clear()
        minutes = MINUTES * (1 - WARM_UP)
        await asyncio.sleep(minutes * 60)
        figures = {
            "minutes": minutes,
            "requests to the API server": len(stack.cluster.requests),
            "requests to the homeserver besides syncs": matrix_requests(stack) - asked,
            "kB before": before,
            "kB after": resident(stack),
            "files before": open_before,
            "files after": files(stack),
        }
        print("\nidle:", figures)  # noqa: T201 - figures for the docs
        assert "is off" in (await ask(alice, room, "status")).body
        assert figures["requests to the API server"] == 0
        assert matrix_requests(stack) == asked
        assert resident(stack) - before < 3_000
        assert files(stack) <= open_before + 2


async def test_a_strangers_flood_leaves_no_trace(servers: Servers) -> None:
    async with servers.stack(sync=False) as stack:
        alice, mallory = await stack.person("alice"), await stack.person("mallory")
        room = await stack.room_with_bot(alice, encrypted=False, public=True)
        await mallory.join(room)
        await ask(alice, room, "!toggle help")
        for _ in range(MESSAGES // 10):
            await mallory.send(room, "!toggle start", plaintext=True)
        await asyncio.sleep(2)
        before, asked = resident(stack), len(stack.cluster.requests)
        rows = await stack.rows("SELECT COUNT(*) AS n FROM command")
        for _ in range(MESSAGES - MESSAGES // 10):
            await mallory.send(room, "!toggle start", plaintext=True)
        await asyncio.sleep(2)
        figures = {"messages": MESSAGES, "kB before": before, "kB after": resident(stack)}
        print("\nstranger:", figures)  # noqa: T201 - figures for the docs
        assert len(stack.cluster.requests) == asked
        assert await stack.rows("SELECT COUNT(*) AS n FROM command") == rows
        assert not list(mallory.timeline.messages(room, stack.bot_id))[1:]
        assert resident(stack) - before < 10_000
        assert "This room is not encrypted" in (await ask(alice, room, "!toggle help")).body
