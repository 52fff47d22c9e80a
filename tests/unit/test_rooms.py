"""An encrypted room stays one, whatever the homeserver says."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest

from toggle_plugin.rooms import Rooms

from .builders import ROOM
from .homeserver import Homeserver


@pytest.fixture
async def rooms() -> AsyncIterator[Rooms]:
    async with Homeserver() as homeserver:
        client = homeserver.client()
        yield Rooms(client, logging.getLogger("test.rooms"))
        await client.api.session.close()


async def test_a_room_of_which_an_event_was_decrypted_is_encrypted(rooms: Rooms) -> None:
    before = await rooms.encrypted(ROOM)
    rooms.seen_encrypted(ROOM)
    assert (before, await rooms.encrypted(ROOM)) == (False, True)
