"""Who may do what, from where, with which device. Pure; says no unless something says yes."""

from __future__ import annotations

from dataclasses import dataclass

from .models import Requester, Trust, Verb
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
TARGETED = frozenset({Verb.START, Verb.STOP, Verb.STATUS})


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

    def check(self, requester: Requester, verb: Verb, target: Target | None = None) -> Decision:
        """Whether `requester` may do `verb` (to `target`, where one is meant) here, with this device."""
        if not self.knows(requester.user):
            return Ignored("allowed_users")
        refusal = self._where(requester) or self._device(requester) or self._what(requester.user, verb, target)
        return Refused(refusal) if refusal else Allowed()

    def targets(self, user: str, verb: Verb) -> tuple[Target, ...]:
        """The targets that `user` may do `verb` to, in the order of the settings."""
        if not self.knows(user):
            return ()
        return tuple(target for target in self._settings.targets.values() if not self._what(user, verb, target))

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

    def _what(self, user: str, verb: Verb, target: Target | None) -> str:
        viewer = user in self._settings.viewers
        if user not in self._settings.allowed_users and verb not in READING:
            return f"You may ask for status and help, not {verb.value}; an administrator can add you to allowed_users."
        if target is None or target.allowed_users is None or user in target.allowed_users:
            return ""
        if viewer and verb in READING:
            return ""
        return (
            f"You may not {_ACTIONS.get(verb, verb.value)} {target.name}; "
            f"an administrator can add you to targets.{target.name}.allowed_users."
        )


_ACTIONS = {Verb.STATUS: "see"}
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
