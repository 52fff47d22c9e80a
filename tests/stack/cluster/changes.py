"""Writes to workloads, their scale subresource and Secrets, by merge patch or whole; the real server's refusals."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any

from . import errors
from .managed_fields import Writer
from .resources import Json, Resource
from .store import ObjectStore
from .workload_objects import desired, has_replicas, selector_of, with_replicas

MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
# What the real server would take for a built-in kind, less what is not simulated (JSON patch, apply).
ACCEPTED_PATCHES = (MERGE_PATCH, STRATEGIC_MERGE_PATCH)
INT32 = 2**31 - 1
_DATA_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")


def parse_patch(resource: Resource, content_type: str, body: str) -> Json:
    """Raises ApiError 415 or 400."""
    # A strategic merge needs a type that says how its lists are merged, and custom resources have none.
    accepted = (MERGE_PATCH,) if resource.custom else ACCEPTED_PATCHES
    if content_type not in accepted:
        raise errors.unsupported_media_type(accepted)
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


def write_workload(store: ObjectStore, resource: Resource, namespace: str, name: str, new: Json, manager: str) -> Json:
    """Put `new` in place of a workload, as the field manager `manager`; its status stays what the controller wrote."""
    old = store.get(resource, namespace, name)
    _check_version(resource, old, new)
    if not resource.custom:
        _check_replicas(resource.kind, resource.group, name, new.get("spec", {}).get("replicas", 1))
    metadata = {**new["metadata"], "namespace": namespace, "name": name}
    return store.replace(resource, {**new, "metadata": metadata, "status": old["status"]}, Writer(manager))


def read_scale(resource: Resource, workload: Json) -> Json:
    """The autoscaling/v1 Scale; raises ApiError 500 for a custom resource that does not say its count."""
    if resource.custom and not has_replicas(workload):
        raise errors.no_replicas(resource)
    return scale_of(resource, workload)


def scale_of(resource: Resource, workload: Json) -> Json:
    """The Scale that a patch is applied to; a wanted count of zero is left out, as the real type does."""
    metadata = workload["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    replicas = desired(workload)
    selector = workload["status"].get("selector", "") if resource.custom else selector_of(workload)
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: metadata[key] for key in kept},
        "spec": {"replicas": replicas} if replicas else {},
        "status": {"replicas": workload["status"].get("replicas", 0), **({"selector": selector} if selector else {})},
    }


def write_scale(store: ObjectStore, resource: Resource, namespace: str, name: str, scale: Json, manager: str) -> Json:
    """Take over the wanted count of a whole Scale object, as the field manager `manager`; a missing one is zero."""
    workload = store.get(resource, namespace, name)
    _check_version(resource, workload, scale)
    replicas = scale.get("spec", {}).get("replicas", 0)
    _check_replicas("Scale", "autoscaling", name, replicas)
    return scale_of(resource, store.replace(resource, with_replicas(workload, replicas), Writer(manager, "scale")))


def write_secret(
    store: ObjectStore, resource: Resource, namespace: str, name: str, new: Json, *, dry_run: bool = False
) -> Json:
    """Put `new` in place of a Secret, or with `dry_run` only say what would be there then."""
    old = store.get(resource, namespace, name)
    _check_version(resource, old, new)
    if new.get("type", old["type"]) != old["type"]:
        raise errors.invalid("Secret", "", name, "type", f'Invalid value: "{new["type"]}": field is immutable')
    plain = {key: base64.b64encode(value.encode()).decode() for key, value in (new.get("stringData") or {}).items()}
    data = {**(new.get("data") or {}), **plain}
    _check_data(name, data)
    changed = {key: value for key, value in new.items() if key not in ("data", "stringData")}
    changed.update({"data": data} if data else {})
    changed.update(type=old["type"], metadata={**new["metadata"], "namespace": namespace, "name": name})
    return changed if dry_run else store.replace(resource, changed)


def _check_data(name: str, data: Json) -> None:
    for key, value in data.items():
        if not _DATA_KEY.fullmatch(key):
            raise errors.invalid(
                "Secret", "", name, f"data[{key}]", f'Invalid value: "{key}": a valid config key is needed'
            )
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError, TypeError):
            message = 'Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 0'
            raise errors.bad_request(message) from None


def _check_version(resource: Resource, old: Json, new: Json) -> None:
    """A write that names a version must name the newest; one without is unconditional."""
    asked = new.get("metadata", {}).get("resourceVersion", "")
    if asked not in ("", old["metadata"]["resourceVersion"]):
        raise errors.conflict(resource, old["metadata"]["name"])


def _check_replicas(kind: str, group: str, name: str, replicas: object) -> None:
    if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas > INT32:
        problem = f"json: cannot unmarshal into Go struct field {kind}Spec.spec.replicas of type int32"
        raise errors.invalid("", "", "", "patch", f"Invalid value: {problem}")
    if replicas < 0:
        problem = f"Invalid value: {replicas}: must be greater than or equal to 0"
        raise errors.invalid(kind, group, name, "spec.replicas", problem)
