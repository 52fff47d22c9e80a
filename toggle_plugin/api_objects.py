"""The API server's JSON → the plugin's nouns. Pure; forgiving about what is left out, because zero and empty are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from .managers import last_scaled_at, last_scaled_by
from .models import ClusterEvent, Condition, Container, Pod, Workload, WorkloadRef
from .restart import ANNOTATION as RESTARTED_AT

Json = Mapping[str, Any]

_REVISION_LABELS = ("pod-template-hash", "rollouts-pod-template-hash")
"""Of a Deployment's pods, and of an Argo Rollout's. A StatefulSet's wait for each other, whatever their revision."""
NOT_STARTED = frozenset({"StartError", "ContainerCannotRun"})
"""Reasons of a termination whose message is the container runtime's."""


def parse_workload(ref: WorkloadRef, obj: Json) -> Workload:
    """A workload of apps/v1; raises KeyError, TypeError, ValueError or AttributeError for another thing."""
    metadata, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
    managed = metadata.get("managedFields") or ()
    strategy = spec.get("strategy") or spec.get("updateStrategy") or {}
    return Workload(
        ref=ref,
        uid=metadata.get("uid", ""),
        resource_version=metadata["resourceVersion"],
        generation=metadata.get("generation", 0),
        observed_generation=status.get("observedGeneration", 0),
        desired=1 if spec.get("replicas") is None else int(spec["replicas"]),
        replicas=_count(status, "replicas"),
        updated=_count(status, "updatedReplicas"),
        ready=_count(status, "readyReplicas"),
        available=_count(status, "availableReplicas"),
        selector=selector(spec.get("selector") or {}),
        conditions=_conditions(status),
        paused=bool(spec.get("paused")),
        deleting="deletionTimestamp" in metadata,
        min_ready_seconds=_count(spec, "minReadySeconds"),
        update_strategy=strategy.get("type", "RollingUpdate"),
        partition=_count(strategy.get("rollingUpdate") or {}, "partition"),
        scaled_by=last_scaled_by(managed),
        scaled_at=_seconds(last_scaled_at(managed)) or 0.0,
        owner=_owner(metadata),
        restarted_at=_restarted_at(spec),
    )


def parse_wanted(wanted: Mapping[str, WorkloadRef], obj: Json) -> Workload | None:
    """The workload, if its name is one of those `wanted`; raises as `parse_workload` does."""
    ref = wanted.get(obj["metadata"]["name"])
    return None if ref is None else parse_workload(ref, obj)


def parse_custom(ref: WorkloadRef, obj: Json, scale: Json) -> Workload:
    """An object of any kind, with its scale subresource (autoscaling/v1): what its status tells is taken as told.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is another thing.
    """
    metadata, spec, status = obj["metadata"], _mapping(obj.get("spec")), _mapping(obj.get("status"))
    generation, selected = metadata.get("generation", 0), _mapping(scale.get("status")).get("selector") or ""
    observed, replicas = _told(status, "observedGeneration"), _count(_mapping(scale.get("status")), "replicas")
    ready, available = _told(status, "readyReplicas"), _told(status, "availableReplicas")
    updated = _told(status, "updatedReplicas")
    managed = metadata.get("managedFields") or ()
    return Workload(
        ref=ref,
        uid=metadata.get("uid", ""),
        resource_version=metadata["resourceVersion"],
        generation=generation,
        observed_generation=generation if observed is None else observed,
        desired=_count(_mapping(scale.get("spec")), "replicas"),
        replicas=replicas,
        updated=replicas if updated is None else updated,
        ready=_first(ready, available, replicas),
        available=_first(available, ready, replicas),
        selector=selected,
        conditions=_conditions({"conditions": _foreign_conditions(status)}),
        paused=spec.get("paused") is True,
        deleting="deletionTimestamp" in metadata,
        min_ready_seconds=_told(spec, "minReadySeconds") or 0,
        # A zero is left out by many, so a status that tells of neither says nothing.
        counted=not selected or ready is not None or available is not None,
        scaled_by=last_scaled_by(managed),
        scaled_at=_seconds(last_scaled_at(managed)) or 0.0,
        owner=_owner(metadata),
    )


