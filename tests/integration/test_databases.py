"""Both databases that maubot knows: encrypted commands, restarts, and a key that comes in one sync with its message."""

from __future__ import annotations

from tests.integration.conversation import ask, audit, told
from tests.stack.stack import PLUGIN, Stack

ROUNDS = 10
"""Each with a new key for the first message after it."""


async def test_encrypted_commands_and_restarts(any_stack: Stack) -> None:
    stack = any_stack
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


async def test_a_key_and_its_messages_in_one_sync_every_time(any_stack: Stack) -> None:
    stack = any_stack
    alice = await stack.person("alice")
    room = await stack.room_with_bot(alice)
    await ask(alice, room, "status")
    events = []
    for _ in range(ROUNDS):
        stack.maubot.process.pause()
        await alice.rotate_session(room)
        events += [await alice.send(room, "status") for _ in range(3)]
        stack.maubot.process.resume()
        for event in events[-3:]:
            await alice.wait_reply(event)
    assert [len(alice.timeline.replies(event)) for event in events] == len(events) * [1]
    arrived = sorted((await audit(stack))[1:], key=lambda row: int(row["arrival"]))
    assert [row["event_id"] for row in arrived] == events
    assert not [line for line in stack.instance_log() if "key=came_late" in line], "the key was there first"
