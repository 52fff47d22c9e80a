"""An idle bot, and one in a stranger's flood: what they ask for, and whether they grow."""

from __future__ import annotations

import asyncio
import os
from dataclasses import asdict

from tests.integration.conversation import ask
from tests.integration.flood import LEAST_ROW, NOTHING, Scene
from tests.stack import measure
from tests.stack.stack import Servers

MINUTES = float(os.environ.get("TOGGLE_SOAK_MINUTES", "60"))
MESSAGES = int(os.environ.get("TOGGLE_SOAK_MESSAGES", "10000"))
ENCRYPTED = int(os.environ.get("TOGGLE_SOAK_ENCRYPTED", "500"))
WARM_UP = min(5.0, MINUTES / 10)
"""Minutes after which growth counts."""
TENTH = 10
"""The part of a flood after which growth counts."""
SYNCS_A_MINUTE = 3.0


async def test_an_idle_bot_polls_nobody_and_does_not_grow(servers: Servers) -> None:
    async with servers.stack(sync=False, proxied=True) as stack:
        assert stack.homeserver_proxy is not None
        alice = await stack.person("alice")
        room = await stack.room_with_bot(alice)
        for _ in range(20):
            await ask(alice, room, "status")
        await asyncio.sleep(WARM_UP * 60)
        memory, files = measure.resident(stack), measure.open_files(stack)
        syncs, others = measure.homeserver_requests(stack)
        received = stack.homeserver_proxy.received
        stack.cluster.requests.clear()
        minutes = MINUTES - WARM_UP
        await asyncio.sleep(minutes * 60)
        syncs_after, others_after = measure.homeserver_requests(stack)
        figures = {
            "minutes": minutes,
            "requests to the API server": len(stack.cluster.requests),
            "syncs a minute": round((syncs_after - syncs) / minutes, 2),
            "other requests to the homeserver": others_after - others,
            "bytes to the homeserver a minute": round((stack.homeserver_proxy.received - received) / minutes),
            "kB before": memory,
            "kB after": measure.resident(stack),
            "files before": files,
            "files after": measure.open_files(stack),
        }
        print("\nidle:", figures)  # noqa: T201 - figures for the docs
        assert "is off" in (await ask(alice, room, "status")).body
        assert figures["requests to the API server"] == 0
        assert figures["other requests to the homeserver"] == 0
        assert 0 < figures["syncs a minute"] <= SYNCS_A_MINUTE
        assert figures["kB after"] - memory < 3_000
        assert figures["files after"] <= files


async def test_a_strangers_flood_leaves_no_trace(servers: Servers) -> None:
    await flooded(servers, MESSAGES, encrypted=False)


async def test_a_strangers_encrypted_flood_leaves_no_trace(servers: Servers) -> None:
    await flooded(servers, ENCRYPTED, encrypted=True)


async def flooded(servers: Servers, count: int, *, encrypted: bool) -> None:
    async with servers.stack(sync=False) as stack:
        scene = await Scene.open(stack, encrypted=encrypted)
        before = await scene.flood(count // TENTH)
        after = await scene.flood(count - count // TENTH)
        kind = "encrypted" if encrypted else "plaintext"
        print(f"\nstranger, {count} {kind}:", asdict(before), asdict(after))  # noqa: T201 - figures for the docs
        assert (before.visible, after.visible) == (NOTHING, NOTHING)
        assert after.memory - before.memory < 10_000
        assert after.database <= before.database
        assert after.keys - before.keys < count * LEAST_ROW / 2  # SQLite grows by pages
