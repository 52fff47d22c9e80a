"""What makes the cluster's reality follow the specs: the Deployment and StatefulSet controllers in small."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Coroutine
from typing import Any

from . import failures, pod_objects
from .behaviour import Behaviour, Outcome
from .event_objects import record_event
from .kubelet import PodLife
from .managed_fields import Writer
from .resources import DEPLOYMENTS, PODS, STATEFULSETS, Json, Resource
from .statuses import other_status
from .store import Change, ObjectStore
from .workload_objects import (
    Counts,
    deployment_status,
    desired,
    pods_owner,
    revision,
    statefulset_status,
    template_hash,
)

STATUS = Writer("kube-controller-manager", "status")
Key = tuple[Resource, str, str]
_REFUSALS = {Outcome.QUOTA: failures.QUOTA, Outcome.POD_SECURITY: failures.SECURITY}
Spawn = Callable[[Coroutine[Any, Any, None]], None]


class Controllers:
    """One `WorkloadController` for each workload of the store, and the tasks that they need."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._controllers: dict[Key, WorkloadController] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []
        self._unsubscribe = store.subscribe(self._changed)

    def adopt(self, resource: Resource, namespace: str, name: str, behaviour: Behaviour) -> None:
        """Take care of a workload that is in the store."""
        controller = WorkloadController(self._store, (resource, namespace, name), behaviour, self._spawn)
        self._controllers[(resource, namespace, name)] = controller
        controller.settle()
        self._spawn(controller.run())

    def behave(self, key: Key, **changes: Any) -> None:
        """Change fields of a workload's `Behaviour` from now on."""
        controller = self._controllers[key]
        controller.behaviour = dataclasses.replace(controller.behaviour, **changes)
        controller.wake()

    async def stop(self) -> None:
        """End all tasks; raises what broke one of them."""
        self._unsubscribe()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._failures:
            raise self._failures[0]

    def _changed(self, change: Change) -> None:
        for controller in list(self._controllers.values()):
            if controller.concerns(change):
                controller.wake()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._failures.append(error)


