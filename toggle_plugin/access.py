"""Who may do what, from where, with which device. Pure; says no unless something says yes."""

from __future__ import annotations

from dataclasses import dataclass

from .grammar import GROUPED, Misunderstood, completed
from .groups import Group
from .models import Command, Requester, Trust, Verb
from .settings import NO_IDENTITY, MinimumTrust, Settings, Target, grouped

SIGNED = frozenset({Trust.CROSS_SIGNED_UNTRUSTED, Trust.CROSS_SIGNED_TOFU, Trust.CROSS_SIGNED_TRUSTED, Trust.VERIFIED})
"""A device that its owner signed, whichever identity they have now."""
ACCEPTED = {
    # Explicit sets, not an order: mautrix' numbers put an unknown device and a forwarded key above an unverified one.
    MinimumTrust.CROSS_SIGNED_TOFU: frozenset({Trust.CROSS_SIGNED_TOFU, Trust.CROSS_SIGNED_TRUSTED, Trust.VERIFIED}),
    MinimumTrust.UNVERIFIED: frozenset(
        {
            Trust.UNVERIFIED,
            Trust.CROSS_SIGNED_UNTRUSTED,
            Trust.CROSS_SIGNED_TOFU,
            Trust.CROSS_SIGNED_TRUSTED,
            Trust.VERIFIED,
        }
    ),
}
READING = frozenset({Verb.STATUS, Verb.HELP})
TARGETED = frozenset({Verb.START, Verb.STOP, Verb.RESTART, Verb.STATUS, Verb.HISTORY})


@dataclass(frozen=True)
class Allowed:
    """Yes."""


@dataclass(frozen=True)
class Refused:
    """No, to somebody we know: `sentence` says why, and what to do."""

    sentence: str


@dataclass(frozen=True)
class Ignored:
    """No, to a stranger, who gets no answer; `setting` is the one that would let them in."""

    setting: str


Decision = Allowed | Refused | Ignored


