"""How a message is found to have come, with real keys, real signatures and maubot's own kind of crypto store."""

from __future__ import annotations

import copy
import itertools
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import olm.group_session
import pytest
from maubot.lib.state_store import PgStateStore
from mautrix.client import Client
from mautrix.crypto import OlmMachine, PgCryptoStore
from mautrix.crypto.account import OlmAccount
from mautrix.crypto.cross_signing_key import CrossSigningSeeds
from mautrix.crypto.sessions import InboundGroupSession
from mautrix.crypto.signature import sign_olm
from mautrix.types import DeviceID, EncryptedEvent, IdentityKey, MessageEvent, RoomID, SessionID, SigningKey, UserID
from mautrix.types import TrustState as Mautrix
from mautrix.util.async_db import Database

from toggle_plugin import trust
from toggle_plugin.access import ACCEPTED
from toggle_plugin.models import Trust
from toggle_plugin.settings import MinimumTrust
from toggle_plugin.trust import KEEP, PLAIN, UNKNOWN, Arrival, Arrivals, trust_of

from .builders import ALICE, BOB, ROOM, tasks_of_the_plugin
from .homeserver import Homeserver

LOG = logging.getLogger("test.trust")
SIGNED = ACCEPTED[MinimumTrust.CROSS_SIGNED_TOFU]
QUERY = ("POST", "/_matrix/client/v3/keys/query")
Json = dict[str, Any]


class Person:
    """Somebody with a device and a cross-signing identity of their own, and a Megolm session in ROOM."""

    def __init__(self, user: str = ALICE, device: str = "PHONE") -> None:
        self.user, self.device = UserID(user), DeviceID(device)
        self.account = OlmAccount()
        self.identity = CrossSigningSeeds.generate().to_keys()
        self.session = olm.group_session.OutboundGroupSession()
        self._numbers = itertools.count()

    def reset_identity(self) -> None:
        """Begin a new cross-signing identity, as somebody does who lost the recovery key."""
        self.identity = CrossSigningSeeds.generate().to_keys()

    def keys(self, *, signed: bool = True, devices: bool = True) -> Json:
        """What a homeserver answers to a query for their keys."""
        master, self_signing = self.identity.master_key, self.identity.self_signing_key
        device = cast(Json, self.account.get_device_keys(self.user, self.device).serialize())
        if signed:
            signature = sign_olm({**device}, self_signing)
            device["signatures"][self.user][f"ed25519:{self_signing.public_key}"] = signature
        return {
            "failures": {},
            "device_keys": {self.user: {self.device: device} if devices else {}},
            "master_keys": {self.user: self._cross_signing_key("master", master.public_key)},
            "self_signing_keys": {self.user: self._cross_signing_key("self_signing", self_signing.public_key, master)},
        }

    def _cross_signing_key(self, usage: str, key: str, signer: Any = None) -> Json:
        found: Json = {"user_id": self.user, "usage": [usage], "keys": {f"ed25519:{key}": key}}
        if signer is not None:
            found["signatures"] = {self.user: {f"ed25519:{signer.public_key}": sign_olm({**found}, signer)}}
        return found

    def inbound(self, forwarded_by: Person | None = None) -> InboundGroupSession:
        """Their session as somebody has it who got its key."""
        chain = [forwarded_by.account.identity_key] if forwarded_by else []
        return InboundGroupSession(
            self.session.session_key,
            SigningKey(self.account.signing_key),
            IdentityKey(self.account.identity_key),
            RoomID(ROOM),
            chain,
        )

    def encrypted(
        self, body: str = "start", claimed_device: str = "", sender: str = "", meant_for: str = ROOM, **more: Any
    ) -> Json:
        """An event of theirs as it lies on the homeserver; `more` goes into the content that is encrypted."""
        content = {"msgtype": "m.text", "body": body, **more}
        plaintext = json.dumps({"room_id": meant_for, "type": "m.room.message", "content": content})
        return {
            "type": "m.room.encrypted",
            "event_id": f"${self.device}{next(self._numbers)}",
            "room_id": ROOM,
            "sender": sender or self.user,
            "origin_server_ts": 1_800_000_000_000,
            "content": {
                "algorithm": "m.megolm.v1.aes-sha2",
                "sender_key": self.account.identity_key,
                "device_id": claimed_device or self.device,
                "session_id": self.session.id,
                "ciphertext": self.session.encrypt(plaintext),
            },
        }


def received(raw: Json) -> EncryptedEvent:
    """The event as mautrix reads it; of a copy, for it takes apart what it reads."""
    return EncryptedEvent.deserialize(cast(Any, copy.deepcopy(raw)))


class Bot:
    """A client with encryption, as maubot makes one, and what it remembers of events."""

    def __init__(self, homeserver: Homeserver, client: Client) -> None:
        self.homeserver, self.client = homeserver, client
        self.arrivals = Arrivals(client, LOG)

    @property
    def crypto(self) -> OlmMachine:
        machine = self.client.crypto
        assert isinstance(machine, OlmMachine)
        return machine

    async def meet(self, person: Person, *, signed: bool = True, devices: bool = True) -> None:
        """Learn the person's keys and get the key of their session."""
        self.publish(person, signed=signed, devices=devices)
        await self.crypto._fetch_keys([person.user], include_untracked=True)
        await self.receive_key(person)

    def publish(self, person: Person, *, signed: bool = True, devices: bool = True) -> None:
        """Let the homeserver say this of the person from now on."""
        keys = person.keys(signed=signed, devices=devices)
        self.homeserver.documents[QUERY] = lambda _: keys

    async def receive_key(self, person: Person, forwarded_by: Person | None = None) -> None:
        session = person.inbound(forwarded_by)
        await self.crypto.crypto_store.put_group_session(
            RoomID(ROOM), session.sender_key, SessionID(session.id), session
        )

    async def decrypted(self, raw: Json) -> MessageEvent:
        """The event as a plugin gets it, after its encrypted twin was seen."""
        event = received(raw)
        self.arrivals.remember(event)
        twin = await self.crypto.decrypt_megolm_event(event)
        assert isinstance(twin, MessageEvent)
        return twin

    async def arrival(self, raw: Json, accepted: frozenset[Trust] = SIGNED) -> Arrival:
        return await self.arrivals.of(await self.decrypted(raw), accepted, fetch=True)

    @property
    def queries(self) -> int:
        """How often the homeserver was asked for keys."""
        return self.homeserver.asked.count(" ".join(QUERY))


@pytest.fixture
async def homeserver() -> AsyncIterator[Homeserver]:
    async with Homeserver() as homeserver:
        yield homeserver


@pytest.fixture
async def bot(homeserver: Homeserver, tmp_path: Path) -> AsyncIterator[Bot]:
    database = Database.create(f"sqlite:{tmp_path / 'crypto.db'}", upgrade_table=PgCryptoStore.upgrade_table)
    await database.start()
    await PgStateStore.upgrade_table.upgrade(database)
    client = homeserver.client()
    client.state_store = states = PgStateStore(database)
    client.crypto = OlmMachine(client, PgCryptoStore("bot", "pickle", database), states)
    await client.crypto.load()
    bot = Bot(homeserver, client)
    yield bot
    await bot.arrivals.drain()
    assert not tasks_of_the_plugin()
    await client.api.session.close()
    await database.stop()


# What mautrix says


@pytest.mark.parametrize("state", Mautrix)
def test_every_trust_of_mautrix_is_the_one_of_the_same_name(state: Mautrix) -> None:
    assert trust_of({"trust_state": state, "forwarded_keys": False}).name == state.name


@pytest.mark.parametrize("state", Mautrix)
def test_a_forwarded_key_is_one_whatever_it_scores(state: Mautrix) -> None:
    assert trust_of({"trust_state": state, "forwarded_keys": True}) is Trust.FORWARDED


