"""The picture of a chat in the README: a real run, drawn by `picture`; TOGGLE_PICTURES=1 writes it anew."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.browser import open_page, pictures
from tests.integration.conversation import ask, told
from tests.integration.picture import Screen, page
from tests.stack.chat import ChatClient
from tests.stack.cluster import SLOW
from tests.stack.stack import Servers, Stack
from tests.stack.timeline import Message

ROOM = "Valheim server"
TARGETS = {"valheim": {"kind": "Deployment", "namespace": "games", "name": "valheim"}}


@pytest.fixture
async def slow_stack(servers: Servers) -> AsyncIterator[Stack]:
    """A cluster that takes its time, so that there is something to see on the way."""
    async with servers.stack({"targets": TARGETS}, behaviour=SLOW, sync=False) as stack:
        stack.cluster.add_deployment("games", "valheim")
        yield stack


async def test_the_picture_of_a_chat(slow_stack: Stack, tmp_path: Path) -> None:
    alice = await slow_stack.person("alice")
    room = await slow_stack.room_with_bot(alice, name=ROOM, direct=True)
    await ask(alice, room, "help")
    await ask(alice, room, "status")
    running = await told(alice, room, "start", "is running")
    await ask(alice, room, "stpo")
    await told(alice, room, "stop", "is off")
    await refused_from_another_device(alice, room, slow_stack)

    messages = list(alice.timeline.messages(room))
    later = messages[messages.index(alice.message(running.reply_to)) :]
    begun, ended = moment_of(running, "0 of 1 available"), messages[-1].events[-1].timestamp
    screens = [
        Screen("One reply follows the roll-out …", ROOM, messages, alice.user_id, begun),
        Screen("… and is edited until it is really up", ROOM, later, alice.user_id, ended),
    ]
    shown = await photograph(page(screens), pictures(otherwise=tmp_path) / "chat.png", tmp_path / "browser")
    assert "valheim is starting" in shown[0]
    assert "valheim is running" not in shown[0]
    assert "valheim is running" in shown[1]
    assert shown[1].count("from an unverified session") == 1
    assert "I do not know the word stpo. Did you mean stop?" in shown[1]
    assert "Your device is not verified" in shown[1]
    assert "valheim is off (desired 0, ready 0, available 0), after" in shown[1]


async def refused_from_another_device(alice: ChatClient, room: str, stack: Stack) -> None:
    device = await alice.second_device(cross_signed=False)
    try:
        await device.wait_membership(room, stack.bot_id)
        event = await device.send(room, "start")
        await alice.wait_reply(event)
    finally:
        await device.close()


def moment_of(message: Message, text: str) -> int:
    """When a message was edited to say that; milliseconds, by the homeserver's clock."""
    return next(event.timestamp for event, body in zip(message.events, message.history, strict=True) if text in body)


async def photograph(document: str, path: Path, profile: Path) -> list[str]:
    """Photograph a page to `path`; the text of each of its figures."""
    async with open_page(profile, width=900, height=800, scale=2) as browser:
        await browser.set_content(document)
        await browser.locator("body").screenshot(path=path)
        return await browser.locator("figure").all_inner_texts()
