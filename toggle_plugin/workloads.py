"""Workloads of a Kubernetes cluster: get, scale, watch, and what explains their state.

The only module that imports ``kubernetes``, and it does so late: a missing package is a state to report. Objects are
read as plain JSON, because the package's models refuse what real servers send. Nothing global is set, so a plugin that
is replaced leaves nothing behind.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from .api_autoscalers import Autoscalers
from .api_discovery import Discovery
from .api_failures import missing_right, not_found
from .api_lists import EVENT_LIMIT, PAGES, Together, list_of_events, listed
from .api_objects import events_about, parse_custom, parse_pod, parse_wanted, parse_workload
from .api_requests import (
    Access,
    Resource,
    get_scale,
    get_version,
    get_workload,
    list_pods,
    list_workloads,
    patch_restart,
    patch_scale,
    wanted_rights,
    watch_workload,
)
from .api_rights import Rights
from .api_transport import Transport
from .api_watch import Watch
from .credentials import Credentials, Package
from .errors import ClusterError, Forbidden, NotConfigured, NotFound
from .models import Autoscaler, ClusterEvent, Pod, Right, Workload, WorkloadRef
from .tasks import in_daemon_thread

OLDEST_PACKAGE = 37


class KubernetesWorkloads:
    """The API server of one cluster; every method raises children of `ClusterError` only.

    Attributes:
        server: host:port, for messages and the log.
    """

    def __init__(self, transport: Transport, log: logging.Logger) -> None:
        self.server = transport.server.address
        self._transport = transport
        self._discovery = Discovery(transport)
        self._rights = Rights(transport)
        self._autoscalers = Autoscalers(transport, self._rights)
        self._log = log

    @classmethod
    async def connect(cls, kubeconfig: str = "", *, log: logging.Logger, timeout: float = 10.0) -> KubernetesWorkloads:
        """Load the package and the credentials; no request is made.

        Args:
            kubeconfig: a file, used with its current context; empty for the service account of the pod that we are in.
            timeout: seconds for each try of a request.

        Raises:
            NotConfigured: package, credentials or CA are not usable.
        """
        # Half a second of imports, many on a busy machine: in a thread, so that the event loop goes on and may end.
        package = await in_daemon_thread(_load_package)
        credentials = Credentials(package, kubeconfig)
        await credentials.load()
        return cls(Transport(credentials.open_client(), credentials, log, timeout), log)

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def version(self) -> str:
        """The server's version, as ``v1.37.0``."""
        return await self._transport.parsed(get_version(), lambda body: str(body["gitVersion"]))

    async def get(self, ref: WorkloadRef) -> Workload:
        """The workload as it is now."""
        resource = await self._discovery.resource(ref)
        return await self._read(ref, resource, await self._transport.json(get_workload(ref, resource)))

    async def _read(self, ref: WorkloadRef, resource: Resource, obj: Mapping[str, Any]) -> Workload:
        """The workload that `obj` is; a custom one's wanted count and selector are in its Scale."""
        if not resource.custom:
            return self._transport.parse(get_workload(ref, resource), obj, lambda obj: parse_workload(ref, obj))
        # It may be newer than the object; until the status follows, that is a roll-out that has not begun.
        return await self._transport.parsed(get_scale(ref, resource), lambda scale: parse_custom(ref, obj, scale))

    async def scale(self, ref: WorkloadRef, replicas: int) -> None:
        """Set how many replicas are wanted; setting what is set already changes nothing, so this may be repeated."""
        await self._transport.json(patch_scale(ref, await self._discovery.resource(ref), replicas))

    async def restart(self, ref: WorkloadRef, stamp: str) -> None:
        """Let every pod be replaced by a new one; with the same `stamp` again that changes nothing.

        Raises:
            Forbidden: we have no right to it; it is asked for before, because few give it.
        """
        request = patch_restart(ref, await self._discovery.resource(ref), stamp)
        asked = request.asked
        if not await self._rights.has_now(Access(asked.verb, asked.resource, ref.namespace, ref.group, ref.name)):
            raise missing_right(asked, self._transport.server)
        await self._transport.json(request)

    async def autoscalers(self, ref: WorkloadRef) -> tuple[Autoscaler, ...]:
        """What scales the workload by itself; none where we may not ask for that."""
        return await self._autoscalers.of(ref)

    async def watch(self, ref: WorkloadRef) -> AsyncGenerator[Workload, None]:
        """The workload as it is now, then each newer state, for as long as the caller iterates.

        What passes by itself (cuts, 410, 429, 5xx, no connection) is waited out; the deadline is the caller's. Wrap it
        in ``contextlib.aclosing``: a generator that is merely dropped keeps its connection until it is collected.

        Raises:
            NotFound: it is not there, or was deleted.
            Forbidden, Unauthorized, Invalid, NotConfigured: what waiting does not mend.
        """
        resource = await self._discovery.resource(ref)
        requests = (get_workload(ref, resource), watch_workload(ref, resource))
        watch = Watch(self._transport, self._log, *requests, partial(self._read, ref, resource))
        async with aclosing(watch.states()) as states:
            async for workload in states:
                yield workload

    async def pods(self, workload: Workload) -> tuple[Pod, ...]:
        """The pods that the workload's selector selects, at most 200; none for an empty selector."""
        if not workload.selector:
            return ()
        request = list_pods(workload.ref, workload.selector)
        return await self._transport.parsed(request, lambda body: tuple(parse_pod(item) for item in body["items"]))

    async def events(self, workload: Workload, pods: Sequence[Pod]) -> tuple[ClusterEvent, ...]:
        """Events about the workload, its ReplicaSets and `pods`, newest first, at most 50."""
        return events_about(await list_of_events(self._transport, workload.ref), workload, pods, EVENT_LIMIT)

    async def all_of(self, refs: Sequence[WorkloadRef]) -> Mapping[WorkloadRef, Workload | ClusterError] | None:
        """The workloads `refs`, of one kind in one namespace, by one list; None where that has to be by name."""
        one = refs[0]
        resource = await self._discovery.resource(one)
        access = Access("list", resource.plural, one.namespace, one.group)
        if resource.custom or not await self._rights.has(access):
            return None  # of a custom kind, each object's Scale tells how many replicas are wanted
        wanted = {ref.name: ref for ref in refs}
        try:
            found, whole = await listed(
                self._transport, partial(list_workloads, one, resource), partial(parse_wanted, wanted), PAGES
            )
        except Forbidden:
            await self._rights.has_now(access)  # it was taken away
            return None
        if not whole:
            return None
        there = {workload.ref: workload for workload in found if workload is not None}
        return {ref: there.get(ref) or self._missing(ref, resource) for ref in refs}

    def _missing(self, ref: WorkloadRef, resource: Resource) -> NotFound:
        return NotFound(not_found(get_workload(ref, resource).asked, self._transport.server), detail="not listed")

    def together(self, ref: WorkloadRef) -> Together:
        """What explains several workloads of the namespace of `ref`, asked for once."""
        return Together(self._transport, ref, self.pods)

    async def rights(self, ref: WorkloadRef) -> tuple[Right, ...]:
        """Which rights a target needs, and which of them are there."""
        resource = await self._discovery.resource(ref)
        return tuple([await self._right(ref, *right) for right in wanted_rights(resource)])

    async def _right(self, ref: WorkloadRef, verb: str, resource: str, needed: bool) -> Right:
        # What commands need is about the workload by its name; the rest is about things of its namespace.
        about = (ref.group, ref.name) if needed else ()
        granted = await self._rights.has_now(Access(verb, resource, ref.namespace, *about))
        return Right(verb, resource, granted, needed)


