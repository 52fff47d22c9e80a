"""What a room is: encrypted or not, and whether somebody is alone with us in it.

Requests go by `ClientAPI`: the client's own methods also write to maubot's database, and whoever asks here can be
cancelled (trap "Database").
"""

from __future__ import annotations

import logging

from mautrix.client import Client, ClientAPI
from mautrix.client.state_store import StateStore
from mautrix.errors import MNotFound
from mautrix.types import EventType, Membership, RoomID, UserID


def _store(client: Client) -> StateStore:
    if client.state_store is None:
        raise RuntimeError("maubot gives every client a state store")
    return client.state_store


class Rooms:
    """Asks the client's state store first, the homeserver where that does not know."""

    def __init__(self, client: Client, log: logging.Logger) -> None:
        self._client = client
        self._log = log
        self._encrypted: set[str] = set()

    def seen_encrypted(self, room: str) -> None:
        """An event of `room` was decrypted: whatever the homeserver says from now on, it is encrypted."""
        self._encrypted.add(room)

    async def encrypted(self, room: str) -> bool:
        """Whether `room` is encrypted; yes where that cannot be found out, for then nothing is sent in plaintext."""
        if room in self._encrypted:
            return True
        known = await _store(self._client).is_encrypted(RoomID(room))
        if known is not None:
            return bool(known)
        try:
            await ClientAPI.get_state_event(self._client, RoomID(room), EventType.ROOM_ENCRYPTION)
        except MNotFound:
            return False
        except Exception as error:  # noqa: BLE001 - a boundary: whatever the homeserver did, the safe answer is the same
            self._log.warning("room=%s encryption=unknown error=%r", room, error)
        return True

    async def alone(self, room: str, user: str) -> bool:
        """Whether `user` and we are the only members of `room`."""
        try:
            store = _store(self._client)
            if await store.has_full_member_list(RoomID(room)):
                members = await store.get_members(RoomID(room), (Membership.JOIN,))
            else:
                members = list(await ClientAPI.get_joined_members(self._client, RoomID(room)))
        except Exception as error:  # noqa: BLE001 - a boundary: not knowing means not alone, and so silence
            self._log.warning("room=%s members=unknown error=%r", room, error)
            return False
        return set(members) == {UserID(user), self._client.mxid}
