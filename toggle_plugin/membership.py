"""Which rooms we are in: invites that we accept, upgrades that we follow, rooms that we leave again.

maubot's own handler follows whatever a tombstone names, even with `autojoin` off, so it is put aside while we run.
Requests go by `ClientAPI`: the client's own methods also write to maubot's database, and work that is cancelled there
leaves its transaction open, which ends encryption for every client (trap "Database"). The sync tells it the same.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Protocol, TypeVar, cast

from maubot.handlers import event
from mautrix.client import ClientAPI, SyncStream
from mautrix.errors import MForbidden, MNotFound
from mautrix.types import EventType, FilterID, MemberStateEventContent, RoomID, StateEvent
from mautrix.types import Membership as State

from .access import AccessPolicy, Ignored
from .account import Account
from .strangers import Strangers
from .tasks import cancelled, within

PATIENCE = 60.0
"""Seconds for one request; joining a large room takes a homeserver long."""
TRIES = 5
AGAIN = 3.0
"""Seconds until the second try; each next pause is twice as long."""
LONGEST_ID = 255
ONLY_INVITES = FilterID(
    json.dumps(
        {
            "room": {
                "timeline": {"limit": 0, "types": []},
                "state": {"types": []},
                "ephemeral": {"types": []},
                "account_data": {"types": []},
            },
            "presence": {"types": []},
            "account_data": {"types": []},
        }
    )
)
AUTOJOIN_ON = (
    "maubot accepts every invite for this client, so anybody can pull me into a room: "
    "switch Autojoin off for this client in maubot"
)

T = TypeVar("T")
_F = TypeVar("_F", bound=Callable[..., Any])
_on = cast("Callable[[EventType], Callable[[_F], _F]]", event.on)
"""maubot's decorator returns the method that it marks, but is typed for another use."""


class JoinedRooms(Protocol):
    """Remembers the rooms that we joined: others are the administrator's, or another plugin's."""

    async def joined(self, room: str) -> None: ...
    async def left(self, room: str) -> None: ...
    async def joined_rooms(self) -> list[str]: ...


def autojoin_caution(on: bool) -> str:
    """What to change about maubot's `autojoin`, or nothing."""
    return AUTOJOIN_ON if on else ""


def inviters(state: Iterable[Any], own_user: str) -> list[str]:
    """Everybody who is said to have made us a member: a remote homeserver can put a false one before the real one."""
    ours = (item for item in state if isinstance(item, dict) and item.get("type") == "m.room.member")
    return [str(item.get("sender")) for item in ours if item.get("state_key") == own_user]


def live_inviters(evt: StateEvent) -> list[str]:
    """The same for an invite that mautrix handed over: it took the first, and put the rest of the state beside it."""
    others = (evt.unsigned.invite_room_state or []) if evt.unsigned else []
    # What mautrix cannot read is None; it might be the real invite, so it counts as somebody whom nobody knows.
    unreadable = ["" for other in others if other is None]
    ours = (o for o in others if o is not None and o.type.t == "m.room.member")
    return [evt.sender, *unreadable, *(str(o.sender) for o in ours if getattr(o, "state_key", None) == evt.state_key)]


def is_room_id(text: str) -> bool:
    """Whether `text` can be one; by an address, a homeserver would let us join what we could not leave by that name."""
    return text.startswith("!") and 1 < len(text.encode()) <= LONGEST_ID and not any(map(str.isspace, text))


