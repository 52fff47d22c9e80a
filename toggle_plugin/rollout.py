"""Where a roll-out stands, by kubectl's own rules. Pure: objects in, `RolloutStatus` out.

The rules are those of ``kubectl rollout status`` (k8s.io/kubectl, pkg/polymorphichelpers/rollout_status.go) for the
kinds that it knows, and for every other that all wanted replicas are there, of the newest template, and available.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from .models import ClusterEvent, Phase, Pod, RolloutStatus, Workload
from .stuck import obstacle, overdue


def rollout_status(
    workload: Workload,
    pods: Sequence[Pod] | None = None,
    events: Sequence[ClusterEvent] = (),
    now: float | None = None,
) -> RolloutStatus:
    """The state of `workload`, and what keeps it from another one.

    Args:
        pods: None where they were not, or may not be, looked at.
        now: seconds since the epoch; None to leave out what only a clock can tell.
    """
    if not workload.counted:
        workload = counted(workload, pods or ())
    if workload.desired == 0:
        return _status(workload, Phase.OFF) if _gone(workload, pods) else _stopping(workload, pods, now)
    waiting = waiting_for(workload)
    if not waiting:
        return _status(workload, Phase.RUNNING)
    found = obstacle(workload, pods or (), events, now)
    if found is None:
        return _status(workload, Phase.STARTING, waiting)
    return _status(workload, Phase.STUCK if found.lasting else Phase.STARTING, found.reason)


def _stopping(workload: Workload, pods: Sequence[Pod] | None, now: float | None) -> RolloutStatus:
    return _status(workload, Phase.STOPPING, overdue(pods or (), now))


def counted(workload: Workload, pods: Iterable[Pod]) -> Workload:
    """`workload` with as many replicas ready and available as there are ready pods, but no more than it says it has."""
    ready = min(workload.replicas, sum(pod.ready and not pod.terminating for pod in pods))
    return replace(workload, ready=ready, available=ready)


def observed(workload: Workload) -> bool:
    """Whether the status is about the spec as it is; before that it tells of an older one."""
    return workload.observed_generation >= workload.generation


def waiting_for(workload: Workload) -> str:
    """What the roll-out still waits for, or nothing when it is complete."""
    if workload.deleting:
        return "it is being deleted"
    if not observed(workload):
        return "the cluster has not taken up the change yet"
    return _WAITS.get(workload.ref.full_kind, _custom_waits)(workload)


def _deployment_waits(workload: Workload) -> str:
    if workload.updated < workload.desired:
        return _of("updated", workload.updated, workload.desired)
    if workload.replicas > workload.updated:
        old = workload.replicas - workload.updated
        return "1 old pod is still there" if old == 1 else f"{old} old pods are still there"
    if workload.available < workload.updated:
        return _of("available", workload.available, workload.updated)
    return ""


def _statefulset_waits(workload: Workload) -> str:
    if workload.ready < workload.desired:
        return _of("ready", workload.ready, workload.desired)
    if workload.update_strategy != "RollingUpdate":
        return ""  # OnDelete has no roll-out to wait for
    wanted = workload.desired - workload.partition
    return _of("updated", workload.updated, wanted) if workload.updated < wanted else ""


def _replicaset_waits(workload: Workload) -> str:
    # It never replaces a pod whose template is an older one, so it has no updated ones.
    return _custom_waits(replace(workload, updated=workload.replicas))


def _custom_waits(workload: Workload) -> str:
    if workload.replicas < workload.desired:
        return _of("there", workload.replicas, workload.desired)
    if workload.replicas > workload.desired:
        beyond = workload.replicas - workload.desired
        return "1 pod too many is still there" if beyond == 1 else f"{beyond} pods too many are still there"
    if workload.updated < workload.desired:
        return _of("updated", workload.updated, workload.desired)
    return _of("available", workload.available, workload.desired) if workload.available < workload.desired else ""


_WAITS = {"Deployment": _deployment_waits, "StatefulSet": _statefulset_waits, "ReplicaSet": _replicaset_waits}


def _of(what: str, count: int, wanted: int) -> str:
    return f"{count} of {wanted} {what}"


def _gone(workload: Workload, pods: Sequence[Pod] | None) -> bool:
    # status.replicas leaves out pods that are terminating: off is said when the pods themselves are gone.
    return observed(workload) and workload.replicas == 0 and not any(not _finished(pod) for pod in pods or ())


def _finished(pod: Pod) -> bool:
    return pod.phase in ("Succeeded", "Failed") and not pod.terminating


def _status(workload: Workload, phase: Phase, reason: str = "") -> RolloutStatus:
    # Counts of an older spec would be lies, but the pods they count are there all the same.
    return RolloutStatus(phase, workload.desired, workload.ready, workload.available, reason)
