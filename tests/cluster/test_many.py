"""Five hundred targets on a pretended node: how many requests a status of all of them is, and how long it takes."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
import yaml

from tests.integration.conftest import servers
from tests.stack.cluster.kubeconfigs import write_kubeconfig
from tests.stack.stack import Servers

from .cluster import Cluster, Manifest, Namespace
from .node.command import run
from .release import workload
from .rights import Event, account, forbidden, requests

__all__ = ["servers"]

pytestmark = pytest.mark.timeout(1500)

NAMESPACES, EACH, RUNNING = 5, 100, 20
"""So many namespaces, with so many targets in each, so many of which run."""
RIGHTS = ("Role", "RoleBinding")
NODE = "pretended"
TAINT = {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}
BOUND = 4.0
"""How many times as long as `kubectl get` in each of the namespaces a status by lists may take."""


def pretended_node() -> Manifest:
    """kwok plays its kubelet; no pod comes there by mistake."""
    metadata = {"name": NODE, "labels": {"type": "kwok"}, "annotations": {"kwok.x-k8s.io/node": "fake"}}
    resources = {"cpu": "1000", "memory": "1000Gi", "pods": "1000"}
    status = {"allocatable": resources, "capacity": resources}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"taints": [TAINT]}, "status": status}


def pretended(name: str, replicas: int) -> Manifest:
    """A Deployment whose pods go to that node."""
    deployment = workload("nobody/pulls:it", name)
    template = deployment["spec"]["template"]
    place = {"nodeSelector": {"type": "kwok"}, "tolerations": [{**TAINT, "operator": "Equal"}]}
    spec = {"replicas": replicas, "template": {**template, "spec": {**template["spec"], **place}}}
    return {**deployment, "spec": {**deployment["spec"], **spec}}


class Many:
    """The namespaces with all that is in them, and one for the accounts of bots."""

    def __init__(self, home: Namespace, namespaces: Sequence[Namespace]) -> None:
        self.home = home
        self.namespaces = namespaces
        self.cluster = home.cluster

    def targets(self) -> dict[str, Mapping[str, str]]:
        return {
            f"app-{place}-{number}": {"kind": "Deployment", "namespace": namespace.name, "name": f"app-{number}"}
            for place, namespace in enumerate(self.namespaces)
            for number in range(EACH)
        }

    async def fill(self) -> None:
        """Add the workloads, and wait until those that run do."""
        for namespace in self.namespaces:
            await namespace.apply(*(pretended(f"app-{number}", int(number < RUNNING)) for number in range(EACH)))
        for namespace in self.namespaces:
            await namespace.until("all that run to be available", partial(_all_run, namespace), 300)

    async def grant(self, name: str, *, lists: bool) -> None:
        """Make an account with exactly the rights that the chart has for these targets."""
        values = {
            "instance": {"settings": {"allowed_users": ["@alice:example.org"], "targets": self.targets()}},
            "maubot": {"enabled": False, "serviceAccount": {"name": name, "namespace": self.home.name}},
            "rbac": {"list": lists},
        }
        words = ("template", name, os.environ["TOGGLE_CHART"], "--namespace", self.home.name, "--values=-")
        manifests = await run((os.environ["TOGGLE_HELM"], *words), json.dumps(values))
        rights = [each for each in yaml.safe_load_all(manifests) if each and each["kind"] in RIGHTS]
        await self.home.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
        await self.cluster.apply(*rights)

    async def kubeconfig(self, name: str, directory: Path) -> Path:
        """A kubeconfig of that account."""
        token = (await self.home.kubectl("create", "token", name)).strip()
        authority = directory / "ca.crt"
        authority.write_bytes(await self.cluster.authority())
        return write_kubeconfig(directory / "kubeconfig", name, self.cluster.url, authority, token)

    def asked(self, name: str) -> list[Event]:
        """What that account has asked for so far."""
        return requests(self.cluster, account(self.home.name, name))

    async def seconds_of_kubectl(self) -> float:
        """How long `kubectl get deployments` takes for the namespaces, one after the other."""
        begun = time.monotonic()
        for namespace in self.namespaces:
            await namespace.kubectl("get", "deployments")
        return time.monotonic() - begun


async def _all_run(namespace: Namespace) -> bool:
    """As the Deployments tell it: their controller hears of a pod later than the pod is ready."""
    deployments = (await namespace.get("deployments"))["items"]
    available: int = sum(each["status"].get("availableReplicas", 0) for each in deployments)
    return available == RUNNING


@pytest.fixture(scope="module")
async def many(cluster: Cluster) -> AsyncIterator[Many]:
    async with AsyncExitStack() as parts:
        await cluster.apply(pretended_node())
        parts.push_async_callback(cluster.kubectl, "delete", "node", NODE, "--wait=false")
        home, *namespaces = [await parts.enter_async_context(cluster.namespace()) for _ in range(NAMESPACES + 1)]
        many = Many(home, namespaces)
        await many.fill()
        yield many


@pytest.mark.parametrize(("name", "lists"), [("narrow", False), ("wide", True)])
async def test_a_status_of_all(servers: Servers, many: Many, tmp_path: Path, name: str, lists: bool) -> None:
    await many.grant(name, lists=lists)
    kubeconfig = await many.kubeconfig(name, tmp_path)
    async with servers.stack({"targets": many.targets()}, kubeconfig=kubeconfig) as stack:
        alice = await stack.person("alice")
        room = await stack.room_with_bot(alice)
        told: list[float] = []
        asked: Counter[str] = Counter()
        for _ in range(3):
            before = len(many.asked(name))
            begun = time.monotonic()
            reply = await alice.wait_reply(await alice.send(room, "status"), 120)
            told.append(time.monotonic() - begun)
            asked = Counter(f"{event['verb']} {event['objectRef']['resource']}" for event in many.asked(name)[before:])
            assert f"{NAMESPACES * RUNNING} running" in reply.body
            assert f"{NAMESPACES * (EACH - RUNNING)} off" in reply.body
    assert list(forbidden(many.asked(name))) == []
    kubectl = await many.seconds_of_kubectl()
    ratio = min(told) / kubectl
    line = f"{min(told):.2f} s, kubectl {kubectl:.2f} s, ratio {ratio:.2f}; the third time: {dict(asked)}"
    print(f"\nstatus of {NAMESPACES * EACH} targets, {name} rights: {line}")  # noqa: T201 - figures for the docs
    if lists:
        assert sum(asked.values()) <= 2 * NAMESPACES
        assert ratio < BOUND
    else:
        assert asked["get deployments"] == NAMESPACES * EACH