class Membership:
    """Registered with maubot as a handler class; `start` begins, `close` ends what it does by itself.

    Args:
        policy: the rules that hold now.
        whole: whether all of the settings could be read; while not, the rules know too few, and no room is left.
    """

    def __init__(
        self,
        account: Account,
        policy: Callable[[], AccessPolicy],
        whole: Callable[[], bool],
        rooms: JoinedRooms,
        strangers: Strangers,
        log: logging.Logger,
    ) -> None:
        self._account = account
        self._client = account.client
        self._policy = policy
        self._whole = whole
        self._rooms = rooms
        self._strangers = strangers
        self._log = log
        self._tasks: set[asyncio.Task[None]] = set()
        self._joining: set[str] = set()
        self._put_aside: Any = None

    def start(self) -> None:
        """Put maubot's own handler aside, and look at what came while we were away."""
        handlers = self._client.event_handlers.get(EventType.ROOM_TOMBSTONE, {})
        entry = self._account.entry
        if entry is not None and entry._handle_tombstone in handlers:
            self._put_aside = entry._handle_tombstone
            self._client.remove_event_handler(EventType.ROOM_TOMBSTONE, self._put_aside)
        self.settings_changed()

    def settings_changed(self) -> None:
        """Look at everything anew: who was a stranger may be none now, and the other way round."""
        self._begin(self._look_around())

    async def close(self) -> None:
        if self._put_aside is not None:
            self._client.add_event_handler(EventType.ROOM_TOMBSTONE, self._put_aside)
            self._put_aside = None
        await cancelled(*self._tasks)

    @_on(EventType.ROOM_MEMBER)
    async def member(self, evt: StateEvent) -> None:
        """Invites, accepted from those who may command us, into the rooms where they may; and who leaves."""
        content = evt.content
        if not isinstance(content, MemberStateEventContent) or evt.state_key is None:
            return
        source = getattr(evt, "source", SyncStream.INTERNAL)
        if evt.state_key == self._client.mxid:
            # Once we have joined, the room's timeline holds the invite again.
            if content.membership == State.INVITE and source & SyncStream.INVITED_ROOM:
                self._invited(evt.room_id, live_inviters(evt))
            elif content.membership in (State.LEAVE, State.BAN) and source & SyncStream.LEFT_ROOM:
                # In the timeline of a room where we are, it is an old one.
                self._begin(self._rooms.left(evt.room_id))
        elif content.membership in (State.LEAVE, State.BAN) and self._policy().knows(evt.state_key):
            self._begin(self._leave_if_forlorn(evt.room_id))

    @_on(EventType.ROOM_TOMBSTONE)
    async def tombstone(self, evt: StateEvent) -> None:
        """An upgrade, followed into a room that is allowed, if people whom we know made it."""
        replacement = str(getattr(evt.content, "replacement_room", "") or "")
        if evt.state_key != "" or not is_room_id(replacement):
            return
        decision = self._policy().invitation(evt.sender, replacement)
        if isinstance(decision, Ignored):
            self._strangers.ignored("upgrade", evt.sender, replacement, decision.setting)
            return
        # Whoever is allowed to invite us there vouches for it.
        if replacement not in self._joining:
            self._joining.add(replacement)
            self._begin(self._follow(evt.room_id, replacement, evt.sender))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A boundary: in the background nobody else would say it.
            self._log.error("membership=error", exc_info=error)

    @staticmethod
    async def _again(attempt: Callable[[], Awaitable[T | None]]) -> T | None:
        """What the first attempt gives that gives anything, with longer and longer pauses; None if all gave nothing."""
        for number in range(TRIES):
            if number:
                await asyncio.sleep(AGAIN * 2 ** (number - 1))
            result = await attempt()
            if result is not None:
                return result
        return None

    # Invites

    def _invited(self, room: str, by: list[str]) -> None:
        for inviter in by:
            decision = self._policy().invitation(inviter, room)
            if isinstance(decision, Ignored):
                self._strangers.ignored("invite", inviter, room, decision.setting)
                return
        if by and room not in self._joining:
            self._joining.add(room)
            self._begin(self._accept(room, by[0]))

    async def _accept(self, room: str, by: str) -> None:
        try:
            if await self._join(room, [], f"invited_by={by}"):
                await self._leave_if_forlorn(room)
        finally:
            self._joining.discard(room)

    async def _join(self, room: str, servers: list[str], why: str) -> bool:
        # Before it is done: a room that a crash let us forget would never be left.
        await self._rooms.joined(room)
        joined = await self._again(lambda: self._joined(room, servers, why))
        if joined is False:
            await self._rooms.left(room)
        # Without an answer we may be in it: the next look at it forgets it, if not.
        return bool(joined)

    async def _joined(self, room: str, servers: list[str], why: str) -> bool | None:
        """Whether it was joined; None if it may be later."""
        try:
            await self._bounded(ClientAPI.join_room(self._client, RoomID(room), servers or None, max_retries=0))
        except MForbidden as error:
            # As after the upgrade of a private room: clients send an invite then.
            self._log.info("join=refused room=%s %s error=%r", room, why, error)
            return False
        except Exception as error:  # noqa: BLE001 - a boundary: what the homeserver says is the administrator's to read
            self._log.warning("join=failed room=%s %s error=%r", room, why, error)
            return None
        self._log.info("joined room=%s %s", room, why)
        return True

    async def _look_around(self) -> None:
        """The invites that wait, and the rooms where nobody may be left who may command us."""
        await self._again(self._looked_around)

    async def _looked_around(self) -> bool | None:
        """True if all was found out, else None."""
        try:
            # Synapse answers the same question out of its cache for two minutes. A sync from the beginning never waits,
            # so its timeout can make each a question of its own.
            nonce = round(time.time() * 10) % 20_000
            self._pending(await self._bounded(self._client.sync(timeout=nonce, filter_id=ONLY_INVITES)))
            return await self._all_looked_at(await self._rooms.joined_rooms())
        except Exception as error:  # noqa: BLE001 - a boundary: in the background nobody else would say it
            self._log.info("invites=unknown error=%r", error)
            return None

    def _pending(self, data: Any) -> None:
        for room, content in data.get("rooms", {}).get("invite", {}).items():
            state = content.get("invite_state", {}).get("events", [])
            self._invited(room, inviters(state, self._client.mxid))

    # Rooms that are left

    async def _leave_if_forlorn(self, room: str) -> None:
        """Leave `room` if we joined it and nobody is in it any more whom we know."""
        if room in await self._rooms.joined_rooms():
            await self._again(lambda: self._looked_at(room))

    async def _all_looked_at(self, rooms: list[str]) -> bool | None:
        # Each by itself: one that cannot be asked must not keep us in the others.
        seen = [await self._looked_at(room) for room in rooms]
        return True if all(seen) else None

    async def _looked_at(self, room: str) -> bool | None:
        """True if it is known whether to stay, and done; None means that nothing was done."""
        try:
            if await self._forlorn(room):
                return await self._left(room, "nobody whom I know is in it")
        except (MForbidden, MNotFound):
            # Thrown out while nobody told us; on the way in it is no news.
            if room not in self._joining:
                await self._rooms.left(room)
        except Exception as error:  # noqa: BLE001 - a boundary: not knowing means that nothing is left
            self._log.info("room=%s members=unknown error=%r", room, error)
            return None
        return True

    async def _forlorn(self, room: str) -> bool:
        members = await self._bounded(ClientAPI.get_joined_members(self._client, RoomID(room)))
        policy = self._policy()
        return self._whole() and not any(policy.knows(member) for member in members)

    async def _left(self, room: str, why: str) -> bool | None:
        try:
            await self._bounded(ClientAPI.leave_room(self._client, RoomID(room)))
        except Exception as error:  # noqa: BLE001 - a boundary: what the homeserver says is the administrator's to read
            self._log.warning("leave=failed room=%s why=%r error=%r", room, why, error)
            return None
        await self._rooms.left(room)
        self._log.info("left room=%s why=%r", room, why)
        return True

    # Upgrades

    async def _follow(self, old: str, new: str, sender: str) -> None:
        """Join `new`, unless we are in it: then it is not ours to leave, should it be no upgrade."""
        server = sender.split(":", 1)[1] if ":" in sender else ""
        joined = False
        try:
            inside = await self._again(lambda: self._inside(new))
            if inside is not False:
                return
            joined = await self._join(new, [server] if server else [], f"upgraded_from={old} by={sender}")
            if joined and (why := await self._doubt(old, new)):
                await self._again(lambda: self._left(new, why))
        finally:
            self._joining.discard(new)
        if not joined:
            # An invite that came meanwhile was left to us.
            await self._look_around()

    async def _inside(self, room: str) -> bool | None:
        try:
            return room in await self._bounded(self._client.get_joined_rooms())
        except Exception as error:  # noqa: BLE001 - a boundary: not knowing means that nothing is joined
            self._log.info("rooms=unknown error=%r", error)
            return None

    async def _doubt(self, old: str, new: str) -> str:
        """Why `new` is not the upgrade of `old` by somebody whom we know; nothing if it is."""
        try:
            create: Any = await self._bounded(
                ClientAPI.get_state_event(self._client, RoomID(new), EventType.ROOM_CREATE, format="event")
            )
            predecessor = getattr(create.content, "predecessor", None)
            same = predecessor is not None and predecessor.room_id == old
        except Exception as error:  # noqa: BLE001 - a boundary: what cannot be found out is not trusted
            return f"its creator is not known ({type(error).__name__})"
        return "" if same and self._policy().knows(create.sender) else "it is not the upgrade that it claims to be"

    @staticmethod
    async def _bounded(request: Awaitable[T]) -> T:
        # mautrix waits for five minutes
        return await within(PATIENCE, request)
