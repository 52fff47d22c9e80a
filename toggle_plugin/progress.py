"""One reply that is edited as things move: merged when they move fast, and its last state always sent.

An edit or a notice notifies nobody, so an end that somebody waits for is a message of its own that mentions them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from html import escape

from maubot.matrix import parse_formatted
from mautrix.types import EventID, Format, MessageEvent, MessageType, TextMessageEventContent

from .outbox import EDIT, FINAL, FIRST, NotSent, Outbox
from .tasks import cancelled

PACE = 1.5
"""Seconds between two edits: what changes faster is merged."""
REACT_AFTER = 1.0
"""Seconds without a reply after which a reaction says that the command was heard."""
HEARD = "⏳"
FITS = 20_000
"""Bytes of a text in each of its forms: encryption makes a third more of both, and an event may have 65,535."""
FITS_IN_AN_EDIT = FITS // 2
"""It has both a second time, for clients that know no edits."""
LEFT_OUT = "(The rest is too long for one message.)"


@dataclass(frozen=True)
class Anchor:
    """Where a reply goes: below an event, in its thread if it is in one."""

    room: str
    event: EventID
    user: str
    thread: EventID | None = None

    @classmethod
    def of(cls, event: MessageEvent) -> Anchor:
        return cls(event.room_id, event.event_id, event.sender, event.content.get_thread_parent())


@dataclass(frozen=True)
class Words:
    """A text in both its forms."""

    plain: str
    html: str

    @property
    def size(self) -> int:
        """Bytes of the HTML in the JSON that is sent; the plain text has less, and maubot cuts it if it is long."""
        return len(json.dumps(self.html))


async def words(markdown: str, fits: int = FITS) -> Words:
    """`markdown` in both forms; as much of it as has `fits` bytes of HTML, with a word about the rest."""
    formatted = await _formatted(markdown)
    while (size := formatted.size) > fits:
        markdown = shortened(markdown, (len(markdown) - 1) * fits // size)
        formatted = await _formatted(f"{markdown}\n\n{LEFT_OUT}")
    return formatted


async def _formatted(markdown: str) -> Words:
    plain, html = await parse_formatted(markdown)
    return Words(plain, html.strip())


def shortened(markdown: str, length: int) -> str:
    """The first `length` characters at most, up to the end of a line or of one item of an enumeration."""
    cut = max(markdown.rfind(end, 0, length) for end in ("\n", ", "))
    return markdown[: cut if cut > 0 else length].rstrip()


def notice(text: Words) -> TextMessageEventContent:
    return TextMessageEventContent(
        msgtype=MessageType.NOTICE, body=text.plain, format=Format.HTML, formatted_body=text.html
    )


def mention(text: Words, user: str) -> TextMessageEventContent:
    """A text that notifies `user`."""
    name = escape(user)
    content = TextMessageEventContent(
        msgtype=MessageType.TEXT,
        body=f"{user}: {text.plain}",
        format=Format.HTML,
        formatted_body=f'<a href="https://matrix.to/#/{name}">{name}</a>: {_inline(text.html)}',
    )
    content["m.mentions"] = {"user_ids": [user]}
    return content


def _inline(html: str) -> str:
    """`html` without the paragraph around it, where it is only one."""
    inner = html.removeprefix("<p>").removesuffix("</p>")
    return html if "<p>" in inner else inner


def placed(content: TextMessageEventContent, anchor: Anchor) -> TextMessageEventContent:
    if anchor.thread:
        content.set_thread_parent(anchor.thread, last_event_in_thread=anchor.event)
        content.relates_to.is_falling_back = False
    else:
        content.set_reply(anchor.event)
    return content


class ProgressMessage:
    """The reply to one command. Make it when the command is taken: from then on the clock for the reaction runs.

    Args:
        resumed: whether this goes on with the reply of a process that died.
        event_id: that reply, where it is known.
    """

    def __init__(
        self, outbox: Outbox, anchor: Anchor, log: logging.Logger, *, resumed: bool = False, event_id: str = ""
    ) -> None:
        self._outbox = outbox
        self._anchor = anchor
        self._log = log
        self._event_id: EventID | None = EventID(event_id) if event_id else None
        self._resumed = resumed
        self.replied: Callable[[str], None] = lambda _: None
        """Told the event ID of the reply, once there is one."""
        self._newest = ""
        self._sending = ""
        self._sent = ""
        self._call = ""
        self._calling = False
        self._finishing = asyncio.Event()
        self._changed = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None
        self._calls: list[asyncio.Task[None]] = []
        self._reaction = None if resumed else asyncio.ensure_future(self._react_late())

    def show(self, markdown: str) -> None:
        """Show `markdown` soon; what was shown before and is not sent yet is left out."""
        self._newest = markdown
        self._changed.set()
        if self._sender is None or self._sender.done():
            self._sender = asyncio.ensure_future(self._keep_sending())

    def call(self, markdown: str, what: str = "alarm") -> None:
        """Say `markdown` in a message of its own that notifies the person, while the reply goes on; once per `what`."""
        self._calls.append(asyncio.ensure_future(self._mention(markdown, what)))

    async def finish(self, markdown: str, call: str = "") -> None:
        """The last state; `call`, where given, is said to the person who waits. Returns when everything is sent."""
        self._finishing.set()
        self._call = call
        self.show(markdown)
        if self._sender is not None:
            await self._sender
        if self._call:
            self.call(self._call, "end")
        await asyncio.gather(*self._calls)

    async def amend(self, markdown: str, call: str, what: str) -> None:
        """Take back the last state, which holds no more; `call` tells the person, once per `what`.

        Returns when both are sent.
        """
        self._call = ""
        self.show(markdown)
        if self._sender is not None:
            await self._sender
        self.call(call, what)
        await asyncio.gather(*self._calls)

    def hush(self) -> None:
        """No reaction: another reply is the answer."""
        if self._reaction is not None:
            self._reaction.cancel()

    async def close(self) -> None:
        """Send nothing more."""
        await cancelled(*(task for task in (self._sender, self._reaction, *self._calls) if task is not None))

    async def _react_late(self) -> None:
        await asyncio.sleep(REACT_AFTER)
        if self._sender is None:
            await self._outbox.react(self._anchor.room, self._anchor.event, HEARD)

    async def _keep_sending(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._send()
            if self._finishing.is_set() and not self._changed.is_set():
                return
            if not self._finishing.is_set():
                await self._pace()

    async def _pace(self) -> None:
        """Leave time between two edits, but none before the last."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._finishing.wait(), PACE)

    async def _send(self) -> None:
        try:
            transaction = "" if self._event_id else self._transaction("reply")
            event_id = await self._outbox.send(
                self._anchor.room, self._content, self._urgency, transaction, self._anchor.user
            )
            if event_id is not None:
                self._went_out(EventID(event_id))
        except NotSent as error:
            self._log.error(
                "room=%s event=%s reply=not_sent error=%r", self._anchor.room, self._anchor.event, str(error)
            )

    def _went_out(self, event_id: EventID) -> None:
        self._call = "" if self._calling else self._call
        if self._event_id is not None:
            self._sent = self._sending
            return
        self._event_id = event_id
        self.replied(event_id)
        if self._resumed:
            # It may be the one that the process before us sent, with words of then: say those of now as an edit.
            self._changed.set()
        else:
            self._sent = self._sending

    def _transaction(self, what: str) -> str:
        """The same after a restart, so that what was sent before it is not sent again."""
        return f"toggle-{hashlib.sha256(self._anchor.event.encode()).hexdigest()[:32]}-{what}"

    def _urgency(self) -> int:
        if self._finishing.is_set():
            return FINAL
        return EDIT if self._event_id else FIRST

    async def _content(self) -> TextMessageEventContent | None:
        """The newest state, as it is when it can go out."""
        if self._newest == self._sent:
            return None
        self._sending = self._newest
        if self._event_id is not None:
            content = notice(await words(self._newest, FITS_IN_AN_EDIT))
            content.set_edit(self._event_id)
            return content
        if self._call and not self._resumed:
            # Nothing was said yet, so one message is enough: the one that notifies.
            self._calling = True
            return placed(mention(await words(self._call), self._anchor.user), self._anchor)
        return placed(notice(await words(self._newest)), self._anchor)

    async def _mention(self, markdown: str, what: str) -> None:
        async def content() -> TextMessageEventContent:
            return placed(mention(await words(markdown), self._anchor.user), self._anchor)

        try:
            await self._outbox.send(
                self._anchor.room, content, lambda: FINAL, self._transaction(what), self._anchor.user
            )
        except NotSent as error:
            self._log.error(
                "room=%s event=%s call=not_sent error=%r", self._anchor.room, self._anchor.event, str(error)
            )
