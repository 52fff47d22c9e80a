"""Types a script's lines into the room, shows the answers as they change, and judges them against the cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from tests.stack.chat import ChatClient, Silence

from .options import verb_of
from .truth import Truth, fault_of, goal_of, plain, word_of

FIRST_ANSWER_SECONDS = 30.0
QUIET_SECONDS = 0.5
"""How long after its end an answer must not change any more."""

Show = Callable[[str], None]


class Script:
    """Plays lines in one room.

    Args:
        follow: seconds within which a start or stop has to end.
        show: prints one line.
        broken: why a start cannot succeed, in words of the answer; nothing where it can.
    """

    def __init__(
        self, chat: ChatClient, room: str, truth: Truth, *, follow: float, show: Show, broken: str = ""
    ) -> None:
        self._chat = chat
        self._room = room
        self._truth = truth
        self._follow = follow
        self._show = show
        self._broken = broken

    async def play(self, lines: Sequence[str]) -> bool:
        """Whether every answer was right; the first wrong one does not end it."""
        verdicts = [await self._play_line(line) for line in lines]
        return all(verdicts)

    async def _play_line(self, line: str) -> bool:
        self._show(f"▸ {line}")
        began = time.monotonic()
        asked = await self._chat.send(self._room, line)
        try:
            fault = await self._fault(line, asked, began)
        except Silence:
            fault = "no answer" if not self._chat.timeline.replies(asked) else "the answer did not come to its end"
        self._show(f"  ✗ wrong: {fault}" if fault else f"  ✓ right: the cluster has {await self._truth.read()}")
        return not fault

    async def _fault(self, line: str, asked: str, began: float) -> str:
        await self._chat.wait_reply(asked, FIRST_ANSWER_SECONDS)
        await self._show_until_end(line, asked, began)
        unencrypted = [reply.body for reply in self._chat.timeline.replies(asked) if not reply.encrypted]
        if unencrypted:
            return f"not encrypted: {unencrypted[0]}"
        return fault_of(line, self._texts(asked), await self._truth.read(), self._broken)

    async def _show_until_end(self, line: str, asked: str, began: float) -> None:
        """Show each text as it comes, until the one that ends the answer, and any that contradicts it shortly after."""
        goal = goal_of(line, await self._truth.read(), self._broken)
        shown = self._show_from(0, asked, began)
        while goal and not is_whole(line) and word_of(self._texts(asked)[-1]) != goal:
            left = began + self._follow - time.monotonic()
            await self._chat.wait_for(partial(self._has_more, asked, shown), left, "the next change of the answer")
            shown = self._show_from(shown, asked, began)
        await self._chat.settle(QUIET_SECONDS)
        self._show_from(shown, asked, began)

    def _texts(self, asked: str) -> list[str]:
        """All that was answered: each answer's first text and its edits."""
        return [text for reply in self._chat.timeline.replies(asked) for text in reply.history]

    def _has_more(self, asked: str, shown: int) -> bool:
        return len(self._texts(asked)) > shown

    def _show_from(self, shown: int, asked: str, began: float) -> int:
        texts = self._texts(asked)
        for text in texts[shown:]:
            first, *others = plain(text).splitlines() or [""]
            self._show(f"  {time.monotonic() - began:5.1f} s  {first}")
            for other in others:
                self._show(f"           {other}")
        return len(texts)


def is_whole(line: str) -> bool:
    """Whether the first text is the whole answer, right or wrong."""
    return verb_of(line) in ("status", "help", "check")
