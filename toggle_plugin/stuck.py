"""What keeps a roll-out from coming up. Pure.

A pod says more than its workload, so pods and events come first, then conditions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .models import ClusterEvent, Condition, Pod, Workload
from .shorten import creation_failure, shorten
from .stuck_pod import Obstacle, condition, pod_obstacle

FAILED_PODS = 2
"""Pods of one roll-out that failed as a whole: a single one is replaced."""
OVERDUE = 10.0
"""Seconds beyond its grace period that a pod may take to go: clocks differ, and kubelets have much to do."""


def obstacle(
    workload: Workload, pods: Sequence[Pod], events: Sequence[ClusterEvent], now: float | None = None
) -> Obstacle | None:
    """What keeps `workload` from coming up, or None where nothing is seen.

    Args:
        now: seconds since the epoch; None to leave out what only a clock can tell.
    """
    newest = _of_newest_revision(pods)
    found = [each for pod in newest if (each := pod_obstacle(pod, events))]
    for each in found:
        if each.lasting:
            return each
    without_pods = _held(workload) or _not_created(workload, events)
    if reason := without_pods or _failed_pods(workload, newest) or overdue(pods, now):
        return Obstacle(reason)
    late = _deadline_exceeded(workload)
    if found:
        return Obstacle(found[0].reason, late)
    return Obstacle("it made no progress within its progress deadline") if late else None


def overdue(pods: Iterable[Pod], now: float | None) -> str:
    """That a pod is still there although it should be gone, or nothing."""
    for pod in pods:
        if pod.delete_by is not None and now is not None and now > pod.delete_by + OVERDUE:
            kept = f"it is kept by its finalizer {', '.join(pod.finalizers)}"
            why = kept if pod.finalizers else "its node does not answer, or cannot end it"
            return f"pod {pod.name} did not go within its grace period: {why}"
    return ""


def _of_newest_revision(pods: Sequence[Pod]) -> list[Pod]:
    """Without those of older templates, which a roll-out takes away whatever becomes of them."""
    newest = max(pods, key=lambda pod: pod.created, default=None)
    return [pod for pod in pods if newest is not None and pod.revision == newest.revision]


def _held(workload: Workload) -> str:
    """That a pause keeps pods of an older template, or nothing: mere scaling it does not hold back."""
    if workload.paused and workload.replicas > workload.updated:
        return "it is paused, so its newest template is held back; resume it (kubectl rollout resume)"
    return ""


def _not_created(workload: Workload, events: Iterable[ClusterEvent]) -> str:
    """Why there are no pods to look at."""
    failure = condition(_conditions(workload), "ReplicaFailure", "True")
    return creation_failure(failure.message) if failure else _refused_creation(workload, events)


def _conditions(workload: Workload) -> Sequence[Condition]:
    """None while they may be about an older spec."""
    return workload.conditions if workload.observed_generation >= workload.generation else ()


def _refused_creation(workload: Workload, events: Iterable[ClusterEvent]) -> str:
    """What the newest event about creating pods says: a StatefulSet has no condition for it."""
    newest = max(
        (event for event in events if event.reason in ("FailedCreate", "SuccessfulCreate")),
        key=lambda event: (event.last_seen, event.reason == "SuccessfulCreate"),
        default=None,
    )
    if newest is None or newest.reason != "FailedCreate" or newest.last_seen < workload.scaled_at:
        return ""
    return creation_failure(newest.message)


def _failed_pods(workload: Workload, pods: Iterable[Pod]) -> str:
    """Pods that failed as a whole and were replaced, only to fail again: evicted, or refused by their node."""
    failed = [pod for pod in pods if pod.phase == "Failed" and pod.created >= workload.scaled_at]
    if len(failed) < FAILED_PODS:
        return ""
    # The first, so that the next one that fares no better is no news.
    first = min(failed, key=lambda pod: pod.created)
    what = "was evicted" if first.reason == "Evicted" else f"failed ({first.reason})" if first.reason else "failed"
    message = shorten(first.message)
    return f"pod {first.name} {what}, as others after it" + (f": {message}" if message else "")


def _deadline_exceeded(workload: Workload) -> bool:
    progressing = condition(_conditions(workload), "Progressing", "False")
    return progressing is not None and progressing.reason == "ProgressDeadlineExceeded"
