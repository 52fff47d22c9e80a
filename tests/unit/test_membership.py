"""Which rooms we are in, held against a homeserver that fails: who invited us, what is tried again, what is left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import unquote

import pytest
from aiohttp import web
from mautrix.client import Client, SyncStream
from mautrix.types import EventType, StateEvent, StrippedStateEvent

from toggle_plugin import membership as membership_module
from toggle_plugin.access import AccessPolicy
from toggle_plugin.account import Account
from toggle_plugin.membership import AUTOJOIN_ON, Membership, autojoin_caution, inviters, live_inviters
from toggle_plugin.settings import Settings
from toggle_plugin.store import Store
from toggle_plugin.strangers import Strangers

from .homeserver import BOT, Homeserver

ALICE, MALLORY = "@alice:example.org", "@mallory:evil.example"
OLD, NEW, OTHER = "!a-old:example.org", "!b-new:example.org", "!c-other:example.org"
LOG = logging.getLogger("test.membership")
FORBIDDEN = (403, {"errcode": "M_FORBIDDEN", "error": "not in the room"})
BROKEN = (500, {"errcode": "M_UNKNOWN", "error": "broken"})
FOUND: tuple[int, Any] = (200, {})
_EVENT: dict[str, Any] = {"event_id": "$e", "origin_server_ts": 1}


def member(sender: str, state_key: str = BOT) -> dict[str, Any]:
    return {"type": "m.room.member", "sender": sender, "state_key": state_key, "content": {"membership": "invite"}}


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ([member(ALICE)], [ALICE]),
        ([member(ALICE), member(MALLORY)], [ALICE, MALLORY]),
        ([member(ALICE), member(MALLORY, "@somebody:else.example")], [ALICE]),
        ([{"type": "m.room.name", "sender": ALICE, "state_key": BOT}], []),
        (["no event", 5, {}], []),
        ([], []),
    ],
)
def test_everybody_who_is_said_to_have_invited_us_counts(state: list[Any], expected: list[str]) -> None:
    assert inviters(state, BOT) == expected


def test_what_mautrix_cannot_read_of_an_invite_counts_as_a_stranger() -> None:
    raw: Any = {**member(ALICE), "room_id": NEW, **_EVENT}
    event: Any = StateEvent.deserialize(raw)
    other: Any = member(MALLORY)
    event.unsigned.invite_room_state = [None, StrippedStateEvent.deserialize(other)]
    assert live_inviters(event) == [ALICE, "", MALLORY]


def test_autojoin_is_cautioned_of_only_where_it_is_on() -> None:
    assert [autojoin_caution(True), autojoin_caution(False)] == [AUTOJOIN_ON, ""]


@dataclass
class House(Homeserver):
    """A homeserver of which each room's answers can be chosen.

    Attributes:
        inside: the rooms that the bot is in, and who is with it.
        invites: the inviters of the rooms to which the bot is invited.
        creators: who made a room, and of which it is said to be the upgrade.
        failing: the answers to the next requests, by how they begin.
    """

    inside: dict[str, set[str]] = field(default_factory=dict)
    invites: dict[str, list[str]] = field(default_factory=dict)
    creators: dict[str, tuple[str, str]] = field(default_factory=dict)
    failing: dict[str, list[tuple[int, Any]]] = field(default_factory=dict)

    def _document(self, method: str, path: str, body: Any) -> web.Response:  # noqa: ARG002 - as the one that it replaces
        route = unquote(path).split("?")[0].removeprefix("/_matrix/client/v3/")
        self.asked.append(f"{method} {route}")
        spoilt = self.failing.get(f"{method} {route}")
        status, answer = spoilt.pop(0) if spoilt else self._answer_to(route)
        return web.json_response(answer, status=status)

    def _answer_to(self, route: str) -> tuple[int, Any]:
        what, _, rest = route.partition("/")
        if what == "sync":
            return 200, {
                "next_batch": "s1",
                "rooms": {"invite": {room: _invited(by) for room, by in self.invites.items()}},
            }
        if what == "joined_rooms":
            return 200, {"joined_rooms": list(self.inside)}
        if what == "join":
            self.inside.setdefault(rest, {ALICE})
            self.invites.pop(rest, None)
            return 200, {"room_id": rest}
        room, _, action = rest.partition("/")
        if room not in self.inside:
            return FORBIDDEN
        if action == "leave":
            del self.inside[room]
            return FOUND
        if action == "joined_members":
            return 200, {"joined": {user: {} for user in {BOT, *self.inside[room]}}}
        creator, predecessor = self.creators[room]
        content = {"predecessor": {"room_id": predecessor, "event_id": "$t"}}
        return 200, {
            "type": "m.room.create",
            "state_key": "",
            "sender": creator,
            "room_id": room,
            "content": content,
            **_EVENT,
        }


def _invited(by: list[str]) -> dict[str, Any]:
    return {"invite_state": {"events": [member(inviter) for inviter in by]}}


class Entry:
    """maubot's row of the account, as far as it follows upgrades."""

    async def _handle_tombstone(self, evt: StateEvent) -> None: ...


