"""The use cases: turn a workload on or off, and tell how it stands. One lock for each workload.

It knows neither Matrix nor Kubernetes: what it needs of either side it declares as a Protocol (here and in `follow`),
and whoever asks gets `Progress` while it lasts and an `Outcome` in the end.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from .aftermath import putting_back
from .errors import ClusterError, TimedOut, Unavailable, Unreachable
from .follow import Claim, Cluster, Diagnosis, End, Follower, Following, Report, unnoticed
from .lanes import Lane, Lanes
from .managers import called
from .models import (
    Autoscaler,
    Intent,
    Outcome,
    Phase,
    Result,
    Right,
    RolloutStatus,
    Verb,
    Workload,
    WorkloadRef,
)
from .other_hands import BETWEEN, remarks, suspects, warnings
from .overview import Lists, overview
from .plans import Plan, plan, restarting, resumed
from .restart import hindrance, stamp
from .restore import Counts, LastCounts
from .settings import Target
from .tasks import cancelled


class Workloads(Cluster, Lists, Protocol):
    """The cluster, as far as the use cases need it; every method raises `ClusterError`."""

    async def version(self) -> str: ...
    async def get(self, ref: WorkloadRef) -> Workload: ...
    async def scale(self, ref: WorkloadRef, replicas: int) -> None: ...
    async def restart(self, ref: WorkloadRef, stamp: str) -> None: ...
    async def autoscalers(self, ref: WorkloadRef) -> Sequence[Autoscaler]: ...
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


WARNED_WITHIN = 1.0
"""Seconds that the end of a command waits for what it runs into, where that was not known before."""
MOST_WATCHED = 20
"""Workloads that are watched at a time after they were done: each takes one of the connections that all need."""


class ToggleService:
    """Starts, stops, restarts and looks at workloads.

    Args:
        connect: makes, or returns, the connection to the cluster; raises `NotConfigured`.
        rollout_timeout: how many seconds a roll-out is followed; asked each time, for the settings may change.

    Attributes:
        lanes: who is at work on which workload.
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
        self.lanes = Lanes()
        self._watched = 0

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
        return replace(status, remark=remarks(workload, await self._autoscalers(await self._connect(), target.ref)))

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
        said_at: float | None = None,
    ) -> Outcome:
        """Bring `target` up (START) or to 0 (STOP), or replace its pods (RESTART), and follow it to the end.

        A `ClusterError` is in the outcome.

        Args:
            report: is told how it goes.
            written: is told the replicas before and after, before they are written and when the cluster took them.
            arrival: its place in the order of arrival: a newer command for the same workload wins. By default the last.
            intent: what it was about to write when its process died, if that is how it began.
            began: when it began, as `time.monotonic` counts.
            said_at: when the command was given, in seconds since the epoch, by the clock of whoever gave it. A restart
                is known by it, and made once, however often it is asked for with the same time. By default now.
        """
        with self.lanes.claimed((target.ref,), verb, by, arrival) as claim:
            return await self.step(verb, target, claim, report, written, intent=intent, began=began, said_at=said_at)

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
        said_at: float | None = None,
    ) -> Outcome:
        """As `toggle`, under a claim that holds `target` already."""
        following = Following(target.name, began=time.monotonic() if began is None else began, claim=claim)
        lane = self.lanes[target.ref]
        outcome = Outcome(Result.FAILED, target.name, verb)
        said = stamp(time.time() if said_at is None else said_at)
        task = _Toggle(outcome, target, lane, following, report, written, said, intent)
        try:
            outcome = await self._run(task)
        except ClusterError as error:
            self._log.warning("target=%s verb=%s error=%r detail=%r", target.name, verb.value, str(error), error.detail)
            outcome = replace(task.outcome, error=error)
        return replace(outcome, seconds=time.monotonic() - following.began)

    async def _run(self, task: _Toggle) -> Outcome:
        cluster = await self._connect()
        async with task.lane.lock:
            if task.is_needless():
                # Somebody newer waits for this lock already: what they undo at once need not be done.
                return task.superseded()
            workload = await cluster.get(task.target.ref)
            if task.is_needless():
                return task.superseded()
            hindered = task.hindrance(workload)
            decided = Plan(workload.desired, False) if hindered else await self._write(cluster, task, workload)
        if hindered:
            status = await Diagnosis(cluster, self._log).of(workload)
            return replace(task.outcome, result=Result.NOT_RESTARTED, status=status, note=hindered)
        if not decided.write and task.intent is None:
            status = await Diagnosis(cluster, self._log).of(workload)
            if status.phase in (Phase.RUNNING, Phase.OFF):
                return replace(task.outcome, result=Result.UNCHANGED, status=status)
        task.following.note = decided.note
        return await self._follow(cluster, task, workload, decided.goal)

    async def _follow(self, cluster: Workloads, task: _Toggle, workload: Workload, goal: int) -> Outcome:
        seen = self._seen_of(task.target)
        follower = Follower(cluster, workload.ref, goal, task.following, task.report, self._log, seen)
        warning: asyncio.Future[None] = asyncio.ensure_future(self._warn(cluster, task, workload))
        try:
            end = await follower.follow(self._rollout_timeout())
            await asyncio.wait({warning}, timeout=WARNED_WITHIN)
        finally:
            await cancelled(warning)
        if end is End.CHANGED and follower.workload is not None:
            by = called(follower.workload.scaled_by, workload.ref.kind)
            task.add_note("" if by else suspects(task.autoscalers, follower.workload.desired))
            task.outcome = replace(task.outcome, after=follower.workload.desired, by=by)
        else:
            task.outcome = replace(task.outcome, by=task.following.claim.successor)
        return replace(task.outcome, result=_RESULTS[end], status=follower.status)

    async def _warn(self, cluster: Workloads, task: _Toggle, workload: Workload) -> None:
        """Say what `task` runs into, as soon as that is known."""
        if task.outcome.verb is not Verb.RESTART:
            autoscalers = await self._autoscalers(cluster, workload.ref)
            warning = warnings(task.outcome.verb, workload, autoscalers)
            task.add_note(warning)
            task.autoscalers = () if warning else autoscalers

    async def _autoscalers(self, cluster: Workloads, ref: WorkloadRef) -> Sequence[Autoscaler]:
        """Those of `ref`; without an answer there are none, for nobody's command depends on them."""
        try:
            return await cluster.autoscalers(ref)
        except ClusterError as error:
            self._log.info("workload=%s autoscalers=unseen detail=%r", ref, error.detail or str(error))
            return ()

    async def put_back(self, target: Target, done: Outcome, by: str, arrival: int, at: float) -> Outcome | None:
        """How somebody put `target` back within a minute after `done`; None if nobody did, or a newer command came.

        Args:
            by, arrival: as of the command that is done.
            at: when it was done, as `time.monotonic` counts.
        """
        if self.lanes[target.ref].arrival != arrival or self._watched >= MOST_WATCHED:
            return None
        self._watched += 1
        try:
            with self.lanes.claimed((target.ref,), done.verb, by, arrival) as claim:
                cluster = await self._connect()
                workload = await putting_back(cluster, target.ref, done.verb, claim.superseded)
                if workload is None:
                    return None
                status = await Diagnosis(cluster, self._log).of(workload)
        except ClusterError as error:
            # How it ended was told; that it cannot be looked at any more, or was deleted since, is no news about that.
            self._log.info("workload=%s aftermath=unseen detail=%r", target.ref, error.detail or str(error))
            return None
        finally:
            self._watched -= 1
        seconds, who = time.monotonic() - at, called(workload.scaled_by, workload.ref.kind)
        return replace(done, result=Result.CHANGED, seconds=seconds, status=status, after=workload.desired, by=who)

    async def _write(self, cluster: Workloads, task: _Toggle, workload: Workload) -> Plan:
        verb, target = task.outcome.verb, task.target
        remembered = None if target.replicas is not None else await self._counts.recall(target.ref)
        if verb is Verb.RESTART:
            decided = restarting(workload, task.stamp, task.intent)
        elif task.intent is not None:
            decided = resumed(task.intent, workload)
        else:
            decided = plan(verb, workload, target.replicas, remembered)
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
                if verb is Verb.RESTART:
                    await cluster.restart(target.ref, task.stamp)
                else:
                    await cluster.scale(target.ref, decided.goal)
            except (Unreachable, TimedOut, Unavailable):
                # The answer was lost, the write perhaps not: what the count is now, is not known.
                task.outcome = replace(task.outcome, after=None)
                raise
            except ClusterError:
                task.outcome = replace(task.outcome, after=workload.desired)
                raise
            task.outcome = replace(task.outcome, written=True)
            await task.written(workload.desired, decided.goal, True)
        return decided


