"""Which columns ``kubectl get`` shows of each resource, and an object's cells in them.

The rules are those of ``pkg/printers/internalversion/printers.go`` in the real server, less the columns of ``-o wide``.
Cells are of objects that this cluster can hold: its pods have one init container at most, and no readiness gates.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

from .ages import age
from .pod_objects import is_ready, is_terminating
from .resources import (
    DEPLOYMENTS,
    EVENTS,
    GAMESERVERS,
    NAMESPACES,
    PODS,
    REPLICASETS,
    ROLLOUTS,
    SECRETS,
    STATEFULSETS,
    Json,
    Resource,
)
from .workload_objects import desired

Cell = str | int


@dataclass(frozen=True)
class Printer:
    """A resource's column definitions, and what makes an object's cells as they are to be read at a time."""

    columns: tuple[Json, ...]
    cells: Callable[[Json, dt.datetime], list[Cell]]


def pod_status(pod: Json) -> str:
    """The word under STATUS: the last that counts of phase, waiting and terminated containers, and deletion."""
    status = pod["status"]
    if is_terminating(pod) and status["phase"] not in ("Succeeded", "Failed"):
        return "Terminating"
    if word := _init_word(pod):
        return word
    containers = status.get("containerStatuses", [])
    # The first container with something to say wins.
    told = next((word for word in map(_container_word, containers) if word), "")
    if told == "Completed" and any(_runs(container) for container in containers):
        return "Running" if is_ready(pod) else "NotReady"
    return told or str(status.get("reason") or status["phase"])


def _init_word(pod: Json) -> str:
    """What its init container is about, as long as it is not done."""
    for container in pod["status"].get("initContainerStatuses", []):
        if not container["ready"]:
            word = _container_word(container)
            return f"Init:{word}" if word not in ("", "PodInitializing") else "Init:0/1"
    return ""


def _container_word(container: Json) -> str:
    state = container["state"]
    if reason := state.get("waiting", {}).get("reason"):
        return str(reason)
    ended = state.get("terminated")
    if ended is None:
        return ""
    code = f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended['exitCode']}"
    return str(ended.get("reason") or code)


def _runs(container: Json) -> bool:
    return bool(container["ready"]) and "running" in container["state"]


def _restarts(containers: list[Json], now: dt.datetime) -> str:
    """How many, and since 1.22 how long ago the last was."""
    count = sum(container["restartCount"] for container in containers)
    ends = [container.get("lastState", {}).get("terminated", {}).get("finishedAt", "") for container in containers]
    last = max(ends, default="")
    return f"{count} ({age(last, now)} ago)" if count and last else str(count)


def _deployment_cells(deployment: Json, now: dt.datetime) -> list[Cell]:
    status = deployment["status"]
    counts = [status.get("updatedReplicas", 0), status.get("availableReplicas", 0)]
    return [_name(deployment), _ready_of_desired(deployment), *counts, _age(deployment, now)]


def _statefulset_cells(statefulset: Json, now: dt.datetime) -> list[Cell]:
    return [_name(statefulset), _ready_of_desired(statefulset), _age(statefulset, now)]


def _replicaset_cells(replicaset: Json, now: dt.datetime) -> list[Cell]:
    status = replicaset["status"]
    counts = [desired(replicaset), status["replicas"], status.get("readyReplicas", 0)]
    return [_name(replicaset), *counts, _age(replicaset, now)]


def _custom_cells(custom: Json, now: dt.datetime) -> list[Cell]:
    """Those of a CustomResourceDefinition that asks for no columns of its own."""
    return [_name(custom), _age(custom, now)]


def _pod_cells(pod: Json, now: dt.datetime) -> list[Cell]:
    containers = pod["status"].get("containerStatuses", [])
    ready = f"{sum(map(_runs, containers))}/{len(pod['spec']['containers'])}"
    return [_name(pod), ready, pod_status(pod), _restarts(containers, now), _age(pod, now)]


def _event_cells(event: Json, now: dt.datetime) -> list[Cell]:
    about = event["involvedObject"]
    seen = age(event.get("lastTimestamp") or event.get("firstTimestamp") or event.get("eventTime"), now)
    return [seen, event["type"], event["reason"], f"{about['kind'].lower()}/{about['name']}", event["message"].strip()]


def _namespace_cells(namespace: Json, now: dt.datetime) -> list[Cell]:
    return [_name(namespace), namespace["status"]["phase"], _age(namespace, now)]


def _secret_cells(secret: Json, now: dt.datetime) -> list[Cell]:
    return [_name(secret), secret["type"], len(secret.get("data", {})), _age(secret, now)]


def _name(obj: Json) -> str:
    return str(obj["metadata"]["name"])


def _age(obj: Json, now: dt.datetime) -> str:
    return age(obj["metadata"].get("creationTimestamp"), now)


def _ready_of_desired(workload: Json) -> str:
    return f"{workload['status'].get('readyReplicas', 0)}/{desired(workload)}"


def _column(name: str, description: str, form: str = "") -> Json:
    return {"name": name, "type": "string", "format": form, "description": description, "priority": 0}


_NAME = _column("Name", "Unique among the resource's objects in a namespace", "name")
_AGE = _column("Age", "How long ago it was created")
_READY = _column("Ready", "How many of the desired pods are ready")
_DESIRED = {**_column("Desired", "How many pods are wanted"), "type": "integer"}
_CURRENT = {**_column("Current", "How many pods there are"), "type": "integer"}
_READY_PODS = {**_column("Ready", "How many of them are ready"), "type": "integer"}
_UPDATED = _column("Up-to-date", "How many pods are made from the newest template")
_AVAILABLE = _column("Available", "How many pods have been ready for minReadySeconds")
_CONTAINERS = _column("Ready", "How many of the containers are ready")
_STATUS = _column("Status", "In which state it is")
_RESTARTS = _column("Restarts", "How often containers were restarted, and when last")
_SEEN = _column("Last Seen", "When it was recorded last")
_TYPE = _column("Type", "Normal or Warning")
_SECRET_TYPE = _column("Type", "What its data is for")
_DATA = {**_column("Data", "How many keys its data has"), "type": "integer"}
_REASON = _column("Reason", "What happened, in one word for machines")
_OBJECT = _column("Object", "What it is about")
_MESSAGE = _column("Message", "What happened, for people")

PRINTERS: dict[Resource, Printer] = {
    DEPLOYMENTS: Printer((_NAME, _READY, _UPDATED, _AVAILABLE, _AGE), _deployment_cells),
    STATEFULSETS: Printer((_NAME, _READY, _AGE), _statefulset_cells),
    REPLICASETS: Printer((_NAME, _DESIRED, _CURRENT, _READY_PODS, _AGE), _replicaset_cells),
    ROLLOUTS: Printer((_NAME, _AGE), _custom_cells),
    GAMESERVERS: Printer((_NAME, _AGE), _custom_cells),
    PODS: Printer((_NAME, _CONTAINERS, _STATUS, _RESTARTS, _AGE), _pod_cells),
    EVENTS: Printer((_SEEN, _TYPE, _REASON, _OBJECT, _MESSAGE), _event_cells),
    SECRETS: Printer((_NAME, _SECRET_TYPE, _DATA, _AGE), _secret_cells),
    NAMESPACES: Printer((_NAME, _STATUS, _AGE), _namespace_cells),
}
