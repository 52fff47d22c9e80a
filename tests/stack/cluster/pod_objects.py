"""Pods as objects: each function gives the pod's next state as the kubelet and the scheduler write it."""

from __future__ import annotations

import copy
import random

from .resources import STATEFULSETS, Json, Resource
from .store import timestamp
from .workload_objects import pods_owner, revision, template_hash

# Kubernetes' own alphabet for generated names: no vowels, nothing that looks like another character.
ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
UNSCHEDULABLE = (
    "0/3 nodes are available: 3 Insufficient memory. preemption: 0/3 nodes are available: "
    "3 No preemption victims found for incoming pod."
)


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


def unschedulable(pod: Json) -> Json:
    """The scheduler found no node."""
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": UNSCHEDULABLE}
    return _with_status(pod, conditions=[{**condition, "lastTransitionTime": timestamp()}])


def creating(pod: Json) -> Json:
    """On a node, no container yet."""
    return waiting(_with_spec(pod, nodeName="node-1"), "ContainerCreating", "")


def waiting(pod: Json, reason: str, message: str) -> Json:
    """The container waits, for example for its image or out of a back-off."""
    state = {"waiting": {"reason": reason, **({"message": message} if message else {})}}
    phase = "Running" if reason == "CrashLoopBackOff" else "Pending"
    return _with_container(pod, phase=phase, state=state, ready=False)


def running(pod: Json, *, ready: bool) -> Json:
    """The container runs; `ready` is what its probe says."""
    return _with_container(pod, phase="Running", state={"running": {"startedAt": timestamp()}}, ready=ready)


def crashed(pod: Json, exit_code: int) -> Json:
    """The container ended by itself and counts as one more restart to come."""
    times = {"startedAt": timestamp(), "finishedAt": timestamp()}
    reason = "Completed" if exit_code == 0 else "Error"
    state = {"terminated": {"exitCode": exit_code, "reason": reason, **times}}
    return _with_container(pod, phase="Running", state=state, ready=False)


def terminating(pod: Json) -> Json:
    """Somebody deleted it; it lives on for its grace period."""
    new = copy.deepcopy(pod)
    new["metadata"].update(deletionTimestamp=timestamp(), deletionGracePeriodSeconds=30)
    return new


def revision_hash(pod: Json) -> str:
    """The `template_hash` that it was made from."""
    labels = pod["metadata"]["labels"]
    return str(labels.get("pod-template-hash") or labels["controller-revision-hash"].rsplit("-", 1)[1])


def is_terminating(pod: Json) -> bool:
    """Whether it has been deleted and still ends."""
    return "deletionTimestamp" in pod["metadata"]


def is_ready(pod: Json) -> bool:
    """The Ready condition."""
    conditions = pod["status"].get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _with_spec(pod: Json, **fields: object) -> Json:
    new = copy.deepcopy(pod)
    new["spec"].update(fields)
    return new


def _with_status(pod: Json, **fields: object) -> Json:
    new = copy.deepcopy(pod)
    new["status"].update(fields)
    return new


def _with_container(pod: Json, *, phase: str, state: Json, ready: bool) -> Json:
    old = next(iter(pod["status"].get("containerStatuses", [])), None)
    spec = pod["spec"]["containers"][0]
    before = old["state"] if old else {}
    ended = before if "terminated" in before else (old or {}).get("lastState", {})
    restarted = "terminated" in before and "terminated" not in state
    status = {
        "name": spec["name"],
        "image": spec["image"],
        "imageID": "",
        "ready": ready,
        "started": "running" in state,
        "restartCount": (old["restartCount"] if old else 0) + (1 if restarted else 0),
        "state": state,
        "lastState": ended,
    }
    conditions = [_condition(kind, True) for kind in ("PodScheduled", "Initialized")]
    conditions += [_condition(kind, ready) for kind in ("ContainersReady", "Ready")]
    return _with_status(pod, phase=phase, containerStatuses=[status], conditions=conditions)


def _condition(kind: str, status: bool) -> Json:
    condition = {"type": kind, "status": str(status), "lastTransitionTime": timestamp()}
    if not status:
        condition.update(reason="ContainersNotReady", message="containers with unready status")
    return condition
