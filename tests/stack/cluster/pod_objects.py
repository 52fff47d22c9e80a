"""Pods as objects: each function gives the pod's next state as the kubelet and the scheduler write it."""

from __future__ import annotations

import copy
import random

from .resources import STATEFULSETS, Json, Resource
from .store import timestamp
from .workload_objects import pods_owner, revision, template_hash

# Kubernetes' own alphabet for generated names: no vowels, nothing that looks like another character.
ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
GRACE_PERIOD = 30
"""Seconds that a pod may take to end, where its template says nothing else."""


_NOT = {
    "PodReadyToStartContainers": {"reason": "PodSandboxNotReady", "message": "no pod sandbox exists"},
    "Initialized": {"reason": "ContainersNotInitialized", "message": "containers with incomplete status"},
    "ContainersReady": {"reason": "ContainersNotReady", "message": "containers with unready status"},
    "Ready": {"reason": "ContainersNotReady", "message": "containers with unready status"},
}
"""What the kubelet says of a condition that is not met."""


def random_name(prefix: str) -> str:
    """`prefix` and five characters, as ``generateName`` makes them."""
    return f"{prefix}-{''.join(random.choices(ALPHABET, k=5))}"  # noqa: S311 - a name, no secret


def new_pod(resource: Resource, workload: Json, name: str) -> Json:
    """A pod that nobody has looked at yet."""
    template = workload["spec"]["template"]
    kind, owner_name = pods_owner(workload)
    api_version = "apps/v1" if kind == "ReplicaSet" else resource.api_version
    owner = {"apiVersion": api_version, "kind": kind, "name": owner_name, "controller": True}
    labels = {**template["metadata"]["labels"]}
    if kind == "ReplicaSet":
        labels["pod-template-hash"] = template_hash(workload)
    else:
        labels["controller-revision-hash"] = revision(workload)
    if resource == STATEFULSETS:
        labels["statefulset.kubernetes.io/pod-name"] = name
    metadata = {"name": name, "namespace": workload["metadata"]["namespace"], "labels": labels}
    metadata["ownerReferences"] = [owner]
    return {"metadata": metadata, "spec": copy.deepcopy(template["spec"]), "status": {"phase": "Pending"}}


def unschedulable(pod: Json, message: str) -> Json:
    """The scheduler found no node."""
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return _with_status(pod, conditions=[{**condition, "lastTransitionTime": timestamp()}])


def creating(pod: Json) -> Json:
    """On a node, no container yet, and no sandbox for them."""
    placed = _with_spec(pod, nodeName="node-1")
    if "initContainers" not in pod["spec"]:
        return _without_sandbox(waiting(placed, "ContainerCreating", ""))
    return _without_sandbox(waiting(waiting(placed, "PodInitializing", ""), "PodInitializing", "", init=True))


def waiting(pod: Json, reason: str, message: str, *, init: bool = False) -> Json:
    """The container waits, for example for its image or out of a back-off."""
    state = {"waiting": {"reason": reason, **({"message": message} if message else {})}}
    phase = "Running" if reason == "CrashLoopBackOff" and not init else "Pending"
    return _with_container(pod, phase=phase, state=state, ready=False, init=init)


def running(pod: Json, *, ready: bool, init: bool = False) -> Json:
    """The container runs; `ready` is what its probe says."""
    state = {"running": {"startedAt": timestamp()}}
    return _with_container(pod, phase="Pending" if init else "Running", state=state, ready=ready, init=init)


def ended(pod: Json, exit_code: int, reason: str = "", *, init: bool = False) -> Json:
    """The container ended and counts as one more restart to come; with 0, an init container has done its work."""
    times = {"startedAt": timestamp(), "finishedAt": timestamp()}
    reason = reason or ("Completed" if exit_code == 0 else "Error")
    state = {"terminated": {"exitCode": exit_code, "reason": reason, **times}}
    done = init and exit_code == 0
    return _with_container(pod, phase="Pending" if init else "Running", state=state, ready=done, init=init)


def evicted(pod: Json, message: str) -> Json:
    """The node ended it, and it is not started again."""
    over = _with_status(ended(pod, 137), phase="Failed", reason="Evicted", message=message)
    return _with_status(over, conditions=[{**_condition("Ready", False), "reason": "PodFailed", "message": ""}])


def terminating(pod: Json) -> Json:
    """Somebody deleted it; it lives on for its grace period."""
    new = copy.deepcopy(pod)
    grace = pod["spec"].get("terminationGracePeriodSeconds", GRACE_PERIOD)
    # The API server writes when that will be over, not when it began.
    new["metadata"].update(deletionTimestamp=timestamp(grace), deletionGracePeriodSeconds=grace)
    return new


def revision_hash(pod: Json) -> str:
    """The `template_hash` that it was made from."""
    labels = pod["metadata"]["labels"]
    return str(labels.get("pod-template-hash") or labels["controller-revision-hash"].rsplit("-", 1)[1])


def is_terminating(pod: Json) -> bool:
    """Whether it has been deleted and still ends."""
    return "deletionTimestamp" in pod["metadata"]


def is_over(pod: Json) -> bool:
    """Whether it failed as a whole: nothing in it runs any more."""
    return bool(pod["status"].get("phase") == "Failed")


def is_ready(pod: Json) -> bool:
    """The Ready condition."""
    conditions = pod["status"].get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def restarts(pod: Json, *, init: bool) -> int:
    """How often its container, or its init container, was started again."""
    statuses = pod["status"].get("initContainerStatuses" if init else "containerStatuses", [])
    return sum(status["restartCount"] for status in statuses)


def _with_spec(pod: Json, **fields: object) -> Json:
    new = copy.deepcopy(pod)
    new["spec"].update(fields)
    return new


def _with_status(pod: Json, **fields: object) -> Json:
    new = copy.deepcopy(pod)
    new["status"].update(fields)
    return new


def _with_container(pod: Json, *, phase: str, state: Json, ready: bool, init: bool) -> Json:
    key = "initContainerStatuses" if init else "containerStatuses"
    old = next(iter(pod["status"].get(key, [])), None)
    spec = pod["spec"]["initContainers" if init else "containers"][0]
    before = old["state"] if old else {}
    last = before if "terminated" in before else (old or {}).get("lastState", {})
    restarted = "terminated" in before and "terminated" not in state
    status = {
        "name": spec["name"],
        "image": spec["image"],
        "imageID": "",
        "ready": ready,
        "started": "running" in state,
        "restartCount": (old["restartCount"] if old else 0) + (1 if restarted else 0),
        "state": state,
        "lastState": last,
    }
    conditions = [_condition("PodReadyToStartContainers", True), _condition("Initialized", ready or not init)]
    conditions += [_condition(kind, ready and not init) for kind in ("Ready", "ContainersReady")]
    conditions.append(_condition("PodScheduled", True))
    return _with_status(pod, phase=phase, **{key: [status]}, conditions=conditions)


def _without_sandbox(pod: Json) -> Json:
    first = _condition("PodReadyToStartContainers", False)
    return _with_status(pod, conditions=[first, *pod["status"]["conditions"][1:]])


def _condition(kind: str, status: bool) -> Json:
    condition = {"type": kind, "status": str(status), "lastTransitionTime": timestamp()}
    if not status:
        condition.update(_NOT[kind])
    return condition
