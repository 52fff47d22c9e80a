"""A line of a person, as everything that answers it gets it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .errors import SettingsProblem
from .grammar import Misunderstood
from .models import Command, Requester
from .progress import Anchor
from .settings import Settings


@dataclass(frozen=True)
class InForce:
    """The settings that hold now, and what is wrong with those that were given."""

    settings: Settings
    problems: Sequence[SettingsProblem] = ()


@dataclass(frozen=True)
class Line:
    """A line for us: whose, where, what was understood of it.

    Attributes:
        prefix: what this person puts before a command here: ``!toggle `` or nothing.
        sent_ms: when, by the event's own clock, in milliseconds since the epoch.
        arrival: its place in the order of arrival.
    """

    anchor: Anchor
    requester: Requester
    parsed: Command | Misunderstood
    prefix: str
    sent_ms: int
    arrival: int = 0
