"""How a message arrived: encrypted or not, by which device, and how far that device is trusted.

maubot 0.6.0 does not hand this on, and a later one takes it from a key of the event that a homeserver could have
written. So it is read again from the encrypted event itself, and only if that holds the same words.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, cast

from mautrix.client import Client
from mautrix.types import (
    CrossSigningUsage,
    EncryptedEvent,
    Event,
    MessageEvent,
    RoomID,
    TrustState,
    UserID,
)

from .access import SIGNED
from .models import Trust
from .tasks import Shield, within

REFRESH = 10.0
"""Seconds that a person's keys may take to come."""
AGAIN = 2.0
"""Seconds until keys that did not come are asked for once more, before the command that needs them is refused."""
OWN_KEYS_EVERY = 30.0
"""Seconds that an answer about our own keys holds."""
KEEP = 256
"""Encrypted events that wait for their decrypted twin; what is forgotten is fetched again."""

_ACCOUNT = "SELECT account_id FROM crypto_account WHERE account_id=$1"

_TRUST = {
    TrustState.BLACKLISTED: Trust.BLACKLISTED,
    TrustState.UNVERIFIED: Trust.UNVERIFIED,
    TrustState.UNKNOWN_DEVICE: Trust.UNKNOWN_DEVICE,
    TrustState.FORWARDED: Trust.FORWARDED,
    TrustState.CROSS_SIGNED_UNTRUSTED: Trust.CROSS_SIGNED_UNTRUSTED,
    TrustState.CROSS_SIGNED_TOFU: Trust.CROSS_SIGNED_TOFU,
    TrustState.CROSS_SIGNED_TRUSTED: Trust.CROSS_SIGNED_TRUSTED,
    TrustState.VERIFIED: Trust.VERIFIED,
}


@dataclass(frozen=True)
class Arrival:
    """How one message came; `device` and `fingerprint` are those of the session that it was encrypted with."""

    encrypted: bool = False
    trust: Trust = Trust.NONE
    device: str = ""
    fingerprint: str = ""
    identity: str = ""
    """The sender's cross-signing master key, as it is now."""
    known: bool = True
    """Whether this could be found out."""


PLAIN = Arrival()
UNKNOWN = Arrival(known=False)


def trust_of(mautrix: dict[str, Any]) -> Trust:
    """The trust that mautrix found; a forwarded key is one whatever its score, and what is unknown is trusted least."""
    if mautrix.get("forwarded_keys"):
        return Trust.FORWARDED
    return _TRUST.get(cast(TrustState, mautrix.get("trust_state")), Trust.BLACKLISTED)


NO_ENCRYPTION = "give this client a device ID in maubot, then restart the instance"
KEYS_LOST = (
    "the bot's keys are gone or are not those that the homeserver has for its device, so nobody can reach it: "
    "log it in again as a new device in maubot, then restart this instance and verify with the recovery key"
)


class OwnKeys:
    """Whether our own keys are there, and are those that others encrypt for; asked for at most twice a minute.

    Args:
        first: gives the fingerprint that a device of ours had first, and remembers the one that it is told.
    """

    def __init__(self, client: Client, first: Callable[[str, str], Awaitable[str]], log: logging.Logger) -> None:
        self._client = client
        self._first = first
        self._log = log
        self._whole = Shield()
        self._trouble = ""
        self._ask_again = 0.0

    async def trouble(self) -> str:
        """What is wrong and what to do, or nothing; what cannot be found out now counts as nothing new."""
        if self._client.crypto is None or self._client.crypto.account is None:
            return NO_ENCRYPTION
        if time.monotonic() >= self._ask_again:
            self._ask_again = time.monotonic() + OWN_KEYS_EVERY
            try:
                found = "" if await within(REFRESH, self._in_order()) else KEYS_LOST
            except Exception as error:  # noqa: BLE001 - a boundary: while the homeserver is away nothing new is known
                self._log.info("own_keys=unknown error=%r", error)
                return self._trouble
            if found and not self._trouble:
                self._log.error("own_keys=lost cure=%r", found)
            self._trouble = found
        return self._trouble

    async def drain(self) -> None:
        """Wait for what was under way when its caller was cancelled."""
        await self._whole.drain()

    async def _in_order(self) -> bool:
        crypto, mxid, device = self._client.crypto, self._client.mxid, self._client.device_id
        # The store keeps what it read, so it would not notice that the table was emptied.
        stored = await self._whole(crypto.crypto_store.db.fetchval(_ACCOUNT, mxid))
        ours = str(crypto.account.signing_key)
        if stored is None or await self._first(str(device), ours) != ours:
            # New keys for an old device: the homeserver may take them, but whoever knew the old ones does not.
            return False
        answer = await self._client.query_keys([mxid])
        theirs = answer.device_keys.get(mxid, {}).get(device)
        return theirs is not None and str(theirs.ed25519) == ours


