"""Which resource a kind is: the built-in ones are known, for every other the API server's discovery says it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from .api_requests import BUILT_IN, Resource, get_resources
from .api_transport import Transport
from .errors import Invalid, NotFound
from .models import WorkloadRef

KNOWN_FOR = 600.0
"""Seconds after which the API server is asked again: what brings a kind may have been replaced."""


class Discovery:
    """Finds the resource of a workload's kind, and remembers it for `KNOWN_FOR`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._known: dict[tuple[str, str], tuple[Resource, float]] = {}

    async def resource(self, ref: WorkloadRef) -> Resource:
        """The resource of `ref`'s kind.

        Raises:
            NotFound: the cluster has no such kind.
            Invalid: objects of that kind cannot be scaled, or are in no namespace.
            ClusterError: it could not be asked.
        """
        if ref.api_version == "apps/v1" and ref.kind in BUILT_IN:
            return BUILT_IN[ref.kind]
        now = asyncio.get_running_loop().time()
        resource, until = self._known.get((ref.api_version, ref.kind), (None, 0.0))
        if resource is None or now >= until:
            resource = await self._ask(ref)
            self._known[ref.api_version, ref.kind] = resource, now + KNOWN_FOR
        return resource

    async def _ask(self, ref: WorkloadRef) -> Resource:
        try:
            served = await self._transport.parsed(get_resources(ref), _by_name)
        except NotFound as error:
            raise _unknown(ref) from error
        return find_resource(ref, served)


def find_resource(ref: WorkloadRef, served: Mapping[str, Mapping[str, Any]]) -> Resource:
    """The resource of `ref`'s kind among those of its apiVersion, by name (``rollouts``, ``rollouts/scale``).

    Raises:
        NotFound: there is no such kind.
        Invalid: it cannot be scaled, or is in no namespace.
    """
    plural = next((name for name, entry in served.items() if entry["kind"] == ref.kind and "/" not in name), "")
    if not plural:
        raise _unknown(ref)
    if not served[plural]["namespaced"]:
        raise Invalid(f"Objects of kind {ref.full_kind} are in no namespace, so none can be a target.")
    if f"{plural}/scale" not in served:
        raise Invalid(f"Kind {ref.full_kind} has no scale subresource, so I cannot turn it on and off.")
    return Resource(plural, custom=True)


def _by_name(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {str(entry["name"]): entry for entry in document["resources"]}


def _unknown(ref: WorkloadRef) -> NotFound:
    return NotFound(
        f"The cluster has no kind {ref.full_kind}; check kind of the target, or install what brings that kind."
    )
