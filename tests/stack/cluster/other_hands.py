"""Others who scale workloads by themselves: HorizontalPodAutoscalers, KEDA, a GitOps tool that puts its count back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from .managed_fields import Writer
from .resources import HPAS, SCALABLE, SCALED_OBJECTS, Json, Resource
from .store import Change, ObjectStore
from .workload_objects import desired, with_replicas

HPA_CONTROLLER, KEDA = Writer("kube-controller-manager", "scale"), Writer("keda", "scale")
Wanted = Callable[[int], int]
"""Of the count that there is, the count that somebody wants."""


def new_autoscaler(namespace: str, name: str, target: Json, minimum: int, maximum: int) -> Json:
    """A HorizontalPodAutoscaler by CPU, as autoscaling/v2 has it."""
    metric = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
    }
    spec = {"scaleTargetRef": target, "minReplicas": minimum, "maxReplicas": maximum, "metrics": [metric]}
    return {"metadata": {"namespace": namespace, "name": name}, "spec": spec, "status": {}}


def new_scaled_object(
    namespace: str, name: str, target: Json, minimum: int, maximum: int, annotations: dict[str, str] | None = None
) -> Json:
    """A ScaledObject of KEDA, as keda.sh/v1alpha1 has it."""
    trigger = {"type": "cron", "metadata": {"timezone": "UTC", "start": "0 8 * * *", "end": "0 20 * * *"}}
    spec = {"scaleTargetRef": target, "minReplicaCount": minimum, "maxReplicaCount": maximum, "triggers": [trigger]}
    metadata = {"namespace": namespace, "name": name, "annotations": annotations or {}}
    return {"metadata": metadata, "spec": spec, "status": {}}


class OtherHands:
    """Scales workloads a moment after they are not as somebody wants them, until it is stopped.

    Args:
        delay: that moment, in seconds.
    """

    def __init__(self, store: ObjectStore, delay: float) -> None:
        self._store = store
        self._delay = delay
        self._loop = asyncio.get_running_loop()
        self._held: dict[tuple[Resource, str, str], tuple[Wanted, Writer]] = {}
        self._due: set[asyncio.TimerHandle] = set()
        self._unsubscribe = store.subscribe(self._changed)

    def stop(self) -> None:
        """Let everything as it is from now on."""
        self._unsubscribe()
        for handle in self._due:
            handle.cancel()

    def hold(self, resource: Resource, namespace: str, name: str, replicas: int, manager: str) -> None:
        """Put the count back to `replicas` whenever somebody changes it, as a GitOps tool does."""
        self._held[resource, namespace, name] = (lambda _: replicas), Writer(manager)
        self._look(resource, namespace, name)

    def release(self, resource: Resource, namespace: str, name: str) -> None:
        """Do so no more."""
        del self._held[resource, namespace, name]

    def _changed(self, change: Change) -> None:
        metadata = change.object["metadata"]
        if change.resource in (HPAS, SCALED_OBJECTS):
            target = change.object["spec"]["scaleTargetRef"]
            self._look(_resource(target), metadata["namespace"], target["name"])
        elif change.resource in SCALABLE:
            self._look(change.resource, metadata["namespace"], metadata["name"])

    def _look(self, resource: Resource, namespace: str, name: str) -> None:
        def act() -> None:
            self._due.discard(handle)
            self._act(resource, namespace, name)

        handle = self._loop.call_later(self._delay, act)
        self._due.add(handle)

    def _act(self, resource: Resource, namespace: str, name: str) -> None:
        workload = self._store.find(resource, namespace, name)
        if workload is None:
            return
        there = desired(workload)
        for wanted, writer in self._wishes(resource, namespace, name):
            if wanted(there) != there:
                self._store.replace(resource, with_replicas(workload, wanted(there)), writer)
                return

    def _wishes(self, resource: Resource, namespace: str, name: str) -> list[tuple[Wanted, Writer]]:
        wishes = [self._held[resource, namespace, name]] if (resource, namespace, name) in self._held else []
        of = {"apiVersion": resource.api_version, "kind": resource.kind, "name": name}
        for kind, wish, writer in ((HPAS, _hpa, HPA_CONTROLLER), (SCALED_OBJECTS, _keda, KEDA)):
            wishes += [
                (wish(each), writer)
                for each in self._store.list(kind, namespace)
                if each["spec"]["scaleTargetRef"] == of
            ]
        return wishes


def _resource(target: Json) -> Resource:
    wanted = (target["apiVersion"], target["kind"])
    return next(each for each in SCALABLE if (each.api_version, each.kind) == wanted)


def _hpa(autoscaler: Json) -> Wanted:
    minimum, maximum = autoscaler["spec"]["minReplicas"], autoscaler["spec"]["maxReplicas"]
    # At 0 it rests, unless 0 is within its own bounds; without metrics it then leaves that alone as well.
    return lambda there: there and min(max(there, minimum), maximum)


def _keda(scaled_object: Json) -> Wanted:
    spec, annotations = scaled_object["spec"], scaled_object["metadata"].get("annotations") or {}
    pinned: Any = annotations.get("autoscaling.keda.sh/paused-replicas")
    if pinned is not None:
        return lambda _: int(pinned)
    if annotations.get("autoscaling.keda.sh/paused") == "true":
        return lambda there: there
    return lambda there: min(max(there, spec["minReplicaCount"]), spec["maxReplicaCount"])