class Arrivals:
    """Remembers encrypted events until their decrypted twins ask for them."""

    def __init__(self, client: Client, log: logging.Logger) -> None:
        self._client = client
        self._log = log
        self._encrypted: OrderedDict[str, EncryptedEvent] = OrderedDict()
        self._whole = Shield()
        self._up_to_date: set[str] = set()

    def devices_changed(self, users: Iterable[str]) -> None:
        """Somebody's devices or identity are others now: what is known of them holds for no further command.

        mautrix asks for the new ones too, but once only, and what it does not get then it never misses.
        """
        self._up_to_date.difference_update(users)

    def trust_nobody(self) -> None:
        """Who counts has changed: of those who were strangers so far nobody listened to what changed."""
        self._up_to_date.clear()

    def remember(self, event: EncryptedEvent) -> None:
        """Keep `event`; the handlers of its decrypted twin come after this one."""
        self._encrypted[event.event_id] = event
        if len(self._encrypted) > KEEP:
            self._encrypted.popitem(last=False)

    async def of(self, event: MessageEvent, accepted: frozenset[Trust], *, fetch: bool, identity: str = "") -> Arrival:
        """How `event` came.

        Args:
            accepted: where the trust is not one of these, the person's keys are asked for anew first, because a device
                list can be out of date.
            identity: the person's cross-signing identity that is accepted, though it may not be the first one seen.
            fetch: whether to fetch the encrypted event where it is not at hand: if the room is encrypted.
        """
        try:
            encrypted = self._encrypted.pop(event.event_id, None) or (await self._fetched(event) if fetch else None)
            if encrypted is None:
                return PLAIN
            return await self._judged(encrypted, event, accepted, identity)
        except Exception as error:  # noqa: BLE001 - a boundary: what cannot be found out is not trusted
            self._log.warning("event=%s room=%s arrival=unknown error=%r", event.event_id, event.room_id, error)
            return UNKNOWN

    async def _judged(
        self, encrypted: EncryptedEvent, event: MessageEvent, accepted: frozenset[Trust], identity: str
    ) -> Arrival:
        known = self._client.crypto is not None and await self._asked(event.sender)
        arrival = await self._arrival(encrypted, event)
        if arrival.encrypted and not known:
            return replace(arrival, trust=Trust.OUTDATED)
        named = arrival.trust in SIGNED and arrival.identity == identity != ""
        if arrival.encrypted and arrival.trust not in accepted and not named:
            await self._refresh(event.sender)
            arrival = await self._arrival(encrypted, event)
        return arrival

    async def _asked(self, user: str) -> bool:
        """Whether we have the keys of `user` as they are since the start, and since the last change that we heard of.

        A revocation may have come while nobody listened, or what maubot's own sync threw away; or mautrix heard of one
        and could not ask. Without the answer, a device that was signed out would still be trusted.
        """
        for pause in (0.0, AGAIN):
            if user not in self._up_to_date:
                await asyncio.sleep(pause)
                # Before the question, so that a change that we hear of meanwhile takes it out again. Nobody else counts
                # on it before the answer: the lines of one person come here one after the other.
                self._up_to_date.add(user)
                if not await self._refresh(user):
                    self._up_to_date.discard(user)
        return user in self._up_to_date

    async def drain(self) -> None:
        """Wait for what was under way when its caller was cancelled."""
        await self._whole.drain()

    async def own_device(self) -> tuple[str, str, Trust]:
        """Our device ID, our fingerprint, and whether we are cross-signed; empty without encryption."""
        crypto = self._client.crypto
        if crypto is None or crypto.account is None:
            return str(self._client.device_id or ""), "", Trust.NONE
        state = await self._whole(crypto.resolve_trust(crypto.own_identity, allow_fetch=False))
        return str(self._client.device_id), str(crypto.account.fingerprint), _TRUST.get(state, Trust.UNVERIFIED)

    async def _fetched(self, event: MessageEvent) -> EncryptedEvent | None:
        # Client.get_event, not the subclass' one, which decrypts what it fetched and forgets that it did.
        found = await Client.get_event(self._client, event.room_id, event.event_id)
        return found if isinstance(found, EncryptedEvent) and found.sender == event.sender else None

    async def _arrival(self, encrypted: EncryptedEvent, event: MessageEvent) -> Arrival:
        """How it came; where the identity changed meanwhile, trust and identity could be of two different ones."""
        before = await self._identity(event.sender)
        arrival = await self._looked_at(encrypted, event)
        if arrival.identity == before:
            return arrival
        again = await self._looked_at(encrypted, event)
        return again if again.identity == arrival.identity else replace(again, identity="")

    async def _identity(self, user: str) -> str:
        crypto = self._client.crypto
        if crypto is None:
            return ""
        keys = await self._whole(crypto.crypto_store.get_cross_signing_keys(UserID(user)))
        return str(keys[CrossSigningUsage.MASTER].key) if CrossSigningUsage.MASTER in keys else ""

    async def _looked_at(self, encrypted: EncryptedEvent, event: MessageEvent) -> Arrival:
        crypto = self._client.crypto
        if crypto is None:
            return UNKNOWN
        decrypted = await self._whole(crypto.decrypt_megolm_event(encrypted))
        if not _same_words(decrypted, event):
            self._log.warning("event=%s room=%s sender=%s twin=differs", event.event_id, event.room_id, event.sender)
            return PLAIN
        store = crypto.crypto_store
        session = await self._whole(store.get_group_session(RoomID(encrypted.room_id), encrypted.content.session_id))
        if session is None:
            return UNKNOWN
        device = await self._whole(store.find_device_by_key(event.sender, session.sender_key))
        trust = trust_of(decrypted["mautrix"])
        if device is None and trust is not Trust.FORWARDED:
            # mautrix trusts our own session whoever is named as the sender: our words could be put into any mouth.
            trust = Trust.UNKNOWN_DEVICE
        identity = await self._identity(event.sender)
        return Arrival(True, trust, str(device.device_id) if device else "", str(session.signing_key), identity)

    async def _refresh(self, user: str) -> bool:
        """Ask for the keys of `user` anew; whether that worked."""
        try:
            # mautrix asks for somebody's cross-signing keys once only, also if that failed.
            self._client.crypto._cs_fetch_attempted.discard(UserID(user))
            answered = await within(REFRESH, self._whole(self._keys_of(UserID(user))))
        except Exception as error:  # noqa: BLE001 - a boundary: without news the old answer stands
            self._log.warning("user=%s keys=not_refreshed error=%r", user, error)
            return False
        if not answered:
            self._log.warning("user=%s keys=not_refreshed error='their homeserver did not answer'", user)
        return answered

    async def _keys_of(self, user: UserID) -> bool:
        """Take in the keys of `user`; False if their homeserver, asked by ours, gave none."""
        crypto = self._client.crypto
        # Not handle_device_lists, which does not tell whether there was an answer.
        async with crypto._fetch_keys_lock:
            return user in await crypto._fetch_keys([user], include_untracked=True)


def _same_words(decrypted: Event, event: MessageEvent) -> bool:
    """Whether `event` is `decrypted`, and not a plaintext that took its event ID."""
    if not isinstance(decrypted, MessageEvent) or decrypted.sender != event.sender:
        return False
    decrypted.content.trim_reply_fallback()
    ours, theirs = decrypted.content, event.content
    return bool((ours.body, ours.msgtype, ours.get_edit()) == (theirs.body, theirs.msgtype, theirs.get_edit()))
