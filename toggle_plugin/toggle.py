"""The use cases: turn a workload on or off, and tell how it stands. One lock for each workload.

It knows neither Matrix nor Kubernetes: what it needs of either side it declares as a Protocol (here and in `follow`),
and whoever asks gets `Progress` while it lasts and an `Outcome` in the end.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from .errors import ClusterError, TimedOut, Unavailable, Unreachable
from .follow import Claim, Cluster, Diagnosis, End, Follower, Following, Report, unnoticed
from .managers import called
from .models import Intent, Outcome, Phase, Result, Right, RolloutStatus, Verb, Workload, WorkloadRef
from .overview import Lists, overview
from .restore import Counts, LastCounts
from .settings import Target


class Workloads(Cluster, Lists, Protocol):
    """The cluster, as far as the use cases need it; every method raises `ClusterError`."""

    async def version(self) -> str: ...
    async def get(self, ref: WorkloadRef) -> Workload: ...
    async def scale(self, ref: WorkloadRef, replicas: int) -> None: ...
    async def rights(self, ref: WorkloadRef) -> Sequence[Right]: ...


Written = Callable[[int, int, bool], Awaitable[None]]
"""Takes ``spec.replicas`` before and after, and whether the cluster took that: ahead of a write, and again after it."""


async def _nowhere(*_: object) -> None:
    """Writes nothing down."""


_RESULTS = {
    End.COMPLETE: Result.DONE,
    End.SUPERSEDED: Result.SUPERSEDED,
    End.CHANGED: Result.CHANGED,
    End.TIMED_OUT: Result.TIMED_OUT,
}


@dataclass(frozen=True)
class Plan:
    """What to do about the replica count: the goal, whether it must be written, and what to say about it."""

    goal: int
    write: bool
    note: str = ""


@dataclass
class _Lane:
    """What happens to one workload: writes one after the other, and at most one follower, the newest."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    newest: Claim | None = None
    arrival: int = 0
    by: str = ""

    def enter(self, claim: Claim, arrival: int, by: str) -> None:
        if self.newest is not None:
            self.newest.give_way(by)
        self.newest, self.arrival, self.by = claim, arrival, by

    def leave(self, claim: Claim) -> None:
        if self.newest is claim:
            self.newest = None


def resumed(intent: Intent, workload: Workload) -> Plan:
    """What is left to do of a command whose process died: the write, unless it, or one of somebody else's, was made."""
    return Plan(intent.after, not intent.written and workload.desired == intent.before != intent.after)


def plan(verb: Verb, workload: Workload, wanted: int | None, remembered: int | None) -> Plan:
    """What `verb` does to `workload`; a start never takes replicas away.

    Args:
        wanted: the target's replicas; None to restore what there was before the last stop.
        remembered: that count, if it is known.
    """
    if verb is Verb.STOP:
        return Plan(0, workload.desired != 0)
    if wanted is None and workload.desired:
        return Plan(workload.desired, False)
    if wanted is None:
        return Plan(remembered or 1, True, "" if remembered else "how many replicas it had is not known, so it gets 1")
    if workload.desired > wanted:
        return Plan(
            workload.desired, False, f"it has {workload.desired} replicas, more than the {wanted} set, and keeps them"
        )
    return Plan(wanted, workload.desired < wanted)


def warned(decided: Plan, owner: str) -> Plan:
    """`decided`, with a warning where the workload's owner sets its replicas and will undo the write."""
    if not decided.write or not owner:
        return decided
    warning = f"it belongs to {owner}, which may set its replicas back; better make that the target"
    return replace(decided, note=f"{decided.note}; {warning}" if decided.note else warning)


