"""The simulated cluster under the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from tests.stack.cluster import PolicyRule, SimulatedCluster
from tests.stack.cluster.cluster import USER
from tests.stack.cluster.resources import HPAS, SCALED_OBJECTS

from .client import Access, Client
from .failures import Failure
from .server import AUTOSCALED, Server

NAMESPACE = "contract"


class SimulatedServer(Server):
    """Has one account, so a limited client and `client` are the same one."""

    namespace = NAMESPACE
    user = USER

    def __init__(self, cluster: SimulatedCluster, client: Client) -> None:
        super().__init__()
        self._cluster = cluster
        self.client = client

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[SimulatedServer]:
        async with AsyncExitStack() as parts:
            cluster = await parts.enter_async_context(SimulatedCluster())
            access = Access(cluster.url, cluster.ca_file, cluster.token)
            yield cls(cluster, await parts.enter_async_context(Client.open(access)))

    async def add(self, kind: str, name: str, replicas: int, spec: dict[str, Any]) -> None:
        self._cluster.add(kind, NAMESPACE, name, replicas, spec=spec)

    async def add_failing(self, name: str, failure: Failure) -> None:
        self._cluster.add_deployment(NAMESPACE, name, outcome=failure.outcome)

    async def autoscaler(self, kind: str, name: str) -> None:
        add = {HPAS.kind: self._cluster.add_autoscaler, SCALED_OBJECTS.kind: self._cluster.add_scaled_object}[kind]
        add(NAMESPACE, name, *AUTOSCALED)

    @asynccontextmanager
    async def limited_to(self, rules: Sequence[PolicyRule]) -> AsyncIterator[Client]:
        self._cluster.grant(rules)
        try:
            yield self.client
        finally:
            self._cluster.authorization.reset()

    @asynccontextmanager
    async def busy(self) -> AsyncIterator[None]:
        async with self._failing(every=1):
            yield

    @asynccontextmanager
    async def turning_half_away(self) -> AsyncIterator[None]:
        async with self._failing(every=2):
            yield

    @asynccontextmanager
    async def _failing(self, every: int) -> AsyncIterator[None]:
        self._cluster.fail(status=429, retry_after=1, times=None, every=every)
        try:
            yield
        finally:
            self._cluster.faults.clear()

    @asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        await self._cluster.refuse()
        try:
            yield
        finally:
            await self._cluster.listen()
