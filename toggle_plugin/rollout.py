"""Where a roll-out stands, by kubectl's own rules, and why it is stuck. Pure: objects in, `RolloutStatus` out.

The rules are those of ``kubectl rollout status`` (k8s.io/kubectl, pkg/polymorphichelpers/rollout_status.go); the
reasons come from pods and events first, because a pod says more than its workload, then from conditions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .models import ClusterEvent, Condition, Container, Phase, Pod, RolloutStatus, Workload

REASON_LENGTH = 200
FAILED_PROBES = 3
"""Probe failures that are more than a slow start (kubelet's own default threshold)."""
CRASHES = 2
"""Restarts after which a container that is not ready is no slow starter (kubelet waits from the second on)."""
_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"})
_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_VOLUME_EVENTS = frozenset({"FailedMount", "FailedAttachVolume"})


def rollout_status(
    workload: Workload, pods: Sequence[Pod] | None = None, events: Sequence[ClusterEvent] = ()
) -> RolloutStatus:
    """The state of `workload`; `pods` is None where they were not, or may not be, looked at."""
    if workload.desired == 0:
        return _status(workload, Phase.OFF if _gone(workload, pods) else Phase.STOPPING)
    reason = stuck_reason(workload, pods or (), events)
    if reason:
        return _status(workload, Phase.STUCK, reason)
    waiting = waiting_for(workload)
    return _status(workload, Phase.STARTING if waiting else Phase.RUNNING, waiting)


def observed(workload: Workload) -> bool:
    """Whether the status is about the spec as it is; before that it tells of an older one."""
    return workload.observed_generation >= workload.generation


def waiting_for(workload: Workload) -> str:
    """What the roll-out still waits for, or nothing when it is complete."""
    if workload.deleting:
        return "it is being deleted"
    if not observed(workload):
        return "the cluster has not taken up the change yet"
    rules = _statefulset_waits if workload.ref.kind == "StatefulSet" else _deployment_waits
    return rules(workload)


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


def stuck_reason(workload: Workload, pods: Iterable[Pod], events: Sequence[ClusterEvent]) -> str:
    """Why `workload` will not come up by itself, as one plain sentence part, or nothing."""
    if observed(workload) and not waiting_for(workload):
        return ""
    for pod in pods:
        if not pod.terminating and (reason := _pod_reason(pod, events)):
            return reason
    return _condition_reason(workload) if observed(workload) else ""


def _pod_reason(pod: Pod, events: Sequence[ClusterEvent]) -> str:
    for container in pod.containers:
        if reason := _container_reason(pod, container):
            return reason
    if unschedulable := _condition(pod.conditions, "PodScheduled", "False"):
        return _because(f"pod {pod.name} has no node", unschedulable.message) if unschedulable.message else ""
    about = [event for event in events if event.object_name == pod.name and event.type == "Warning"]
    for event in about:
        if event.reason in _VOLUME_EVENTS and pod.phase == "Pending":
            return _because(f"pod {pod.name} waits for a volume", event.message)
        if event.reason == "Unhealthy" and pod.phase == "Running" and not pod.ready and event.count >= FAILED_PROBES:
            return _because(f"pod {pod.name} runs but fails its probe ({event.count} times)", event.message)
    return ""


def _container_reason(pod: Pod, container: Container) -> str:
    where = f"{'init ' if container.init else ''}container {container.name} of pod {pod.name}"
    if container.waiting_reason in _IMAGE:
        return _because(f"{where} cannot get its image ({container.waiting_reason})", container.waiting_message)
    if container.waiting_reason in _CONFIG:
        return _because(f"{where} cannot be created ({container.waiting_reason})", container.waiting_message)
    if container.exit_reason == "OOMKilled" and not container.ready and container.restarts:
        return f"{where} ran out of memory ({_restarts(container)})"
    if _crashing(container):
        return f"{where} keeps ending with {_exit(container)} ({_restarts(container)})"
    return ""


def _crashing(container: Container) -> bool:
    """Whether it keeps ending, also in the moments between, when it runs again and is not ready yet."""
    again = container.restarts >= CRASHES and container.exit_code is not None and not container.ready
    return again or container.waiting_reason == "CrashLoopBackOff"


def _because(what: str, message: str) -> str:
    text = shorten(message)
    return f"{what}: {text}" if text else what


def _exit(container: Container) -> str:
    return "an error" if container.exit_code is None else f"exit code {container.exit_code}"


def _restarts(container: Container) -> str:
    return f"{container.restarts} restart{'' if container.restarts == 1 else 's'}"


def _condition_reason(workload: Workload) -> str:
    if failure := _condition(workload.conditions, "ReplicaFailure", "True"):
        return _because("its pods cannot be created", failure.message)
    progressing = _condition(workload.conditions, "Progressing", "False")
    if progressing and progressing.reason == "ProgressDeadlineExceeded":
        return "it made no progress within its progress deadline"
    return ""


def _condition(conditions: Iterable[Condition], kind: str, status: str) -> Condition | None:
    return next((item for item in conditions if item.type == kind and item.status == status), None)


def shorten(message: str) -> str:
    """`message` on one line, its end cut where it is long, without URLs' queries (they can hold tokens)."""
    text = re.sub(r"(https?://[^\s?\"]+)\?[^\s\"]*", r"\1", " ".join(message.split())).rstrip(".")
    return text if len(text) <= REASON_LENGTH else text[: REASON_LENGTH - 1].rstrip() + "…"