class ToggleService:
    """Starts, stops and looks at workloads.

    Args:
        connect: makes, or returns, the connection to the cluster; raises `NotConfigured`.
        rollout_timeout: how many seconds a roll-out is followed; asked each time, for the settings may change.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Workloads]],
        counts: Counts,
        rollout_timeout: Callable[[], float],
        log: logging.Logger,
    ) -> None:
        self._connect = connect
        self._counts = LastCounts(counts, log)
        self._rollout_timeout = rollout_timeout
        self._log = log
        self._lanes: dict[WorkloadRef, _Lane] = {}

    async def status(self, target: Target) -> RolloutStatus:
        """How `target` stands now. Raises ClusterError."""
        cluster = await self._connect()
        workload = await cluster.get(target.ref)
        return await self._told(target, workload, await Diagnosis(cluster, self._log).of(workload))

    async def statuses(self, targets: Sequence[Target]) -> list[tuple[str, RolloutStatus | ClusterError]]:
        """How `targets` stand now, each with its name."""
        try:
            cluster = await self._connect()
        except ClusterError as error:
            return [(target.name, error) for target in targets]
        return await overview(cluster, targets, self._told, self._log)

    async def _told(self, target: Target, workload: Workload, status: RolloutStatus) -> RolloutStatus:
        """What to tell of `workload`, which was looked at and is `status`."""
        await self._seen_of(target)(workload)
        return status

    def _seen_of(self, target: Target) -> Callable[[Workload], Awaitable[None]]:
        """What is to be done with each state of `target` that is seen."""
        return self._counts.see if target.replicas is None else unnoticed

    async def version(self) -> str:
        """The API server's version, as a sign of life. Raises ClusterError."""
        return await (await self._connect()).version()

    async def rights(self, target: Target) -> Sequence[Right]:
        """What we may do to `target`. Raises ClusterError."""
        return await (await self._connect()).rights(target.ref)

    async def toggle(
        self,
        verb: Verb,
        target: Target,
        by: str,
        report: Report,
        written: Written = _nowhere,
        *,
        arrival: int | None = None,
        intent: Intent | None = None,
        began: float | None = None,
    ) -> Outcome:
        """Bring `target` up (START) or to 0 (STOP), and follow it to the end; a `ClusterError` is in the outcome.

        Args:
            report: is told how it goes.
            written: is told the replicas before and after, before they are written and when the cluster took them.
            arrival: its place in the order of arrival: a newer command for the same workload wins. By default the last.
            intent: what it was about to write when its process died, if that is how it began.
            began: when it began, as `time.monotonic` counts.
        """
        with self.claimed((target.ref,), by, arrival) as claim:
            return await self.step(verb, target, claim, report, written, intent=intent, began=began)

    @contextmanager
    def claimed(self, refs: Sequence[WorkloadRef], by: str, arrival: int | None = None) -> Iterator[Claim]:
        """Hold `refs` for a command of `by`, taken over from whoever held one of them.

        The claim gives way at once where somebody who said later what is to be of one of them was quicker to get here.
        """
        lanes = {ref: self._lanes.setdefault(ref, _Lane()) for ref in refs}.values()
        newest = max(lanes, key=lambda lane: lane.arrival)
        place, claim = newest.arrival + 1 if arrival is None else arrival, Claim()
        if place < newest.arrival:
            claim.give_way(newest.by)
        else:
            for lane in lanes:
                lane.enter(claim, place, by)
        try:
            yield claim
        finally:
            for lane in lanes:
                lane.leave(claim)

    async def step(
        self,
        verb: Verb,
        target: Target,
        claim: Claim,
        report: Report,
        written: Written,
        *,
        intent: Intent | None = None,
        began: float | None = None,
    ) -> Outcome:
        """As `toggle`, under a claim that holds `target` already."""
        following = Following(target.name, began=time.monotonic() if began is None else began, claim=claim)
        lane = self._lanes[target.ref]
        task = _Toggle(Outcome(Result.FAILED, target.name, verb), target, lane, following, report, written, intent)
        try:
            outcome = await self._run(task)
        except ClusterError as error:
            self._log.warning("target=%s verb=%s error=%r detail=%r", target.name, verb.value, str(error), error.detail)
            outcome = replace(task.outcome, error=error)
        return replace(outcome, seconds=time.monotonic() - following.began)

    async def _run(self, task: _Toggle) -> Outcome:
        cluster = await self._connect()
        async with task.lane.lock:
            if task.following.claim.superseded.is_set():
                # Somebody newer waits for this lock already: what they undo at once need not be done.
                return task.superseded()
            workload = await cluster.get(task.target.ref)
            if task.following.claim.superseded.is_set():
                return task.superseded()
            decided = await self._write(cluster, task, workload)
        if not decided.write and task.intent is None:
            status = await Diagnosis(cluster, self._log).of(workload)
            if status.phase in (Phase.RUNNING, Phase.OFF):
                return replace(task.outcome, result=Result.UNCHANGED, status=status)
        task.following.note = decided.note
        seen = self._seen_of(task.target)
        follower = Follower(cluster, workload.ref, decided.goal, task.following, task.report, self._log, seen)
        end = await follower.follow(self._rollout_timeout())
        outcome = replace(task.outcome, result=_RESULTS[end], status=follower.status, by=task.following.claim.successor)
        if end is End.CHANGED and follower.workload is not None:
            by = called(follower.workload.scaled_by, workload.ref.kind)
            return replace(outcome, after=follower.workload.desired, by=by)
        return outcome

    async def _write(self, cluster: Workloads, task: _Toggle, workload: Workload) -> Plan:
        verb, target = task.outcome.verb, task.target
        remembered = None if target.replicas is not None else await self._counts.recall(target.ref)
        if task.intent is not None:
            decided = resumed(task.intent, workload)
        else:
            decided = warned(plan(verb, workload, target.replicas, remembered), workload.owner)
        if not decided.write:
            await task.note(decided, before=task.intent.before if task.intent else workload.desired, after=decided.goal)
        else:
            if verb is Verb.STOP:
                # Before the write, so that a crash in between forgets nothing; a repeated stop finds 0 and writes no 0.
                await self._counts.remember(workload)
            # Written down ahead of it too: whoever goes on after a crash must know what this command was about to do.
            await task.note(decided, before=workload.desired, after=decided.goal)
            # What fails is not written down as such before the person was told: after a crash it is tried again.
            try:
                await cluster.scale(target.ref, decided.goal)
            except (Unreachable, TimedOut, Unavailable):
                # The answer was lost, the write perhaps not: what the count is now, is not known.
                task.outcome = replace(task.outcome, after=None)
                raise
            except ClusterError:
                task.outcome = replace(task.outcome, after=workload.desired)
                raise
            await task.written(workload.desired, decided.goal, True)
        return decided


@dataclass
class _Toggle:
    """One start or stop under way, and how far it has come."""

    outcome: Outcome
    target: Target
    lane: _Lane
    following: Following
    report: Report
    written: Written
    intent: Intent | None = None

    async def note(self, decided: Plan, before: int, after: int) -> None:
        self.outcome = replace(self.outcome, before=before, after=after, note=decided.note)
        await self.written(before, after, False)

    def superseded(self) -> Outcome:
        return replace(self.outcome, result=Result.SUPERSEDED, by=self.following.claim.successor)