@pytest.mark.parametrize("found", [{}, {"trust_state": None}, {"trust_state": 100}, {"trust_state": "VERIFIED"}])
def test_what_is_unknown_is_trusted_least(found: Json) -> None:
    expected = Trust.CROSS_SIGNED_TOFU if found.get("trust_state") == 100 else Trust.BLACKLISTED
    assert trust_of(found) is expected


# Devices


async def test_a_cross_signed_device_is_trusted_on_first_use(bot: Bot) -> None:
    alice = Person()
    await bot.meet(alice)
    fingerprint = str(alice.account.signing_key)
    arrival = await bot.arrival(alice.encrypted())
    assert replace(arrival, identity="") == Arrival(True, Trust.CROSS_SIGNED_TOFU, "PHONE", fingerprint)
    assert len(arrival.identity) == 43
    assert bot.queries == 2, "once when they met, once before the first command after a start"
    await bot.arrival(alice.encrypted())
    assert bot.queries == 2, "what is trusted needs no second look"


async def test_the_device_is_the_one_of_the_session_and_not_the_one_that_the_message_claims(bot: Bot) -> None:
    alice = Person()
    await bot.meet(alice)
    assert (await bot.arrival(alice.encrypted(claimed_device="LAPTOP"))).device == "PHONE"


async def test_a_device_without_its_owners_signature_is_unverified_also_after_a_second_look(bot: Bot) -> None:
    alice = Person()
    await bot.meet(alice, signed=False)
    arrival = await bot.arrival(alice.encrypted())
    assert (arrival.encrypted, arrival.trust, arrival.device) == (True, Trust.UNVERIFIED, "PHONE")
    assert bot.queries == 3


async def test_where_an_unverified_device_is_enough_nobody_looks_twice(bot: Bot) -> None:
    alice = Person()
    await bot.meet(alice, signed=False)
    arrival = await bot.arrival(alice.encrypted(), ACCEPTED[MinimumTrust.UNVERIFIED])
    assert arrival.trust is Trust.UNVERIFIED
    assert bot.queries == 2


async def test_a_device_that_was_signed_since_is_trusted(bot: Bot) -> None:
    alice = Person()
    await bot.meet(alice, signed=False)
    bot.publish(alice)
    assert (await bot.arrival(alice.encrypted())).trust is Trust.CROSS_SIGNED_TOFU


async def test_another_identity_than_the_first_one_is_not_trusted(bot: Bot) -> None:
    alice = Person()
    await bot.meet(alice)
    alice.reset_identity()
    bot.publish(alice)
    await bot.crypto._fetch_keys([alice.user], include_untracked=True)
    arrival = await bot.arrival(alice.encrypted())
    assert arrival.trust is Trust.CROSS_SIGNED_UNTRUSTED
    assert bot.queries == 4
    await bot.arrivals.of(await bot.decrypted(alice.encrypted()), SIGNED, fetch=True, identity=arrival.identity)
    assert bot.queries == 4, "an identity that is accepted by name needs no second look"


async def test_a_device_that_was_signed_out_while_we_were_away_is_unknown(bot: Bot) -> None:
    alice = Person()
    await bot.meet(alice)
    bot.publish(alice, devices=False)
    assert (await bot.arrival(alice.encrypted())).trust is Trust.UNKNOWN_DEVICE


async def test_a_device_that_is_not_there_is_unknown(bot: Bot) -> None:
    alice = Person()
    await bot.meet(alice, devices=False)
    arrival = await bot.arrival(alice.encrypted())
    assert (arrival.encrypted, arrival.trust, arrival.device) == (True, Trust.UNKNOWN_DEVICE, "")


async def test_a_forwarded_key_is_one_although_the_forwarder_is_trusted(bot: Bot) -> None:
    alice, laptop = Person(), Person(device="LAPTOP")
    await bot.meet(laptop)
    await bot.receive_key(alice, forwarded_by=laptop)
    assert (await bot.arrival(alice.encrypted())).trust is Trust.FORWARDED


async def test_where_the_keys_cannot_be_asked_for_a_second_time_the_first_answer_stands(bot: Bot) -> None:
    alice = Person()
    await bot.meet(alice, signed=False)
    await bot.arrival(alice.encrypted())
    del bot.homeserver.documents[QUERY]
    assert (await bot.arrival(alice.encrypted())).trust is Trust.UNVERIFIED


NOBODY_KNOWS = {"failures": {"example.org": {"status": 503}}, "device_keys": {}}


@pytest.mark.parametrize("answer", [None, NOBODY_KNOWS], ids=["no answer", "their homeserver gave ours none"])
@pytest.mark.parametrize("changed", [False, True], ids=["after the start", "after a change"])
async def test_where_the_keys_may_be_out_of_date_and_cannot_be_asked_for_nobody_is_trusted(
    bot: Bot, monkeypatch: pytest.MonkeyPatch, answer: Json | None, changed: bool
) -> None:
    monkeypatch.setattr(trust, "AGAIN", 0.01)
    alice = Person()
    await bot.meet(alice)
    if changed:
        assert (await bot.arrival(alice.encrypted())).trust is Trust.CROSS_SIGNED_TOFU
        bot.arrivals.devices_changed([alice.user])
    before = bot.queries
    bot.homeserver.documents.pop(QUERY)
    if answer is not None:
        bot.homeserver.documents[QUERY] = lambda _: answer
    arrival = await bot.arrival(alice.encrypted())
    assert (arrival.encrypted, arrival.trust, arrival.device) == (True, Trust.OUTDATED, "PHONE")
    assert bot.queries == before + 2, "it is tried a second time"
    bot.publish(alice, devices=False)
    assert (await bot.arrival(alice.encrypted())).trust is Trust.UNKNOWN_DEVICE, "with the next command it is asked"


async def test_keys_that_come_with_the_second_try_are_enough(bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "AGAIN", 0.01)
    alice = Person()
    await bot.meet(alice)
    answers = iter([NOBODY_KNOWS, alice.keys()])
    bot.homeserver.documents[QUERY] = lambda _: next(answers)
    assert (await bot.arrival(alice.encrypted())).trust is Trust.CROSS_SIGNED_TOFU


async def test_a_change_that_is_heard_of_while_the_keys_are_asked_for_is_not_missed(
    bot: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "AGAIN", 0.01)
    alice = Person()
    await bot.meet(alice)
    old, new = alice.keys(), alice.keys(devices=False)

    def and_meanwhile(_: Any) -> Json:
        bot.homeserver.documents[QUERY] = lambda _: new
        bot.arrivals.devices_changed([alice.user])
        return old

    bot.homeserver.documents[QUERY] = and_meanwhile
    assert (await bot.arrival(alice.encrypted())).trust is Trust.UNKNOWN_DEVICE


@pytest.mark.parametrize("news", ["of the devices", "of the settings"])
async def test_after_news_the_keys_are_asked_for_once(bot: Bot, news: str) -> None:
    alice = Person()
    await bot.meet(alice)
    await bot.arrival(alice.encrypted())
    if news == "of the devices":
        bot.arrivals.devices_changed([BOB, alice.user])
    else:
        bot.arrivals.trust_nobody()
    before = bot.queries
    for _ in range(3):
        assert (await bot.arrival(alice.encrypted())).trust is Trust.CROSS_SIGNED_TOFU
    assert bot.queries == before + 1


