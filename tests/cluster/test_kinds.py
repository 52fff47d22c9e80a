"""Other kinds than Deployments and StatefulSets in a real cluster, through the chat and with the chart's rights."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.integration.conversation import told
from tests.stack.synapse import Synapse

from .cluster import Cluster, Manifest, Namespace
from .custom import API_VERSION, scalable_kind
from .release import FULLNAME, PackageIndex, Release, workload
from .rights import OF_EVERYBODY, account, forbidden, granted_by, needed, requests

pytestmark = pytest.mark.timeout(600)

DISCOVERY = ("", "", f"/apis/{API_VERSION}", "*", "get")
"""Every account may ask which kinds there are."""


def replica_set(image: str, name: str) -> Manifest:
    """A ReplicaSet at 0 that belongs to nobody."""
    return {**workload(image, name), "kind": "ReplicaSet"}


def chess(name: str) -> Manifest:
    """A Chess at 0: of a kind with an irregular plural, whose status will tell nothing of readiness."""
    return {"apiVersion": API_VERSION, "kind": "Chess", "metadata": {"name": name}, "spec": {"fleet": {"size": 0}}}


class ChessController:
    """What an operator would be: the pods of a Chess are those of a Deployment, and its status says how many."""

    def __init__(self, namespace: Namespace, name: str) -> None:
        self._namespace = namespace
        self._name = name

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.ensure_future(self._run())
        try:
            yield
        finally:
            if task.done():
                task.result()  # what broke it
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        told = None
        while True:
            size = (await self._namespace.get("chess", self._name))["spec"]["fleet"]["size"]
            await self._namespace.kubectl("scale", f"deployment/{self._name}", f"--replicas={size}")
            pods = await self._namespace.pods(f"app={self._name}")
            status = {"replicas": len([pod for pod in pods if "deletionTimestamp" not in pod["metadata"]])}
            if status != told:
                patch = json.dumps({"status": {**status, "selector": f"app={self._name}"}})
                what = ("chess", self._name, "--subresource=status", "--type=merge", f"--patch={patch}")
                await self._namespace.kubectl("patch", *what)
                told = status
            await asyncio.sleep(1)


@pytest.fixture(scope="module")
async def chesses(cluster: Cluster) -> AsyncIterator[None]:
    """The cluster has the kind."""
    await cluster.apply(scalable_kind("Chess", "chesses"))
    await cluster.kubectl("wait", "--for=condition=Established", "crd/chesses.games.example", "--timeout=60s")
    yield
    await cluster.kubectl("delete", "crd/chesses.games.example", "--wait=false")


@pytest.fixture(scope="module")
async def ready(
    own: None, chesses: None, cluster: Cluster, synapse: Synapse, index: PackageIndex
) -> AsyncIterator[Release]:
    """A release that is ready: a ReplicaSet of its own, one of the Deployment web, and a Chess."""
    async with Release.open(cluster, synapse, index) as release:
        image, there = await cluster.probe(), release.workloads
        await there.apply(replica_set(image, "alone"), workload(image, "club"), chess("club"))
        values = release.own_values()
        targets: dict[str, Any] = values["instance"]["settings"]["targets"]
        targets |= {
            "alone": {"kind": "ReplicaSet", "namespace": there.name, "name": "alone"},
            "webs": {"kind": "ReplicaSet", "namespace": there.name, "name": await replica_set_of_web(there)},
            "club": {"kind": f"{API_VERSION}/Chess", "resource": "chesses", "namespace": there.name, "name": "club"},
            "nothing": {"kind": f"{API_VERSION}/Draughts", "namespace": there.name, "name": "club"},
        }
        targets["club"]["replicas"] = "restore"
        async with ChessController(there, "club").running():
            await release.install(values)
            await release.ready()
            yield release


async def replica_set_of_web(namespace: Namespace) -> str:
    """The name of the one that the Deployment web makes, also at 0."""
    await namespace.until("the ReplicaSet of web", lambda: _of_web(namespace))
    return str((await _of_web(namespace))[0]["metadata"]["name"])


async def _of_web(namespace: Namespace) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = (await namespace.get("replicasets", "--selector=app=web"))["items"]
    return found


async def test_a_replicaset_is_turned_on_and_off(ready: Release) -> None:
    alice = await ready.person("alice")
    room = await ready.room(alice)
    await told(alice, room, "start alone", "is running", 90)
    assert len(await ready.workloads.pods("app=alone")) == 1
    await told(alice, room, "stop alone", "is off", 90)
    assert await ready.workloads.pods("app=alone") == []


async def test_a_custom_resource_is_up_when_its_pods_are(ready: Release) -> None:
    alice = await ready.person("alice")
    room = await ready.room(alice)
    reply = await told(alice, room, "start club", "is running", 90)
    assert "desired 1, ready 1, available 1" in reply.body
    [pod] = await ready.workloads.pods("app=club")
    assert {"type": "Ready", "status": "True"}.items() <= _condition(pod, "Ready").items()
    reply = await told(alice, room, "status club", "is running", 30)
    assert "desired 1, ready 1, available 1" in reply.body
    await told(alice, room, "stop club", "is off", 90)
    assert await ready.workloads.pods("app=club") == []


def _condition(pod: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(each for each in pod["status"]["conditions"] if each["type"] == kind)
    return found


async def set_size(release: Release, size: int) -> None:
    """As somebody else does it, who knows where a Chess keeps its count."""
    patch = json.dumps({"spec": {"fleet": {"size": size}}})
    await release.workloads.kubectl("patch", "chess", "club", "--type=merge", f"--patch={patch}")


async def test_a_count_that_somebody_else_took_away_is_brought_back(ready: Release) -> None:
    alice = await ready.person("alice")
    room = await ready.room(alice)
    await set_size(ready, 2)
    await told(alice, room, "status club", "desired 2", 30)
    await set_size(ready, 0)
    reply = await told(alice, room, "start club", "is running", 120)
    assert "desired 2, ready 2" in reply.body
    await told(alice, room, "stop club", "is off", 90)


async def test_a_replicaset_of_a_deployment_is_put_back_and_that_is_told(ready: Release) -> None:
    alice = await ready.person("alice")
    room = await ready.room(alice)
    await told(alice, room, "start web", "is running", 90)
    reply = await told(alice, room, "stop webs", "it belongs to Deployment web", 90)
    assert "set it to 1 meanwhile" in reply.body
    await told(alice, room, "stop web", "is off", 90)


async def test_a_kind_that_is_not_there_is_told_and_keeps_nothing_else_from_being_told(ready: Release) -> None:
    alice = await ready.person("alice")
    room = await ready.room(alice)
    reply = await told(alice, room, "check", f"The cluster has no kind {API_VERSION}/Draughts", 30)
    assert reply.body.count("all there") == 4, reply.body
    await told(alice, room, "start nothing", f"The cluster has no kind {API_VERSION}/Draughts", 30)


async def test_the_rights_of_all_that_are_those_that_were_used(cluster: Cluster, ready: Release) -> None:
    """What is granted for a kind that the cluster has not, nobody can use."""
    alice = await ready.person("alice")
    room = await ready.room(alice)
    for name in ("web", "alone", "club"):
        await told(alice, room, f"start {name}", "is running", 120)
        await told(alice, room, f"stop {name}", "is off", 120)
    await told(alice, room, "start webs", "set it to 0 meanwhile", 90)
    asked = requests(cluster, account(ready.namespace.name, FULLNAME))
    assert needed(forbidden(asked)) == set()
    unused = {right for right in await granted_by(ready) if right[2].startswith("draughts")}
    assert needed(asked) - OF_EVERYBODY - {DISCOVERY} == await granted_by(ready) - unused
