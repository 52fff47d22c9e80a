"""What becomes of a message whose key is missing, with a real machine and real keys."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from maubot.lib.state_store import PgStateStore
from mautrix.client import Client, SyncStream
from mautrix.crypto import OlmMachine, PgCryptoStore
from mautrix.crypto.sessions import InboundGroupSession
from mautrix.types import EncryptedEvent, EventType, MessageEvent, SessionID
from mautrix.util.async_db import Database

from toggle_plugin import undecryptable
from toggle_plugin.undecryptable import Undecryptable, Why

from .builders import tasks_of_the_plugin
from .homeserver import Homeserver
from .test_trust import Bot, Json, Person, received

REQUEST = "m.room_key_request"
FRESH = 0.6
"""Seconds that a command would still be run, where a test waits for the end of it."""


class Asked(Homeserver):
    """A homeserver that takes messages to devices and remembers whom they were for."""

    def __init__(self) -> None:
        super().__init__()
        self.to_devices: list[Json] = []
        self.was_asked = asyncio.Event()

    def _document(self, method: str, path: str, body: Any) -> Any:
        if REQUEST in path:
            self.to_devices.append(body["messages"])
            self.was_asked.set()
            self.documents[(method, path)] = lambda _: {}
        return super()._document(method, path, body)

    @property
    def key_requests(self) -> list[dict[str, set[str]]]:
        """Whose devices were asked for a key, for each time that somebody was."""
        return [
            {user: set(devices) for user, devices in messages.items()}
            for messages in self.to_devices
            if all(device["action"] == "request" for devices in messages.values() for device in devices.values())
        ]


class Listening(Bot):
    """A bot with what sees to unreadable messages; remembers what was said and what was handed over."""

    def __init__(self, homeserver: Asked, client: Client) -> None:
        super().__init__(homeserver, client)
        self.asked = homeserver
        self.said: list[str] = []
        self.why: Why | None = None
        self.handed_over: list[str] = []
        self.undecryptable = Undecryptable(client, self._say, logging.getLogger("test.undecryptable"))
        client.add_event_handler(EventType.ROOM_MESSAGE, self._take, wait_sync=True)

    async def look(self, raw: Json, fresh_for: float = FRESH) -> None:
        event = received(raw)
        setattr(event, "source", SyncStream.JOINED_ROOM | SyncStream.TIMELINE)  # noqa: B010 - mautrix sets it so
        await asyncio.wait_for(self.undecryptable.look(event, fresh_for), 10)
        await asyncio.sleep(0)

    async def knows(self, *people: Person) -> None:
        """Learn of devices, without the key of any session."""
        keys = people[0].keys()
        for person in people:
            keys["device_keys"][person.user].update(person.keys()["device_keys"][person.user])
        self.homeserver.documents[("POST", "/_matrix/client/v3/keys/query")] = lambda _: keys
        await self.crypto._fetch_keys([people[0].user], include_untracked=True)

    async def take_key(self, key: InboundGroupSession) -> None:
        """Get the key of a session as it was at its beginning."""
        await self.crypto.crypto_store.put_group_session(key.room_id, key.sender_key, SessionID(key.id), key)

    async def _say(self, event: EncryptedEvent, why: Why) -> None:
        self.said.append(event.event_id)
        self.why = why

    async def _take(self, event: MessageEvent) -> None:
        self.handed_over.append(event.event_id)


@pytest.fixture
async def bot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Listening]:
    monkeypatch.setattr(undecryptable, "LOOK", 0.02)
    monkeypatch.setattr(undecryptable, "GRACE", 0.2)
    database = Database.create(f"sqlite:{tmp_path / 'crypto.db'}", upgrade_table=PgCryptoStore.upgrade_table)
    await database.start()
    await PgStateStore.upgrade_table.upgrade(database)
    homeserver = Asked()
    async with homeserver:
        client = homeserver.client()
        client.state_store = states = PgStateStore(database)
        client.crypto = OlmMachine(client, PgCryptoStore("bot", "pickle", database), states)
        await client.crypto.load()
        bot = Listening(homeserver, client)
        yield bot
        await bot.undecryptable.close()
        assert not tasks_of_the_plugin()
        await client.api.session.close()
    await database.stop()


async def test_a_key_that_was_on_its_way_is_waited_for_and_nobody_is_asked(bot: Listening) -> None:
    alice = Person()
    await bot.knows(alice)
    key, raw = alice.inbound(), alice.encrypted()
    looking = asyncio.create_task(bot.look(raw, 5))
    await asyncio.sleep(0.1)
    await bot.take_key(key)
    await looking
    assert (bot.handed_over, bot.said, bot.asked.key_requests) == ([raw["event_id"]], [], [])


async def test_a_session_is_asked_for_once_and_its_messages_come_in_their_order(
    bot: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undecryptable, "LOOK", 0.4)
    alice = Person()
    await bot.knows(alice)
    key = alice.inbound()
    raws = [alice.encrypted() for _ in range(3)]
    looking = []
    for raw in raws:
        looking.append(asyncio.create_task(bot.look(raw, 5)))
        await asyncio.sleep(0.12)  # so that the others would look first once the key is there
    await asyncio.wait_for(bot.asked.was_asked.wait(), 5)
    await bot.take_key(key)
    await asyncio.gather(*looking)
    assert bot.handed_over == [raw["event_id"] for raw in raws]
    assert len(bot.asked.key_requests) == 1
    assert bot.said == []


async def test_only_the_device_that_sent_it_is_asked(bot: Listening) -> None:
    alice = Person()
    await bot.knows(alice, Person(device="LAPTOP"))
    await bot.look(alice.encrypted())
    assert bot.asked.key_requests == [{alice.user: {"PHONE"}}]


async def test_where_that_device_is_not_known_all_of_the_persons_are_asked(bot: Listening) -> None:
    await bot.knows(Person(device="TABLET"), Person(device="LAPTOP"))
    alice = Person()
    await bot.look(alice.encrypted())
    assert bot.asked.key_requests == [{alice.user: {"TABLET", "LAPTOP"}}]


async def test_the_device_of_somebody_who_was_a_stranger_until_now_is_looked_up(bot: Listening) -> None:
    alice = Person()
    bot.publish(alice)
    key, raw = alice.inbound(), alice.encrypted()
    looking = asyncio.create_task(bot.look(raw, 5))
    await asyncio.wait_for(bot.asked.was_asked.wait(), 5)
    await bot.take_key(key)
    await looking
    assert bot.asked.key_requests == [{alice.user: {"PHONE"}}]
    assert (bot.handed_over, bot.said) == ([raw["event_id"]], [])


async def test_without_the_key_a_room_is_told_once_a_minute(bot: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = Person()
    await bot.knows(alice)
    raws = [alice.encrypted() for _ in range(3)]
    elsewhere = {**alice.encrypted(), "room_id": "!elsewhere:example.org"}
    await asyncio.gather(bot.look(raws[0]), bot.look(raws[1]))
    await bot.look(elsewhere)
    assert bot.said[0] in {raw["event_id"] for raw in raws[:2]}
    assert bot.said[1:] == [elsewhere["event_id"]]
    monkeypatch.setattr(undecryptable, "SAY_AGAIN", 0.0)
    await bot.look(raws[2])
    assert bot.said[2:] == [raws[2]["event_id"]]
    assert bot.handed_over == []


async def test_what_is_too_old_to_run_is_answered_at_once(bot: Listening) -> None:
    alice = Person()
    await bot.knows(alice)
    raw = alice.encrypted()
    await bot.look(raw, 0)
    assert (bot.said, bot.asked.key_requests) == ([raw["event_id"]], [])


async def test_what_mautrix_read_is_not_handed_over_again(bot: Listening) -> None:
    alice = Person()
    await bot.meet(alice)
    raw = alice.encrypted()
    bot.undecryptable.read(raw["event_id"])
    await bot.look(raw)
    assert (bot.handed_over, bot.said) == ([], [])


async def test_what_mautrix_read_while_we_waited_is_not_handed_over_again(bot: Listening) -> None:
    alice = Person()
    await bot.knows(alice)
    key, raw = alice.inbound(), alice.encrypted()
    looking = asyncio.create_task(bot.look(raw, 5))
    await asyncio.sleep(0.1)
    bot.undecryptable.read(raw["event_id"])
    await bot.take_key(key)
    await looking
    assert (bot.handed_over, bot.said) == ([], [])


async def test_what_mautrix_just_missed_is_handed_over(bot: Listening) -> None:
    alice = Person()
    await bot.meet(alice)
    raw = alice.encrypted()
    await bot.look(raw)
    assert (bot.handed_over, bot.said) == ([raw["event_id"]], [])


async def test_a_replay_is_neither_handed_over_nor_answered(bot: Listening) -> None:
    alice = Person()
    await bot.meet(alice)
    raw = alice.encrypted()
    await bot.crypto.decrypt_megolm_event(received(raw))
    await bot.look({**raw, "event_id": "$replay"})
    assert (bot.handed_over, bot.said, bot.asked.key_requests) == ([], [], [])


async def test_a_message_from_before_the_key_began_is_answered(bot: Listening) -> None:
    alice = Person()
    raw = alice.encrypted()
    await bot.meet(alice)
    await bot.look(raw)
    assert (bot.handed_over, bot.said) == ([], [raw["event_id"]])


async def test_however_long_a_command_stays_fresh_nobody_waits_a_day_for_an_answer(
    bot: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undecryptable, "LONGEST", 0.2)
    raw = Person().encrypted()
    await bot.look(raw, 86_400)
    assert (bot.said, bot.why) == ([raw["event_id"]], Why.NO_KEY)


async def test_a_key_of_another_device_is_told_at_once_and_nobody_is_asked(bot: Listening) -> None:
    alice = Person()
    await bot.knows(alice)
    key = alice.inbound()
    key.signing_key = Person().inbound().signing_key
    await bot.take_key(key)
    raw = alice.encrypted()
    await bot.look(raw, 60)
    assert (bot.handed_over, bot.said, bot.why) == ([], [raw["event_id"]], Why.NOT_ITS_KEY)
    assert bot.asked.key_requests == []


async def test_a_key_that_comes_late_and_is_of_another_device_is_told(bot: Listening) -> None:
    alice = Person()
    await bot.knows(alice)
    key, raw = alice.inbound(), alice.encrypted()
    key.signing_key = Person().inbound().signing_key
    looking = asyncio.create_task(bot.look(raw, 5))
    await asyncio.sleep(0.1)
    await bot.take_key(key)
    await looking
    assert (bot.handed_over, bot.said, bot.why) == ([], [raw["event_id"]], Why.NOT_ITS_KEY)


@pytest.mark.parametrize("times", [3, 1000], ids=["for a moment", "for good"])
async def test_a_database_that_fails_costs_no_message_its_answer(
    bot: Listening, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    alice = Person()
    await bot.meet(alice)
    store, left = bot.crypto.crypto_store, [times]
    find = store.get_group_session

    async def locked(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError("database is locked")
        return await find(*arguments)

    monkeypatch.setattr(store, "get_group_session", locked)
    raw = alice.encrypted()
    await bot.look(raw)
    read = ([raw["event_id"]], []) if times < 1000 else ([], [raw["event_id"]])
    assert (bot.handed_over, bot.said) == read
    assert bot.why is (None if times < 1000 else Why.FAILED)
    assert bot.asked.key_requests == []


async def test_words_for_another_room_are_told_at_once(bot: Listening) -> None:
    alice = Person()
    await bot.meet(alice)
    raw = alice.encrypted(meant_for="!elsewhere:example.org")
    await bot.look(raw, 60)
    assert (bot.handed_over, bot.said, bot.why) == ([], [raw["event_id"]], Why.NOT_ITS_KEY)


async def test_beyond_the_bound_nobody_waits(bot: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undecryptable, "MOST", 2)
    alice = Person()
    await bot.knows(alice)
    looking = [asyncio.create_task(bot.look(alice.encrypted(), 60)) for _ in range(2)]
    await asyncio.sleep(0.1)
    raw = alice.encrypted()
    await bot.look(raw, 60)
    assert bot.said == [raw["event_id"]]
    for task in looking:
        task.cancel()
    await asyncio.gather(*looking, return_exceptions=True)


async def test_what_ends_while_it_waits_leaves_nothing_behind(bot: Listening) -> None:
    alice = Person()
    await bot.knows(alice)
    looking = asyncio.create_task(bot.look(alice.encrypted(), 60))
    await asyncio.wait_for(bot.asked.was_asked.wait(), 5)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    await bot.undecryptable.close()
    assert not tasks_of_the_plugin()
    assert not bot.crypto._key_request_waiters
    assert not bot.crypto._inbound_session_waiters
    assert bot.said == []


async def test_without_encryption_nothing_happens(bot: Listening) -> None:
    bot.client._crypto = None
    await bot.look(Person().encrypted())
    assert (bot.said, bot.handed_over) == ([], [])
