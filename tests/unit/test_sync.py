"""The order in which a sync response is handed over, and when its token is stored."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any, cast

import pytest
from maubot.lib.state_store import PgStateStore
from mautrix.client import Client as MautrixClient
from mautrix.crypto import OlmMachine, PgCryptoStore
from mautrix.types import EventType, QueryKeysResponse, UserID
from mautrix.util.async_db import Database

from toggle_plugin import device_lists, sync
from toggle_plugin.device_lists import StrangersDevices
from toggle_plugin.gaps import Gaps
from toggle_plugin.sync import BROKEN, Sync, SyncLoop, Tokens, pieces

from .builders import ALICE, reach_of, reached
from .homeserver import Homeserver

MALLORY = "@mallory:example.org"

LOG = logging.getLogger("test.sync")
COUNTS = {"signed_curve25519": 50}

RESPONSE: dict[str, Any] = {
    "next_batch": "s2",
    "device_one_time_keys_count": COUNTS,
    "device_lists": {"changed": [ALICE]},
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


def known(user: str) -> bool:
    return user == ALICE


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
    order = [shape(piece.data) for piece in pieces(RESPONSE, known)]
    assert order == ["devices", "key 1", "key 2", "invite", "leave", "$state", "$1", "$2"]


def test_the_count_of_one_time_keys_is_handed_over_once_and_never_missing() -> None:
    """Each time that mautrix hears of few it uploads more, and where there is none, a whole set."""
    first, *others = [piece.data["device_one_time_keys_count"] for piece in pieces(RESPONSE, known)]
    assert first == COUNTS
    assert all(count["signed_curve25519"] > 100 for count in others)


def test_a_response_without_anything_has_no_rooms() -> None:
    (piece,) = pieces({"next_batch": "s3"}, known)
    assert sorted(piece.data) == ["device_lists", "device_one_time_keys_count"]


def encrypted(sender: str, number: int = 0) -> dict[str, Any]:
    return {"type": "m.room.encrypted", "sender": sender, "event_id": f"${sender}{number}", "n": number}


def in_room(*events: dict[str, Any]) -> dict[str, Any]:
    return {"join": {"!a": {"timeline": {"events": list(events)}}}}


def test_nobody_waits_for_what_strangers_encrypted_and_it_is_not_ours() -> None:
    response = {
        "device_lists": {"changed": [MALLORY, ALICE], "left": ["@carol:example.org"]},
        "to_device": {"events": [encrypted(MALLORY, 1), encrypted(ALICE, 2)]},
        "rooms": in_room(encrypted(MALLORY), encrypted(ALICE), {"event_id": "$plain", "sender": MALLORY}),
    }
    found = list(pieces(response, known))
    assert found[0].data["device_lists"] == {"changed": [ALICE], "left": ["@carol:example.org"]}
    waits = [(shape(piece.data), piece.awaited, piece.ours) for piece in found]
    assert waits == [
        *(("devices", True, True), ("key 1", False, False), ("key 2", True, True)),
        *((f"${MALLORY}0", False, False), (f"${ALICE}0", True, True), ("$plain", True, True)),
    ]


def test_what_our_own_other_devices_say_is_ours() -> None:
    response = {"to_device": {"events": [encrypted("@bot:example.org", 1)]}}
    _, key = pieces(response, known, "@bot:example.org")
    assert (key.awaited, key.ours) == (True, True)


@pytest.fixture
async def encrypting(homeserver: Homeserver, tmp_path: Path) -> AsyncIterator[MautrixClient]:
    """mautrix' own client, with keys in a database of maubot's kind."""
    database = Database.create(f"sqlite:{tmp_path / 'crypto.db'}", upgrade_table=PgCryptoStore.upgrade_table)
    await database.start()
    await PgStateStore.upgrade_table.upgrade(database)
    client = homeserver.client()
    client.state_store = states = PgStateStore(database)
    client.crypto = OlmMachine(client, PgCryptoStore("bot", "pickle", database), states)
    await client.crypto.load()
    yield client
    await client.api.session.close()
    await database.stop()


async def taken_in(client: MautrixClient, response: dict[str, Any], *, shared: bool = False) -> None:
    """Hand `response` over as the loop does."""
    account: Any = Accounted(client, shared=shared)
    gaps = Gaps(client, lambda: [ALICE], lambda: 60.0, reach_of(client), LOG)
    loop = SyncLoop(account, gaps, reach_of(account.client), known, lambda: asyncio.sleep(0), LOG)
    loop._await_mautrix()
    await loop._take_in(response, "s0")
    await loop.close()


async def test_new_one_time_keys_are_made_once_for_a_response_lest_those_in_use_are_pushed_out(
    encrypting: MautrixClient, homeserver: Homeserver
) -> None:
    uploaded: list[int] = []

    def upload(body: Any) -> Any:
        uploaded.append(len(body.get("one_time_keys", {})))
        return {"one_time_key_counts": {"signed_curve25519": 50}}

    homeserver.documents["POST", "/_matrix/client/v3/keys/upload"] = upload
    talk = [
        {
            "type": "m.room.message",
            "sender": ALICE,
            "event_id": f"${number}",
            "origin_server_ts": 1,
            "content": {"msgtype": "m.text", "body": "hello"},
        }
        for number in range(30)
    ]
    counts = {"signed_curve25519": 40}
    await taken_in(encrypting, {"next_batch": "s1", "device_one_time_keys_count": counts, "rooms": in_room(*talk)})
    assert uploaded == [10]


class Asking:
    """Answers for `query_keys`: whom it was asked for, each time; while it is held, it does not answer."""

    def __init__(self) -> None:
        self.asked: list[set[str]] = []
        self.held = asyncio.Event()

    async def __call__(self, users: Any, **_: Any) -> QueryKeysResponse:
        self.asked.append(set(users))
        await self.held.wait()
        raise OSError("their homeserver is away")


async def tracked(client: MautrixClient, *users: str) -> None:
    """Let mautrix have these people's devices, as it has those of all in a room of ours."""
    for user in users:
        await cast(OlmMachine, client.crypto).crypto_store.put_devices(UserID(user), {})


