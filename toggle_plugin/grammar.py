"""From a line of text to a command, or to what was not understood about it.

Pure: it knows the words and the targets' names that it is given, not who asks or where.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

from .models import Command, Verb

ALL = "all"
ALIKE = 0.7
"""How alike a word and a verb must be to suggest it: *hello* is no slip of *help*. Targets are suggested sooner."""
TARGETS_ALIKE = 0.6
WORDS = {
    "start": Verb.START,
    "on": Verb.START,
    "stop": Verb.STOP,
    "off": Verb.STOP,
    "status": Verb.STATUS,
    "help": Verb.HELP,
    "check": Verb.CHECK,
}
TAKES_TARGET = frozenset({Verb.START, Verb.STOP, Verb.STATUS})


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
    """A line that is not a command: which word is at fault, and the nearest name that there is, if one is near."""

    fault: Fault
    word: str = ""
    nearest: str = ""
    verb: Verb | None = None

    def suggesting(self, names: Iterable[str]) -> Misunderstood:
        """The same, with the nearest of `names` only."""
        likeness = ALIKE if self.fault is Fault.UNKNOWN_WORD else TARGETS_ALIKE
        return replace(self, nearest=nearest(self.word, names, likeness))


def parse(line: str, targets: Iterable[str]) -> Command | Misunderstood:
    """The command in `line`: a verb, then at most one of `targets` (``all`` for `status`), in any case."""
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
    return _with_target(verb, words[1], tuple(targets))


def _with_target(verb: Verb, word: str, targets: tuple[str, ...]) -> Command | Misunderstood:
    if word in targets or (verb is Verb.STATUS and word == ALL):
        return Command(verb, word)
    return Misunderstood(Fault.UNKNOWN_TARGET, word, verb=verb).suggesting(targets)


def nearest(word: str, names: Iterable[str], likeness: float) -> str:
    """The one of `names` that `word` is most likely a slip of, or nothing; `likeness` as difflib measures it."""
    found = difflib.get_close_matches(word, list(names), n=1, cutoff=likeness)
    return found[0] if found else ""


def strip_prefix(body: str, command: str) -> str | None:
    """What follows ``!command`` in `body`, or None if `body` does not begin with it as a word of its own."""
    words = body.split(maxsplit=1)
    if not words or words[0].casefold() != f"!{command}":
        return None
    return words[1] if len(words) > 1 else ""
