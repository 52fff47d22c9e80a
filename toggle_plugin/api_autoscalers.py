"""Which autoscalers target a workload, where we may list them: HorizontalPodAutoscalers, and ScaledObjects of KEDA."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .api_requests import AUTOSCALERS, Access, list_autoscalers
from .api_rights import Rights
from .api_transport import Transport
from .autoscaling import PAUSED, PINNED
from .errors import ClusterError, NotFound
from .models import HPA, SCALED_OBJECT, Autoscaler, WorkloadRef

Json = Mapping[str, Any]

SAME_FOR = 5.0
"""Seconds for which a namespace's autoscalers are not asked for again: a status is often one of many targets there."""
ABSENT_FOR = 120.0
"""Seconds for which a kind that the cluster does not have is not asked for again."""
KEDA_MAXIMUM = 100
"""KEDA's own default."""


@dataclass(frozen=True)
class Targeting:
    """An autoscaler and what it scales: API group, kind and name; `maker` is the ScaledObject that made it, if any."""

    autoscaler: Autoscaler
    target: tuple[str, str, str]
    maker: str = ""


@dataclass
class _Namespace:
    """What was found in one namespace, or why it was not, and until when that holds."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    found: Sequence[Targeting] | ClusterError = ()
    until: float = 0.0


class Autoscalers:
    """Asks for the autoscalers of a namespace, as far as that is allowed."""

    def __init__(self, transport: Transport, rights: Rights) -> None:
        self._transport = transport
        self._rights = rights
        self._namespaces: defaultdict[str, _Namespace] = defaultdict(_Namespace)
        self._absent: dict[str, float] = {}
        """The kinds that the cluster does not have, and until when that holds."""

    async def of(self, ref: WorkloadRef) -> tuple[Autoscaler, ...]:
        """Those that target `ref`; none where we may not list them. Raises ClusterError."""
        namespace = self._namespaces[ref.namespace]
        async with namespace.lock:
            now = asyncio.get_running_loop().time()
            if now >= namespace.until:
                namespace.found = await self._ask(ref)
                namespace.until = now + SAME_FOR
        if isinstance(namespace.found, ClusterError):
            raise namespace.found
        return those_of(ref, namespace.found)

    async def _ask(self, ref: WorkloadRef) -> Sequence[Targeting] | ClusterError:
        try:
            return [*await self._list(ref, HPA, parse_hpa), *await self._list(ref, SCALED_OBJECT, parse_scaled_object)]
        except ClusterError as error:
            return error

    async def _list(self, ref: WorkloadRef, kind: str, parse: Callable[[Json], Targeting]) -> Sequence[Targeting]:
        now = asyncio.get_running_loop().time()
        if now < self._absent.get(kind, 0.0):
            return ()
        request = list_autoscalers(kind, ref)
        if not await self._rights.has(Access("list", request.asked.resource, ref.namespace, AUTOSCALERS[kind].group)):
            return ()
        try:
            return await self._transport.parsed(request, lambda body: [parse(item) for item in body["items"]])
        except NotFound:
            self._absent[kind] = now + ABSENT_FOR
            return ()


def those_of(ref: WorkloadRef, found: Iterable[Targeting]) -> tuple[Autoscaler, ...]:
    """The autoscalers of `ref`, without those that one of them has made for itself."""
    of = [each for each in found if each.target == (ref.group, ref.kind, ref.name)]
    makers = {each.autoscaler.name for each in of if each.autoscaler.kind == SCALED_OBJECT}
    return tuple(each.autoscaler for each in of if each.maker not in makers)


def parse_hpa(obj: Json) -> Targeting:
    """A HorizontalPodAutoscaler (autoscaling/v2).

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is another thing.
    """
    metadata, spec = obj["metadata"], obj["spec"]
    minimum = 1 if spec.get("minReplicas") is None else int(spec["minReplicas"])
    owners = metadata.get("ownerReferences") or ()
    maker = next((owner["name"] for owner in owners if owner["kind"] == SCALED_OBJECT), "")
    return Targeting(
        Autoscaler(HPA, metadata["name"], minimum, int(spec["maxReplicas"])), _target(spec["scaleTargetRef"]), maker
    )


def parse_scaled_object(obj: Json) -> Targeting:
    """A ScaledObject (keda.sh/v1alpha1), with KEDA's defaults; raises as `parse_hpa` does."""
    metadata, spec = obj["metadata"], obj["spec"]
    annotations = metadata.get("annotations") or {}
    pinned = annotations.get(PINNED, "")
    # Where it has a count for idle times, that is the least; its minimum then holds only while there is work.
    least = spec.get("idleReplicaCount", spec.get("minReplicaCount"))
    autoscaler = Autoscaler(
        SCALED_OBJECT,
        metadata["name"],
        int(least or 0),
        int(spec.get("maxReplicaCount") or KEDA_MAXIMUM),
        paused=bool(pinned) or annotations.get(PAUSED, "").casefold() == "true",
        pinned=int(pinned) if pinned.isdecimal() else None,
    )
    return Targeting(autoscaler, _target({"apiVersion": "apps/v1", "kind": "Deployment", **spec["scaleTargetRef"]}))


def _target(reference: Json) -> tuple[str, str, str]:
    # Of the version nobody asks: it is the same object in every one.
    return str(reference.get("apiVersion") or "apps/v1").rpartition("/")[0], reference["kind"], reference["name"]
