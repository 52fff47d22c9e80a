"""Follows one roll-out to its end: complete, superseded, changed by other hands, or out of time.

It knows the cluster only as the `Cluster` that it declares, and tells what it sees as `Progress`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Protocol, TypeVar

from .errors import ClusterError, Forbidden
from .models import ClusterEvent, Phase, Pod, Progress, RolloutStatus, Workload, WorkloadRef
from .rollout import observed, rollout_status
from .tasks import cancelled

T = TypeVar("T")

LOOK_EVERY = 2.0
"""Seconds between two looks at the pods of a roll-out that is not complete; the workload itself is watched."""
FIRST_PAUSE = 0.25
"""Seconds until the first look without news; each next pause is twice as long, up to LOOK_EVERY."""
SETTLE = 2.0
"""Seconds that it must stay ready to be believed: without a probe, a container that exits at once is ready first."""
SETTLE_AFTER_STUCK = 10.0
"""The same for what was stuck before: between two crashes a container can be ready for a while."""
PATIENCE = 10.0
"""Seconds that a workload must be stuck without a break before somebody is called."""


class Evidence(Protocol):
    """What explains how a workload stands; every method raises `ClusterError`."""

    async def pods(self, workload: Workload) -> Sequence[Pod]: ...
    async def events(self, workload: Workload, pods: Sequence[Pod]) -> Sequence[ClusterEvent]: ...


class Cluster(Evidence, Protocol):
    """What following needs of the cluster; every method raises `ClusterError`."""

    def watch(self, ref: WorkloadRef) -> AsyncGenerator[Workload, None]: ...


class End(str, Enum):
    """How following ended."""

    COMPLETE = "complete"
    SUPERSEDED = "superseded"
    CHANGED = "changed"
    TIMED_OUT = "timed out"


Report = Callable[[Progress], None]
"""Takes the newest state; must not block, and may forget all but the last."""


@dataclass(eq=False)
class Claim:
    """A command's hold on its workloads, until a newer command wants one of them.

    Attributes:
        arrival: its place among all commands.
        several: whether it holds more than one.
    """

    arrival: int = 0
    several: bool = False
    superseded: asyncio.Event = field(default_factory=asyncio.Event)
    successor: str = ""

    def give_way(self, successor: str) -> None:
        """End what is done under this claim, because of `successor` (a Matrix ID)."""
        if not self.superseded.is_set():
            self.successor = successor
            self.superseded.set()


@dataclass(eq=False)
class Following:
    """One roll-out that a command follows."""

    target: str
    note: str = ""
    began: float = field(default_factory=time.monotonic)
    claim: Claim = field(default_factory=Claim)


class Diagnosis:
    """The status of a workload with its reason, as far as we may look; what was refused is not asked for again."""

    def __init__(self, cluster: Evidence, log: logging.Logger) -> None:
        self._cluster = cluster
        self._log = log
        self._refused: set[str] = set()

    async def of(self, workload: Workload) -> RolloutStatus:
        """How `workload` stands, and why."""
        status = rollout_status(workload)
        if status.phase is Phase.RUNNING:
            return status
        try:
            pods = await self._permitted("pods", lambda: self._cluster.pods(workload))
            events: Sequence[ClusterEvent] | None = None
            if pods is not None and workload.desired:
                events = await self._permitted("events", lambda: self._cluster.events(workload, pods))
        except ClusterError as error:
            self._log.info("workload=%s diagnosis=failed detail=%r", workload.ref, error.detail or str(error))
            # Whether the last pod is gone could not be asked: "off" would be a guess.
            return replace(status, phase=Phase.STOPPING) if status.phase is Phase.OFF else status
        if pods is None:
            # They may not be counted either: how many are ready is what the workload says, as far as it does.
            workload = replace(workload, counted=True)
        return rollout_status(workload, pods, events or (), time.time())

    async def _permitted(self, what: str, ask: Callable[[], Awaitable[T]]) -> T | None:
        if what in self._refused:
            return None
        try:
            return await ask()
        except Forbidden:
            self._refused.add(what)
            return None


async def unnoticed(_: Workload) -> None:
    """Makes nothing of it."""


class Follower:
    """Follows `ref` until it is as `goal` replicas say. Use it once.

    Args:
        goal: the ``spec.replicas`` that was asked for.
        report: is told each state that differs from the one before.
        seen: is given each state of the workload, before anything is made of it.
    """

    def __init__(
        self,
        cluster: Cluster,
        ref: WorkloadRef,
        goal: int,
        following: Following,
        report: Report,
        log: logging.Logger,
        seen: Callable[[Workload], Awaitable[None]] = unnoticed,
    ) -> None:
        self._cluster = cluster
        self._ref = ref
        self._seen = seen
        self._goal = goal
        self._following = following
        self._report = report
        self._diagnosis = Diagnosis(cluster, log)
        self._news = asyncio.Event()
        self._looked = time.monotonic()
        self._pace = FIRST_PAUSE
        self._ready_since: float | None = None
        self._stuck_since: float | None = None
        self._was_stuck = False
        self._relieved = False
        """Whether the last look was the first to find nothing in the way of what was stuck."""
        self._last_look: tuple[RolloutStatus, RolloutStatus] | None = None
        """At the last look at the pods: what the workload alone said, and what it was with them."""
        self._alarmed = False
        self._told: RolloutStatus | None = None
        self.workload: Workload | None = None
        """The newest object that the watch gave."""
        self.status: RolloutStatus | None = None
        """The newest status."""

    async def follow(self, timeout: float) -> End:
        """Follow for at most `timeout` seconds. Raises ClusterError when it cannot go on (deleted, no right)."""
        work: asyncio.Future[Any] = asyncio.ensure_future(self._to_the_end())
        newer: asyncio.Future[Any] = asyncio.ensure_future(self._following.claim.superseded.wait())
        try:
            await asyncio.wait({work, newer}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if self._following.claim.superseded.is_set():
                return End.SUPERSEDED
            return End(work.result()) if work.done() else End.TIMED_OUT
        finally:
            await cancelled(newer, work)

    async def _to_the_end(self) -> End:
        watch = asyncio.ensure_future(self._watch())
        try:
            while True:
                if watch.done():
                    watch.result()
                if self.workload is not None and (end := await self._look(self.workload)):
                    return end
                await self._pause(watch)
        finally:
            await cancelled(watch)

    async def _watch(self) -> None:
        async with aclosing(self._cluster.watch(self._ref)) as states:
            async for workload in states:
                await self._seen(workload)
                self.workload = workload
                if rollout_status(workload).phase is not Phase.RUNNING:
                    self._ready_since = None
                self._news.set()
        raise RuntimeError("a watch has no end of its own")

    async def _pause(self, watch: asyncio.Future[None]) -> None:
        """Until there is news, or it is time to look at the pods, or to believe that it is ready."""
        timeout = self._pace
        self._pace = min(2 * self._pace, LOOK_EVERY)
        if self._ready_since is not None:
            timeout = max(0.0, self._ready_since + self._settle - time.monotonic())
        news: asyncio.Future[Any] = asyncio.ensure_future(self._news.wait())
        try:
            await asyncio.wait({news, watch}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancelled(news)
        if self._news.is_set():
            self._pace = FIRST_PAUSE
        self._news.clear()

    async def _look(self, workload: Workload) -> End | None:
        if workload.desired != self._goal:
            self.status = await self._diagnosis.of(workload)
            return End.CHANGED
        status = await self._examined(workload)
        if status.phase is Phase.OFF or (status.phase is Phase.RUNNING and self._settled(workload)):
            self.status = status
            return End.COMPLETE
        if status.phase is not Phase.RUNNING:
            self._tell(status)
        elif self._stuck_since is None:
            self._tell(replace(status, phase=Phase.STARTING))
        # Else it was stuck and is ready for the first moment, as it is between two crashes: no news before it settles.
        return None

    async def _examined(self, workload: Workload) -> RolloutStatus:
        """The status; with the pods only when they are due, or when they alone can say that it is off."""
        status = rollout_status(workload)
        due = time.monotonic() - self._looked >= LOOK_EVERY
        if status.phase is Phase.RUNNING or not (due or status.phase is Phase.OFF):
            return self._keeping_reason(status)
        looked = self._believed(await self._diagnosis.of(workload))
        self._looked = time.monotonic()  # from its end: an API server that is slow is not asked more often
        if looked.phase is not Phase.RUNNING:
            self._ready_since = None
        self._last_look = status, looked
        return looked

    def _believed(self, looked: RolloutStatus) -> RolloutStatus:
        """What was stuck is so until two looks find nothing: between two crashes nothing is wrong for a moment."""
        first = self._stuck_since is not None and looked.phase is Phase.STARTING and not self._relieved
        self._relieved = first
        if first and self.status is not None:
            return replace(looked, phase=self.status.phase, reason=self.status.reason)
        return looked

    def _keeping_reason(self, status: RolloutStatus) -> RolloutStatus:
        """Between two looks, what the pods said last holds, as long as the workload itself is no further."""
        if self._last_look is None:
            return status
        alone, looked = self._last_look
        if alone.phase is not status.phase or (looked.phase, looked.reason) == (alone.phase, alone.reason):
            return status
        return replace(status, phase=looked.phase, reason=looked.reason)

    def _settled(self, workload: Workload) -> bool:
        if workload.min_ready_seconds > 0 and observed(workload):
            return True  # the cluster itself waited before it said available
        if self._ready_since is None:
            self._ready_since = time.monotonic()
        return time.monotonic() - self._ready_since >= self._settle

    @property
    def _settle(self) -> float:
        return SETTLE_AFTER_STUCK if self._was_stuck else SETTLE

    def _tell(self, status: RolloutStatus) -> None:
        self.status = status
        alarm = self._alarm_due(status)
        if alarm or _gist(status) != _gist(self._told):
            self._told = status
            seconds = time.monotonic() - self._following.began
            self._report(Progress(self._following.target, status, seconds, self._following.note, alarm))

    def _alarm_due(self, status: RolloutStatus) -> bool:
        """Once, when it has been stuck for PATIENCE without a break."""
        if not _held_up(status):
            self._stuck_since = None
            return False
        self._was_stuck = True
        if self._stuck_since is None:
            self._stuck_since = time.monotonic()
        if self._alarmed or time.monotonic() - self._stuck_since < PATIENCE:
            return False
        self._alarmed = True
        return True


def _held_up(status: RolloutStatus) -> bool:
    """Whether something is in its way that does not pass by itself, on its way up or down."""
    return status.phase is Phase.STUCK or (status.phase is Phase.STOPPING and bool(status.reason))


def _gist(status: RolloutStatus | None) -> RolloutStatus | None:
    """`status` without what changes all the time: a restart more, or another wording, is not worth an edit."""
    return status and replace(status, reason=re.split(r" \(|: ", status.reason, maxsplit=1)[0])
