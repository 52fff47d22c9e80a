"""From a line of text to a command, or to what was not understood about it.

Pure: it knows the words and the targets' names that it is given, not who asks or where.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from enum import Enum

from .models import Command, Verb

ALL = "all"
ALIKE = 0.7
"""How alike a word and a verb must be to suggest it: *hello* is no slip of *help*. Targets are suggested sooner."""
TARGETS_ALIKE = 0.6
SUGGESTED = 5
"""Names that are suggested together."""
WORDS = {
    "start": Verb.START,
    "on": Verb.START,
    "stop": Verb.STOP,
    "off": Verb.STOP,
    "restart": Verb.RESTART,
    "status": Verb.STATUS,
    "help": Verb.HELP,
    "history": Verb.HISTORY,
    "check": Verb.CHECK,
}
TAKES_TARGET = frozenset({Verb.START, Verb.STOP, Verb.RESTART, Verb.STATUS, Verb.HISTORY})
GROUPED = frozenset({Verb.START, Verb.STOP, Verb.STATUS, Verb.HISTORY})
"""What can be asked for a group."""


class Fault(str, Enum):
    """Why a line is not a command."""

    EMPTY = "empty"
    UNKNOWN_WORD = "unknown word"
    UNKNOWN_TARGET = "unknown target"
    TOO_MANY_WORDS = "too many words"
    NO_PREFIX = "no prefix"
    """It would be a command, where commands need no prefix."""


@dataclass(frozen=True)
class Misunderstood:
    """A line that is not a command: which word is at fault, and names that it may stand for, the likeliest first."""

    fault: Fault
    word: str = ""
    near: tuple[str, ...] = ()
    verb: Verb | None = None

    def suggesting(self, names: Collection[str]) -> Misunderstood:
        """The same, with those of `names` only that are near."""
        if self.fault is Fault.UNKNOWN_WORD:
            return replace(self, near=nearest(self.word, names, ALIKE, 1))
        near = completions(self.word, names) or nearest(self.word, names, TARGETS_ALIKE, SUGGESTED)
        return replace(self, near=near)


def parse(line: str, targets: Iterable[str], groups: Iterable[str] = ()) -> Command | Misunderstood:
    """The command in `line`: a verb, then at most one of `targets` or, where that can be, `groups`, in any case.

    For `status` there is also ``all``.
    """
    words = line.casefold().split()
    if not words:
        return Misunderstood(Fault.EMPTY)
    verb = WORDS.get(words[0])
    if verb is None:
        return Misunderstood(Fault.UNKNOWN_WORD, words[0]).suggesting(WORDS)
    if len(words) > (2 if verb in TAKES_TARGET else 1):
        return Misunderstood(Fault.TOO_MANY_WORDS, " ".join(words[1:]), verb=verb)
    if len(words) == 1:
        return Command(verb)
    names = (*targets, *groups) if verb in GROUPED else tuple(targets)
    if words[1] in names or (verb is Verb.STATUS and words[1] == ALL):
        return Command(verb, words[1])
    return Misunderstood(Fault.UNKNOWN_TARGET, words[1], verb=verb).suggesting(names)


def completed(parsed: Command | Misunderstood, names: Collection[str]) -> Command | Misunderstood:
    """`parsed`, or the command that it is if its unknown target is the beginning of only one of `names`."""
    if isinstance(parsed, Command) or parsed.fault is not Fault.UNKNOWN_TARGET or parsed.verb is None:
        return parsed
    found = completions(parsed.word, names)
    return Command(parsed.verb, found[0]) if len(found) == 1 else parsed


def completions(word: str, names: Iterable[str]) -> tuple[str, ...]:
    """Those of `names` that begin with `word`, in their order."""
    return tuple(name for name in names if name.startswith(word))


def nearest(word: str, names: Iterable[str], likeness: float, most: int) -> tuple[str, ...]:
    """Those of `names` that `word` is most likely a slip of; `likeness` as difflib measures it."""
    return tuple(difflib.get_close_matches(word, list(names), n=most, cutoff=likeness))


def strip_prefix(body: str, command: str) -> str | None:
    """What follows ``!command`` in `body`, or None if `body` does not begin with it as a word of its own."""
    words = body.split(maxsplit=1)
    if not words or words[0].casefold() != f"!{command}":
        return None
    return words[1] if len(words) > 1 else ""
