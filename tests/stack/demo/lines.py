"""Messages as lines of a terminal: words wrapped, the little Markdown of a body shown. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from prompt_toolkit.utils import get_cwidth

from tests.stack.timeline import Message

Fragment = tuple[str, str]
"""A style of prompt_toolkit, and text."""
Line = list[Fragment]

INDENT = "  "
_MARKUP = re.compile(r"\*\*(?P<strong>.+?)\*\*|`(?P<code>[^`]+)`")
_TOKEN = re.compile(r"\n|[^\S\n]+|\S+")
NAMES = {True: ("class:me", "you"), False: ("class:bot", "bot")}


def message_lines(message: Message, *, mine: bool, width: int) -> list[Line]:
    """A message as it stands now: who, text, and what a client shows beside it."""
    style, name = NAMES[mine]
    marks = "".join(f" {key}" for _, key in message.reactions)
    edited = "  (edited)" if len(message.events) > 1 else ""
    warning = "" if message.encrypted else "  NOT ENCRYPTED"
    fragments = [(style, f"{name} ▸ "), *styled(message.body), ("class:dim", marks + edited), ("class:bad", warning)]
    return wrap(fragments, width)


def styled(text: str) -> Iterator[Fragment]:
    """A body's ``**strong**`` and `code` as styles, the rest as it is."""
    end = 0
    for match in _MARKUP.finditer(text):
        yield "", text[end : match.start()]
        yield ("class:strong", match["strong"]) if match["strong"] else ("class:code", match["code"])
        end = match.end()
    yield "", text[end:]


def wrap(fragments: Iterable[Fragment], width: int) -> list[Line]:
    """Break into lines of at most `width` cells, between words where possible; following lines are indented."""
    lines: list[Line] = [[]]
    used = 0
    for word in words(fragments):
        text = "".join(part for _, part in word)
        if text == "\n" or (used + cells(text) > width and used > len(INDENT)):
            lines.append([("", INDENT)])
            used = len(INDENT)
            if not text.strip():
                continue
        for style, piece in split_long(word, max(1, width - len(INDENT))):
            if used + cells(piece) > width and used > len(INDENT):
                lines.append([("", INDENT)])
                used = len(INDENT)
            lines[-1].append((style, piece))
            used += cells(piece)
    return lines


def words(fragments: Iterable[Fragment]) -> Iterator[Line]:
    """Runs that must not be broken, which may change their style inside; spaces and newlines are runs of their own."""
    word: Line = []
    for style, text in fragments:
        for token in _TOKEN.findall(text):
            if not token.strip():
                if word:
                    yield word
                word = []
                yield [(style, token)]
            else:
                word.append((style, token))
    if word:
        yield word


def split_long(word: Line, width: int) -> Iterator[Fragment]:
    """A word's parts, broken where it is wider than a whole line."""
    if sum(cells(text) for _, text in word) <= width:
        yield from word
        return
    for style, text in word:
        for character in text:
            yield style, character


@lru_cache(maxsize=4096)
def cells(text: str) -> int:
    """How many cells of a terminal a text takes."""
    return int(get_cwidth(text))
