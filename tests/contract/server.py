"""An API server as the contract's tests use it, whichever it is; its own doings are in `simulated` and `real`."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from tests.stack.cluster import PolicyRule
from tests.stack.cluster.kubeconfigs import write_kubeconfig
from tests.stack.cluster.resources import GAMESERVERS, WORKLOADS

from .client import Access, Client
from .failures import Failure

AUTOSCALED = (2, 5)
"""The least and the most replicas that an autoscaler wants."""
CUSTOM = GAMESERVERS.full_kind
"""A kind that a CustomResourceDefinition brings, whose wanted count is not where Deployments have it."""


class Server(ABC):
    """An API server, and a namespace of it.

    Attributes:
        namespace: where the tests' workloads are.
        client: may do everything there.
        user: who `client` is, as the server names it.
    """

    namespace: str
    client: Client
    user: str

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    async def workload(self, kind: str = "Deployment", replicas: int = 0, **spec: Any) -> str:
        """Add a workload whose pods become ready, and give back its name; `spec` is added to its spec.

        Args:
            kind: one of the simulated cluster's `WORKLOADS`; pods of a `CUSTOM` one are nobody's business.
        """
        name = f"{WORKLOADS[kind].kind.lower()}-{next(self._numbers)}"
        await self.add(kind, name, replicas, spec)
        return name

    @abstractmethod
    async def add(self, kind: str, name: str, replicas: int, spec: dict[str, Any]) -> None:
        """Add a workload of that name; it and its pods carry the label ``app=NAME``."""

    async def failing(self, failure: Failure) -> str:
        """Add a Deployment that is off and cannot come up, and give back its name."""
        name = f"failing-{next(self._numbers)}"
        await self.add_failing(name, failure)
        return name

    @abstractmethod
    async def add_failing(self, name: str, failure: Failure) -> None:
        """Add a Deployment of that name, which is off and cannot come up."""

    @abstractmethod
    async def autoscaler(self, kind: str, name: str) -> None:
        """Add an autoscaler for the Deployment of that name, with the bounds `AUTOSCALED`.

        Args:
            kind: ``HorizontalPodAutoscaler`` or, as KEDA has it, ``ScaledObject``.
        """

    @abstractmethod
    def limited_to(self, rules: Sequence[PolicyRule]) -> AbstractAsyncContextManager[Client]:
        """A client that has no other rights in the namespace than these."""

    @abstractmethod
    def turning_half_away(self) -> AbstractAsyncContextManager[None]:
        """As long as the context lasts, about half of what `client`'s account asks is turned away."""

    @abstractmethod
    def down(self) -> AbstractAsyncContextManager[None]:
        """As long as the context lasts, the server does not run; it has begun again when it ends."""

    @abstractmethod
    def busy(self) -> AbstractAsyncContextManager[None]:
        """As long as the context lasts, the server turns away what `client` asks, unless it is one thing at a time."""

    def path(self, kind: str, name: str = "", subresource: str = "") -> str:
        """The path of a workload, of its subresource, or of all of its kind in the namespace."""
        resource = WORKLOADS[kind]
        parts = (f"/apis/{resource.api_version}/namespaces", self.namespace, resource.plural, name, subresource)
        return "/".join(part for part in parts if part)

    def core(self, plural: str) -> str:
        """The path of the namespace's pods or events."""
        return f"/api/v1/namespaces/{self.namespace}/{plural}"

    def kubeconfig(self, directory: Path, url: str = "") -> Path:
        """A kubeconfig of `client`'s account; `url` is another way to the server."""
        access: Access = self.client.access
        where = url or access.url
        return write_kubeconfig(directory / "kubeconfig", "contract", where, access.authority, access.token)
