"""A person's end-to-end-encrypted Matrix client, real and without a screen; it knows nothing of bots and plugins.

Its keys, sessions and cross-signing are mautrix' own. Its sync loop is not: mautrix handles a room key and the
message that needs it side by side, and a test must never lose one by chance.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from mautrix.api import Method
from mautrix.api import Path as Route
from mautrix.client import Client, SyncStream
from mautrix.crypto import OlmMachine, PgCryptoStateStore, PgCryptoStore
from mautrix.crypto.cross_signing_key import CrossSigningSeeds
from mautrix.errors import DecryptionError, MatrixConnectionError
from mautrix.types import (
    DeviceID,
    DeviceIdentity,
    DeviceLists,
    DeviceOTKCount,
    EncryptedEvent,
    EventID,
    EventType,
    FilterID,
    RequestedKeyInfo,
    RoomCreatePreset,
    RoomID,
    StateEvent,
    ToDeviceEvent,
    TrustState,
    UserID,
)
from mautrix.util.async_db import Database

from .synapse import Login, Synapse
from .timeline import Event, Message, Timeline

T = TypeVar("T")
PATIENCE = 60.0
"""Seconds that a condition may take on a busy machine before a test fails."""
SYNC_MILLISECONDS = 30_000
SYNC_FILTER = json.dumps({"room": {"timeline": {"limit": 500}}, "presence": {"not_types": ["*"]}})
ENCRYPTION = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}


class Silence(AssertionError):
    """What was waited for did not come; quotes the messages that did."""


@dataclass
class Account:
    """A Matrix account; its devices share it.

    Attributes:
        recovery_key: opens its cross-signing keys; empty as long as it has none.
    """

    synapse: Synapse
    name: str
    password: str
    user_id: str
    recovery_key: str = ""


class ChatClient:
    """One logged-in device of a person. Made by `log_in`; `close` ends it.

    Attributes:
        timeline: everything it received.
    """

    def __init__(self, account: Account, login: Login, directory: Path | None) -> None:
        self.account = account
        self.user_id = login.user_id
        self.device_id = login.device_id
        self.access_token = login.access_token
        self.timeline = Timeline()
        path = ":memory:" if directory is None else str(directory / f"{login.device_id}.db")
        self._database = Database.create(f"sqlite:{path}", upgrade_table=PgCryptoStore.upgrade_table)
        self._state = PgCryptoStateStore(self._database)
        self._store = PgCryptoStore(login.user_id, "a test's pickle key", self._database)
        self._client = Client(
            mxid=UserID(login.user_id),
            device_id=DeviceID(login.device_id),
            base_url=account.synapse.url,
            token=login.access_token,
            sync_store=self._store,
            state_store=self._state,
        )
        self._crypto = OlmMachine(self._client, self._store, self._state)
        self._crypto.allow_key_share = self._gives_key
        self._keeps_keys = False
        self._client.crypto = self._crypto
        self._session_in_use = asyncio.Lock()  # held from sharing a session to the last byte encrypted with it
        self._waiting: dict[str, EncryptedEvent] = {}
        self._changed = asyncio.Event()
        self._syncing: asyncio.Task[None] | None = None

    @classmethod
    async def log_in(cls, account: Account, *, cross_signed: bool = True, directory: Path | None = None) -> ChatClient:
        """Log a new device in and begin to sync.

        Args:
            cross_signed: sign the device with the account's cross-signing keys, which are made if there are none.
            directory: where its keys are kept; in memory by default.
        """
        login = await account.synapse.login(account.name, account.password, "chat client of the tests")
        chat = cls(account, login, directory)
        try:
            await chat._start()
            if cross_signed:
                await chat.sign_device()
        except BaseException:
            await chat.close()
            raise
        return chat

    async def second_device(self, *, cross_signed: bool) -> ChatClient:
        """Another device of the same person."""
        return await ChatClient.log_in(self.account, cross_signed=cross_signed)

    async def close(self) -> None:
        """Stop syncing; the device stays logged in."""
        await self.stop_syncing()
        await self._database.stop()
        await self._client.api.session.close()

    async def log_out(self) -> None:
        """Revoke this device, and close."""
        await self.stop_syncing()
        await self._client.logout()
        await self.close()

    # Rooms

    async def create_room(
        self,
        *,
        encrypted: bool = True,
        invite: Sequence[str] = (),
        direct: bool = False,
        name: str | None = None,
        public: bool = False,
    ) -> str:
        """Make a room, by default a private one, and give back its ID."""
        return str(
            await self._client.create_room(
                preset=RoomCreatePreset.PUBLIC if public else RoomCreatePreset.PRIVATE,
                name=name,
                is_direct=direct,
                invitees=[UserID(user) for user in invite],
                initial_state=[ENCRYPTION] if encrypted else [],
            )
        )

    async def upgrade_room(self, room: str) -> str:
        """Replace a room by another with the same people allowed in, as clients do; the new one's ID."""
        path = Route.v3.rooms[RoomID(room)].upgrade
        answer = await self._client.api.request(Method.POST, path, {"new_version": "10"})
        return str(cast("dict[str, Any]", answer)["replacement_room"])

    async def invite(self, room: str, user_id: str) -> None:
        await self._client.invite_user(RoomID(room), UserID(user_id))

    async def join(self, room: str) -> None:
        await self._client.join_room_by_id(RoomID(room))

    async def leave(self, room: str) -> None:
        await self._client.leave_room(RoomID(room))

    async def kick(self, room: str, user_id: str) -> None:
        await self._client.kick_user(RoomID(room), UserID(user_id))

    async def send_state(self, room: str, event_type: str, content: Mapping[str, Any], state_key: str = "") -> str:
        """Change a room's state, for example encrypt it."""
        kind = EventType.find(event_type, EventType.Class.STATE)
        plain: Any = dict(content)
        return str(await self._client.send_state_event(RoomID(room), kind, plain, state_key))

    def membership(self, room: str, user_id: str) -> str:
        """As far as this client was told: ``join``, ``invite``, ``leave``, ``ban``."""
        return self.timeline.members.get(room, {}).get(user_id, "leave")

    async def wait_membership(
        self, room: str, user_id: str, membership: str = "join", timeout: float = PATIENCE
    ) -> None:
        """Wait until somebody is in a room (or invited to it, or gone)."""
        what = f"{user_id} to be '{membership}' in {room}"
        await self.wait_for(lambda: self.membership(room, user_id) == membership, timeout, what)

    async def wait_invite(self, room: str, timeout: float = PATIENCE) -> None:
        await self.wait_for(lambda: room in self.timeline.invites, timeout, f"an invite to {room}")

    # Messages

    async def send(
        self,
        room: str,
        text: str,
        *,
        msgtype: str = "m.text",
        reply_to: str = "",
        thread: str = "",
        plaintext: bool = False,
        **content: Any,
    ) -> str:
        """Send a message and give back its event ID.

        Args:
            plaintext: leave it unencrypted, also in an encrypted room.
            content: further keys of the event's content.
        """
        relation = relation_of(reply_to, thread)
        body = {"msgtype": msgtype, "body": text, **({"m.relates_to": relation} if relation else {}), **content}
        return await self.send_event(room, "m.room.message", body, plaintext=plaintext)

    async def send_edit(self, room: str, event_id: str, text: str, *, plaintext: bool = False) -> str:
        """Replace the text of a message that we sent; gives back the edit's own event ID."""
        new = {"msgtype": "m.text", "body": text}
        relation = {"rel_type": "m.replace", "event_id": event_id}
        content = {**new, "body": f"* {text}", "m.new_content": new, "m.relates_to": relation}
        return await self.send_event(room, "m.room.message", content, plaintext=plaintext)

    async def react(self, room: str, event_id: str, key: str) -> str:
        relation = {"rel_type": "m.annotation", "event_id": event_id, "key": key}
        return await self.send_event(room, "m.reaction", {"m.relates_to": relation}, plaintext=True)

    async def redact(self, room: str, event_id: str) -> str:
        return str(await self._client.redact(RoomID(room), EventID(event_id)))

    async def send_event(
        self, room: str, event_type: str, content: Mapping[str, Any], *, plaintext: bool = False
    ) -> str:
        """Send any event, encrypted where the room is, and give back its ID.

        Raises:
            mautrix.errors.MLimitExceeded: the homeserver's rate limit; nothing was sent.
        """
        kind = EventType.find(event_type, EventType.Class.MESSAGE)
        plain: Any = dict(content)
        async with self._session_in_use:
            sent = await self._client.send_message_event(RoomID(room), kind, plain, disable_encryption=plaintext)
            return str(sent)

    async def encrypted(self, room: str, text: str) -> dict[str, Any]:
        """The content of an m.room.encrypted that says `text`, for whoever sends it in another way than `send`."""
        plain: Any = {"msgtype": "m.text", "body": text}
        async with self._session_in_use:
            return dict((await self._client.encrypt(RoomID(room), EventType.ROOM_MESSAGE, plain)).serialize())

    def message(self, event_id: str) -> Message:
        """A message that arrived, with its edits; KeyError if it did not."""
        return self.timeline.message(event_id)

    # Waiting

    async def wait_for(self, condition: Callable[[], T | None], timeout: float = PATIENCE, what: str = "it") -> T:
        """Wait until `condition` gives something true, which is given back; it is asked after each sync.

        Raises:
            Silence: `timeout` seconds passed first.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        while True:
            changed = self._changed
            result = condition()
            if result:
                return result
            if not await self._wait_change(changed, deadline - asyncio.get_running_loop().time()):
                raise Silence(f"{self.user_id} waited {timeout:g} s for {what}. What came:\n{self.timeline}")

    async def wait_change(self) -> None:
        """Wait until anything at all arrives."""
        await self._wait_change(self._changed, None)

    async def wait_message(self, event_id: str, timeout: float = PATIENCE) -> Message:
        """Wait until a message has arrived and is decrypted."""
        return await self.wait_for(lambda: self.timeline.find(event_id), timeout, f"message {event_id}")

    async def wait_reply(self, event_id: str, timeout: float = PATIENCE) -> Message:
        """Wait for the first message of somebody else that answers an event, as a reply or in its thread."""
        return (await self.wait_replies(event_id, 1, timeout))[0]

    async def wait_replies(self, event_id: str, count: int, timeout: float = PATIENCE) -> list[Message]:
        """Wait for that many answers to an event, oldest first."""

        def enough() -> list[Message] | None:
            replies = self.timeline.replies(event_id)
            return replies if len(replies) >= count else None

        return await self.wait_for(enough, timeout, f"{count} answers to {event_id}")

    async def wait_text(self, message: Message, text: str, timeout: float = PATIENCE) -> Message:
        """Wait until a message, as edited by then, contains `text` (in any case)."""
        wanted = text.lower()
        await self.wait_for(lambda: wanted in message.body.lower(), timeout, f"{text!r} in {message.body!r}")
        return message

    async def settle(self, seconds: float = 1.0) -> None:
        """Wait until nothing new has come for that long, to see that no answer comes.

        Silence has no event to wait for: where another sign tells that the bot has seen a message, wait for that first.
        """
        while await self._wait_change(self._changed, seconds):
            pass

    # Keys

    @property
    def fingerprint(self) -> str:
        """This device's ed25519 key, base64 without padding."""
        return str(self._crypto.own_identity.signing_key)

    async def identity(self) -> str:
        """The account's master cross-signing key, as this device knows it; empty if there is none."""
        keys = await self._crypto.get_own_cross_signing_public_keys()
        return str(keys.master_key) if keys else ""

    async def sign_device(self) -> None:
        """Sign this device with the account's cross-signing keys, which are made if there are none."""
        if self.account.recovery_key:
            await self._crypto.verify_with_recovery_key(self.account.recovery_key)
        else:
            self.account.recovery_key = await self._crypto.generate_recovery_key()

    async def reset_cross_signing(self) -> None:
        """Replace the account's cross-signing keys by new ones that sign only this device."""
        crypto, seeds = self._crypto, CrossSigningSeeds.generate()
        key = await crypto.ssss.generate_and_upload_key(None)
        await crypto._upload_cross_signing_keys_to_ssss(key, seeds)
        # mautrix' own way to reset cannot prove the password, which the homeserver asks for here
        await crypto._publish_cross_signing_keys(seeds.to_keys(), auth=self._password_proof())
        await crypto.ssss.set_default_key_id(key.id)
        await crypto.sign_own_device(crypto.own_identity)
        self.account.recovery_key = key.recovery_key

    async def trust_of(self, user_id: str, device_id: str) -> TrustState:
        """What this client thinks of somebody's device, after asking the homeserver for its keys."""
        async with self._crypto._fetch_keys_lock:
            devices = await self._crypto._fetch_keys([UserID(user_id)], include_untracked=True)
        return await self._crypto.resolve_trust(devices[UserID(user_id)][DeviceID(device_id)])

    def keep_keys(self) -> None:
        """Answer no request for a room key any more."""
        self._keeps_keys = True

    async def _gives_key(self, _: DeviceIdentity, __: RequestedKeyInfo) -> bool:
        """As clients on matrix-rust-sdk do: a device that had the session may have it again."""
        return not self._keeps_keys

    async def rotate_session(self, room: str) -> None:
        """Use a new Megolm session for the next message to a room."""
        await self._store.remove_outbound_group_session(RoomID(room))

    def _password_proof(self) -> dict[str, Any]:
        identifier = {"type": "m.id.user", "user": self.user_id}
        return {"type": "m.login.password", "identifier": identifier, "password": self.account.password}

    # Sync

    def start_syncing(self) -> None:
        if self._syncing is None:
            self._syncing = asyncio.create_task(self._sync(), name=f"sync of {self.user_id} {self.device_id}")

    async def stop_syncing(self) -> None:
        """Go offline; `start_syncing` goes on where it stopped."""
        if self._syncing is not None:
            self._syncing.cancel()
            await asyncio.gather(self._syncing, return_exceptions=True)
            self._syncing = None

    async def _start(self) -> None:
        await self._database.start()
        await self._state.upgrade_table.upgrade(self._database)
        await self._store.open()
        await self._crypto.load()
        await self._store.put_device_id(DeviceID(self.device_id))
        await self._crypto.share_keys()
        self.start_syncing()

    async def _wait_change(self, changed: asyncio.Event, seconds: float | None) -> bool:
        """Whether something arrived in time; what ended the sync loop is raised here."""
        if self._syncing is None:
            raise RuntimeError(f"{self.user_id} is not syncing")
        waiter = asyncio.create_task(changed.wait())
        try:
            await asyncio.wait({waiter, self._syncing}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if self._syncing.done():
                self._syncing.result()
            return changed.is_set()
        finally:
            waiter.cancel()

    async def _sync(self) -> None:
        while True:
            since = await self._store.get_next_batch()
            try:
                data = await self._client.sync(
                    since, timeout=SYNC_MILLISECONDS if since else 0, filter_id=FilterID(SYNC_FILTER)
                )
            except (MatrixConnectionError, asyncio.TimeoutError):
                await asyncio.sleep(0.5)  # the homeserver is being restarted
                continue
            async with self._session_in_use:
                await self._receive(data)
            await self._store.put_next_batch(data["next_batch"])
            self._changed.set()
            self._changed = asyncio.Event()

    async def _receive(self, data: Mapping[str, Any]) -> None:
        await self._receive_keys(data)
        rooms = data.get("rooms", {})
        for room, section in rooms.get("invite", {}).items():
            self._receive_invite(room, section)
        for room, section in [*rooms.get("join", {}).items(), *rooms.get("leave", {}).items()]:
            await self._receive_room(room, section)
        await self._retry_decryption()

    async def _receive_keys(self, data: Mapping[str, Any]) -> None:
        lists = DeviceLists.deserialize(data.get("device_lists", {}))
        await self._crypto.handle_device_lists(lists)
        for raw in data.get("to_device", {}).get("events", []):
            event = ToDeviceEvent.deserialize(raw)
            if event.type == EventType.TO_DEVICE_ENCRYPTED:
                with contextlib.suppress(DecryptionError):  # then the message that needs it stays undecryptable
                    # as mautrix' own loop does: what it opens is handed on from there
                    setattr(event, "source", SyncStream.TO_DEVICE)  # noqa: B010 - not a field of it
                    await self._crypto.handle_to_device_event(event)
            elif event.type == EventType.ROOM_KEY_REQUEST:
                await self._crypto.handle_room_key_request(event)
        if "device_one_time_keys_count" in data:
            await self._crypto.handle_otk_count(DeviceOTKCount.deserialize(data["device_one_time_keys_count"]))

    def _receive_invite(self, room: str, section: Mapping[str, Any]) -> None:
        for event in section.get("invite_state", {}).get("events", []):
            if event["type"] == "m.room.member" and event["state_key"] == self.user_id:
                self.timeline.invites[room] = event["sender"]

    async def _receive_room(self, room: str, section: Mapping[str, Any]) -> None:
        self.timeline.invites.pop(room, None)
        for raw in section.get("state", {}).get("events", []):
            await self._receive_state({**raw, "room_id": room})
        for raw in section.get("timeline", {}).get("events", []):
            await self._receive_event({**raw, "room_id": room})

    async def _receive_state(self, raw: Any) -> None:
        self.timeline.add_state(raw["room_id"], raw["type"], raw["state_key"], raw["content"])
        await self._state.update_state(StateEvent.deserialize(raw))
        if raw["type"] == "m.room.member":  # who comes must get the next key, who leaves must not
            await self._store.remove_outbound_group_session(raw["room_id"])

    async def _receive_event(self, raw: Any) -> None:
        if "state_key" in raw:
            await self._receive_state(raw)
        if raw["type"] == "m.room.encrypted" and "ciphertext" in raw["content"]:
            await self._decrypt(EncryptedEvent.deserialize(raw))
        else:
            self.timeline.add(plain_event(raw))

    async def _decrypt(self, encrypted: EncryptedEvent) -> None:
        try:
            decrypted = await self._crypto.decrypt_megolm_event(encrypted)
        except DecryptionError as error:
            self._waiting[encrypted.event_id] = encrypted
            self.timeline.undecryptable[encrypted.event_id] = str(error)
        else:
            self._waiting.pop(encrypted.event_id, None)
            self.timeline.add(await self._decrypted_event(encrypted, decrypted["mautrix"]["trust_state"]))

    async def _decrypted_event(self, encrypted: EncryptedEvent, trust: TrustState) -> Event:
        """The plaintext as it was sent; mautrix' own event has the new text of an edit in place of the old."""
        session: Any = await self._store.get_group_session(encrypted.room_id, encrypted.content.session_id)
        payload = json.loads(session.decrypt(encrypted.content.ciphertext)[0])
        content = payload["content"]
        if encrypted.content.relates_to:
            content.setdefault("m.relates_to", encrypted.content.relates_to.serialize())
        return Event(
            event_id=encrypted.event_id,
            room=encrypted.room_id,
            sender=encrypted.sender,
            type=payload["type"],
            content=content,
            timestamp=encrypted.timestamp,
            encrypted=True,
            trust=trust.name,
        )

    async def _retry_decryption(self) -> None:
        for encrypted in list(self._waiting.values()):
            await self._decrypt(encrypted)


def relation_of(reply_to: str, thread: str) -> dict[str, Any]:
    """``m.relates_to`` for a reply, for a message in a thread, or for a reply in a thread; empty for neither."""
    reply = {"m.in_reply_to": {"event_id": reply_to or thread}} if reply_to or thread else {}
    if not thread:
        return reply
    return {"rel_type": "m.thread", "event_id": thread, "is_falling_back": not reply_to, **reply}


def plain_event(raw: Mapping[str, Any]) -> Event:
    """An event that arrived unencrypted."""
    return Event(
        event_id=raw["event_id"],
        room=raw["room_id"],
        sender=raw["sender"],
        type=raw["type"],
        content=raw["content"],
        timestamp=raw["origin_server_ts"],
        state_key=raw.get("state_key"),
        redacts=raw.get("redacts", raw["content"].get("redacts", "")),
    )
