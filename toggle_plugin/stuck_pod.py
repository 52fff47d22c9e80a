"""What keeps one pod from being ready, in one plain sentence part with its name. Pure.

A container's state is told as Kubernetes names it (``ImagePullBackOff``), so that it can be looked up. What a container
wrote before it ended is never shown, nor what a probe or a hook wrote: that can be lines of a log, or worse.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .models import ClusterEvent, Condition, Container, Pod
from .shorten import claim_failure, image_failure, probe_failure, scheduling, shorten, start_failure, volume_failure

FAILED_PROBES = 3
"""Failures of a readiness probe that are more than a slow start (the kubelet's own default threshold)."""
CRASHES = 2
"""Restarts after which a container that is not ready is no slow starter (the kubelet waits from the second on)."""

_IMAGE = frozenset(
    {
        *("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"),
        *("RegistryUnavailable", "SignatureValidationFailed"),
    }
)
_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError"})
_START = frozenset({"RunContainerError", "StartError", "ContainerCannotRun"})
_VOLUME = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume"})
_CLAIM = frozenset({"FailedBinding", "ProvisioningFailed"})
PROBES = ("readiness", "liveness", "startup")
_OF_CLAIMS = ("PersistentVolumeClaim", "persistentvolumeclaim", "persistent volumes to bind")
"""How the scheduler says that a claim is what it waits for."""


@dataclass(frozen=True)
class Obstacle:
    """What is in the way of a roll-out; `lasting` unless it may be no more than a slow start."""

    reason: str
    lasting: bool = True


def pod_obstacle(pod: Pod, events: Sequence[ClusterEvent]) -> Obstacle | None:
    """What keeps `pod` from being ready, or None where nothing is seen.

    Args:
        events: about this pod, its claims, and any others.
    """
    if pod.terminating or pod.ready or pod.phase in ("Succeeded", "Failed"):
        return None
    about = [event for event in events if (event.object_kind, event.object_name) == ("Pod", pod.name)]
    for container in pod.containers:
        if reason := _container_reason(pod, container, about):
            return Obstacle(reason)
    if reason := _unscheduled(pod, events) or _not_set_up(pod, about):
        return Obstacle(reason)
    return _failing_probe(pod, about)


# Containers


def _container_reason(pod: Pod, container: Container, events: Sequence[ClusterEvent]) -> str:
    where = f"{'init ' if container.init else ''}container {container.name} of pod {pod.name}"
    return _not_made(where, container) or ("" if container.ready else _ended(where, container, events))


def _not_made(where: str, container: Container) -> str:
    reason, message = container.waiting_reason, container.waiting_message
    if reason in _IMAGE:
        image = " ".join(filter(None, ("its image", container.image)))
        return _because(f"{where} cannot get {image} ({reason})", image_failure(message))
    if reason in _CONFIG:
        return _because(f"{where} cannot be created ({reason})", shorten(message))
    if reason in _START:
        return _because(f"{where} cannot be started ({reason})", start_failure(message))
    return f"{where} fails in its hook after the start" if reason == "PostStartHookError" else ""


def _ended(where: str, container: Container, events: Sequence[ClusterEvent]) -> str:
    """Why a container that is not ready ends again and again, also in the moments between, when it runs again."""
    if container.exit_reason in _START and container.restarts:
        return _because(f"{where} cannot be started ({container.exit_reason})", start_failure(container.start_message))
    if container.exit_reason == "OOMKilled" and container.restarts:
        limit = f"limit {container.memory_limit}, " if container.memory_limit else ""
        return f"{where} ran out of memory ({limit}{_restarts(container)})"
    if container.restarts and (probe := _killed_by(container, events)):
        message = next((event.message for event in _unhealthy(events) if _probe_of(event) == probe), "")
        return _because(f"{where} fails its {probe} probe each time ({_restarts(container)})", probe_failure(message))
    again = container.restarts >= CRASHES and container.exit_code is not None
    if again or container.waiting_reason == "CrashLoopBackOff":
        return f"{where} keeps ending with {_exit(container)} ({_restarts(container)})"
    return ""


def _killed_by(container: Container, events: Iterable[ClusterEvent]) -> str:
    """The probe for whose failures the kubelet ended the container most times, or nothing."""
    for probe in ("startup", "liveness"):
        begin = f"Container {container.name} failed {probe} probe"
        kills = sum(event.count for event in events if event.reason == "Killing" and event.message.startswith(begin))
        if 2 * kills >= container.restarts:
            return probe
    return ""


def _exit(container: Container) -> str:
    return "an error" if container.exit_code is None else f"exit code {container.exit_code}"


def _restarts(container: Container) -> str:
    return f"{container.restarts} restart{'' if container.restarts == 1 else 's'}"


# What comes before the containers


def _unscheduled(pod: Pod, events: Iterable[ClusterEvent]) -> str:
    unscheduled = condition(pod.conditions, "PodScheduled", "False")
    if unscheduled is None or not unscheduled.message:
        return ""
    if pod.claims and any(words in unscheduled.message for words in _OF_CLAIMS):
        return _unbound(pod, events, unscheduled.message)
    return f"pod {pod.name} has no node: {scheduling(unscheduled.message)}"


def _unbound(pod: Pod, events: Iterable[ClusterEvent], message: str) -> str:
    """Which claim a pod waits for: the one that the cluster complains of, else all that it may be."""
    for event in events:
        if event.object_kind == "PersistentVolumeClaim" and event.object_name in pod.claims and event.reason in _CLAIM:
            return _because(f"pod {pod.name} waits for its claim {event.object_name}", shorten(event.message))
    claims = f"its claim{'' if len(pod.claims) == 1 else 's'} {', '.join(pod.claims)}"
    return _because(f"pod {pod.name} waits for {claims}", claim_failure(message))


def _not_set_up(pod: Pod, events: Iterable[ClusterEvent]) -> str:
    """Why a pod that has a node has no containers yet; old events say nothing once it had its volumes and network."""
    if pod.phase != "Pending" or condition(pod.conditions, "PodReadyToStartContainers", "True"):
        return ""
    for event in _warnings(events):
        if event.reason in _VOLUME:
            return f"pod {pod.name} waits for {volume_failure(event.message)}"
        if event.reason == "FailedCreatePodSandBox":
            return _because(f"pod {pod.name} cannot be set up on its node", start_failure(event.message))
    return ""


# Probes


def _failing_probe(pod: Pod, events: Sequence[ClusterEvent]) -> Obstacle | None:
    """A probe that fails while its container runs, always the same one of several."""
    if pod.phase != "Running":
        return None
    for probe in PROBES:
        if failures := [event for event in _unhealthy(events) if _probe_of(event) == probe]:
            times = sum(event.count for event in failures)
            what = f"pod {pod.name} runs but fails its {probe} probe ({times} time{'' if times == 1 else 's'})"
            # For the others the kubelet itself decides when it was too long, and restarts the container.
            lasting = probe == "readiness" and times >= FAILED_PROBES
            return Obstacle(_because(what, probe_failure(failures[0].message)), lasting)
    return None


def _unhealthy(events: Iterable[ClusterEvent]) -> list[ClusterEvent]:
    return [event for event in _warnings(events) if event.reason == "Unhealthy"]


def _probe_of(event: ClusterEvent) -> str:
    """``readiness``, ``liveness`` or ``startup``: the message begins with it."""
    return event.message.split(maxsplit=1)[0].lower() if event.message else ""


def _warnings(events: Iterable[ClusterEvent]) -> list[ClusterEvent]:
    return [event for event in events if event.type == "Warning"]


def _because(what: str, why: str) -> str:
    return f"{what}: {why}" if why else what


def condition(conditions: Iterable[Condition], kind: str, status: str) -> Condition | None:
    """The condition of that type, if it has that status."""
    return next((item for item in conditions if item.type == kind and item.status == status), None)
