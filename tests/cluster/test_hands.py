"""Restarts, and others who scale: each is told through the chat, with exactly the chart's rights."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.integration.conversation import ask, told
from tests.stack.synapse import Synapse

from .cluster import Cluster, Manifest, Namespace
from .release import FULLNAME, PackageIndex, Release, workload
from .rights import account, allowed, forbidden, needed, requests

pytestmark = pytest.mark.timeout(600)

RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
ARGO_CD = "argocd-controller"
SLOW_START = 30
"""Seconds until it can be ready: an autoscaler looks every fifteen."""
PUT_BACK_EVERY = 1.0


def slow(manifest: Manifest) -> Manifest:
    template = manifest["spec"]["template"]
    [container] = template["spec"]["containers"]
    probe = {**container["readinessProbe"], "initialDelaySeconds": SLOW_START}
    pod = {**template["spec"], "containers": [{**container, "readinessProbe": probe}]}
    return {**manifest, "spec": {**manifest["spec"], "template": {**template, "spec": pod}}}


def stateful(image: str, name: str) -> Manifest:
    deployment = workload(image, name)
    return {**deployment, "kind": "StatefulSet", "spec": {**deployment["spec"], "serviceName": name}}


def autoscaler(name: str, minimum: int) -> Manifest:
    """Of the Deployment of this name, by metrics that there are none of."""
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    spec = {"scaleTargetRef": target, "minReplicas": minimum, "maxReplicas": 3}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": spec,
    }


@pytest.fixture(scope="module")
async def ready(own: None, cluster: Cluster, synapse: Synapse, index: PackageIndex) -> AsyncIterator[Release]:
    """A release that is ready, with both optional rights and several targets."""
    async with Release.open(cluster, synapse, index) as release:
        image, there = await cluster.probe(), release.workloads
        await there.apply(slow(workload(image, "slow")), stateful(image, "db"), workload(image, "kept"))
        values = release.own_values()
        targets: dict[str, Any] = values["instance"]["settings"]["targets"]
        targets |= {
            "slow": {"kind": "Deployment", "namespace": there.name, "name": "slow"},
            "kept": {"kind": "Deployment", "namespace": there.name, "name": "kept"},
            "db": {"kind": "StatefulSet", "namespace": there.name, "name": "db"},
        }
        await release.install({**values, "rbac": {"restart": True, "autoscalers": True}})
        await release.ready()
        yield release


async def uids(namespace: Namespace, name: str) -> set[str]:
    return {pod["metadata"]["uid"] for pod in await namespace.pods(f"app={name}")}


async def apply_as(namespace: Namespace, manager: str, name: str, replicas: int) -> None:
    """Set the count of a Deployment as a tool does that keeps it in its manifests."""
    manifest = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": replicas},
    }
    await namespace.kubectl(
        *("apply", "--server-side", "--force-conflicts", f"--field-manager={manager}", "--filename=-"),
        content=json.dumps(manifest),
    )


@asynccontextmanager
async def kept(namespace: Namespace, name: str, replicas: int) -> AsyncIterator[None]:
    """Somebody puts the count back all the time."""

    async def put_back() -> None:
        while True:
            await apply_as(namespace, ARGO_CD, name, replicas)
            await asyncio.sleep(PUT_BACK_EVERY)

    task = asyncio.ensure_future(put_back())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(("name", "kind"), [("web", "deployment"), ("db", "statefulset")])
async def test_a_restart_replaces_the_pods_once(ready: Release, name: str, kind: str) -> None:
    alice, there = await ready.person("alice"), ready.workloads
    room = await ready.room(alice)
    await told(alice, room, f"restart {name}", "there is nothing to restart while it is off")
    await told(alice, room, f"start {name}", "is running", 90)
    before = await uids(there, name)
    reply = await told(alice, room, f"restart {name}", "restarted after", 120)
    after = await uids(there, name)
    assert len(after) == 1, reply.body
    assert not after & before
    template = (await there.get(kind, name))["spec"]["template"]
    assert template["metadata"]["annotations"][RESTARTED_AT].endswith("Z")
    await told(alice, room, f"stop {name}", "is off", 90)


async def test_a_paused_deployment_is_not_restarted_and_says_what_it_holds_back(ready: Release) -> None:
    alice, there = await ready.person("alice"), ready.workloads
    room = await ready.room(alice)
    await told(alice, room, "start web", "is running", 90)
    await there.kubectl("rollout", "pause", "deployment/web")
    await told(alice, room, "restart web", "resume it first (kubectl rollout resume)")
    await told(alice, room, "status web", "(it is paused)")
    await there.kubectl("set", "env", "deployment/web", "CHANGED=yes")
    await told(alice, room, "status web", "so its newest template is held back", 60)
    await there.kubectl("rollout", "resume", "deployment/web")
    await there.rolled_out("deployment/web")
    await told(alice, room, "stop web", "is off", 90)


async def test_who_scales_it_meanwhile_is_named(ready: Release) -> None:
    alice, there = await ready.person("alice"), ready.workloads
    room = await ready.room(alice)
    reply = await ask(alice, room, "start slow")
    await alice.wait_text(reply, "is starting", 30)
    await there.kubectl("scale", "deployment/slow", "--replicas=2")
    await alice.wait_text(reply, "Somebody else (kubectl) set it to 2 meanwhile, so I stopped following.", 30)
    await told(alice, room, "stop slow", "is off", 90)


async def test_an_autoscaler_is_named_and_told(ready: Release) -> None:
    alice, there = await ready.person("alice"), ready.workloads
    room = await ready.room(alice)
    await there.apply(autoscaler("slow", 2))
    await told(alice, room, "status slow", "(HorizontalPodAutoscaler slow rests while it is off)", 60)
    reply = await told(alice, room, "start slow", "set it to 2 meanwhile", 90)
    # Who scales up what was at 0 is not noted, nor who does so after that.
    assert reply.body.endswith("(HorizontalPodAutoscaler slow keeps it between 2 and 3 replicas)")
    await told(alice, room, "status slow", "HorizontalPodAutoscaler slow keeps it between 2 and 3 replicas", 60)
    await told(alice, room, "stop slow", "is off", 90)
    await asyncio.sleep(20)
    assert (await there.get("deployment", "slow"))["spec"]["replicas"] == 0, "it rests, as was said"
    await there.kubectl("delete", "horizontalpodautoscaler", "slow")


async def test_a_stop_that_does_not_last_is_told_with_who_undid_it(ready: Release) -> None:
    alice, there = await ready.person("alice"), ready.workloads
    room = await ready.room(alice)
    await told(alice, room, "start kept", "is running", 90)
    reply = await told(alice, room, "stop kept", "is off", 90)
    await apply_as(there, ARGO_CD, "kept", 1)
    await alice.wait_text(reply, "did not stay off: somebody else (Argo CD) set it to 1 after", 30)
    await there.rolled_out("deployment/kept")
    async with kept(there, "kept", 1):
        reply = await ask(alice, room, "stop kept")
        await alice.wait_text(reply, "omebody else (Argo CD) set it to 1", 60)
    await told(alice, room, "stop kept", "is off", 90)


async def test_a_workload_that_is_deleted_meanwhile_is_told(ready: Release) -> None:
    alice, there = await ready.person("alice"), ready.workloads
    room = await ready.room(alice)
    reply = await ask(alice, room, "start slow")
    await alice.wait_text(reply, "is starting", 30)
    await there.kubectl("delete", "deployment", "slow")
    await alice.wait_text(reply, f"Somebody deleted Deployment {there.name}/slow meanwhile.", 30)


async def test_nothing_was_asked_that_is_not_granted_and_the_optional_rights_were_used(
    ready: Release, cluster: Cluster
) -> None:
    asked = requests(cluster, account(ready.namespace.name, FULLNAME))
    assert needed(forbidden(asked)) == set()
    there = ready.workloads.name
    optional = {
        (there, "apps", "deployments", "web", "patch"),
        (there, "apps", "statefulsets", "db", "patch"),
        (there, "autoscaling", "horizontalpodautoscalers", "*", "list"),
        (there, "keda.sh", "scaledobjects", "*", "list"),
    }
    assert optional <= needed(allowed(asked))
