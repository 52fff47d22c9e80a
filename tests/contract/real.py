"""A real cluster under the contract: the node of tests/cluster, or the one that KUBECONFIG_FOR_TESTS names."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.cluster.cluster import Cluster, Manifest, Namespace
from tests.cluster.custom import custom_kind, scalable_kind
from tests.cluster.node import control
from tests.cluster.node.layout import Layout
from tests.cluster.release import workload
from tests.cluster.rights import account
from tests.stack.cluster import PolicyRule
from tests.stack.cluster.other_hands import new_autoscaler, new_scaled_object
from tests.stack.cluster.resources import GAMESERVERS, HPAS, SCALED_OBJECTS, Json, Resource
from tests.stack.cluster.workload_objects import new_workload

from .client import Access, Client
from .failures import Failure
from .server import AUTOSCALED, CUSTOM, Server

RBAC = "rbac.authorization.k8s.io"
EVERYTHING = PolicyRule()
OTHERS = 4
CUSTOM_KINDS = (
    scalable_kind(GAMESERVERS.kind, GAMESERVERS.plural),
    custom_kind(SCALED_OBJECTS.api_version, SCALED_OBJECTS.kind, SCALED_OBJECTS.plural, {"status": {}}),
)
AUTOSCALERS: dict[str, tuple[Resource, Callable[[str, str, Json, int, int], Json]]] = {
    HPAS.kind: (HPAS, new_autoscaler),
    SCALED_OBJECTS.kind: (SCALED_OBJECTS, new_scaled_object),
}
FLOW_CONTROL = "flowcontrol.apiserver.k8s.io/v1"


def is_there() -> bool:
    """Whether there is a real cluster to test: its kubeconfig is named, or this process is in the node's network."""
    layout = Layout.default()
    return bool(os.environ.get("KUBECONFIG_FOR_TESTS")) or (control.is_running(layout) and control.is_inside(layout))


class RealServer(Server):
    """Each client is a service account of the namespace."""

    def __init__(self, namespace: Namespace, url: str, authority: Path) -> None:
        super().__init__()
        self.namespace = namespace.name
        self.user = account(namespace.name, "everything")
        self._there = namespace
        self._url = url
        self._authority = authority
        self._accounts = itertools.count(1)

    @classmethod
    @asynccontextmanager
    async def open(cls, directory: Path) -> AsyncIterator[RealServer]:
        cluster = await Cluster.open()
        authority = directory / "ca.crt"
        authority.write_bytes(await cluster.authority())
        async with cluster.namespace() as namespace, _kinds(cluster, *CUSTOM_KINDS):
            await namespace.apply(_claim())
            server = cls(namespace, cluster.url, authority)
            async with server._account("everything", [EVERYTHING]) as server.client:
                yield server

    async def add(self, kind: str, name: str, replicas: int, spec: dict[str, Any]) -> None:
        if kind == CUSTOM:
            await self._add_custom(name, replicas)
            return
        deployment = workload(await self._there.cluster.probe(), name)
        service = {"serviceName": name} if kind == "StatefulSet" else {}
        whole = {**deployment["spec"], **service, "replicas": replicas, **spec}
        await self._create({**deployment, "kind": kind, "spec": whole})
        if kind == "ReplicaSet":
            wanted = f"readyReplicas}}={replicas}" if replicas else "observedGeneration}=1"
            await self._there.condition(f"replicaset/{name}", f"jsonpath={{.status.{wanted}")
        else:
            await self._there.rolled_out(f"{kind.lower()}/{name}")

    async def add_failing(self, name: str, failure: Failure) -> None:
        await self._create(_broken(workload(await self._there.cluster.probe(), name), failure))

    async def autoscaler(self, kind: str, name: str) -> None:
        """A ScaledObject is only an object: there is no KEDA."""
        resource, new = AUTOSCALERS[kind]
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
        made = new(self.namespace, name, target, *AUTOSCALED)
        del made["status"]
        await self._create({"apiVersion": resource.api_version, "kind": kind, **made})

    async def _add_custom(self, name: str, replicas: int) -> None:
        """Its controller, which there is none of, would write its status."""
        manifest = {"kind": GAMESERVERS.kind, "apiVersion": GAMESERVERS.api_version, "metadata": {"name": name}}
        spec = new_workload(GAMESERVERS, self.namespace, name, replicas, "any")["spec"]
        await self._create({**manifest, "spec": spec})
        status = {"replicas": replicas, "selector": f"app={name}"}
        await self.client.patch(self.path(CUSTOM, name, "status"), {"status": status})

    async def _create(self, manifest: Manifest) -> None:
        """Not applied: who owns which field is then as in the simulated cluster."""
        await self._there.kubectl("create", "--filename=-", content=json.dumps(manifest))

    def limited_to(self, rules: Sequence[PolicyRule]) -> AbstractAsyncContextManager[Client]:
        return self._account(f"limited-{next(self._accounts)}", rules)

    @asynccontextmanager
    async def _account(self, name: str, rules: Sequence[PolicyRule]) -> AsyncIterator[Client]:
        await self._there.apply(*_account(self.namespace, name, rules))
        token = (await self._there.kubectl("create", "token", name)).strip()
        async with Client.open(Access(self._url, self._authority, token)) as client:
            for rule in rules:
                there = partial(_has, client, self.namespace, rule)
                await self._there.until(f"{name} to have its rights", there)
            yield client

    @asynccontextmanager
    async def busy(self) -> AsyncIterator[None]:
        cluster, name = self._there.cluster, self.namespace
        try:
            await cluster.apply(*_one_seat(name, self.user))
            yield
        finally:
            await cluster.kubectl("delete", "flowschema,prioritylevelconfiguration", name, "--ignore-not-found")

    @asynccontextmanager
    async def turning_half_away(self) -> AsyncIterator[None]:
        """As `busy`, with others of the account who take the one seat again and again."""
        async with self.busy():
            others = [asyncio.ensure_future(self._ask_on()) for _ in range(OTHERS)]
            try:
                yield
            finally:
                for other in others:
                    other.cancel()
                await asyncio.gather(*others, return_exceptions=True)

    async def _ask_on(self) -> None:
        while True:
            await self.client("GET", self.core("pods"))

    @asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        cluster = self._there.cluster
        await cluster.kill("apiserver")
        try:
            yield
        finally:
            await cluster.start("apiserver")


