"""Writing to workloads: merge patches, replacements and the scale subresource, with the real server's refusals."""

from __future__ import annotations

import json
from typing import Any

from . import errors
from .resources import Json, Resource
from .store import ObjectStore

MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
# What the real server would take for a built-in kind, less what is not simulated (JSON patch, apply).
ACCEPTED_PATCHES = (MERGE_PATCH, STRATEGIC_MERGE_PATCH)


def parse_patch(content_type: str, body: str) -> Json:
    """Raises ApiError 415 or 400."""
    if content_type not in ACCEPTED_PATCHES:
        raise errors.unsupported_media_type(ACCEPTED_PATCHES)
    return parse_object(body)


def parse_object(body: str) -> Json:
    """Raises ApiError 400."""
    try:
        parsed = json.loads(body)
    except ValueError:
        raise errors.bad_request("the body of the request is no JSON") from None
    if not isinstance(parsed, dict):
        raise errors.bad_request("the object provided is unrecognized (must be of type Object)")
    return parsed


def merge(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


def write_workload(store: ObjectStore, resource: Resource, namespace: str, name: str, new: Json) -> Json:
    """Put `new` in place of a workload; its status stays what the controller wrote."""
    old = store.get(resource, namespace, name)
    _check_version(resource, old, new)
    _check_replicas(resource.kind, resource.group, name, new.get("spec", {}).get("replicas", 1))
    metadata = {**new["metadata"], "namespace": namespace, "name": name}
    return store.replace(resource, {**new, "metadata": metadata, "status": old["status"]})


def read_scale(resource: Resource, workload: Json) -> Json:
    """The autoscaling/v1 Scale; a wanted count of zero is left out, as the real type does."""
    metadata = workload["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    replicas = workload["spec"].get("replicas", 1)
    labels = workload["spec"]["selector"]["matchLabels"]
    selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: metadata[key] for key in kept},
        "spec": {"replicas": replicas} if replicas else {},
        "status": {"replicas": workload["status"].get("replicas", 0), "selector": selector},
    }


def write_scale(store: ObjectStore, resource: Resource, namespace: str, name: str, scale: Json) -> Json:
    """Take over the wanted count of a whole Scale object; a missing one is zero."""
    workload = store.get(resource, namespace, name)
    _check_version(resource, workload, scale)
    replicas = scale.get("spec", {}).get("replicas", 0)
    _check_replicas("Scale", "autoscaling", name, replicas)
    workload["spec"]["replicas"] = replicas
    return read_scale(resource, store.replace(resource, workload))


def _check_version(resource: Resource, old: Json, new: Json) -> None:
    """A write that names a version must name the newest; one without is unconditional."""
    asked = new.get("metadata", {}).get("resourceVersion", "")
    if asked not in ("", old["metadata"]["resourceVersion"]):
        raise errors.conflict(resource, old["metadata"]["name"])


def _check_replicas(kind: str, group: str, name: str, replicas: object) -> None:
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        raise errors.bad_request(f"json: cannot unmarshal into Go struct field {kind}Spec.spec.replicas of type int32")
    if replicas < 0:
        problem = f"Invalid value: {replicas}: must be greater than or equal to 0"
        raise errors.invalid(kind, group, name, "spec.replicas", problem)