def _mapping(value: Any) -> Json:
    return value if isinstance(value, Mapping) else {}


def _foreign_conditions(status: Json) -> list[Json]:
    """Those that are conditions as Kubernetes has them; a custom kind may mean anything by that word."""
    entries = status.get("conditions")
    return list(filter(_is_condition, entries if isinstance(entries, list) else ()))


def _is_condition(entry: Any) -> bool:
    if not isinstance(entry, Mapping) or not entry.get("type") or not entry.get("status"):
        return False
    return all(isinstance(entry.get(key) or "", str) for key in ("type", "status", "reason", "message"))


def _told(obj: Json, key: str) -> int | None:
    """A count, also one that is written as a text (Argo's observedGeneration); None where there is none."""
    value = obj.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return int(value) if isinstance(value, str) and value.isdecimal() else None


def _first(*counts: int | None) -> int:
    return next(count for count in counts if count is not None)


def _owner(metadata: Json) -> str:
    """The object's controller, as ``Deployment web``; empty where it has none."""
    owners = (owner for owner in metadata.get("ownerReferences") or () if owner.get("controller"))
    return next((f"{owner['kind']} {owner['name']}" for owner in owners), "")


def _restarted_at(spec: Json) -> str:
    metadata = (spec.get("template") or {}).get("metadata") or {}
    return str((metadata.get("annotations") or {}).get(RESTARTED_AT, ""))


def selector(label_selector: Json) -> str:
    """A LabelSelector in query form; empty for an empty one, which would select everything."""
    terms = [f"{key}={value}" for key, value in (label_selector.get("matchLabels") or {}).items()]
    terms += [_expression(expression) for expression in label_selector.get("matchExpressions") or ()]
    return ",".join(terms)


def _expression(expression: Json) -> str:
    key, operator = expression["key"], expression["operator"]
    if operator == "Exists":
        return str(key)
    if operator == "DoesNotExist":
        return f"!{key}"
    return f"{key} {operator.lower()} ({','.join(expression['values'])})"


def parse_pod(obj: Json) -> Pod:
    """A pod; raises KeyError, TypeError, ValueError or AttributeError for another thing."""
    metadata, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    conditions = _conditions(status)
    labels = metadata.get("labels") or {}
    return Pod(
        name=metadata["name"],
        phase=status.get("phase", ""),
        terminating="deletionTimestamp" in metadata,
        ready=any(condition.type == "Ready" and condition.status == "True" for condition in conditions),
        containers=_containers(spec, status),
        conditions=conditions,
        uid=metadata.get("uid", ""),
        created=_seconds(metadata.get("creationTimestamp")) or 0.0,
        # The API server writes the end of the grace period here, not the moment of the deletion.
        delete_by=_seconds(metadata.get("deletionTimestamp")),
        finalizers=tuple(metadata.get("finalizers") or ()),
        revision=next((labels[key] for key in _REVISION_LABELS if key in labels), ""),
        reason=status.get("reason") or "",
        message=status.get("message") or "",
        claims=tuple(
            volume["persistentVolumeClaim"]["claimName"]
            for volume in spec.get("volumes") or ()
            if volume.get("persistentVolumeClaim")
        ),
    )


def _containers(spec: Json, status: Json) -> tuple[Container, ...]:
    limits = {
        entry["name"]: ((entry.get("resources") or {}).get("limits") or {}).get("memory", "")
        for key in ("initContainers", "containers")
        for entry in spec.get(key) or ()
    }
    return tuple(
        _container(entry, limits.get(entry["name"], ""), init=init)
        for init, key in ((True, "initContainerStatuses"), (False, "containerStatuses"))
        for entry in status.get(key) or ()
    )


