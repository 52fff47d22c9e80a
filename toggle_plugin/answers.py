"""From an allowed person's line to its reply: refuse or run, write down before and after, say how it ended."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from . import render
from .access import TARGETED, AccessPolicy, Allowed, Refused
from .errors import ClusterError, SettingsProblem
from .grammar import ALL, WORDS, Fault, Misunderstood
from .inbox import Age, age
from .models import AuditEntry, Command, Outcome, Phase, Progress, Requester, Result, Right, Trust, Verb
from .progress import Anchor, ProgressMessage
from .settings import Settings, Target, cautions
from .toggle import ToggleService

CALL_AFTER = 30.0
"""Seconds after which the end of a command is worth a message that notifies."""
SIDE_BY_SIDE = 8
"""Targets that one `status` or `check` asks for at a time."""
LAST_WORDS = 3.0
"""Seconds that a command which is cut off by a stop may take to say so."""

T = TypeVar("T")


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
    """

    anchor: Anchor
    requester: Requester
    parsed: Command | Misunderstood
    prefix: str
    sent_ms: int


class Ledger(Protocol):
    """Where commands are written down before and after."""

    async def receive(self, entry: AuditEntry) -> bool: ...
    async def finish(self, entry: AuditEntry) -> None: ...


@dataclass(frozen=True)
class Ending:
    """How a command ended, for the audit."""

    outcome: str
    target: Target | None = None
    before: int | None = None
    after: int | None = None


class Answers:
    """Answers lines.

    Args:
        own_device: gives our device ID, our fingerprint and how far we are trusted ourselves.
    """

    def __init__(
        self,
        service: ToggleService,
        ledger: Ledger,
        own_device: Callable[[], Awaitable[tuple[str, str, Trust]]],
        log: logging.Logger,
    ) -> None:
        self._service = service
        self._ledger = ledger
        self._own_device = own_device
        self._log = log

    async def answer(self, line: Line, reply: ProgressMessage, in_force: InForce) -> None:
        """Answer `line` through `reply`. Cancelled, it says so in its last words."""
        asked = _Asked(self, line, reply, in_force)
        if isinstance(line.parsed, Misunderstood):
            await reply.finish(asked.refusal(Verb.HELP) or asked.explain(line.parsed))
        else:
            await self._written_down(asked, line.parsed)

    async def _written_down(self, asked: _Asked, command: Command) -> None:
        entry = _entry(asked.line, command)
        try:
            if not await self._ledger.receive(entry):
                return
        except Exception:  # noqa: BLE001 - a boundary: whatever the database did, nothing may run that is not written down
            self._log.exception("event=%s command=not_stored", entry.event)
            await asked.reply.finish(render.not_written_down())
            return
        began = time.monotonic()
        try:
            asked.ending = await asked.run(command)
        finally:
            await self._finish(_ended(entry, asked.ending, time.monotonic() - began))

    async def _finish(self, entry: AuditEntry) -> None:
        self._log.info(
            "command=%s target=%s workload=%r user=%s room=%s event=%s outcome=%r before=%s after=%s ms=%s",
            *(entry.verb, entry.target or "-", entry.workload or "-", entry.user, entry.room, entry.event),
            *(entry.outcome, entry.replicas_before, entry.replicas_after, entry.duration_ms),
        )
        try:
            await self._ledger.finish(entry)
        except Exception:  # noqa: BLE001 - a boundary: the person has the answer; what is missing is the administrator's
            self._log.exception("event=%s audit=failed", entry.event)


def _entry(line: Line, command: Command) -> AuditEntry:
    who = line.requester
    return AuditEntry(
        event=line.anchor.event,
        room=who.room,
        user=who.user,
        device=who.device,
        fingerprint=who.fingerprint,
        verb=command.verb.value,
        target=command.target or "",
        received_at=round(time.time() * 1000),
    )


def _ended(entry: AuditEntry, ending: Ending, seconds: float) -> AuditEntry:
    return replace(
        entry,
        outcome=ending.outcome,
        target=ending.target.name if ending.target else entry.target,
        workload=str(ending.target.ref) if ending.target else "",
        replicas_before=ending.before,
        replicas_after=ending.after,
        duration_ms=round(seconds * 1000),
    )