def _load_package() -> Package:
    """Import ``kubernetes.aio``; raises NotConfigured where it is missing or too old."""
    cure = f"install kubernetes {OLDEST_PACKAGE} or newer there and restart maubot"
    try:
        # A directory without code, left over from an installation, is a package without a version.
        version = str(getattr(importlib.import_module("kubernetes"), "__version__", "0"))
        if int(version.split(".", maxsplit=1)[0]) < OLDEST_PACKAGE:
            sentence = f"The Python package kubernetes beside maubot is too old ({version}); {cure}."
            raise NotConfigured(sentence, detail=f"kubernetes {version}")
        names = ("kubernetes.aio.client", "kubernetes.aio.config", "kubernetes.aio.config.incluster_config", "yaml")
        return Package(*(importlib.import_module(name) for name in names))
    except ModuleNotFoundError as error:
        missing = (error.name or "kubernetes").split(".", maxsplit=1)[0]
        which = "kubernetes" if missing == "kubernetes" else f"{missing}, which kubernetes needs,"
        sentence = f"The Python package {which} is missing beside maubot; {cure}."
        raise NotConfigured(sentence, detail=str(error)) from error
    except NotConfigured:
        raise
    # Among packages that do not fit together anything can happen, and maubot must start nevertheless.
    except Exception as error:
        sentence = f"The Python package kubernetes does not fit to the others beside maubot; {cure}."
        raise NotConfigured(sentence, detail=f"{type(error).__name__}: {error}"[:500]) from error