def _container(entry: Json, memory_limit: str, *, init: bool) -> Container:
    state = entry.get("state") or {}
    waiting = state.get("waiting") or {}
    ended = state.get("terminated") or (entry.get("lastState") or {}).get("terminated") or {}
    reason = ended.get("reason") or ""
    return Container(
        name=entry["name"],
        ready=bool(entry.get("ready")),
        restarts=_count(entry, "restartCount"),
        waiting_reason=waiting.get("reason", ""),
        waiting_message=waiting.get("message", ""),
        exit_code=ended.get("exitCode"),
        exit_reason=reason,
        init=init,
        image=entry.get("image") or "",
        # Of a process that ran, the message can be lines of its log.
        start_message=(ended.get("message") or "") if reason in NOT_STARTED else "",
        memory_limit=memory_limit,
    )


def parse_event(obj: Json) -> ClusterEvent:
    """An event, of the old kind (counted) or the new (a series)."""
    involved, series = obj["involvedObject"], obj.get("series") or {}
    return ClusterEvent(
        object_kind=involved.get("kind", ""),
        object_name=involved.get("name", ""),
        type=obj.get("type") or "Normal",
        reason=obj.get("reason") or "",
        message=(obj.get("message") or "").removeprefix("(combined from similar events): "),
        count=int(series.get("count") or obj.get("count") or 1),
        last_seen=_last_seen(obj, series),
        object_uid=involved.get("uid") or "",
    )


def _last_seen(obj: Json, series: Json) -> float:
    stamps = (series.get("lastObservedTime"), obj.get("lastTimestamp"), obj.get("eventTime"))
    return _seconds(next((stamp for stamp in stamps if stamp), obj["metadata"].get("creationTimestamp"))) or 0.0


def _seconds(stamp: str | None) -> float | None:
    if not stamp:
        return None
    # Python 3.10 reads neither the Z nor fractions of any length.
    moment = datetime.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    fraction = re.match(r"\.\d+", stamp[19:])
    return moment.timestamp() + (float(fraction[0]) if fraction else 0.0)


def events_about(
    events: Iterable[ClusterEvent], workload: Workload, pods: Sequence[Pod], limit: int
) -> tuple[ClusterEvent, ...]:
    """Those about the workload, its ReplicaSets, these pods or their claims, newest first, at most `limit`."""
    uids = {pod.name: pod.uid for pod in pods}
    claims = {claim for pod in pods for claim in pod.claims}
    # A ReplicaSet is called after its Deployment and one hash: "web-5d8f…", while "web-api-5d8f…" is another one's.
    replica_set = re.compile(rf"{re.escape(workload.ref.name)}-[a-z0-9]+\Z")

    def about(event: ClusterEvent) -> bool:
        if event.object_kind == "Pod":
            # A StatefulSet's pod has the name of the one before it, whose events are no news.
            uid = uids.get(event.object_name)
            return uid is not None and (not event.object_uid or event.object_uid == uid)
        if event.object_kind == "PersistentVolumeClaim":
            return event.object_name in claims
        if event.object_kind == "ReplicaSet" and workload.ref.kind not in ("ReplicaSet", "StatefulSet"):
            return bool(replica_set.match(event.object_name))
        return (event.object_kind, event.object_name) == (workload.ref.kind, workload.ref.name)

    return tuple(sorted(filter(about, events), key=lambda event: -event.last_seen)[:limit])


def newer(version: str, than: str) -> bool:
    """Whether a resourceVersion is another state than `than`, and not one from before it."""
    if version.isdigit() and than.isdigit():
        return int(version) > int(than)
    return version != than


def _conditions(status: Json) -> tuple[Condition, ...]:
    return tuple(
        Condition(entry["type"], entry["status"], entry.get("reason") or "", entry.get("message") or "")
        for entry in status.get("conditions") or ()
    )


def _count(obj: Json, key: str) -> int:
    return int(obj.get(key) or 0)
