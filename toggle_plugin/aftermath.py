"""Watches for a while that a start or stop which is done lasts: whoever puts it back does so after that."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

from .follow import Cluster
from .models import Verb, Workload, WorkloadRef
from .other_hands import undone
from .tasks import cancelled

LASTS = 60.0
"""Seconds: Argo CD heals itself within some, KEDA looks every thirty; what comes later is nobody's answer any more."""


async def putting_back(cluster: Cluster, ref: WorkloadRef, verb: Verb, newer: asyncio.Event) -> Workload | None:
    """The workload as somebody put it back within `LASTS` seconds; None if nobody did.

    Args:
        newer: set when a newer command is given for it, which may put it back: then nothing more is looked at.

    Raises:
        ClusterError: it cannot be looked at any more, or was deleted.
    """
    watching: asyncio.Future[Workload] = asyncio.ensure_future(_until_undone(cluster, ref, verb))
    given: asyncio.Future[Any] = asyncio.ensure_future(newer.wait())
    try:
        await asyncio.wait({watching, given}, timeout=LASTS, return_when=asyncio.FIRST_COMPLETED)
        return watching.result() if watching.done() and not newer.is_set() else None
    finally:
        await cancelled(given, watching)


async def _until_undone(cluster: Cluster, ref: WorkloadRef, verb: Verb) -> Workload:
    async with aclosing(cluster.watch(ref)) as states:
        async for workload in states:
            if undone(verb, workload):
                return workload
    raise RuntimeError("a watch has no end of its own")
