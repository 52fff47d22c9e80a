"""How many targets stand, in few requests: by lists where those are allowed, else by name, side by side in a bound."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from .errors import ClusterError
from .follow import Diagnosis, Evidence
from .models import Phase, RolloutStatus, Workload, WorkloadRef
from .rollout import rollout_status
from .settings import Target

T = TypeVar("T")
K = TypeVar("K")

SIDE_BY_SIDE = 8
"""Requests of one command that wait for their answer at a time."""
ONE_BY_ONE = 3
"""Workloads of a namespace whose pods are asked for one by one; those of more are listed together."""

Read = Mapping[WorkloadRef, Workload | ClusterError]
Tell = Callable[[Target, Workload, RolloutStatus], Awaitable[RolloutStatus]]
"""Says more of a workload than its pods do."""


class Lists(Evidence, Protocol):
    """What an overview needs of the cluster; every method raises `ClusterError`."""

    async def get(self, ref: WorkloadRef) -> Workload: ...

    async def all_of(self, refs: Sequence[WorkloadRef]) -> Read | None:
        """The workloads `refs`, of one kind in one namespace, by one list; None where that has to be by name."""

    def together(self, ref: WorkloadRef) -> Evidence:
        """What explains several workloads of the namespace of `ref`, asked for once."""


async def overview(
    cluster: Lists, targets: Sequence[Target], tell: Tell, log: logging.Logger
) -> list[tuple[str, RolloutStatus | ClusterError]]:
    """How `targets` stand, each with its name, in their order."""
    read = await _read(cluster, list(dict.fromkeys(target.ref for target in targets)))
    by_namespace = _grouped(targets, lambda target: target.ref.namespace)

    async def one(namespace: Sequence[Target]) -> list[tuple[str, RolloutStatus | ClusterError]]:
        return await _explained(cluster, namespace, read, tell, log)

    found = dict(pair for pairs in await side_by_side(one, list(by_namespace.values())) for pair in pairs)
    return [(target.name, found[target.name]) for target in targets]


async def side_by_side(ask: Callable[[K], Awaitable[T]], subjects: Sequence[K]) -> list[T]:
    """`ask` for each of `subjects`, a few at a time; the answers in their order."""
    places = asyncio.Semaphore(SIDE_BY_SIDE)

    async def one(subject: K) -> T:
        async with places:
            return await ask(subject)

    return list(await asyncio.gather(*(one(subject) for subject in subjects)))


async def or_error(work: Awaitable[T]) -> T | ClusterError:
    """What `work` gives, or the error that it raises."""
    try:
        return await work
    except ClusterError as error:
        return error


async def _read(cluster: Lists, refs: Sequence[WorkloadRef]) -> Read:
    """The workloads, or why there is none."""
    kinds = _grouped(refs, lambda ref: (ref.namespace, ref.api_version, ref.kind))
    several = [each for each in kinds.values() if len(each) > 1]
    lists = await side_by_side(lambda each: _list(cluster, each), several)
    read = {ref: found for each in lists for ref, found in each.items()}
    rest = [ref for ref in refs if ref not in read]
    by_name = await side_by_side(lambda ref: or_error(cluster.get(ref)), rest)
    return {**read, **dict(zip(rest, by_name, strict=True))}


async def _list(cluster: Lists, refs: Sequence[WorkloadRef]) -> Read:
    found = await or_error(cluster.all_of(refs))
    if isinstance(found, ClusterError):
        return dict.fromkeys(refs, found)
    return found or {}


async def _explained(
    cluster: Lists, targets: Sequence[Target], read: Read, tell: Tell, log: logging.Logger
) -> list[tuple[str, RolloutStatus | ClusterError]]:
    """How targets of one namespace stand, and why. One after the other: they share what is asked for."""
    found = [(target, read[target.ref]) for target in targets]
    unclear = {target.ref for target, workload in found if _needs_pods(workload)}
    evidence = cluster.together(targets[0].ref) if len(unclear) > ONE_BY_ONE else cluster
    diagnosis = Diagnosis(evidence, log)

    async def status(target: Target, workload: Workload) -> RolloutStatus:
        return await tell(target, workload, await diagnosis.of(workload))

    return [
        (target.name, what if isinstance(what, ClusterError) else await or_error(status(target, what)))
        for target, what in found
    ]


def _needs_pods(workload: Workload | ClusterError) -> bool:
    return isinstance(workload, Workload) and rollout_status(workload).phase is not Phase.RUNNING


def _grouped(items: Iterable[T], key: Callable[[T], object]) -> dict[object, list[T]]:
    groups: dict[object, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups
