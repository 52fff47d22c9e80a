"""The command handlers: which events are lines for us, who sent them, and how they came; the rest is for `answers`.

One maubot command takes the whole rest of the line: maubot answers what does not fit its own subcommands and arguments
itself, before anybody was asked who may have an answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from maubot.handlers import command, event
from maubot.matrix import MaubotMessageEvent as MessageEvent
from mautrix.client import Client, InternalEventType
from mautrix.types import DeviceLists, EncryptedEvent, EventID, EventType

from . import render
from .access import ACCEPTED, AccessPolicy, said
from .answers import Answers
from .asked import Asked
from .grammar import Fault, Misunderstood, parse, strip_prefix
from .inbox import Inbox
from .intake import MOST, Intake, Run
from .lines import InForce, Line
from .models import AuditEntry, Command, Requester, Trust, Verb
from .outbox import Outbox
from .progress import Anchor, ProgressMessage
from .rooms import Rooms
from .settings import BareCommands, Settings
from .strangers import Strangers
from .trust import Arrivals
from .undecryptable import Undecryptable, Why

_F = TypeVar("_F", bound=Callable[..., Any])
_on = cast("Callable[[EventType | InternalEventType], Callable[[_F], _F]]", event.on)
"""maubot's decorator returns the method that it marks, but is typed for another use."""


class _TextCommand(command.CommandHandler):
    """maubot's own, but for bodies that are no text: it fails on each with a traceback, whoever sent it."""

    async def __call__(self, evt: MessageEvent, **options: Any) -> Any:
        return await super().__call__(evt, **options) if isinstance(evt.content.body, str) else None


_text_command = cast("Callable[[Callable[..., Awaitable[None]]], command.CommandHandler]", _TextCommand)


@dataclass(frozen=True)
class Parts:
    """What the handlers need of the others."""

    client: Client
    own_user: str
    in_force: Callable[[], InForce]
    answers: Answers
    arrivals: Arrivals
    rooms: Rooms
    outbox: Outbox
    strangers: Strangers
    own_trouble: Callable[[], Awaitable[str]]
    """What is wrong with our own keys, which is logged with the cure."""