class OurAccount:
    """As `Account`, with an entry that has registered what maubot's registers."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.entry = Entry()
        client.add_event_handler(EventType.ROOM_TOMBSTONE, self.entry._handle_tombstone)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    async with house:
        yield house


@pytest.fixture
async def client(house: House) -> AsyncIterator[Client]:
    client = house.client()
    yield client
    await client.api.session.close()


@pytest.fixture
async def membership(client: Client, store: Store, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Membership]:
    monkeypatch.setattr(membership_module, "AGAIN", 0.02)
    account = cast(Account, OurAccount(client))
    policy = AccessPolicy(Settings(allowed_users=frozenset({ALICE})))
    membership = Membership(account, lambda: policy, lambda: True, store, Strangers(LOG), LOG)
    yield membership
    await membership.close()


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for `condition`, which must come true."""
    for _ in range(round(seconds / 0.02)):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come true")


async def quiet(house: House, seconds: float = 0.3) -> None:
    """Wait until nothing was asked for `seconds`."""
    seen = -1
    while seen != len(house.asked):
        seen = len(house.asked)
        await asyncio.sleep(seconds)


def tombstone(replacement: str, sender: str = ALICE) -> StateEvent:
    content = {"body": "moved", "replacement_room": replacement}
    raw: Any = {
        "type": "m.room.tombstone",
        "state_key": "",
        "sender": sender,
        "room_id": OLD,
        "content": content,
        **_EVENT,
    }
    return StateEvent.deserialize(raw)


def gone(user: str, room: str, source: SyncStream) -> StateEvent:
    raw: Any = {"type": "m.room.member", "state_key": user, "sender": ALICE, "room_id": room, **_EVENT}
    raw["content"] = {"membership": "leave"}
    event: Any = StateEvent.deserialize(raw)
    event.source = source
    return cast(StateEvent, event)


async def test_a_join_that_failed_is_tried_again(house: House, membership: Membership, store: Store) -> None:
    house.invites[NEW] = [ALICE]
    house.failing[f"POST join/{NEW}"] = [BROKEN, BROKEN]
    membership.start()
    await until(lambda: NEW in house.inside)
    assert await store.joined_rooms() == [NEW]


async def test_a_forged_inviter_does_not_help_a_stranger(house: House, membership: Membership) -> None:
    house.invites = {NEW: [ALICE, MALLORY], OTHER: [MALLORY, ALICE]}
    membership.start()
    await quiet(house)
    assert house.asked == ["GET sync"]


async def test_a_flood_of_strangers_invites_costs_one_request(house: House, membership: Membership) -> None:
    house.invites = {f"!{number}:evil.example": [MALLORY] for number in range(1000)}
    membership.start()
    await quiet(house)
    assert house.asked == ["GET sync"]


async def test_a_room_that_we_are_not_in_any_more_is_forgotten_and_keeps_nothing_from_being_left(
    house: House, membership: Membership, store: Store
) -> None:
    house.inside = {NEW: {MALLORY}}
    await store.joined(OLD)
    await store.joined(NEW)
    membership.start()
    await until(lambda: NEW not in house.inside)
    await quiet(house)
    assert await store.joined_rooms() == []


async def test_a_room_whose_members_cannot_be_asked_is_kept_and_the_next_is_looked_at(
    house: House, membership: Membership, store: Store
) -> None:
    house.inside = {OLD: {MALLORY}, NEW: {MALLORY}}
    house.failing[f"GET rooms/{OLD}/joined_members"] = [BROKEN] * 50
    await store.joined(OLD)
    await store.joined(NEW)
    membership.start()
    await until(lambda: NEW not in house.inside)
    await quiet(house)
    assert list(house.inside) == await store.joined_rooms() == [OLD]