class AccessPolicy:
    """Answers for one `Settings`; make another one when they change."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def knows(self, user: str) -> bool:
        """Whether `user` gets any answer at all."""
        return user in self._settings.allowed_users or user in self._settings.viewers

    def invitation(self, user: str, room: str) -> Decision:
        """Whether to join `room`, into which `user` invites us."""
        if not self.knows(user):
            return Ignored("allowed_users")
        return Allowed() if self._room_allowed(room) else Ignored("allowed_rooms")

    def check(self, requester: Requester, verb: Verb, subject: Target | Group | None = None) -> Decision:
        """Whether `requester` may do `verb` (to `subject`, where one is meant) here, with this device."""
        if not self.knows(requester.user):
            return Ignored("allowed_users")
        refusal = self._where(requester) or self._device(requester) or self._what(requester.user, verb, subject)
        return Refused(refusal) if refusal else Allowed()

    def targets(self, user: str, verb: Verb) -> tuple[Target, ...]:
        """The targets that `user` may do `verb` to, in the order of the settings."""
        if not self.knows(user):
            return ()
        return tuple(target for target in self._settings.targets.values() if not self._what(user, verb, target))

    def groups(self, user: str, verb: Verb) -> tuple[Group, ...]:
        """The groups that `user` may do `verb` to: those whose every target they may, in the order of the settings."""
        if verb not in GROUPED:
            return ()
        names = {target.name for target in self.targets(user, verb)}
        return tuple(group for group in self._settings.groups.values() if names.issuperset(group.targets))

    def names(self, user: str, verb: Verb) -> tuple[str, ...]:
        """The names of these targets, then of these groups."""
        targets, groups = self.targets(user, verb), self.groups(user, verb)
        return (*(target.name for target in targets), *(group.name for group in groups))

    def verbs(self, user: str) -> tuple[Verb, ...]:
        """What `user` may ask for."""
        wanted = (verb for verb in Verb if self.knows(user) and not self._what(user, verb, None))
        return tuple(verb for verb in wanted if verb not in TARGETED or self.targets(user, verb))

    def _room_allowed(self, room: str) -> bool:
        return not self._settings.allowed_rooms or room in self._settings.allowed_rooms

    def _where(self, requester: Requester) -> str:
        if not self._room_allowed(requester.room):
            return _OTHER_ROOM
        if requester.room_encrypted and not requester.encrypted:
            return _PLAINTEXT if requester.known else _UNKNOWN_ARRIVAL
        if self._settings.require_encryption and not requester.encrypted:
            return _UNENCRYPTED_ROOM
        return ""

    def _device(self, requester: Requester) -> str:
        if not requester.encrypted or self._trust(requester) in ACCEPTED[self._settings.minimum_trust]:
            return ""
        if requester.trust in SIGNED:
            return self._identity_refused(requester)
        return _DEVICE_REFUSALS.get(requester.trust, _UNSIGNED)

    def _trust(self, requester: Requester) -> Trust:
        """How far the device is trusted; where an identity is accepted by name, that one and no other is."""
        accepted = self._settings.accepted_identities.get(requester.user)
        if accepted is None or requester.trust not in SIGNED:
            return requester.trust
        return (
            Trust.CROSS_SIGNED_TOFU if requester.identity == accepted != NO_IDENTITY else Trust.CROSS_SIGNED_UNTRUSTED
        )

    def _identity_refused(self, requester: Requester) -> str:
        named = requester.user in self._settings.accepted_identities
        return (_OTHER_IDENTITY if named else _RESET_IDENTITY) + (grouped(requester.identity) or "unknown")

    def _what(self, user: str, verb: Verb, subject: Target | Group | None) -> str:
        if user not in self._settings.allowed_users and verb not in READING:
            return f"You may ask for status and help, not {verb.value}; an administrator can add you to allowed_users."
        if isinstance(subject, Group):
            return "" if subject in self.groups(user, verb) else _group_refusal(verb, subject)
        if subject is None or subject.allowed_users is None or user in subject.allowed_users:
            return ""
        if user in self._settings.viewers and verb in READING:
            return ""
        return (
            f"You may not {_ACTIONS.get(verb, verb.value)} {subject.name}; "
            f"an administrator can add you to targets.{subject.name}.allowed_users."
        )


def _group_refusal(verb: Verb, group: Group) -> str:
    """It names no target: one that is not theirs may be in there."""
    return (
        f"You may not {_ACTIONS.get(verb, verb.value)} {group.name}, because not all of its targets are yours; "
        "an administrator can add you to the allowed_users of each."
    )


def said(parsed: Command | Misunderstood, user: str, settings: Settings) -> Command | Misunderstood:
    """What `user` said to us: the name that they only began is completed, if they may use but one that begins so."""
    if isinstance(parsed, Command) or parsed.verb is None:
        return parsed
    return completed(parsed, AccessPolicy(settings).names(user, parsed.verb))


_ACTIONS = {Verb.STATUS: "see", Verb.HISTORY: "see the history of"}
_OTHER_ROOM = (
    "I take no commands in this room; use one that allowed_rooms lists, or ask an administrator to add this one."
)
_UNKNOWN_ARRIVAL = "I could not find out how your message came here, so I did nothing; send it again."
_PLAINTEXT = (
    "Your message was not encrypted although this room is, so I did nothing; send it from a client that encrypts."
)
_UNENCRYPTED_ROOM = (
    "This room is not encrypted, so I did nothing; "
    "switch encryption on in the room's settings, or use a room that has it."
)
_UNSIGNED = (
    "Your device is not verified by you, so I did nothing; verify this session in your client's security settings "
    "(with another session or the recovery key), then send it again."
)
_DEVICE_REFUSALS = {
    Trust.BLACKLISTED: "Your device is blocked, so I did nothing; use another one.",
    Trust.UNKNOWN_DEVICE: (
        "I do not know the device that sent this (it may have been signed out), so I did nothing; "
        "send it again from another one."
    ),
    Trust.FORWARDED: (
        "The key to your message came from another device than yours, so I did nothing; send it again as a new message."
    ),
    Trust.OUTDATED: (
        "I could not ask the homeserver which devices are yours now, so I did nothing; send it again in a minute."
    ),
}
_RESET_IDENTITY = (
    "Your cross-signing identity is not the one I first saw from you, so I did nothing; if you reset it yourself, "
    "ask an administrator to compare this with what your client shows and to add it to accepted_identities: "
)
_OTHER_IDENTITY = (
    "Your cross-signing identity is not the one that accepted_identities has for you, so I did nothing; if you reset "
    "it yourself, ask an administrator to compare this with what your client shows and to put it there: "
)