async def test_while_a_strangers_homeserver_is_asked_nobody_whom_we_know_waits_for_keys(
    encrypting: MautrixClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    strangers = [f"@mallory{number}:example.org" for number in range(5)]
    await tracked(encrypting, *strangers)
    asking = Asking()
    monkeypatch.setattr(encrypting, "query_keys", asking)
    devices = StrangersDevices(encrypting, LOG)
    for stranger in strangers:
        devices.changed([stranger, "@nowhere:example.org"])
        await asyncio.sleep(0.05)
    assert asking.asked == [{strangers[0]}], "one question at a time"
    crypto = cast(OlmMachine, encrypting.crypto)
    assert not crypto._fetch_keys_lock.locked()
    asking.held.set()
    await reached(lambda: len(asking.asked) == 2)
    assert asking.asked[1] == set(strangers[1:]), "the others together, and nobody whom we share no room with"
    await devices.close()


async def test_no_more_strangers_wait_than_said(encrypting: MautrixClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_lists, "MOST", 3)
    strangers = [f"@mallory{number}:example.org" for number in range(10)]
    await tracked(encrypting, *strangers)
    asking = Asking()
    monkeypatch.setattr(encrypting, "query_keys", asking)
    devices = StrangersDevices(encrypting, LOG)
    devices.changed(strangers)
    await reached(lambda: len(asking.asked) == 1)
    assert len(asking.asked[0]) == 3
    asking.held.set()
    await devices.close()


async def test_the_loop_asks_for_strangers_devices_on_the_side(
    encrypting: MautrixClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tracked(encrypting, MALLORY, ALICE)
    asking = Asking()
    monkeypatch.setattr(encrypting, "query_keys", asking)
    taking = asyncio.ensure_future(taken_in(encrypting, {"device_lists": {"changed": [MALLORY, ALICE]}}))
    await reached(lambda: len(asking.asked) == 2)
    assert sorted(asking.asked, key=str) == sorted([{MALLORY}, {ALICE}], key=str)
    asking.held.set()
    await taking


async def test_a_strangers_room_keys_and_requests_are_not_handed_over_but_where_the_account_is_shared(
    encrypting: MautrixClient,
) -> None:
    seen: list[str] = []

    async def note(event: Any) -> None:
        seen.append(event.sender)

    for kind in (EventType.TO_DEVICE_ENCRYPTED, EventType.ROOM_KEY_REQUEST):
        encrypting.add_event_handler(kind, note, wait_sync=True)
        encrypting.remove_event_handler(kind, getattr(encrypting.crypto, HANDLERS[kind]))
    for shared in (False, True):
        events = [to_device(kind, sender) for kind in HANDLERS for sender in (MALLORY, ALICE, encrypting.mxid)]
        await taken_in(encrypting, {"to_device": {"events": events}}, shared=shared)
    ours, everybody = [ALICE, encrypting.mxid] * 2, [MALLORY, ALICE, encrypting.mxid] * 2
    assert seen == ours + everybody


HANDLERS = {
    EventType.TO_DEVICE_ENCRYPTED: "handle_to_device_event",
    EventType.ROOM_KEY_REQUEST: "handle_room_key_request",
}


def to_device(kind: EventType, sender: str) -> dict[str, Any]:
    content = {
        "algorithm": "m.olm.v1.curve25519-aes-sha2",
        "sender_key": "key",
        "ciphertext": {},
        "action": "request_cancellation",
        "request_id": "1",
        "requesting_device_id": "PHONE",
    }
    return {"type": kind.t, "sender": sender, "content": content}


class Accounted:
    """maubot's row of an account."""

    synced_by_maubot = False
    replaced = False

    def __init__(self, client: Any, *, shared: bool) -> None:
        self.client = client
        self.shared = shared


class Syncing:
    """A client that gets one response, and then none."""

    mxid = "@bot:example.org"

    def __init__(self, response: dict[str, Any]) -> None:
        self.sync_store = TokenStore()
        self.crypto = None
        self.event_handlers: dict[Any, Any] = {}
        self.global_event_handlers: dict[Any, Any] = {}
        self.presence = None
        self.response: dict[str, Any] | None = response
        self.handled: list[str] = []
        self.hanging = asyncio.Event()

    async def sync(self, **_: Any) -> dict[str, Any]:
        if self.response is None:
            await asyncio.Event().wait()
        response, self.response = self.response, None
        assert response is not None
        return response

    async def run_internal_event(self, *_: Any, **__: Any) -> None:
        pass

    def handle_sync(self, data: dict[str, Any]) -> list[Awaitable[None]]:
        return [self._handle(shape(data))]

    async def _handle(self, name: str) -> None:
        if MALLORY in name:
            await self.hanging.wait()
        self.handled.append(name)


@pytest.mark.parametrize("shared", [False, True])
async def test_a_homeserver_of_strangers_that_does_not_answer_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    monkeypatch.setattr(sync, "STRANGERS", 0.1)
    flood = [encrypted(MALLORY, number) for number in range(50)]
    response = {"next_batch": "s1", "rooms": in_room(*flood, encrypted(ALICE))}
    client: Any = Syncing(response)
    account: Any = Accounted(client, shared=shared)
    loop = SyncLoop(
        account,
        Gaps(client, lambda: [ALICE], lambda: 60.0, reach_of(client), LOG),
        reach_of(account.client),
        known,
        lambda: asyncio.sleep(0),
        LOG,
    )
    running = asyncio.ensure_future(loop.run())
    await asyncio.sleep(0.5)
    assert client.handled == ["devices", f"${ALICE}0"]
    assert client.sync_store.stored == ["s1"]
    client.hanging.set()
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await loop.close()
    assert len(client.handled) == 2 + (len(flood) if shared else 0), "what strangers encrypted is for others"


class Slow(Syncing):
    """A client that takes long for what people whom we know send."""

    async def _handle(self, name: str) -> None:
        if ALICE in name:
            await self.hanging.wait()
        self.handled.append(name)


async def test_no_token_is_stored_while_what_came_before_it_is_still_being_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sync, "HAND_OVER", 0.05)
    client: Any = Slow({"next_batch": "s1", "rooms": in_room(encrypted(ALICE), {"event_id": "$plain"})})
    account: Any = Accounted(client, shared=False)
    gaps = Gaps(client, lambda: [ALICE], lambda: 60.0, reach_of(client), LOG)
    loop = SyncLoop(account, gaps, reach_of(account.client), known, lambda: asyncio.sleep(0), LOG)
    running = asyncio.ensure_future(loop.run())
    await reached(lambda: client.handled == ["devices", "$plain"])  # nobody else waits for it
    assert client.sync_store.stored == []
    client.hanging.set()
    await reached(lambda: client.sync_store.stored == ["s1"])
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await loop.close()


class TokenStore:
    def __init__(self) -> None:
        self.stored: list[str] = []
        self.broken = False

    async def get_next_batch(self) -> str:
        return "s0"

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


async def test_of_the_tokens_that_wait_only_the_newest_is_kept_however_long_one_must_wait(client: Any) -> None:
    tokens, first = Tokens(client, LOG), asyncio.Event()
    tokens.store("s0", first.wait())
    before = len(asyncio.all_tasks())
    for number in range(1, 3000):
        tokens.store(f"s{number}", asyncio.sleep(0))
        if number % 100 == 0:
            await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) - before < 110
    first.set()
    await asyncio.sleep(0.02)
    assert client.sync_store.stored == ["s0", "s2999"]
    await tokens.close()