class Commands:
    """Registered with maubot as a handler class; `close` ends what it still does."""

    def __init__(self, parts: Parts, log: logging.Logger) -> None:
        self._parts = parts
        self._log = log
        self._inbox = Inbox(parts.own_user)
        self._strangers = parts.strangers
        self._intake = Intake(log)
        self._undecryptable = Undecryptable(parts.client, self._cannot_read, log)
        self._closing = False

    @property
    def word(self) -> str:
        """What follows the ``!``."""
        return self._parts.in_force().settings.command

    @command.new(name=lambda self: self.word, require_subcommand=False, must_consume_args=False)
    @command.argument("line", pass_raw=True, required=False)
    @_text_command
    async def prefixed(self, evt: MessageEvent, line: str) -> None:
        """``!toggle …``"""
        await self._take(evt, line, prefixed=True)

    @_on(EventType.ROOM_MESSAGE)
    async def message(self, evt: MessageEvent) -> None:
        """Bare words, and the prefix where maubot's own parser does not see it (white space before or behind it)."""
        if self._policy().knows(evt.sender):
            self._undecryptable.read(evt.event_id)
        if not self._inbox.counts(evt):
            return
        body = evt.content.body
        if _taken_by_maubot(body, self.word):
            return
        line = strip_prefix(body, self.word)
        await self._take(evt, body if line is None else line, prefixed=line is not None)

    @_on(EventType.ROOM_ENCRYPTED)
    async def encrypted(self, evt: EncryptedEvent) -> None:
        """Keeps the event as it came: its decrypted twin does not tell how that was."""
        if not self._policy().knows(evt.sender):
            return
        # Its place is where it came, also if its key comes later.
        self._inbox.number(evt.event_id)
        self._parts.arrivals.remember(evt)
        self._intake.begin(self._read_late(evt, self._intake.hold()))

    @_on(InternalEventType.DEVICE_LISTS)
    async def devices_changed(self, lists: DeviceLists) -> None:
        """Somebody's devices are others now. Whoever syncs hands this over before the messages that came with it."""
        self._parts.arrivals.devices_changed(lists.changed)

    async def resume(self, unfinished: Sequence[AuditEntry], newest: int) -> None:
        """Go on with what was under way when the process died; call it before any new line comes."""
        self._inbox.after(newest)
        for entry in unfinished:
            # An event that is handed over again is known to the store.
            self._intake.begin(self._resumed(entry))

    def settled(self) -> Awaitable[object]:
        """What to await until every line that came so far is written down."""
        return self._intake.settled()

    async def close(self) -> None:
        """Cancel what runs and wait for it."""
        self._closing = True
        await self._intake.close()
        await self._undecryptable.close()
        # maubot's decorator keeps every object it was bound to, at class level, for as long as the module lives.
        type(self).__dict__["prefixed"].__bound_copies__.pop(self, None)

    def _policy(self) -> AccessPolicy:
        return AccessPolicy(self._parts.in_force().settings)

    async def _take(self, evt: MessageEvent, line: str, *, prefixed: bool) -> None:
        """Queue `line` to be answered, if it is for us. Nothing is awaited before that, so that lines stay in order."""
        if self._closing or not self._inbox.counts(evt):
            return
        in_force = self._parts.in_force()
        if not AccessPolicy(in_force.settings).knows(evt.sender):
            self._ignore(evt, line, prefixed, in_force.settings)
            return
        if not self._inbox.first_time(evt.event_id):
            return
        # Kept from here on: the inbox forgets it in a flood.
        place = self._inbox.number(evt.event_id)
        taken = self._intake.take(evt.sender, lambda: self._admit(evt, line, prefixed, in_force, place))
        if not taken and self._intake.first_refusal(evt.sender):
            self._intake.begin(self._say(Anchor.of(evt), render.too_many(MOST)))

    async def _admit(self, evt: MessageEvent, text: str, prefixed: bool, in_force: InForce, place: int) -> Run | None:
        """Write the line down, with its place in the order of arrival; gives what answers it, if anything does."""
        try:
            parsed = parse(text, in_force.settings.targets, in_force.settings.groups)
            if not prefixed and not await self._is_for_us(evt, parsed, in_force.settings.bare_commands):
                return None
            parsed = said(parsed, evt.sender, in_force.settings)
            reply = ProgressMessage(self._parts.outbox, Anchor.of(evt), self._log)
            asked = await self._written_down(evt, parsed, prefixed, in_force, place, reply)
        except Exception:  # noqa: BLE001 - a boundary: the person gets an answer, the log the reason
            self._log.exception("event=%s room=%s user=%s outcome=error", evt.event_id, evt.room_id, evt.sender)
            return self._say(Anchor.of(evt), render.went_wrong())
        if asked is None:
            return None
        return self._answered(Anchor.of(evt), reply, self._parts.answers.answer(asked, reply))

    async def _written_down(
        self,
        evt: MessageEvent,
        parsed: Command | Misunderstood,
        prefixed: bool,
        in_force: InForce,
        place: int,
        reply: ProgressMessage,
    ) -> Asked | None:
        """What there is to answer through `reply`; if nothing, or if that fails, nothing of the reply is left."""
        asked: Asked | None = None
        try:
            line = await self._line(evt, parsed, not prefixed, in_force.settings, place)
            asked = await self._parts.answers.admit(line, in_force)
        finally:
            if asked is None:
                await reply.close()
        return asked

    async def _answered(self, anchor: Anchor, reply: ProgressMessage, work: Run) -> None:
        try:
            await work
        except Exception:  # noqa: BLE001 - a boundary: the person gets an answer, the log the reason
            self._log.exception("event=%s room=%s user=%s outcome=error", anchor.event, anchor.room, anchor.user)
            await reply.finish(render.went_wrong())
        finally:
            await reply.close()

    async def _read_late(self, evt: EncryptedEvent, held: asyncio.Future[None]) -> None:
        """See to it that `evt` is read, or answered; it is not settled before that, so a restart brings it again."""
        fresh_for = evt.timestamp / 1000 + self._parts.in_force().settings.maximum_age - time.time()
        try:
            await self._undecryptable.look(evt, fresh_for)
        except Exception:  # noqa: BLE001 - a boundary: the person gets an answer, the log the reason
            self._log.exception("event=%s room=%s user=%s outcome=error", evt.event_id, evt.room_id, evt.sender)
            await self._cannot_read(evt, Why.FAILED)
        held.set_result(None)

    async def _cannot_read(self, evt: EncryptedEvent, why: Why) -> None:
        await self._say(Anchor(evt.room_id, evt.event_id, evt.sender), _UNREAD[why]())
        # It may be our own keys that are gone: then the log has the cure, also where nobody asks for /readyz.
        await self._parts.own_trouble()

    async def _say(self, anchor: Anchor, text: str) -> None:
        reply = ProgressMessage(self._parts.outbox, anchor, self._log)
        try:
            await reply.finish(text)
        finally:
            await reply.close()

    async def _resumed(self, entry: AuditEntry) -> None:
        anchor = Anchor(entry.room, EventID(entry.event), entry.user, EventID(entry.thread) if entry.thread else None)
        reply = ProgressMessage(self._parts.outbox, anchor, self._log, resumed=True, event_id=entry.reply)
        self._log.info("event=%s verb=%s target=%s resumed", entry.event, entry.verb, entry.target or "-")
        line = Line(
            anchor,
            await self._requester(entry),
            Command(Verb(entry.verb), entry.target or None),
            *(entry.prefix, entry.sent_at, entry.arrival),
        )
        await self._answered(anchor, reply, self._parts.answers.resume(entry, line, reply, self._parts.in_force()))

    async def _requester(self, entry: AuditEntry) -> Requester:
        """Who asked, by what was written down: the process may have died before that was judged."""
        known = bool(entry.trust)
        encrypted = known and bool(entry.fingerprint)
        return Requester(
            user=entry.user,
            room=entry.room,
            room_encrypted=encrypted or await self._parts.rooms.encrypted(entry.room),
            encrypted=encrypted,
            known=known,
            trust=Trust(entry.trust) if known else Trust.NONE,
            device=entry.device,
            fingerprint=entry.fingerprint,
            identity=entry.identity,
        )

    def _ignore(self, evt: MessageEvent, line: str, prefixed: bool, settings: Settings) -> None:
        """No answer and no work for a stranger; talk is not even noted."""
        if prefixed or isinstance(parse(line, settings.targets, settings.groups), Command):
            self._strangers.ignored("command", evt.sender, evt.room_id, "allowed_users")

    async def _is_for_us(self, evt: MessageEvent, parsed: Command | Misunderstood, mode: BareCommands) -> bool:
        """Whether a line without the prefix is: as a command or, alone with somebody, for at least one helpful line."""
        if mode is BareCommands.ALWAYS and isinstance(parsed, Command):
            return True
        return await self._parts.rooms.alone(evt.room_id, evt.sender)

    async def _line(
        self, evt: MessageEvent, parsed: Command | Misunderstood, bare: bool, settings: Settings, place: int
    ) -> Line:
        encrypted_room = await self._parts.rooms.encrypted(evt.room_id)
        accepted, identity = ACCEPTED[settings.minimum_trust], settings.accepted_identities.get(evt.sender, "")
        arrival = await self._parts.arrivals.of(evt, accepted, fetch=encrypted_room, identity=identity)
        if arrival.encrypted:
            self._parts.rooms.seen_encrypted(evt.room_id)
        requester = Requester(
            user=evt.sender,
            room=evt.room_id,
            room_encrypted=encrypted_room or arrival.encrypted,
            encrypted=arrival.encrypted,
            known=arrival.known,
            trust=arrival.trust,
            device=arrival.device,
            fingerprint=arrival.fingerprint,
            identity=arrival.identity,
        )
        prefix = f"!{settings.command} "
        if bare and settings.bare_commands is BareCommands.NEVER:
            parsed = Misunderstood(Fault.NO_PREFIX, verb=parsed.verb)
        elif bare:
            prefix = ""
        return Line(Anchor.of(evt), requester, parsed, prefix, evt.timestamp, place)


_UNREAD = {Why.NO_KEY: render.undecryptable, Why.NOT_ITS_KEY: render.not_its_key, Why.FAILED: render.went_wrong}


def _taken_by_maubot(body: str, word: str) -> bool:
    """Whether maubot's own parser calls `prefixed` with this body."""
    return body.startswith("!") and body[1:].split(" ", 1)[0].lower() == word