@dataclass
class _Toggle:
    """One command under way, and how far it has come."""

    outcome: Outcome
    target: Target
    lane: Lane
    following: Following
    report: Report
    written: Written
    stamp: str
    intent: Intent | None = None
    autoscalers: Sequence[Autoscaler] = ()
    """Those of the workload of which nothing was said yet."""

    def is_needless(self) -> bool:
        """Whether a newer command makes up for what this one has not done yet, or has ended the whole of it."""
        claim = self.following.claim
        return claim.superseded.is_set() and (claim.several or self.lane.is_needless(self.outcome.verb, claim.arrival))

    def hindrance(self, workload: Workload) -> str:
        """Why there is nothing to do but to say so; what was done before the process died is followed all the same."""
        if self.outcome.verb is not Verb.RESTART or (self.intent is not None and self.intent.written):
            return ""
        return hindrance(workload)

    def add_note(self, more: str) -> None:
        if more:
            note = BETWEEN.join(filter(None, (self.outcome.note, more)))
            self.outcome, self.following.note = replace(self.outcome, note=note), note

    async def note(self, decided: Plan, before: int, after: int) -> None:
        self.outcome = replace(self.outcome, before=before, after=after, note=decided.note)
        await self.written(before, after, False)

    def superseded(self) -> Outcome:
        return replace(self.outcome, result=Result.SUPERSEDED, by=self.following.claim.successor)