async def test_a_room_that_we_did_not_join_is_not_left(house: House, membership: Membership) -> None:
    house.inside = {OTHER: {MALLORY}}
    membership.start()
    await quiet(house)
    assert list(house.inside) == [OTHER]


async def test_an_upgrade_into_a_room_where_we_are_already_changes_nothing(
    house: House, membership: Membership, store: Store
) -> None:
    house.inside = {OLD: {ALICE}, OTHER: {MALLORY}}
    house.creators[OTHER] = (MALLORY, "")
    await membership.tombstone(tombstone(OTHER))
    await quiet(house)
    assert (OTHER in house.inside, await store.joined_rooms()) == (True, [])


@pytest.mark.parametrize("replacement", ["#alias:example.org", "!" + 300 * "x", "@alice:example.org", "!", "nothing"])
async def test_what_is_no_room_id_is_not_followed(house: House, membership: Membership, replacement: str) -> None:
    await membership.tombstone(tombstone(replacement))
    await quiet(house)
    assert house.asked == []


async def test_a_false_upgrade_is_left_though_the_homeserver_fails(
    house: House, membership: Membership, store: Store
) -> None:
    house.inside[OLD] = {ALICE}
    house.creators[NEW] = (MALLORY, OLD)
    house.failing[f"POST rooms/{NEW}/leave"] = [BROKEN, BROKEN]
    await membership.tombstone(tombstone(NEW))
    await until(lambda: f"POST join/{NEW}" in house.asked)
    await until(lambda: NEW not in house.inside)
    await quiet(house)
    assert await store.joined_rooms() == []


async def test_a_true_upgrade_is_followed(house: House, membership: Membership, store: Store) -> None:
    house.inside[OLD] = {ALICE}
    house.creators[NEW] = (ALICE, OLD)
    await membership.tombstone(tombstone(NEW))
    await quiet(house)
    assert (NEW in house.inside, await store.joined_rooms()) == (True, [NEW])


async def test_an_invite_that_comes_while_an_upgrade_is_refused_is_accepted(
    house: House, membership: Membership, store: Store
) -> None:
    house.invites[NEW] = [ALICE]
    house.failing[f"POST join/{NEW}"] = [FORBIDDEN]
    await membership.tombstone(tombstone(NEW))
    await until(lambda: NEW in house.inside)
    await quiet(house)
    assert await store.joined_rooms() == [NEW]


async def test_a_join_without_an_answer_is_remembered_as_it_may_have_been_one(
    house: House, membership: Membership, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership_module, "TRIES", 2)
    house.invites[NEW] = [ALICE]
    house.failing[f"POST join/{NEW}"] = [BROKEN, BROKEN]
    membership.start()
    await until(lambda: house.asked.count(f"POST join/{NEW}") == 2)
    await quiet(house)
    assert await store.joined_rooms() == [NEW]


async def test_an_old_farewell_in_the_timeline_of_a_room_where_we_are_is_no_news(
    house: House, membership: Membership, store: Store
) -> None:
    await store.joined(NEW)
    await membership.member(gone(BOT, NEW, SyncStream.JOINED_ROOM | SyncStream.TIMELINE))
    await quiet(house)
    assert await store.joined_rooms() == [NEW]


async def test_a_room_that_we_were_thrown_out_of_is_forgotten(membership: Membership, store: Store) -> None:
    await store.joined(NEW)
    await membership.member(gone(BOT, NEW, SyncStream.LEFT_ROOM | SyncStream.TIMELINE))
    for _ in range(50):
        if not await store.joined_rooms():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it is still remembered")


async def test_closing_ends_what_waits_to_be_tried_again(
    house: House, membership: Membership, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership_module, "AGAIN", 60.0)
    house.invites[NEW] = [ALICE]
    house.failing[f"POST join/{NEW}"] = [BROKEN] * 50
    membership.start()
    await until(lambda: f"POST join/{NEW}" in house.asked)
    await asyncio.wait_for(membership.close(), 1)
    assert not [task for task in asyncio.all_tasks() if "Membership" in repr(task.get_coro())]


async def test_maubots_own_following_of_upgrades_is_put_aside_while_we_run(
    client: Client, membership: Membership
) -> None:
    def handlers() -> list[str]:
        return [handler.__name__ for handler in client.event_handlers.get(EventType.ROOM_TOMBSTONE, {})]

    before = handlers()
    membership.start()
    assert (before, handlers()) == (["_handle_tombstone"], [])
    await membership.close()
    assert handlers() == before
