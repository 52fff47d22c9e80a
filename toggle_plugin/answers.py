"""From an allowed person's line to its reply: refuse or run, write down before and after, say how it ended."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

from . import listing, render
from .access import TARGETED, AccessPolicy, Allowed, Refused
from .errors import ClusterError, SettingsProblem
from .grammar import ALL, WORDS, Fault, Misunderstood
from .groups import Group
from .inbox import Age, age
from .lasting import Done, Lasting
from .late import Late
from .lines import InForce, Line
from .models import BETWEEN, CHANGING, AuditEntry, Command, Intent, Outcome, Result, Trust, Verb
from .overview import or_error, side_by_side
from .progress import ProgressMessage
from .sequence import in_turn, turns
from .settings import Target, cautions
from .steps import Standing, Step
from .toggle import ToggleService
from .told import StepRecord, Told, ToldOfGroup, audited, worth_a_call
from .turns import Turns

HISTORY = 10
"""Commands that `history` tells of."""
LAST_WORDS = 2.0
"""Seconds that a command which is cut off by a stop may take to say so."""

T = TypeVar("T")


class Ledger(Protocol):
    """Where commands are written down before, meanwhile and after."""

    async def receive(self, entry: AuditEntry) -> bool: ...
    async def intend(self, event: str, before: int, after: int) -> None: ...
    async def wrote(self, event: str) -> None: ...
    async def replied(self, event: str, reply: str) -> None: ...
    async def overtaken_by(self, entry: AuditEntry) -> str: ...
    async def finish(self, entry: AuditEntry) -> None: ...
    async def begin_step(self, step: Step) -> None: ...
    async def wrote_step(self, event: str, target: str) -> None: ...
    async def end_step(self, event: str, target: str, outcome: str) -> None: ...
    async def steps(self, event: str) -> Sequence[Step]: ...
    async def history(self, names: Sequence[str], limit: int) -> Sequence[AuditEntry]: ...


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
        cautions: what an administrator should change in maubot, shown by `status` and `check`.
    """

    def __init__(
        self,
        service: ToggleService,
        ledger: Ledger,
        own_device: Callable[[], Awaitable[tuple[str, str, Trust]]],
        cautions: Callable[[], Sequence[SettingsProblem]],
        log: logging.Logger,
    ) -> None:
        self._service = service
        self._ledger = ledger
        self._own_device = own_device
        self._cautions = cautions
        self._late = Late()
        self._turns = Turns()
        self._lasting = Lasting(service, log)
        self._log = log
        self._notes: set[asyncio.Future[None]] = set()

    async def admit(self, line: Line, in_force: InForce) -> Asked | None:
        """Write `line` down, if it is a command; None when it was written down before: nothing runs twice."""
        asked = Asked(self, line, in_force)
        if asked.entry is None:
            return asked
        try:
            return asked if await self._ledger.receive(asked.entry) else None
        except Exception:  # noqa: BLE001 - a boundary: whatever the database did, nothing may run that is not written down
            self._log.exception("event=%s command=not_stored", asked.entry.event)
            asked.stored = False
            return asked

    async def answer(self, asked: Asked, reply: ProgressMessage) -> None:
        """Answer what was admitted through `reply`. Cut off, it says so, and stays unfinished for the next start."""
        asked.reply = reply
        if isinstance(asked.line.parsed, Misunderstood):
            if asked.is_fresh:
                await reply.finish(asked.refusal(Verb.HELP) or asked.explain(asked.line.parsed))
        elif asked.entry is not None and not asked.stored:
            # It may be there all the same, if only the answer was lost, and must not be run by the next start.
            await self._finish(replace(asked.entry, outcome="refused"))
            await reply.finish(render.not_written_down())
        elif asked.entry is not None:
            reply.replied = partial(self._note_reply, asked.entry)
            began = asked.began or time.monotonic()
            try:
                ending = await asked.run(asked.line.parsed)
            except Exception:
                # No boundary: `Commands` logs and answers it. But it has ended, else every start would try it again.
                await self._finish(_ended(asked.entry, Ending("interrupted"), time.monotonic() - began))
                raise
            await self._finish(_ended(asked.entry, ending, time.monotonic() - began))
            if asked.done is not None:
                self._lasting.begin(asked.done, reply, partial(self._did_not_last, asked.entry, began))

    async def _did_not_last(self, entry: AuditEntry, began: float, end: Outcome) -> None:
        ending = Ending(audited(end), before=end.before, after=end.after)
        await self._finish(_ended(entry, ending, time.monotonic() - began))

    async def resume(self, entry: AuditEntry, line: Line, reply: ProgressMessage, in_force: InForce) -> None:
        """Go on with a command that was written down by a process that died, or answer it, by the settings of now."""
        await self.answer(Asked(self, line, in_force, entry, await self._ledger.steps(entry.event)), reply)

    async def drain(self) -> None:
        """Wait for what is still being written down, and look no longer at what was done."""
        await self._lasting.close()
        await asyncio.gather(*self._notes, return_exceptions=True)

    def _note_reply(self, entry: AuditEntry, reply: str) -> None:
        if entry.verb not in CHANGING:
            return  # its reply is one event, which the homeserver keeps from being sent twice

        async def note() -> None:
            try:
                await self._ledger.replied(entry.event, reply)
            except Exception as error:  # noqa: BLE001 - a boundary: a restart finds the reply by its transaction too
                self._log.warning("event=%s reply=not_stored error=%r", entry.event, error)

        task = asyncio.ensure_future(note())
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)

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