async def test_many_tokens_that_wait_are_ended_at_once_and_without_a_warning(
    client: Any, recwarn: pytest.WarningsRecorder
) -> None:
    tokens = Tokens(client, LOG)
    for _ in range(3000):
        tokens.store("s", asyncio.wait([asyncio.get_running_loop().create_future()]))
    await asyncio.sleep(0)
    await asyncio.wait_for(tokens.close(), 5)
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []


async def test_a_token_that_is_being_stored_is_stored_before_we_have_ended(client: Any) -> None:
    tokens, put = Tokens(client, LOG), client.sync_store.put_next_batch

    async def slowly(token: str) -> None:
        await asyncio.sleep(0.05)
        await put(token)

    client.sync_store.put_next_batch = slowly
    tokens.store("s1", asyncio.sleep(0))
    await asyncio.sleep(0.02)
    await tokens.close()
    assert client.sync_store.stored == ["s1"]


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


class Nonsense(Syncing):
    """A client whose homeserver, or what stands before it, answers something else."""

    def __init__(self, answer: Any) -> None:
        super().__init__({})
        self.answer = answer

    async def sync(self, **_: Any) -> Any:
        return self.answer

    async def versions(self, **_: Any) -> None:
        pass


@pytest.mark.parametrize("answer", [{}, {"next_batch": None}, [], "a page"])
async def test_an_answer_that_is_no_sync_response_is_not_handed_over(
    answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client: Any = Nonsense(answer)
    account: Any = Accounted(client, shared=False)
    gaps = Gaps(client, lambda: [ALICE], lambda: 60.0, reach_of(client), LOG)
    loop = SyncLoop(account, gaps, reach_of(account.client), known, lambda: asyncio.sleep(0), LOG)
    running = asyncio.ensure_future(loop.run())
    await asyncio.sleep(0.05)
    assert not running.done()
    assert client.handled == []
    assert loop.trouble
    assert "sync=failed" in caplog.text
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await loop.close()


async def test_a_loop_that_breaks_again_and_again_is_told_of_until_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "BREATHE", 0.01)
    client: Any = Nonsense({"next_batch": "s1", "rooms": {"join": {"!a": None}}})
    client.syncing_task = None
    account: Any = Accounted(client, shared=False)
    gaps = Gaps(client, lambda: [ALICE], lambda: 60.0, reach_of(client), LOG)
    supervised = Sync(account, gaps, reach_of(account.client), known, lambda: asyncio.sleep(0), LOG)
    supervised.start()
    for _ in range(5):
        await asyncio.sleep(0.02)
        assert supervised.trouble == BROKEN
    monkeypatch.setattr(client, "sync", Once({"next_batch": "s2"}))
    await asyncio.sleep(0.7)
    assert supervised.trouble == ""
    await supervised.close()


class Once:
    """One answer, and then none."""

    def __init__(self, answer: Any) -> None:
        self.answers = [answer]

    async def __call__(self, **_: Any) -> Any:
        if not self.answers:
            await asyncio.Event().wait()
        return self.answers.pop()
