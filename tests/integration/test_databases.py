"""Both databases that maubot knows: encrypted commands, restarts, and a key that comes in one sync with its message."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.integration.conversation import ask, audit, told
from tests.stack.stack import PLUGIN, Servers, Stack


@pytest.fixture(params=["sqlite", "postgres"])
async def stack(request: pytest.FixtureRequest, servers: Servers, postgres_servers: Servers) -> AsyncIterator[Stack]:
    chosen = {"sqlite": servers, "postgres": postgres_servers}[request.param]
    async with chosen.stack(sync=False) as stack:
        yield stack


async def test_encrypted_commands_and_restarts(stack: Stack) -> None:
    alice = await stack.person("alice")
    room = await stack.room_with_bot(alice)
    await told(alice, room, "start", "is running")
    await stack.api.reload_plugin(PLUGIN)
    assert "running" in (await ask(alice, room, "status")).body
    await stack.maubot.stop()
    event = await alice.send(room, "stop")
    await stack.maubot.run()
    await alice.wait_text(await alice.wait_reply(event), "is off")
    rows = await audit(stack)
    assert [(row["verb"], row["outcome"]) for row in rows] == [("start", "done"), ("status", "done"), ("stop", "done")]
    assert {row["fingerprint"] for row in rows} == {alice.fingerprint}


async def test_a_key_and_its_messages_in_one_sync_every_time(stack: Stack) -> None:
    alice = await stack.person("alice")
    room = await stack.room_with_bot(alice)
    await ask(alice, room, "status")
    events = []
    for _ in range(5):
        stack.maubot.process.pause()
        await alice.rotate_session(room)
        events += [await alice.send(room, "status") for _ in range(3)]
        stack.maubot.process.resume()
        for event in events[-3:]:
            await alice.wait_reply(event)
    assert [len(alice.timeline.replies(event)) for event in events] == len(events) * [1]
    arrived = sorted((await audit(stack))[1:], key=lambda row: int(row["arrival"]))
    assert [row["event_id"] for row in arrived] == events
