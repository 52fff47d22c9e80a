"""The order in which a sync response is handed over, and when its token is stored."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from toggle_plugin.sync import Tokens, pieces

LOG = logging.getLogger("test.sync")
COUNTS = {"signed_curve25519": 50}

RESPONSE: dict[str, Any] = {
    "next_batch": "s2",
    "device_one_time_keys_count": COUNTS,
    "device_lists": {"changed": ["@alice:example.org"]},
    "rooms": {
        "join": {
            "!a": {
                "timeline": {"events": [{"event_id": "$1"}, {"event_id": "$2"}], "limited": False},
                "state": {"events": [{"event_id": "$state"}]},
            }
        },
        "invite": {"!b": {"invite_state": {"events": []}}},
        "leave": {"!c": {"timeline": {"events": []}}},
    },
    "to_device": {"events": [{"type": "m.room.encrypted", "n": 1}, {"type": "m.room.encrypted", "n": 2}]},
}


def shape(piece: dict[str, Any]) -> str:
    """What a piece is about."""
    if "device_lists" in piece:
        return "devices"
    if "to_device" in piece:
        return f"key {piece['to_device']['events'][0]['n']}"
    ((kind, rooms),) = piece["rooms"].items()
    ((_, content),) = rooms.items()
    if kind != "join":
        return str(kind)
    ((_, events),) = content.items()
    return str(events["events"][0]["event_id"])


def test_devices_come_first_then_keys_one_by_one_then_rooms_in_order() -> None:
    order = [shape(piece) for piece in pieces(RESPONSE)]
    assert order == ["devices", "key 1", "key 2", "invite", "leave", "$state", "$1", "$2"]


def test_each_piece_has_the_one_time_key_counts_lest_mautrix_takes_them_for_zero() -> None:
    assert all(piece["device_one_time_keys_count"] == COUNTS for piece in pieces(RESPONSE))


def test_a_response_without_anything_has_no_rooms() -> None:
    assert [sorted(piece) for piece in pieces({"next_batch": "s3"})] == [["device_lists", "device_one_time_keys_count"]]


class TokenStore:
    def __init__(self) -> None:
        self.stored: list[str] = []
        self.broken = False

    async def put_next_batch(self, token: str) -> None:
        if self.broken:
            raise OSError("disk full")
        self.stored.append(token)


class Client:
    def __init__(self) -> None:
        self.sync_store = TokenStore()


@pytest.fixture
def client() -> Any:
    return Client()


async def test_a_token_is_stored_once_everything_before_it_is_settled(client: Any) -> None:
    tokens, first, second = Tokens(client, LOG), asyncio.Event(), asyncio.Event()
    tokens.store("s1", first.wait())
    tokens.store("s2", second.wait())
    second.set()
    await asyncio.sleep(0.02)
    assert client.sync_store.stored == [], "s2 would lose what s1 still waits for"
    first.set()
    await asyncio.sleep(0.02)
    assert client.sync_store.stored == ["s1", "s2"]
    await tokens.close()


async def test_what_is_not_settled_when_we_stop_is_not_stored(client: Any) -> None:
    tokens = Tokens(client, LOG)
    tokens.store("s1", asyncio.Event().wait())
    await asyncio.wait_for(tokens.close(), 1)
    assert client.sync_store.stored == []


async def test_a_token_that_cannot_be_stored_does_not_hold_up_the_next(
    client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = Tokens(client, LOG)
    client.sync_store.broken = True
    tokens.store("s1", asyncio.sleep(0))
    await asyncio.sleep(0.02)
    client.sync_store.broken = False
    tokens.store("s2", asyncio.sleep(0))
    await asyncio.sleep(0.02)
    assert client.sync_store.stored == ["s2"]
    assert "token_not_stored" in caplog.text
    await tokens.close()