def _claim() -> Manifest:
    """The claim of the workload that waits for a volume: there is none for it."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": spec}


def _broken(deployment: Manifest, failure: Failure) -> Manifest:
    template = deployment["spec"]["template"]
    [container] = template["spec"]["containers"]
    pod = {**template["spec"], "containers": [{**container, **failure.container}], **failure.pod}
    return {**deployment, "spec": {**deployment["spec"], "template": {**template, "spec": pod}}}


@asynccontextmanager
async def _kinds(cluster: Cluster, *definitions: Manifest) -> AsyncIterator[None]:
    names = [f"crd/{definition['metadata']['name']}" for definition in definitions]
    await cluster.apply(*definitions)
    try:
        await cluster.kubectl("wait", "--for=condition=Established", *names, "--timeout=30s")
        yield
    finally:
        await cluster.kubectl("delete", *names)


async def _has(client: Client, namespace: str, rule: PolicyRule) -> bool:
    resource, _, subresource = rule.resources[0].partition("/")
    names = {"name": rule.resource_names[0]} if rule.resource_names else {}
    asked = {"verb": rule.verbs[0], "group": rule.api_groups[0], "resource": resource, "subresource": subresource}
    return await client.may(namespace=namespace, **asked, **names)


def _account(namespace: str, name: str, rules: Sequence[PolicyRule]) -> tuple[Manifest, ...]:
    metadata = {"name": name}
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    role = {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": metadata, "rules": [_rule(rule) for rule in rules]}
    binding = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name},
        "subjects": [subject],
    }
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}, role, binding


def _rule(rule: PolicyRule) -> Manifest:
    written = {"verbs": rule.verbs, "resources": rule.resources, "apiGroups": rule.api_groups}
    return {**written, **({"resourceNames": rule.resource_names} if rule.resource_names else {})}


def _one_seat(name: str, user: str) -> tuple[Manifest, Manifest]:
    """API Priority and Fairness: a level with one seat and no queue for all that `user` asks."""
    limits = {"nominalConcurrencyShares": 0, "lendablePercent": 0, "borrowingLimitPercent": 0}
    level = {"type": "Limited", "limited": {**limits, "limitResponse": {"type": "Reject"}}}
    everything = {
        "resourceRules": [
            {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": True}
        ],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    }
    namespace, account_name = user.split(":")[2:]
    subject = {"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": account_name}}
    schema = {
        "priorityLevelConfiguration": {"name": name},
        "matchingPrecedence": 2,  # 1 is only for what is never turned away
        "rules": [{"subjects": [subject], **everything}],
    }
    return (
        {"apiVersion": FLOW_CONTROL, "kind": "PriorityLevelConfiguration", "metadata": {"name": name}, "spec": level},
        {"apiVersion": FLOW_CONTROL, "kind": "FlowSchema", "metadata": {"name": name}, "spec": schema},
    )