class _Asked:
    """One line, and everything that its answer depends on."""

    def __init__(self, answers: Answers, line: Line, reply: ProgressMessage, in_force: InForce) -> None:
        self.line = line
        self.reply = reply
        self.ending = Ending("interrupted")
        """What holds when the command is cut off."""
        self._answers = answers
        self._service = answers._service
        self._in_force = in_force
        self._settings = in_force.settings
        self._policy = AccessPolicy(in_force.settings)
        self._user = line.requester.user

    def refusal(self, verb: Verb, target: Target | None = None) -> str:
        """Why not, as Markdown, or nothing."""
        decision = self._policy.check(self.line.requester, verb, target)
        if isinstance(decision, Allowed):
            return ""
        return render.escape(decision.sentence) if isinstance(decision, Refused) else render.went_wrong()

    def explain(self, fault: Misunderstood) -> str:
        """One helpful line; only what this person may use is suggested."""
        if fault.fault is Fault.UNKNOWN_WORD:
            names = [word for word, verb in WORDS.items() if verb in self._policy.verbs(self._user)]
        else:
            names = [target.name for target in self._mine(fault.verb or Verb.STATUS)]
        return render.misunderstood(fault.suggesting(names), self.line.prefix, self._help_view())

    async def run(self, command: Command) -> Ending:
        """Refuse or do `command`, and say how that ended."""
        said_no = self.refusal(command.verb) or self._not_now(command)
        if said_no:
            await self.reply.finish(said_no)
            return Ending("refused")
        if command.verb is Verb.HELP:
            await self.reply.finish(render.help_text(self._help_view()))
        elif command.verb is Verb.CHECK:
            await self.reply.finish(await self._check())
        elif command.verb is Verb.STATUS:
            return await self._status(command)
        else:
            return await self._toggle(command)
        return Ending("done")

    def _not_now(self, command: Command) -> str:
        """Why nothing is run at the moment."""
        seconds = time.time() - self.line.sent_ms / 1000
        how_old = age(self.line.sent_ms, time.time(), self._settings.maximum_age)
        if how_old is Age.OLD:
            return render.too_old(self._settings.maximum_age, seconds)
        if how_old is Age.FUTURE:
            return render.from_the_future(-seconds)
        if self._in_force.problems and command.verb is not Verb.CHECK:
            return render.broken_settings(self._in_force.problems)
        return ""

    def _mine(self, verb: Verb) -> tuple[Target, ...]:
        return self._policy.targets(self._user, verb)

    def _help_view(self) -> render.HelpView:
        verbs = self._policy.verbs(self._user)
        return render.HelpView(self.line.prefix, verbs, {verb: self._mine(verb) for verb in verbs if verb in TARGETED})

    async def _status(self, command: Command) -> Ending:
        targets = self._mine(Verb.STATUS)
        if command.target not in (None, ALL):
            target = self._settings.targets[command.target or ""]
            if refused := self.refusal(Verb.STATUS, target):
                await self.reply.finish(refused)
                return Ending("refused", target)
            targets = (target,)
        found = await _side_by_side(self._service.status, targets)
        await self.reply.finish(render.statuses(found) if found else render.no_target(Verb.STATUS))
        failed = any(isinstance(status, ClusterError) for _, status in found)
        return Ending("failed" if failed else "done", targets[0] if len(targets) == 1 else None)

    def _one_target(self, command: Command) -> Target | str:
        """The target that is meant, or what to say instead."""
        if command.target is not None:
            target = self._settings.targets[command.target]
            return self.refusal(command.verb, target) or target
        mine = self._mine(command.verb)
        if len(mine) == 1:
            return mine[0]
        if not mine:
            return render.no_target(command.verb)
        return render.which_target(command.verb, self.line.prefix, [target.name for target in mine])

    async def _toggle(self, command: Command) -> Ending:
        target = self._one_target(command)
        if isinstance(target, str):
            await self.reply.finish(target)
            return Ending("refused")
        self.ending = Ending("interrupted", target)
        told = _Told(self.reply)
        try:
            end = await self._service.toggle(command.verb, target, self._user, told.report, self._written)
        except asyncio.CancelledError:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.reply.finish(render.interrupted(target.name, self.line.prefix)), LAST_WORDS)
            raise
        # Before the last word, which may have to wait: what was done is done.
        self.ending = Ending(_audited(end), target, end.before, end.after)
        prefix = self.line.prefix
        call = render.call(end, prefix) if worth_a_call(end, self._user, told.alarmed) else ""
        await self.reply.finish(render.outcome(end, prefix), call)
        return self.ending

    def _written(self, before: int, after: int | None) -> None:
        self.ending = replace(self.ending, before=before, after=after)

    async def _check(self) -> str:
        began = time.monotonic()
        version = await _or_error(self._service.version())
        seconds = time.monotonic() - began
        rights: list[tuple[Target, Sequence[Right] | ClusterError]] = []
        if not isinstance(version, ClusterError):
            mine = {target.name: target for target in self._mine(Verb.START)}
            rights = [
                (mine[name], found) for name, found in await _side_by_side(self._service.rights, tuple(mine.values()))
            ]
        device, fingerprint, trust = await self._answers._own_device()
        problems = (*self._in_force.problems, *cautions(self._settings))
        return render.check(
            render.CheckView(self.line.requester, version, seconds, rights, device, fingerprint, trust, problems)
        )


class _Told:
    """Passes progress on to the reply, and remembers whether somebody was called already."""

    def __init__(self, reply: ProgressMessage) -> None:
        self._reply = reply
        self.alarmed = False

    def report(self, news: Progress) -> None:
        self._reply.show(render.progress(news))
        if news.alarm:
            self.alarmed = True
            self._reply.call(render.alarm(news))


def worth_a_call(end: Outcome, user: str, alarmed: bool) -> bool:
    """Whether the end is said in a message that notifies `user`, who was called before if `alarmed`."""
    if end.result is Result.SUPERSEDED:
        return end.by != user
    if alarmed and end.result is Result.TIMED_OUT and end.status is not None and end.status.phase is Phase.STUCK:
        return False  # that is no news any more
    return alarmed or end.seconds > CALL_AFTER or not end.as_asked


def _audited(end: Outcome) -> str:
    return f"{end.result.value}: {type(end.error).__name__}" if end.error else end.result.value


async def _or_error(work: Awaitable[T]) -> T | ClusterError:
    try:
        return await work
    except ClusterError as error:
        return error


async def _side_by_side(
    ask: Callable[[Target], Awaitable[T]], targets: Sequence[Target]
) -> list[tuple[str, T | ClusterError]]:
    """`ask` for each of `targets`, a few at a time, in their order."""
    places = asyncio.Semaphore(SIDE_BY_SIDE)

    async def one(target: Target) -> tuple[str, T | ClusterError]:
        async with places:
            return target.name, await _or_error(ask(target))

    return list(await asyncio.gather(*(one(target) for target in targets)))
