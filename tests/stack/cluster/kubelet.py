"""The life of one pod, from Pending until it is gone: scheduler and kubelet in one, writing to the store only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from . import failures, pod_objects
from .behaviour import Behaviour, Outcome
from .event_objects import record_event
from .resources import PODS, Json
from .store import ObjectStore

SIGKILLED = 137
FAILURE_THRESHOLD = 3
"""Failures of a liveness or startup probe after which its container is restarted."""
BEFORE_EVICTION = 5
"""Retries after which the node takes the pod away."""
_CRASHES = (Outcome.CRASH_LOOP, Outcome.OUT_OF_MEMORY)
_PROBES = {Outcome.NEVER_READY: "Readiness", Outcome.NEVER_LIVE: "Liveness", Outcome.NEVER_STARTED: "Startup"}
_NOT_READY = (*_CRASHES, *_PROBES, Outcome.EVICTED)


class PodLife:
    """Moves one pod of the store on as its workload's behaviour says; a changed behaviour counts at the next step."""

    def __init__(self, store: ObjectStore, pod: Json, behaviour: Callable[[], Behaviour]) -> None:
        self._store = store
        self._namespace = pod["metadata"]["namespace"]
        self._name = pod["metadata"]["name"]
        self._uid = pod["metadata"]["uid"]
        self._behaviour = behaviour
        self._failed_probes = 0

    async def run(self, *, started: bool) -> None:
        """Live until the pod is gone; `started` says that it is ready already."""
        start = asyncio.ensure_future(self._crashes_later() if started else self._start())
        deleted = asyncio.ensure_future(self._deleted())
        try:
            await asyncio.wait((start, deleted), return_when=asyncio.FIRST_COMPLETED)
            if start.done():
                start.result()
        finally:
            start.cancel()
            deleted.cancel()
            await asyncio.gather(start, deleted, return_exceptions=True)
        while self._outcome() is Outcome.STAYS:
            await self._retry()
        await asyncio.sleep(self._behaviour().terminate)
        if self._pod() is not None:
            self._store.delete(PODS, self._namespace, self._name)

    async def _deleted(self) -> None:
        gone = asyncio.Event()

        def look(_: object = None) -> None:
            pod = self._pod()
            if pod is None or pod_objects.is_terminating(pod):
                gone.set()

        unsubscribe = self._store.subscribe(look)
        try:
            look()
            await gone.wait()
        finally:
            unsubscribe()

    async def _start(self) -> None:
        await self._step()
        await self._scheduled()
        self._change(pod_objects.creating)
        await self._mounted()
        await self._step()
        await self._initialized()
        await self._pulled()
        await self._configured()
        self._event("Started", f"Started container {self._container()}")
        self._change(lambda pod: pod_objects.running(pod, ready=False))
        await self._step()
        await self._became_ready()
        self._change(lambda pod: pod_objects.running(pod, ready=True))
        await self._crashes_later()

    async def _scheduled(self) -> None:
        while (outcome := self._outcome()) in (Outcome.UNSCHEDULABLE, Outcome.UNBOUND_CLAIM):
            message = failures.NO_NODE if outcome is Outcome.UNSCHEDULABLE else failures.UNBOUND
            self._change(partial(pod_objects.unschedulable, message=message))
            self._event("FailedScheduling", message, warning=True, source="default-scheduler")
            if outcome is Outcome.UNBOUND_CLAIM:
                self._complain_of_claim()
            await self._retry()
        where = f"{self._namespace}/{self._name}"
        self._event("Scheduled", f"Successfully assigned {where} to node-1", source="default-scheduler")

    def _complain_of_claim(self) -> None:
        metadata = {"namespace": self._namespace, "name": failures.CLAIM}
        claim = {"kind": "PersistentVolumeClaim", "apiVersion": "v1", "metadata": metadata}
        source = "persistentvolume-controller"
        record_event(self._store, claim, "FailedBinding", failures.NOT_PROVISIONED, warning=False, source=source)

    async def _mounted(self) -> None:
        while self._outcome() is Outcome.NOT_MOUNTED:
            self._event("FailedMount", failures.NOT_MOUNTED, warning=True)
            await self._retry()

    async def _initialized(self) -> None:
        pod = self._pod()
        if pod is None or "initContainers" not in pod["spec"]:
            return
        while self._outcome() is Outcome.INIT_FAILS:
            await self._end(self._behaviour().exit_code, init=True)
        self._change(lambda pod: pod_objects.ended(pod, 0, init=True))

    async def _pulled(self) -> None:
        image = self._image()
        while self._outcome() is Outcome.IMAGE_PULL:
            error = failures.pull_error(image)
            self._event("Failed", f'Failed to pull image "{image}": {error}', warning=True)
            self._event("Failed", "Error: ErrImagePull", warning=True)
            self._wait("ErrImagePull", error)
            await self._retry()
            self._event("BackOff", f'Back-off pulling image "{image}"')
            self._event("Failed", "Error: ImagePullBackOff", warning=True)
            self._wait("ImagePullBackOff", f'Back-off pulling image "{image}": ErrImagePull: {error}')
            await self._retry()
        self._event("Pulled", f'Container image "{image}" already present on machine')

    async def _configured(self) -> None:
        while self._outcome() is Outcome.NO_CONFIG:
            self._event("Failed", f"Error: {failures.NO_SECRET}", warning=True)
            self._wait("CreateContainerConfigError", failures.NO_SECRET)
            await self._retry()

    async def _became_ready(self) -> None:
        while (outcome := self._outcome()) in _NOT_READY:
            if outcome in _CRASHES:
                await self._crash()
            elif outcome in _PROBES:
                await self._fail(_PROBES[outcome])
            else:
                await self._evicted()

    async def _crashes_later(self) -> None:
        """A container that was ready can begin to crash when the behaviour changes."""
        while True:
            await self._retry()
            while self._outcome() in _CRASHES:
                await self._crash()
                if self._outcome() not in _CRASHES:
                    self._change(lambda pod: pod_objects.running(pod, ready=True))

    async def _crash(self) -> None:
        if self._outcome() is Outcome.OUT_OF_MEMORY:
            await self._end(SIGKILLED, "OOMKilled")
        else:
            await self._end(self._behaviour().exit_code)

    async def _fail(self, probe: str) -> None:
        """The probe fails once; the kubelet restarts the container after the third time, unless it is the readiness."""
        self._event("Unhealthy", failures.UNHEALTHY.format(probe), warning=True)
        await self._retry()
        self._failed_probes += 1
        if probe != "Readiness" and self._failed_probes % FAILURE_THRESHOLD == 0:
            self._event("Killing", failures.KILLED.format(self._container(), probe.lower()))
            await self._end(SIGKILLED)

    async def _evicted(self) -> None:
        for _ in range(BEFORE_EVICTION):
            await self._retry()
        self._event("Evicted", failures.EVICTED, warning=True)
        self._change(lambda pod: pod_objects.evicted(pod, failures.EVICTED))
        await asyncio.Event().wait()  # it stays as it is until it is deleted

    async def _end(self, exit_code: int, reason: str = "", *, init: bool = False) -> None:
        """The container ends, and runs again: at once the first time, then after a while."""
        self._change(lambda pod: pod_objects.ended(pod, exit_code, reason, init=init))
        await self._retry()
        pod = self._pod()
        if pod is not None and pod_objects.restarts(pod, init=init):
            name = str(pod["spec"]["initContainers" if init else "containers"][0]["name"])
            self._event("BackOff", failures.backing_off(name, pod), warning=True)
            self._wait("CrashLoopBackOff", failures.back_off(name, pod), init=init)
            await self._retry()
        self._change(lambda pod: pod_objects.running(pod, ready=False, init=init))
        await self._step()

    def _wait(self, reason: str, message: str, *, init: bool = False) -> None:
        self._change(lambda pod: pod_objects.waiting(pod, reason, message, init=init))

    def _change(self, change: Callable[[Json], Json]) -> None:
        pod = self._pod()
        if pod is not None:
            self._store.replace(PODS, change(pod))

    def _event(self, reason: str, message: str, *, warning: bool = False, source: str = "kubelet") -> None:
        pod = self._pod()
        if pod is not None:
            record_event(self._store, pod, reason, message, warning=warning, source=source)

    def _pod(self) -> Json | None:
        """It, as long as it is there: of a StatefulSet's pods the next one has the same name."""
        pod = self._store.find(PODS, self._namespace, self._name)
        return pod if pod is not None and pod["metadata"]["uid"] == self._uid else None

    def _spec(self) -> Json:
        pod = self._pod()
        container: Json = pod["spec"]["containers"][0] if pod else {"name": "", "image": ""}
        return container

    def _image(self) -> str:
        return str(self._spec()["image"])

    def _container(self) -> str:
        return str(self._spec()["name"])

    def _outcome(self) -> Outcome:
        return self._behaviour().outcome

    async def _step(self) -> None:
        await asyncio.sleep(self._behaviour().step)

    async def _retry(self) -> None:
        await asyncio.sleep(self._behaviour().retry)
