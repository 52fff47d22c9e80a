"""Workloads as objects: how a new one looks, and the status that the controllers write."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .resources import DEPLOYMENTS, ROLLOUTS, SCALABLE, STATEFULSETS, Json, Resource
from .store import timestamp


def new_workload(resource: Resource, namespace: str, name: str, replicas: int, image: str) -> Json:
    """A small but complete workload whose pods carry the label ``app=NAME``."""
    labels = {"app": name}
    container = {"name": name, "image": image, "imagePullPolicy": "IfNotPresent", "resources": {}}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container], "restartPolicy": "Always"}}
    spec: Json = {"selector": {"matchLabels": labels}, "template": template}
    if resource in (DEPLOYMENTS, ROLLOUTS):
        limits = {"maxUnavailable": "25%", "maxSurge": "25%"}
        spec.update(strategy={"type": "RollingUpdate", "rollingUpdate": limits}, progressDeadlineSeconds=600)
    elif resource == STATEFULSETS:
        update = {"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 1}}
        spec.update(serviceName=name, podManagementPolicy="OrderedReady", updateStrategy=update)
    if resource in (DEPLOYMENTS, ROLLOUTS, STATEFULSETS):
        spec["revisionHistoryLimit"] = 10
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    kind = {"kind": resource.kind, "apiVersion": resource.api_version}
    return with_replicas({**kind, "metadata": metadata, "spec": spec, "status": {}}, replicas)


def template_hash(workload: Json) -> str:
    """What tells pods of one template from those of another."""
    text = json.dumps(workload["spec"]["template"], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def desired(workload: Json) -> int:
    """How many replicas are wanted: ``spec.replicas``, or where its kind has them; 1 where that is left out."""
    found = _replicas(workload)
    return 1 if found is None else int(found)


def has_replicas(workload: Json) -> bool:
    """Whether it says how many replicas are wanted."""
    return _replicas(workload) is not None


def _replicas(workload: Json) -> Any:
    found: Any = workload
    for key in _resource(workload).replicas_path:
        found = (found or {}).get(key)
    return found


def with_replicas(workload: Json, replicas: int) -> Json:
    """`workload` with that many replicas wanted."""
    changed = copy.deepcopy(workload)
    *path, last = _resource(workload).replicas_path
    found = changed
    for key in path:
        found = found.setdefault(key, {})
    found[last] = replicas
    return changed


def selector_of(workload: Json) -> str:
    """Its pods' label selector in query form."""
    labels = workload["spec"]["selector"]["matchLabels"]
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def pods_owner(workload: Json) -> tuple[str, str]:
    """Kind and name of what makes its pods: itself, but for those that have a ReplicaSet for each template."""
    if _resource(workload) in (DEPLOYMENTS, ROLLOUTS):
        return "ReplicaSet", revision(workload)
    return workload["kind"], workload["metadata"]["name"]


def _resource(workload: Json) -> Resource:
    return next(
        each for each in SCALABLE if (each.api_version, each.kind) == (workload["apiVersion"], workload["kind"])
    )


@dataclass(frozen=True)
class Counts:
    """How many of a workload's pods are what; the terminating ones are among no others."""

    replicas: int
    updated: int
    ready: int
    available: int
    terminating: int


def deployment_status(workload: Json, counts: Counts, failure: str, deadline_passed: bool) -> Json:
    """Status of a Deployment whose newest spec was observed; as in the real type, zeros are left out but for one."""
    wanted = desired(workload)
    written: Json = {
        "replicas": counts.replicas,
        "updatedReplicas": counts.updated,
        "readyReplicas": counts.ready,
        "availableReplicas": counts.available,
        "unavailableReplicas": max(0, max(wanted, counts.replicas) - counts.available),
    }
    status = {key: value for key, value in written.items() if value}
    status["terminatingReplicas"] = counts.terminating
    status["observedGeneration"] = workload["metadata"]["generation"]
    conditions = [_available(wanted, counts), _progressing(workload, counts, deadline_passed)]
    if failure:
        conditions.append(_condition("ReplicaFailure", True, "FailedCreate", failure))
    status["conditions"] = _keep_times(workload["status"].get("conditions", []), conditions)
    return status


def statefulset_status(workload: Json, counts: Counts, current_revision: str) -> Json:
    """Status of a StatefulSet; replicas and availableReplicas are written at zero too, as the real type does."""
    update_revision = revision(workload)
    status: Json = {
        "observedGeneration": workload["metadata"]["generation"],
        "replicas": counts.replicas,
        "availableReplicas": counts.available,
        "collisionCount": 0,
        "updateRevision": update_revision,
        "currentRevision": current_revision,
    }
    current = counts.updated if current_revision == update_revision else counts.replicas - counts.updated
    more = {"readyReplicas": counts.ready, "updatedReplicas": counts.updated, "currentReplicas": current}
    return {**status, **{key: value for key, value in more.items() if value}}


def revision(workload: Json) -> str:
    """Name of the ReplicaSet or ControllerRevision of the newest template."""
    return f"{workload['metadata']['name']}-{template_hash(workload)}"


def _available(wanted: int, counts: Counts) -> Json:
    # maxUnavailable 25 % is rounded down, but both limits may not be zero: of one replica one is needed.
    if counts.available >= wanted - wanted // 4:
        return _condition("Available", True, "MinimumReplicasAvailable", "Deployment has minimum availability.")
    return _condition(
        "Available", False, "MinimumReplicasUnavailable", "Deployment does not have minimum availability."
    )


def _progressing(workload: Json, counts: Counts, deadline_passed: bool) -> Json:
    name = f'ReplicaSet "{revision(workload)}"'
    if workload["spec"].get("paused"):
        return {**_condition("Progressing", False, "DeploymentPaused", "Deployment is paused"), "status": "Unknown"}
    if deadline_passed:
        return _condition("Progressing", False, "ProgressDeadlineExceeded", f"{name} has timed out progressing.")
    if _complete(workload, counts) or _was_complete(workload):
        return _condition("Progressing", True, "NewReplicaSetAvailable", f"{name} has successfully progressed.")
    return _condition("Progressing", True, "ReplicaSetUpdated", f"{name} is progressing.")


def _complete(workload: Json, counts: Counts) -> bool:
    wanted = desired(workload)
    return wanted == counts.replicas == counts.updated == counts.available


def _was_complete(workload: Json) -> bool:
    """Mere scaling never takes the real controller out of NewReplicaSetAvailable: that is about the template."""
    return any(
        condition["reason"] == "NewReplicaSetAvailable" and revision(workload) in condition["message"]
        for condition in workload["status"].get("conditions", [])
    )


def _condition(kind: str, status: bool, reason: str, message: str) -> Json:
    now = timestamp()
    times = {"lastUpdateTime": now, "lastTransitionTime": now}
    return {"type": kind, "status": str(status), **times, "reason": reason, "message": message}


def _keep_times(old: Sequence[Json], new: Sequence[Json]) -> list[Json]:
    """Conditions that say the same as before keep their times, so that nothing is written for nothing."""
    before = {condition["type"]: condition for condition in old}
    return [_same(before.get(condition["type"]), condition) for condition in new]


def _same(old: Json | None, new: Json) -> Json:
    said = ("status", "reason", "message")
    return old if old is not None and all(old[key] == new[key] for key in said) else new
