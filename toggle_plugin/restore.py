"""Which count ``replicas: restore`` brings back: the last one that a workload was seen with, whoever set it."""

from __future__ import annotations

import logging
from typing import Protocol

from .models import Workload, WorkloadRef


class Counts(Protocol):
    """Keeps how many replicas each workload had last, when it had any."""

    async def remember(self, ref: WorkloadRef, replicas: int) -> None: ...
    async def recall(self, ref: WorkloadRef) -> int | None: ...


class LastCounts:
    """Notices how many replicas a workload has wherever one is seen, so that a stop by other hands loses nothing."""

    def __init__(self, counts: Counts, log: logging.Logger) -> None:
        self._counts = counts
        self._log = log
        self._known: dict[WorkloadRef, int | None] = {}

    async def see(self, workload: Workload) -> None:
        """Remember the count of `workload`, if it has one that is another than it had when it was seen last."""
        if not workload.desired:
            return
        try:
            if await self.recall(workload.ref) != workload.desired:
                await self.remember(workload)
        except Exception:  # noqa: BLE001 - a boundary: what is only looked at must be told also without a database
            self._log.exception("workload=%s replicas=%d remembered=no", workload.ref, workload.desired)

    async def remember(self, workload: Workload) -> None:
        """Remember the count of `workload`, which is not 0; raises what the database raises."""
        await self._counts.remember(workload.ref, workload.desired)
        self._known[workload.ref] = workload.desired

    async def recall(self, ref: WorkloadRef) -> int | None:
        """The count to bring back, if one is known; raises what the database raises."""
        if ref not in self._known:
            self._known[ref] = await self._counts.recall(ref)
        return self._known[ref]
