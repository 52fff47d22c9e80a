"""What a Matrix client has received, decrypted, as its person would see it; it knows no network and no keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """An event of a room's timeline after decryption.

    Attributes:
        content: as the sender wrote it, ``m.new_content`` and ``m.relates_to`` included.
        timestamp: milliseconds since the epoch, by the homeserver's clock.
        encrypted: whether it arrived encrypted.
        trust: mautrix' name for what is known of the sending device (``CROSS_SIGNED_TOFU``); empty if not encrypted.
    """

    event_id: str
    room: str
    sender: str
    type: str
    content: Mapping[str, Any]
    timestamp: int = 0
    encrypted: bool = False
    trust: str = ""
    state_key: str | None = None
    redacts: str = ""

    @property
    def relation(self) -> Mapping[str, Any]:
        relation = self.content.get("m.relates_to")
        return relation if isinstance(relation, Mapping) else {}

    def related(self, rel_type: str) -> str:
        """The event that this one has that relation to, or nothing."""
        return str(self.relation.get("event_id", "")) if self.relation.get("rel_type") == rel_type else ""


@dataclass
class Message:
    """An m.room.message with the edits that its sender made; its text is that of the last edit.

    Attributes:
        events: the message and its edits, in the order of their arrival; never empty.
        reactions: who reacted with which key.
    """

    events: list[Event]
    reactions: list[tuple[str, str]] = field(default_factory=list)
    redacted: bool = False

    @property
    def event_id(self) -> str:
        return self.events[0].event_id

    @property
    def sender(self) -> str:
        return self.events[0].sender

    @property
    def room(self) -> str:
        return self.events[0].room

    @property
    def trust(self) -> str:
        return self.events[-1].trust

    @property
    def encrypted(self) -> bool:
        """Whether the message and all its edits arrived encrypted."""
        return all(event.encrypted for event in self.events)

    @property
    def content(self) -> Mapping[str, Any]:
        return shown_content(self.events[-1])

    @property
    def body(self) -> str:
        return str(self.content.get("body", ""))

    @property
    def formatted_body(self) -> str:
        """The HTML, or nothing where the message is plain text."""
        return str(self.content.get("formatted_body", ""))

    @property
    def msgtype(self) -> str:
        return str(self.content.get("msgtype", ""))

    @property
    def mentions(self) -> list[str]:
        """The user IDs in ``m.mentions``."""
        return list(self.content.get("m.mentions", {}).get("user_ids", []))

    @property
    def reply_to(self) -> str:
        """The event that this message answers, or nothing."""
        return str(self.events[0].relation.get("m.in_reply_to", {}).get("event_id", ""))

    @property
    def thread(self) -> str:
        """The root of the thread that this message is in, or nothing."""
        return self.events[0].related("m.thread")

    @property
    def history(self) -> list[str]:
        """All its texts, the first and that of each edit."""
        return [str(shown_content(event).get("body", "")) for event in self.events]

    def answers(self, event_id: str) -> bool:
        """Whether it is a reply to that event, or in the thread that begins there."""
        return event_id in (self.reply_to, self.thread)


def shown_content(event: Event) -> Mapping[str, Any]:
    """What a client shows: the new content of an edit, else the content."""
    new = event.content.get("m.new_content")
    return new if event.related("m.replace") and isinstance(new, Mapping) else event.content


class Timeline:
    """All events of all rooms that were seen, each once, with edits, reactions and redactions applied.

    Attributes:
        events: in the order of their arrival, state included.
        undecryptable: encrypted events whose key has not come (yet), by event ID, with the reason.
        invites: room → who invited.
        members: room → user → membership.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.undecryptable: dict[str, str] = {}
        self.invites: dict[str, str] = {}
        self.members: dict[str, dict[str, str]] = {}
        self._messages: dict[str, Message] = {}
        self._seen: set[str] = set()

    def add(self, event: Event) -> None:
        """Take in an event; one that is known already changes nothing."""
        if event.event_id in self._seen:
            return
        self._seen.add(event.event_id)
        self.events.append(event)
        self.undecryptable.pop(event.event_id, None)
        if event.state_key is not None:
            self.add_state(event.room, event.type, event.state_key, event.content)
        elif event.type == "m.room.message":
            self._add_message(event)
        elif event.type == "m.reaction":
            self._add_reaction(event)
        elif event.type == "m.room.redaction" and event.redacts in self._messages:
            self._messages[event.redacts].redacted = True

    def add_state(self, room: str, event_type: str, state_key: str, content: Mapping[str, Any]) -> None:
        """Take in a room's state from outside the timeline."""
        if event_type == "m.room.member":
            self.members.setdefault(room, {})[state_key] = str(content.get("membership", "leave"))

    def messages(self, room: str = "", sender: str = "") -> Iterator[Message]:
        """The messages, oldest first; of one room or one sender, if asked."""
        for message in self._messages.values():
            if room in ("", message.room) and sender in ("", message.sender):
                yield message

    def message(self, event_id: str) -> Message:
        """One message.

        Raises:
            KeyError: it has not arrived, or is no message.
        """
        return self._messages[event_id]

    def find(self, event_id: str) -> Message | None:
        """One message, or None as long as it has not arrived."""
        return self._messages.get(event_id)

    def replies(self, event_id: str) -> list[Message]:
        """The messages that answer an event, by anybody but its sender, oldest first."""
        asked = self.find(event_id)
        asker = asked.sender if asked else ""
        return [message for message in self._messages.values() if message.answers(event_id) and message.sender != asker]

    def event(self, event_id: str) -> Event | None:
        """One event of any kind, or None as long as it has not arrived decrypted."""
        return next((event for event in self.events if event.event_id == event_id), None)

    def __str__(self) -> str:
        lines = [f"{message.sender}: {' → '.join(message.history)}" for message in self._messages.values()]
        lines += [f"undecryptable {event_id}: {reason}" for event_id, reason in self.undecryptable.items()]
        return "\n".join(lines) or "(no messages)"

    def _add_message(self, event: Event) -> None:
        original = self._messages.get(event.related("m.replace"))
        if original is not None and original.sender == event.sender:  # nobody edits what others wrote
            original.events.append(event)
        else:
            self._messages[event.event_id] = Message([event])

    def _add_reaction(self, event: Event) -> None:
        message = self._messages.get(event.related("m.annotation"))
        if message is not None:
            message.reactions.append((event.sender, str(event.relation.get("key", ""))))
