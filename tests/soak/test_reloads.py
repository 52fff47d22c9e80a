"""Reloads of the plugin, one after the other: whether each leaves something behind."""

from __future__ import annotations

import os

from tests.integration.conversation import ask
from tests.stack import measure
from tests.stack.stack import PLUGIN, Servers, Stack

RELOADS = int(os.environ.get("TOGGLE_SOAK_RELOADS", "100"))
WARM_UP = 5
"""Reloads after which growth counts: until then, the allocator and maubot's own caches fill."""
MOST = 30_000
"""kB that all of them may leave: memory levels off, while old modules that stay alive would be more each time."""


async def test_reloads_leave_nothing_behind(servers: Servers) -> None:
    async with servers.stack(sync=False) as stack:
        alice = await stack.person("alice")
        room = await stack.room_with_bot(alice)
        await ask(alice, room, "status")
        await reload(stack, WARM_UP)
        await ask(alice, room, "status")
        memory, files = measure.resident(stack), measure.open_files(stack)
        await reload(stack, RELOADS)
        event = await alice.send(room, "status")
        await alice.wait_reply(event)
        await alice.settle()
        figures = {
            "reloads": RELOADS,
            "kB before": memory,
            "kB after": measure.resident(stack),
            "files before": files,
            "files after": measure.open_files(stack),
        }
        print("\nreloads:", figures)  # noqa: T201 - figures for the docs
        assert len(alice.timeline.replies(event)) == 1
        assert figures["kB after"] - memory < MOST
        assert figures["files after"] <= files + 2


async def reload(stack: Stack, times: int) -> None:
    for _ in range(times):
        await stack.api.reload_plugin(PLUGIN)
        await stack.wait_ready()
