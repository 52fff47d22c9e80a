"""One line of an allowed person, and everything that its answer depends on: refuse or run, and say how it ended."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from . import listing, render
from .access import TARGETED, AccessPolicy, Allowed, Refused
from .audit import Ending, Ledger, received
from .errors import ClusterError, SettingsProblem
from .grammar import ALL, WORDS, Fault, Misunderstood
from .groups import Group
from .inbox import Age, age
from .lasting import Done, End
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


@dataclass(frozen=True)
class Around:
    """What every answer draws on.

    Attributes:
        own_device: gives our device ID, our fingerprint and how far we are trusted ourselves.
        cautions: what an administrator should change in maubot, shown by `status` and `check`.
    """

    service: ToggleService
    ledger: Ledger
    own_device: Callable[[], Awaitable[tuple[str, str, Trust]]]
    cautions: Callable[[], Sequence[SettingsProblem]]
    log: logging.Logger
    late: Late = field(default_factory=Late)
    turns: Turns = field(default_factory=Turns)


class Asked:
    """One line, and everything that its answer depends on.

    Args:
        entry: what a process that died wrote down of it.
        steps: and of its steps, if it is about a group.
    """

    reply: ProgressMessage

    def __init__(
        self,
        around: Around,
        line: Line,
        in_force: InForce,
        entry: AuditEntry | None = None,
        steps: Sequence[Step] = (),
    ) -> None:
        self.line = line
        self.stored = True
        self._around = around
        self._service = around.service
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
            self.entry = received(line, line.parsed, subject, self._workloads(subject) if subject else "")

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
            await self._around.late.tell(self.line, self._settings.maximum_age, self.reply)
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
            async with self._around.turns.of(self._user):
                await self.reply.finish(await self._check())
        elif command.verb is Verb.HISTORY:
            return await self._history(command)
        elif command.verb is Verb.STATUS:
            async with self._around.turns.of(self._user):
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
        await self.reply.finish(render.with_cautions(text, self._around.cautions()))
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
        entries = await self._around.ledger.history(names, HISTORY) if names else ()
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
        by = await self._around.ledger.overtaken_by(entry) if entry and entry.workload else ""
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
        self._watch(verb, [End(target, end, time.monotonic())], lambda back: render.put_back(back[0]))
        prefix = self.line.prefix
        call = render.call(end, prefix) if worth_a_call(end, self._user, told.alarmed) else ""
        await self.reply.finish(render.outcome(end, prefix), call)
        return Ending(audited(end), target, end.before, end.after)

    def _watch(self, verb: Verb, ends: Sequence[End], words: Callable[[Sequence[Outcome]], str]) -> None:
        """Have it watched that `ends` last, but for those that were so already: nobody was told that they will."""
        done = [end for end in ends if end.outcome.result is Result.DONE]
        if done and verb is not Verb.RESTART:
            self.done = Done(done, self._user, self.line.arrival, words)

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
                StepRecord(self._around.ledger, self.line.anchor.event, self._around.log),
            ),
            arrival=self.line.arrival,
            intents={step.target: step.intent for step in self._steps},
            began=self.began,
        )
        if end.complete:
            self._watch(verb, _ends(targets, end), lambda back: listing.standing(replace(end, put_back=tuple(back))))
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
        event, ledger = self.line.anchor.event, self._around.ledger
        if not done:
            await ledger.intend(event, before, after)
            return
        try:
            await ledger.wrote(event)
        except Exception:  # a boundary: it is done, and the person waits for how it goes on
            self._around.log.exception("event=%s written=not_stored", event)

    async def _check(self) -> str:
        began = time.monotonic()
        version = await or_error(self._service.version())
        seconds = time.monotonic() - began
        mine = () if isinstance(version, ClusterError) else self._mine(Verb.START)
        found = await side_by_side(lambda target: or_error(self._service.rights(target)), mine)
        rights = list(zip(mine, found, strict=True))
        device, fingerprint, trust = await self._around.own_device()
        problems = (*self._in_force.problems, *cautions(self._settings), *self._around.cautions())
        return render.check(
            render.CheckView(self.line.requester, version, seconds, rights, device, fingerprint, trust, problems)
        )


def _ends(targets: Sequence[Target], how: Standing) -> list[End]:
    """The ends of a group's command that is complete: each was followed by those of the targets after it."""
    at, ends = time.monotonic(), []
    for target, outcome in zip(reversed(targets), reversed(how.ended), strict=True):
        ends.append(End(target, outcome, at))
        at -= outcome.seconds
    return ends
