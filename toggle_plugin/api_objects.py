"""The API server's JSON → the plugin's nouns. Pure; forgiving about what is left out, because zero and empty are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from .models import ClusterEvent, Condition, Container, Pod, Workload, WorkloadRef

Json = Mapping[str, Any]


def parse_workload(ref: WorkloadRef, obj: Json) -> Workload:
    """A Deployment or StatefulSet; raises KeyError, TypeError, ValueError or AttributeError for another thing."""
    metadata, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
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
    )


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
    metadata, status = obj["metadata"], obj.get("status") or {}
    conditions = _conditions(status)
    return Pod(
        name=metadata["name"],
        phase=status.get("phase", ""),
        terminating="deletionTimestamp" in metadata,
        ready=any(condition.type == "Ready" and condition.status == "True" for condition in conditions),
        containers=(
            *(_container(entry, init=True) for entry in status.get("initContainerStatuses") or ()),
            *(_container(entry, init=False) for entry in status.get("containerStatuses") or ()),
        ),
        conditions=conditions,
    )


def _container(entry: Json, *, init: bool) -> Container:
    state = entry.get("state") or {}
    waiting = state.get("waiting") or {}
    ended = state.get("terminated") or (entry.get("lastState") or {}).get("terminated") or {}
    return Container(
        name=entry["name"],
        ready=bool(entry.get("ready")),
        restarts=_count(entry, "restartCount"),
        waiting_reason=waiting.get("reason", ""),
        waiting_message=waiting.get("message", ""),
        exit_code=ended.get("exitCode"),
        exit_reason=ended.get("reason", ""),
        init=init,
    )


def parse_event(obj: Json) -> ClusterEvent:
    """An event, of the old kind (counted) or the new (a series)."""
    involved, series = obj["involvedObject"], obj.get("series") or {}
    return ClusterEvent(
        object_kind=involved.get("kind", ""),
        object_name=involved.get("name", ""),
        type=obj.get("type") or "Normal",
        reason=obj.get("reason") or "",
        message=obj.get("message") or "",
        count=int(series.get("count") or obj.get("count") or 1),
        last_seen=_last_seen(obj, series),
    )


def _last_seen(obj: Json, series: Json) -> float:
    stamps = (series.get("lastObservedTime"), obj.get("lastTimestamp"), obj.get("eventTime"))
    stamp = next((stamp for stamp in stamps if stamp), obj["metadata"].get("creationTimestamp"))
    return _seconds(stamp) if stamp else 0.0


def _seconds(stamp: str) -> float:
    # Python 3.10 reads neither the Z nor fractions of any length.
    moment = datetime.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    fraction = re.match(r"\.\d+", stamp[19:])
    return moment.timestamp() + (float(fraction[0]) if fraction else 0.0)


def events_about(
    events: Iterable[ClusterEvent], workload: Workload, pods: Sequence[Pod], limit: int
) -> tuple[ClusterEvent, ...]:
    """Those about the workload, its ReplicaSets or these pods, newest first, at most `limit`."""
    names = {pod.name for pod in pods}
    # A ReplicaSet is called after its Deployment and one hash: "web-5d8f…", while "web-api-5d8f…" is another one's.
    replica_set = re.compile(rf"{re.escape(workload.ref.name)}-[a-z0-9]+\Z")

    def about(event: ClusterEvent) -> bool:
        if event.object_kind == "Pod":
            return event.object_name in names
        if event.object_kind == "ReplicaSet":
            return workload.ref.kind == "Deployment" and bool(replica_set.match(event.object_name))
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
