"""What is told of a start or stop while it lasts, what is worth a message that notifies, and what is written down."""

from __future__ import annotations

import logging
from typing import Protocol

from . import listing, render
from .models import Outcome, Phase, Progress, Result
from .progress import ProgressMessage
from .settings import Target
from .steps import Standing, Step

CALL_AFTER = 30.0
"""Seconds after which the end of a command is worth a message that notifies."""


class Told:
    """Passes progress on to the reply, and remembers whether somebody was called already."""

    def __init__(self, reply: ProgressMessage) -> None:
        self._reply = reply
        self.alarmed = False

    def report(self, news: Progress) -> None:
        self._reply.show(render.progress(news))
        if news.alarm:
            self.alarmed = True
            self._reply.call(render.alarm(news))


class ToldOfGroup:
    """The same for a group's command: one reply for all of its targets, and at most one call for each that is stuck."""

    def __init__(self, reply: ProgressMessage) -> None:
        self._reply = reply
        self.alarmed = False

    def report(self, news: Standing) -> None:
        self._reply.show(listing.standing(news))
        if news.now is not None and news.now.alarm:
            self.alarmed = True
            self._reply.call(render.alarm(news.now), f"alarm-{len(news.ended)}")


def worth_a_call(end: Outcome, user: str, alarmed: bool) -> bool:
    """Whether the end is said in a message that notifies `user`, who was called before if `alarmed`."""
    if end.result is Result.SUPERSEDED:
        return end.by != user
    if alarmed and end.result is Result.TIMED_OUT and end.status is not None and end.status.phase is Phase.STUCK:
        return False  # that is no news any more
    return alarmed or end.seconds > CALL_AFTER or not end.as_asked


def audited(end: Outcome) -> str:
    """The word for it in the audit."""
    return f"{end.result.value}: {type(end.error).__name__}" if end.error else end.result.value


class StepLedger(Protocol):
    """Where the steps of a group's command are written down."""

    async def begin_step(self, step: Step) -> None: ...
    async def wrote_step(self, event: str, target: str) -> None: ...
    async def end_step(self, event: str, target: str, outcome: str) -> None: ...


class StepRecord:
    """Writes down the steps of the command that is `event`."""

    def __init__(self, ledger: StepLedger, event: str, log: logging.Logger) -> None:
        self._ledger = ledger
        self._event = event
        self._log = log

    async def written(self, target: Target, before: int, after: int, done: bool) -> None:
        """Before a write, where a failure keeps it from being made, and after it, where none does."""
        if not done:
            await self._ledger.begin_step(Step(self._event, target.name, str(target.ref), before, after))
            return
        try:
            await self._ledger.wrote_step(self._event, target.name)
        except Exception:  # noqa: BLE001 - a boundary: it is done, and the person waits for how it goes on
            self._log.exception("event=%s target=%s written=not_stored", self._event, target.name)

    async def ended(self, outcome: Outcome) -> None:
        try:
            await self._ledger.end_step(self._event, outcome.target, audited(outcome))
        except Exception:  # noqa: BLE001 - a boundary: the person has the answer; what is missing is the administrator's
            self._log.exception("event=%s target=%s audit=failed", self._event, outcome.target)
