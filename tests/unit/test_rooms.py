"""An encrypted room stays one, whatever the homeserver says."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest
from mautrix.client import Client
from mautrix.types import RoomID

from toggle_plugin.rooms import Rooms

from .builders import ROOM
from .homeserver import BOT, Homeserver

ALICE = "@alice:example.org"
OTHER = "!other:example.org"


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    path = f"/_matrix/client/v3/rooms/{ROOM}"
    documents = {
        ("GET", f"{path}/joined_members"): lambda _: {"joined": {BOT: {}, ALICE: {}}},
        ("GET", f"{path}/state/m.room.encryption/"): lambda _: {"algorithm": "m.megolm.v1.aes-sha2"},
    }
    async with Homeserver(documents=documents) as homeserver:
        client = homeserver.client()
        yield client
        await client.api.session.close()


@pytest.fixture
def rooms(client: Client) -> Rooms:
    return Rooms(client, logging.getLogger("test.rooms"))


async def test_a_room_of_which_an_event_was_decrypted_is_encrypted(rooms: Rooms) -> None:
    before = await rooms.encrypted(OTHER)
    rooms.seen_encrypted(OTHER)
    assert (before, await rooms.encrypted(OTHER)) == (False, True)


async def test_asking_writes_nothing_to_maubots_database(rooms: Rooms, client: Client) -> None:
    assert (await rooms.encrypted(ROOM), await rooms.alone(ROOM, ALICE)) == (True, True)
    store = client.state_store
    assert store is not None
    assert (await store.is_encrypted(RoomID(ROOM)), await store.has_full_member_list(RoomID(ROOM))) == (None, False)
