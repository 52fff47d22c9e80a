"""Which lines maubot's own parser takes, and what is left of a line when it cannot be taken or must end."""

from __future__ import annotations

import asyncio
import time
from typing import cast

import pytest
from maubot.matrix import MaubotMessageEvent
from mautrix.types import EventID, EventType, MessageEvent, MessageType, RoomID, TextMessageEventContent, UserID

from toggle_plugin import inbox
from toggle_plugin.commands import _taken_by_maubot

from .builders import ALICE, BOB, OTHER_ROOM, ROOM, reached, tasks_of_the_plugin
from .room import WAIT, Room

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed transport <asyncio.sslproto:ResourceWarning"),
    pytest.mark.usefixtures("impatient"),
]


@pytest.mark.parametrize(
    ("body", "taken"),
    [
        ("!toggle", True),
        ("!toggle start", True),
        ("!TOGGLE start", True),
        (" !toggle start", False),
        ("!toggle\tstart", False),
        ("!toggles", False),
        ("toggle", False),
        ("", False),
    ],
)
def test_what_maubots_own_parser_takes(body: str, taken: bool) -> None:
    assert _taken_by_maubot(body, "toggle") is taken


def said(body: str, event_id: str = "$said", sender: str = ALICE, room: str = ROOM) -> MaubotMessageEvent:
    """A message; of what maubot adds to it, nothing is needed here."""
    event = MessageEvent(
        content=TextMessageEventContent(msgtype=MessageType.TEXT, body=body),
        type=EventType.ROOM_MESSAGE,
        room_id=RoomID(room),
        event_id=EventID(event_id),
        sender=UserID(sender),
        timestamp=round(time.time() * 1000),
    )
    return cast(MaubotMessageEvent, event)


async def test_a_line_that_cannot_be_taken_leaves_no_reaction_behind(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: str) -> bool:
        raise OSError("disk")

    monkeypatch.setattr(room.commands._parts.rooms, "encrypted", broken)
    await room.commands._take(said("!toggle help"), "help", prefixed=True)
    await reached(lambda: len(room.homeserver.sent) > 0)
    await asyncio.wait_for(asyncio.gather(*room.commands._intake._tasks), WAIT)
    assert room.homeserver.bodies == ["Something went wrong here; the log has the details."]
    assert tasks_of_the_plugin() == []


async def test_a_line_that_is_cut_off_while_it_is_taken_leaves_nothing_behind(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def slow(_: str) -> bool:
        asked.set()
        await asyncio.sleep(WAIT)
        return False

    monkeypatch.setattr(room.commands._parts.rooms, "encrypted", slow)
    await room.commands._take(said("!toggle help"), "help", prefixed=True)
    await asyncio.wait_for(asked.wait(), WAIT)
    await room.commands.close()
    assert tasks_of_the_plugin() == []


async def test_a_flood_does_not_change_the_order_in_which_lines_came(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "SEEN", 1)
    second_is_written_down = asyncio.Event()

    async def slow_in_one_room(asked: str) -> bool:
        if asked == ROOM:
            await second_is_written_down.wait()
        return False

    monkeypatch.setattr(room.commands._parts.rooms, "encrypted", slow_in_one_room)
    await room.commands._take(said("!toggle help", "$first"), "help", prefixed=True)
    await room.commands._take(said("!toggle help", "$second", BOB, OTHER_ROOM), "help", prefixed=True)
    await reached(lambda: len(room.homeserver.sent) > 0)
    second_is_written_down.set()
    await asyncio.wait_for(room.commands.settled(), WAIT)
    await asyncio.wait_for(asyncio.gather(*room.commands._intake._tasks), WAIT)
    places = {entry.event: entry.arrival for entry in await room.store.entries(10)}
    assert sorted(places, key=places.__getitem__) == ["$first", "$second"]