class WorkloadController:
    """Creates and deletes the pods of one workload, and writes its status."""

    def __init__(self, store: ObjectStore, key: Key, behaviour: Behaviour, spawn: Spawn) -> None:
        self.behaviour = behaviour
        self._store = store
        self._key = key
        self._spawn = spawn
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._failure = ""
        self._born: dict[str, int] = {}
        self._available_from: dict[str, float] = {}
        self._unfinished_since: float | None = None
        adopted = self._store.get(*key)
        self._template: Json = adopted["spec"]["template"]
        self._current_revision = revision(adopted)

    def wake(self) -> None:
        """Look again."""
        self._wake.set()

    def concerns(self, change: Change) -> bool:
        """Whether a change is about this workload or its pods."""
        resource, namespace, name = self._key
        metadata = change.object["metadata"]
        if metadata.get("namespace") != namespace:
            return False
        if change.resource == PODS:
            return bool(change.object["metadata"]["labels"].get("app") == name)
        return change.resource == resource and metadata["name"] == name

    def settle(self) -> None:
        """Begin as a workload that has been there for long: all its pods are ready, its status is true."""
        workload = self._workload()
        if workload is None or self.behaviour.outcome is not Outcome.NORMAL or self.behaviour.frozen:
            return
        while names := self._missing(workload):
            for name in names:
                pod = pod_objects.creating(self._create(workload, name, started=True))
                self._store.replace(PODS, pod_objects.running(pod, ready=True))
                self._available_from[name] = 0.0
        self._write_status(workload)

    async def run(self) -> None:
        """Follow the spec and the pods until the workload is deleted."""
        while (workload := self._workload()) is not None:
            if self._unseen(workload):
                await asyncio.sleep(self.behaviour.observe)
            workload = self._workload()
            if workload is not None and not self.behaviour.frozen:
                self._reconcile(workload)
            await self._wake.wait()
            self._wake.clear()
        self._delete_all()

    def _unseen(self, workload: Json) -> bool:
        return bool(workload["metadata"]["generation"] > int(workload["status"].get("observedGeneration", 0)))

    def _workload(self) -> Json | None:
        return self._store.find(*self._key)

    def _pods(self) -> list[Json]:
        """The pods that count: those that are neither terminating nor over, oldest first."""
        alive = [pod for pod in self._kept() if not pod_objects.is_over(pod)]
        return sorted(alive, key=lambda pod: self._born[pod["metadata"]["name"]])

    def _kept(self) -> list[Json]:
        return [pod for pod in self._all_pods() if not pod_objects.is_terminating(pod)]

    def _terminating(self) -> list[Json]:
        return [pod for pod in self._all_pods() if pod_objects.is_terminating(pod)]

    def _all_pods(self) -> list[Json]:
        _, namespace, name = self._key
        return self._store.list(PODS, namespace, lambda pod: bool(pod["metadata"]["labels"].get("app") == name))

    def _reconcile(self, workload: Json) -> None:
        refusal = _REFUSALS.get(self.behaviour.outcome, "")
        acted_on = self._with_its_template(workload)
        missing = self._missing(acted_on)
        if not refusal or not missing:
            self._failure = ""
        for name in missing:
            if refusal:
                self._refuse(workload, name, refusal.format(_container(workload)))
                break
            self._create(acted_on, name)
        for pod in self._superfluous(acted_on):
            self._store.replace(PODS, pod_objects.terminating(pod))
        self._write_status(workload)

    def _with_its_template(self, workload: Json) -> Json:
        """`workload` with the template that its pods are made by: of a paused Deployment, the one from before that."""
        if self._key[0] == DEPLOYMENTS and workload["spec"].get("paused"):
            return {**workload, "spec": {**workload["spec"], "template": self._template}}
        self._template = workload["spec"]["template"]
        return workload

    def _missing(self, workload: Json) -> list[str]:
        """Names of the pods to create now."""
        wanted = desired(workload)
        if self._key[0] != STATEFULSETS:
            updated = [pod for pod in self._pods() if self._is_updated(workload, pod)]
            return [pod_objects.random_name(pods_owner(workload)[1]) for _ in range(wanted - len(updated))]
        names = [f"{self._key[2]}-{ordinal}" for ordinal in range(wanted)]
        taken = {pod["metadata"]["name"] for pod in self._all_pods()}
        ready = {pod["metadata"]["name"] for pod in self._pods() if pod_objects.is_ready(pod)}
        in_order = [name for place, name in enumerate(names) if set(names[:place]) <= ready]
        return [name for name in in_order if name not in taken][:1]

    def _superfluous(self, workload: Json) -> list[Json]:
        """The pods to delete now."""
        wanted = desired(workload)
        pods = self._pods()
        old = [pod for pod in pods if not self._is_updated(workload, pod)]
        if self._key[0] != STATEFULSETS:
            updated = [pod for pod in pods if self._is_updated(workload, pod)]
            ready = [pod for pod in updated if pod_objects.is_ready(pod)]
            return updated[wanted:] + old[max(0, wanted - len(ready)) :]
        if over := [pod for pod in self._kept() if pod_objects.is_over(pod)]:
            return over  # the next one has the same name
        beyond = [pod for pod in pods if self._ordinal(pod) >= wanted]
        if beyond:
            return [max(beyond, key=self._ordinal)]
        if old and len(pods) == wanted and all(pod_objects.is_ready(pod) for pod in pods):
            return [max(old, key=self._ordinal)]
        return []

    @staticmethod
    def _ordinal(pod: Json) -> int:
        return int(pod["metadata"]["name"].rsplit("-", 1)[1])

    @staticmethod
    def _is_updated(workload: Json, pod: Json) -> bool:
        if workload["kind"] == "ReplicaSet":
            return True  # it keeps what it has, whatever its template is by now
        return bool(pod_objects.revision_hash(pod) == template_hash(workload))

    def _create(self, workload: Json, name: str, *, started: bool = False) -> Json:
        self._born[name] = len(self._born)
        pod = pod_objects.new_pod(self._key[0], workload, name)
        pod["spec"] = failures.spec_for(self.behaviour.outcome, pod["spec"])
        created = self._store.add(PODS, pod)
        if not started:
            self._event("SuccessfulCreate", failures.created(*pods_owner(workload), name), workload)
        life = PodLife(self._store, created, lambda: self.behaviour)
        self._spawn(life.run(started=started))
        return created

    def _refuse(self, workload: Json, name: str, why: str) -> None:
        # The same words as long as it lasts: in a condition they are kept, and events of one kind are put together.
        self._failure = self._failure or failures.forbidden(name, why)
        message = failures.not_created(*pods_owner(workload), name, self._failure)
        self._event("FailedCreate", message, workload, warning=True)
        self._loop.call_later(self.behaviour.retry, self.wake)

    def _event(self, reason: str, message: str, workload: Json, *, warning: bool = False) -> None:
        kind, name = pods_owner(workload)
        about = workload
        if kind != self._key[0].kind:
            about = {"kind": kind, "apiVersion": "apps/v1", "metadata": {"namespace": self._key[1], "name": name}}
        source = f"{kind.lower()}-controller"
        record_event(self._store, about, reason, message, warning=warning, source=source)

    def _write_status(self, workload: Json) -> None:
        counts = self._counts(workload)
        if self._key[0] == DEPLOYMENTS:
            status = deployment_status(workload, counts, self._failure, self._deadline_passed(workload, counts))
        elif self._key[0] != STATEFULSETS:
            late = self._deadline_passed(workload, counts)
            status = other_status(self._key[0], workload, counts, self._failure, late)
        else:
            if counts.updated == counts.replicas == desired(workload):
                self._current_revision = revision(workload)
            status = statefulset_status(workload, counts, self._current_revision)
        self._store.replace(self._key[0], {**workload, "status": status}, STATUS)

    def _counts(self, workload: Json) -> Counts:
        pods = self._pods()
        ready = [pod for pod in pods if pod_objects.is_ready(pod)]
        updated = [pod for pod in pods if self._is_updated(workload, pod)]
        available = self._count_available(workload, ready)
        return Counts(len(pods), len(updated), len(ready), available, len(self._terminating()))

    def _count_available(self, workload: Json, ready: list[Json]) -> int:
        """A pod is available once it has been ready for ``minReadySeconds``."""
        now = self._loop.time()
        names = [pod["metadata"]["name"] for pod in ready]
        wait = workload["spec"].get("minReadySeconds", 0)
        since = {name: self._available_from.get(name, now + wait) for name in names}
        self._available_from = since
        for moment in since.values():
            if moment > now:
                self._loop.call_at(moment + 0.001, self.wake)
        return sum(moment <= now for moment in since.values())

    def _deadline_passed(self, workload: Json, counts: Counts) -> bool:
        """Whether the roll-out is unfinished for longer than asked; looks again when the time has come."""
        deadline = self.behaviour.progress_deadline
        now = self._loop.time()
        if deadline is None or counts.available == counts.updated == desired(workload):
            self._unfinished_since = None
            return False
        if self._unfinished_since is None:
            self._unfinished_since = now
            self._loop.call_later(deadline + 0.001, self.wake)
        return now - self._unfinished_since >= deadline

    def _delete_all(self) -> None:
        for pod in self._kept():
            self._store.replace(PODS, pod_objects.terminating(pod))


def _container(workload: Json) -> str:
    return str(workload["spec"]["template"]["spec"]["containers"][0]["name"])