async def test_an_identity_that_changes_during_the_look_lends_its_name_to_no_other(
    bot: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, forger = Person(), Person(device="FORGED")
    await bot.meet(alice)
    await bot.arrival(alice.encrypted())
    await bot.meet(forger)
    twin, decrypt = await bot.decrypted(forger.encrypted()), bot.crypto.decrypt_megolm_event

    async def and_then_change(event: EncryptedEvent) -> Any:
        found = await decrypt(event)
        both = alice.keys()
        both["device_keys"][alice.user].update(forger.keys()["device_keys"][forger.user])
        bot.homeserver.documents[QUERY] = lambda _: both
        await bot.crypto._fetch_keys([alice.user], include_untracked=True)
        return found

    monkeypatch.setattr(bot.crypto, "decrypt_megolm_event", and_then_change)
    accepted = str(alice.identity.master_key.public_key)
    arrival = await bot.arrivals.of(twin, SIGNED, fetch=True, identity=accepted)
    assert (arrival.trust, arrival.identity) != (Trust.CROSS_SIGNED_UNTRUSTED, accepted)


# Which event


def plain(raw: Json, body: str = "start", **changes: Any) -> MessageEvent:
    """A plaintext event with the ID and the sender of `raw`."""
    content = {"msgtype": "m.text", "body": body}
    event: Any = {**raw, "type": "m.room.message", "content": content, **changes}
    return MessageEvent.deserialize(copy.deepcopy(event))


def lies_on(homeserver: Homeserver, raw: Json) -> None:
    """Let the homeserver have this event."""
    homeserver.documents[("GET", f"/_matrix/client/v3/rooms/{ROOM}/event/{raw['event_id']}")] = lambda _: raw


async def test_a_plain_message_in_a_plain_room_is_plain_and_nobody_is_asked(bot: Bot) -> None:
    event = plain(Person().encrypted())
    assert await bot.arrivals.of(event, SIGNED, fetch=False) == PLAIN
    assert bot.homeserver.asked == []


async def test_a_plain_message_in_an_encrypted_room_is_plain(bot: Bot) -> None:
    raw = Person().encrypted()
    lies_on(bot.homeserver, {**raw, "type": "m.room.message", "content": {"msgtype": "m.text", "body": "start"}})
    assert await bot.arrivals.of(plain(raw), SIGNED, fetch=True) == PLAIN


async def test_what_the_homeserver_does_not_have_is_not_known(bot: Bot) -> None:
    assert await bot.arrivals.of(plain(Person().encrypted()), SIGNED, fetch=True) == UNKNOWN


async def test_an_encrypted_event_that_is_not_at_hand_is_fetched(bot: Bot) -> None:
    alice = Person()
    await bot.meet(alice)
    raw = alice.encrypted()
    lies_on(bot.homeserver, raw)
    twin = await bot.decrypted(raw)
    for _ in range(2):
        assert (await bot.arrivals.of(twin, SIGNED, fetch=True)).trust is Trust.CROSS_SIGNED_TOFU
    assert len([asked for asked in bot.homeserver.asked if asked.startswith("GET")]) == 1, "only the second time"


async def test_a_fetched_event_of_somebody_else_proves_nothing(bot: Bot) -> None:
    alice = Person()
    await bot.meet(alice)
    raw = alice.encrypted()
    lies_on(bot.homeserver, raw)
    assert await bot.arrivals.of(plain(raw, sender=BOB), SIGNED, fetch=True) == PLAIN


@pytest.mark.parametrize("changes", [{"body": "stop"}, {"sender": BOB}])
async def test_a_plain_message_with_the_id_of_an_encrypted_one_is_plain(
    bot: Bot, changes: Json, caplog: pytest.LogCaptureFixture
) -> None:
    alice = Person()
    await bot.meet(alice)
    raw = alice.encrypted()
    await bot.decrypted(raw)
    assert await bot.arrivals.of(plain(raw, **changes), SIGNED, fetch=True) == PLAIN
    assert "twin=differs" in caplog.text


async def test_an_edit_with_the_words_of_an_encrypted_message_is_plain(bot: Bot) -> None:
    alice = Person()
    await bot.meet(alice)
    raw = alice.encrypted()
    twin = await bot.decrypted(raw)
    relation: Any = {"rel_type": "m.replace", "event_id": "$0"}
    content: Any = {"msgtype": "m.text", "body": "start", "m.relates_to": relation}
    edit: Any = {**raw, "type": "m.room.message", "content": content}
    assert twin.content.get_edit() is None
    assert await bot.arrivals.of(MessageEvent.deserialize(edit), SIGNED, fetch=True) == PLAIN


async def test_an_encrypted_edit_is_no_proof_of_a_message_that_is_none(bot: Bot) -> None:
    alice = Person()
    await bot.meet(alice)
    relation: Json = {"m.relates_to": {"rel_type": "m.replace", "event_id": "$0"}}
    raw = alice.encrypted(**relation)
    twin = await bot.decrypted(raw)
    assert twin.content.get_edit() == "$0"
    assert await bot.arrivals.of(plain(raw), SIGNED, fetch=True) == PLAIN


async def test_the_words_of_one_event_under_the_id_of_another_are_not_trusted(bot: Bot) -> None:
    alice = Person()
    await bot.meet(alice)
    raw = alice.encrypted()
    await bot.decrypted(raw)
    replayed = {**raw, "event_id": "$replayed"}
    bot.arrivals.remember(received(replayed))
    assert await bot.arrivals.of(plain(replayed), SIGNED, fetch=True) == UNKNOWN


async def test_what_cannot_be_decrypted_is_not_known(bot: Bot) -> None:
    alice = Person()
    raw = alice.encrypted()
    bot.arrivals.remember(received(raw))
    assert await bot.arrivals.of(plain(raw), SIGNED, fetch=True) == UNKNOWN


async def test_without_encryption_nothing_is_known(bot: Bot) -> None:
    alice = Person()
    await bot.meet(alice)
    twin = await bot.decrypted(alice.encrypted())
    bot.client.crypto = None
    assert await bot.arrivals.of(twin, SIGNED, fetch=True) == UNKNOWN


async def test_no_more_events_are_kept_than_said(bot: Bot) -> None:
    alice = Person()
    await bot.meet(alice)
    first = alice.encrypted()
    twin = await bot.decrypted(first)
    for _ in range(KEEP):
        bot.arrivals.remember(received(alice.encrypted()))
    assert len(bot.arrivals._encrypted) == KEEP
    assert await bot.arrivals.of(twin, SIGNED, fetch=False) == PLAIN


# Ourselves


async def test_our_own_device_has_its_fingerprint(bot: Bot) -> None:
    device, fingerprint, trust = await bot.arrivals.own_device()
    assert (device, fingerprint) == ("BOT", str(bot.crypto.account.fingerprint) if bot.crypto.account else "")
    assert trust is Trust.UNVERIFIED


async def test_our_own_device_is_cross_signed_when_it_is(bot: Bot) -> None:
    ourselves = Person(bot.client.mxid, "BOT")
    assert bot.crypto.account is not None
    ourselves.account = bot.crypto.account
    bot.publish(ourselves)
    await bot.crypto._fetch_keys([ourselves.user], include_untracked=True)
    assert (await bot.arrivals.own_device())[2] is Trust.CROSS_SIGNED_TOFU


async def test_without_encryption_we_have_no_fingerprint(homeserver: Homeserver) -> None:
    client = homeserver.client()
    assert await Arrivals(client, LOG).own_device() == ("BOT", "", Trust.NONE)
    await client.api.session.close()


async def test_our_own_words_under_somebody_elses_name_are_not_trusted(bot: Bot) -> None:
    ourselves = Person(bot.client.mxid, "BOT")
    assert bot.crypto.account is not None
    ourselves.account = bot.crypto.account
    await bot.receive_key(ourselves)
    bot.publish(Person(ALICE))
    arrival = await bot.arrival(ourselves.encrypted(sender=ALICE))
    assert arrival.trust is Trust.UNKNOWN_DEVICE
