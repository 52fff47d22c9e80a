"""The life of one pod, from Pending until it is gone: scheduler and kubelet in one, writing to the store only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from . import pod_objects
from .behaviour import Behaviour, Outcome
from .event_objects import record_event
from .resources import PODS, Json
from .store import ObjectStore


class PodLife:
    """Moves one pod of the store on as its workload's behaviour says; a changed behaviour counts at the next step."""

    def __init__(self, store: ObjectStore, pod: Json, behaviour: Callable[[], Behaviour]) -> None:
        self._store = store
        self._namespace = pod["metadata"]["namespace"]
        self._name = pod["metadata"]["name"]
        self._uid = pod["metadata"]["uid"]
        self._behaviour = behaviour

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
        await self._step()
        await self._pulled()
        self._event("Started", f"Started container {self._container()}")
        self._change(lambda pod: pod_objects.running(pod, ready=False))
        await self._step()
        await self._became_ready()
        self._change(lambda pod: pod_objects.running(pod, ready=True))
        await self._crashes_later()

    async def _scheduled(self) -> None:
        while self._outcome() is Outcome.UNSCHEDULABLE:
            self._change(pod_objects.unschedulable)
            self._event("FailedScheduling", pod_objects.UNSCHEDULABLE, warning=True, source="default-scheduler")
            await self._retry()
        where = f"{self._namespace}/{self._name}"
        self._event("Scheduled", f"Successfully assigned {where} to node-1", source="default-scheduler")

    async def _pulled(self) -> None:
        while self._outcome() is Outcome.IMAGE_PULL:
            image = self._image()
            error = f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": not found'
            self._event("Failed", f'Failed to pull image "{image}": {error}', warning=True)
            self._event("Failed", "Error: ErrImagePull", warning=True)
            self._wait("ErrImagePull", error)
            await self._retry()
            self._event("BackOff", f'Back-off pulling image "{image}"', warning=True)
            self._wait("ImagePullBackOff", f'Back-off pulling image "{image}": ErrImagePull: {error}')
            await self._retry()
        self._event("Pulled", f'Container image "{self._image()}" already present on machine')

    async def _became_ready(self) -> None:
        while self._outcome() in (Outcome.CRASH_LOOP, Outcome.NEVER_READY):
            if self._outcome() is Outcome.CRASH_LOOP:
                await self._crash()
            else:
                self._event("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503", warning=True)
                await self._retry()

    async def _crashes_later(self) -> None:
        """A container that was ready can begin to crash when the behaviour changes."""
        while True:
            await self._retry()
            while self._outcome() is Outcome.CRASH_LOOP:
                await self._crash()
                if self._outcome() is not Outcome.CRASH_LOOP:
                    self._change(lambda pod: pod_objects.running(pod, ready=True))

    async def _crash(self) -> None:
        exit_code = self._behaviour().exit_code
        self._change(lambda pod: pod_objects.crashed(pod, exit_code))
        await self._retry()
        message = f"back-off 10s restarting failed container={self._container()} pod={self._name}_{self._namespace}"
        self._event("BackOff", f"Back-off restarting failed container {self._container()}", warning=True)
        self._wait("CrashLoopBackOff", message)
        await self._retry()
        self._change(lambda pod: pod_objects.running(pod, ready=False))
        await self._step()

    def _wait(self, reason: str, message: str) -> None:
        self._change(lambda pod: pod_objects.waiting(pod, reason, message))

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