def _entry(line: Line, command: Command, subject: Target | Group | None, workload: str) -> AuditEntry:
    who = line.requester
    return AuditEntry(
        event=line.anchor.event,
        room=who.room,
        user=who.user,
        device=who.device,
        fingerprint=who.fingerprint,
        verb=command.verb.value,
        target=subject.name if subject else command.target or "",
        workload=workload,
        received_at=round(time.time() * 1000),
        arrival=line.arrival,
        sent_at=line.sent_ms,
        thread=line.anchor.thread or "",
        prefix=line.prefix,
        trust=who.trust.value if who.known else "",
        identity=who.identity,
    )


def _ended(entry: AuditEntry, ending: Ending, seconds: float) -> AuditEntry:
    return replace(
        entry,
        outcome=ending.outcome,
        target=ending.target.name if ending.target else entry.target,
        workload=str(ending.target.ref) if ending.target else entry.workload,
        replicas_before=ending.before,
        replicas_after=ending.after,
        duration_ms=round(seconds * 1000),
    )


class Asked:
    """One line, and everything that its answer depends on.

    Args:
        entry: what a process that died wrote down of it.
        steps: and of its steps, if it is about a group.
    """

    reply: ProgressMessage

    def __init__(
        self,
        answers: Answers,
        line: Line,
        in_force: InForce,
        entry: AuditEntry | None = None,
        steps: Sequence[Step] = (),
    ) -> None:
        self.line = line
        self.stored = True
        self._answers = answers
        self._service = answers._service
        self._in_force = in_force
        self._settings = in_force.settings
        self._policy = AccessPolicy(in_force.settings)
        self._user = line.requester.user
        self._resumed = entry
        self._steps = steps
        self.done: Done | None = None
        self.entry = entry
        if entry is None and isinstance(line.parsed, Command):
            found = self._subject(line.parsed) if line.parsed.verb in CHANGING else ""
            subject = None if isinstance(found, str) else found
            self.entry = _entry(line, line.parsed, subject, self._workloads(subject) if subject else "")

    def refusal(self, verb: Verb, subject: Target | Group | None = None) -> str:
        """Why not, as Markdown, or nothing."""
        decision = self._policy.check(self.line.requester, verb, subject)
        if isinstance(decision, Allowed):
            return ""
        return render.escape(decision.sentence) if isinstance(decision, Refused) else render.went_wrong()

    def explain(self, fault: Misunderstood) -> str:
        """One helpful line; only what this person may use is suggested."""
        if fault.fault is Fault.UNKNOWN_WORD:
            names = [word for word, verb in WORDS.items() if verb in self._policy.verbs(self._user)]
        else:
            names = list(self._policy.names(self._user, fault.verb or Verb.STATUS))
        return render.misunderstood(fault.suggesting(names), self.line.prefix, self._help_view())

    async def run(self, command: Command) -> Ending:
        """Refuse or do `command`, and say how that ended."""
        if not self._policy.knows(self._user):
            # Taken out of the settings since they asked, and strangers get no answer.
            return Ending("interrupted" if self._begun else "refused")
        if self._begun:
            return await self._go_on(command)
        said_no = self.refusal(command.verb)
        if not said_no and self._age() is Age.OLD:
            await self._answers._late.tell(self.line, self._settings.maximum_age, self.reply)
            return Ending("refused")
        said_no = said_no or self._not_now(command)
        if said_no:
            await self.reply.finish(said_no)
            return Ending("refused")
        return await self._run(command)

    async def _run(self, command: Command) -> Ending:
        if command.verb is Verb.HELP:
            await self.reply.finish(render.help_text(self._help_view()))
        elif command.verb is Verb.CHECK:
            async with self._answers._turns.of(self._user):
                await self.reply.finish(await self._check())
        elif command.verb is Verb.HISTORY:
            return await self._history(command)
        elif command.verb is Verb.STATUS:
            async with self._answers._turns.of(self._user):
                return await self._status(command)
        else:
            return await self._toggle(command)
        return Ending("done")

    @property
    def is_fresh(self) -> bool:
        """Whether it was said just now; what is no command is not worth an answer later."""
        return self._age() is Age.FRESH

    def _age(self) -> Age:
        """By the event's own clock; what was begun while it was fresh may take its time."""
        maximum = self._settings.maximum_age + (self._settings.rollout_timeout if self._begun else 0.0)
        return age(self.line.sent_ms, time.time(), maximum)

    @property
    def _begun(self) -> bool:
        """Whether the process that died may have written to the cluster."""
        return self._resumed is not None and (self._resumed.replicas_before is not None or bool(self._steps))

    def _intent(self) -> Intent | None:
        entry = self._resumed
        if entry is None or entry.replicas_before is None or entry.replicas_after is None:
            return None
        return Intent(entry.replicas_before, entry.replicas_after, entry.written)

    def _not_now(self, command: Command) -> str:
        """Why nothing is run at the moment."""
        if self._age() is Age.FUTURE:
            return render.from_the_future(self.line.sent_ms / 1000 - time.time())
        if self._in_force.problems and command.verb is not Verb.CHECK:
            return render.broken_settings(self._in_force.problems)
        return render.target_gone(command.target or "") if self._gone() else ""

    def _gone(self) -> bool:
        """Whether what was meant before a restart is not in the settings any more, or stands for other workloads."""
        entry = self._resumed
        if entry is None or entry.target in ("", ALL):
            return False
        subject = self._named(entry.target)
        return subject is None or entry.workload not in ("", self._workloads(subject))

    def _named(self, name: str) -> Target | Group | None:
        return self._settings.targets.get(name) or self._settings.groups.get(name)

    def _members(self, subject: Target | Group) -> list[Target]:
        """The targets behind a name, in the order of a start."""
        if isinstance(subject, Target):
            return [subject]
        return [self._settings.targets[name] for name in subject.targets]

    def _workloads(self, subject: Target | Group) -> str:
        return BETWEEN.join(str(target.ref) for target in self._members(subject))

    def _mine(self, verb: Verb) -> tuple[Target, ...]:
        return self._policy.targets(self._user, verb)

    def _help_view(self) -> render.HelpView:
        verbs = self._policy.verbs(self._user)
        names = {verb: self._policy.names(self._user, verb) for verb in verbs if verb in TARGETED}
        return render.HelpView(self.line.prefix, verbs, names)

    async def _status(self, command: Command) -> Ending:
        subject = self._named(command.target or "")
        if subject is not None and (refused := self.refusal(Verb.STATUS, subject)):
            await self.reply.finish(refused)
            return Ending("refused", subject if isinstance(subject, Target) else None)
        targets = self._members(subject) if subject else self._mine(Verb.STATUS)
        found = await self._service.statuses(targets)
        text = listing.statuses(found, self._shown(subject)) if found else render.no_target(Verb.STATUS)
        await self.reply.finish(render.with_cautions(text, self._answers._cautions()))
        failed = any(isinstance(status, ClusterError) for _, status in found)
        return Ending("failed" if failed else "done", targets[0] if len(targets) == 1 else None)

    def _shown(self, subject: Target | Group | None) -> Sequence[Group]:
        """The groups that a status of `subject`, or of everything, is about."""
        if isinstance(subject, Group):
            return (subject,)
        return () if subject else self._policy.groups(self._user, Verb.STATUS)

    async def _history(self, command: Command) -> Ending:
        subject = self._named(command.target or "")
        if subject is not None and (refused := self.refusal(Verb.HISTORY, subject)):
            await self.reply.finish(refused)
            return Ending("refused", subject if isinstance(subject, Target) else None)
        names = self._policy.names(self._user, Verb.HISTORY)
        if subject is not None:
            names = (subject.name, *(target.name for target in self._members(subject)))
        entries = await self._answers._ledger.history(names, HISTORY) if names else ()
        now = time.time()
        await self.reply.finish(listing.history(subject.name if subject else "", entries, now))
        return Ending("done", subject if isinstance(subject, Target) else None)

    def _subject(self, command: Command) -> Target | Group | str:
        """The target or group that is meant, or what to say instead."""
        if command.target is not None and (subject := self._named(command.target)):
            return self.refusal(command.verb, subject) or subject
        mine = self._mine(command.verb)
        if len(mine) == 1:
            return mine[0]
        if not mine:
            return render.no_target(command.verb)
        return render.which_target(command.verb, self.line.prefix, self._policy.names(self._user, command.verb))

    async def _toggle(self, command: Command) -> Ending:
        subject = self._subject(command)
        if isinstance(subject, str):
            await self.reply.finish(subject)
            return Ending("refused")
        return await self._overtaken() or await self._done(command.verb, subject)

    async def _go_on(self, command: Command) -> Ending:
        """Go on with what was begun before a restart, or say that it ends: it may be done, so it is not refused."""
        if overtaken := await self._overtaken():
            return overtaken
        said_no = self.refusal(command.verb) or self._age() is Age.OLD or self._not_now(command)
        subject = "" if said_no else self._subject(command)
        if not isinstance(subject, str):
            return await self._done(command.verb, subject)
        text = render.given_up(command.target or "", self.line.prefix)
        await self.reply.finish(text, text)
        return Ending("interrupted")

    async def _overtaken(self) -> Ending | None:
        """The end of what a newer command took over from before a restart, if one did."""
        entry = self._resumed
        by = await self._answers._ledger.overtaken_by(entry) if entry and entry.workload else ""
        if not entry or not by:
            return None
        await self.reply.finish(render.overtaken(entry.target, by))
        return Ending(Result.SUPERSEDED.value)

    async def _done(self, verb: Verb, subject: Target | Group) -> Ending:
        work = self._one(verb, subject) if isinstance(subject, Target) else self._in_turn(verb, subject)
        try:
            return await work
        except asyncio.CancelledError:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.reply.finish(render.interrupted(subject.name)), LAST_WORDS)
            raise

    async def _one(self, verb: Verb, target: Target) -> Ending:
        told = Told(self.reply)
        end = await self._service.toggle(
            *(verb, target, self._user, told.report, self._written),
            arrival=self.line.arrival,
            intent=self._intent(),
            began=self.began,
            said_at=self.line.sent_ms / 1000,
        )
        prefix = self.line.prefix
        call = render.call(end, prefix) if worth_a_call(end, self._user, told.alarmed) else ""
        await self.reply.finish(render.outcome(end, prefix), call)
        if end.result is Result.DONE and verb is not Verb.RESTART:
            self.done = Done(target, end, self._user, self.line.arrival)
        return Ending(audited(end), target, end.before, end.after)

    async def _in_turn(self, verb: Verb, group: Group) -> Ending:
        targets = turns(verb, self._members(group))
        told = ToldOfGroup(self.reply)
        end = await in_turn(
            self._service,
            Standing(group.name, verb, tuple(target.name for target in targets)),
            *(
                targets,
                self._user,
                told.report,
                StepRecord(self._answers._ledger, self.line.anchor.event, self._answers._log),
            ),
            arrival=self.line.arrival,
            intents={step.target: step.intent for step in self._steps},
            began=self.began,
        )
        prefix = self.line.prefix
        call = listing.call(end, prefix) if worth_a_call(end.whole, self._user, told.alarmed) else ""
        await self.reply.finish(listing.standing(end, prefix), call)
        return Ending(audited(end.whole))

    @property
    def began(self) -> float | None:
        """When a command that goes on after a restart was received, as `time.monotonic` counts."""
        if self._resumed is None:
            return None
        return time.monotonic() - max(0.0, time.time() - self._resumed.received_at / 1000)

    async def _written(self, before: int, after: int, done: bool) -> None:
        event, ledger = self.line.anchor.event, self._answers._ledger
        if not done:
            await ledger.intend(event, before, after)
            return
        try:
            await ledger.wrote(event)
        except Exception:  # noqa: BLE001 - a boundary: it is done, and the person waits for how it goes on
            self._answers._log.exception("event=%s written=not_stored", event)

    async def _check(self) -> str:
        began = time.monotonic()
        version = await or_error(self._service.version())
        seconds = time.monotonic() - began
        mine = () if isinstance(version, ClusterError) else self._mine(Verb.START)
        found = await side_by_side(lambda target: or_error(self._service.rights(target)), mine)
        rights = list(zip(mine, found, strict=True))
        device, fingerprint, trust = await self._answers._own_device()
        problems = (*self._in_force.problems, *cautions(self._settings), *self._answers._cautions())
        return render.check(
            render.CheckView(self.line.requester, version, seconds, rights, device, fingerprint, trust, problems)
        )
