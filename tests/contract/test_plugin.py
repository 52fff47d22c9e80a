"""The plugin's own side of the cluster against either server: what it makes of the answers is the same."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from pathlib import Path

import pytest

from tests.stack.cluster import PolicyRule
from tests.stack.cluster.kubeconfigs import write_kubeconfig
from tests.stack.cluster.resources import WORKLOADS
from toggle_plugin.errors import Forbidden, NotFound
from toggle_plugin.models import Phase, WorkloadRef
from toggle_plugin.rollout import rollout_status
from toggle_plugin.workloads import KubernetesWorkloads

from .client import Client
from .server import CUSTOM, Server

pytestmark = pytest.mark.first

LOG = logging.getLogger("test.contract")
SECONDS = 90.0


def ref(server: Server, kind: str, name: str) -> WorkloadRef:
    resource = WORKLOADS[kind]
    return WorkloadRef(resource.kind, server.namespace, name, resource.api_version)


async def reached(cluster: KubernetesWorkloads, target: WorkloadRef, phase: Phase) -> list[Phase]:
    """The phases that following shows, to this one, as the conditions alone tell them."""
    seen: list[Phase] = []

    async def follow() -> None:
        async with aclosing(cluster.watch(target)) as states:
            async for workload in states:
                seen.append(rollout_status(workload).phase)
                if seen[-1] is phase:
                    return

    await asyncio.wait_for(follow(), SECONDS)
    return list(dict.fromkeys(seen))


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "ReplicaSet"])
async def test_a_workload_is_started_and_stopped(server: Server, cluster: KubernetesWorkloads, kind: str) -> None:
    target = ref(server, kind, await server.workload(kind))
    off = await cluster.get(target)
    assert (off.desired, off.replicas, off.ready, off.selector) == (0, 0, 0, f"app={target.name}")
    assert rollout_status(off, await cluster.pods(off)).phase is Phase.OFF

    await cluster.scale(target, 1)
    assert (await reached(cluster, target, Phase.RUNNING))[0] in (Phase.OFF, Phase.STARTING)
    running = await cluster.get(target)
    [pod] = await cluster.pods(running)
    assert (running.desired, running.ready, running.available) == (1, 1, 1)
    assert (running.scaled_by, pod.ready, pod.terminating) == ("maubot-k8s-toggle", True, False)
    assert "Started" in {event.reason for event in await cluster.events(running, [pod])}

    await cluster.scale(target, 0)
    stopping = await cluster.get(target)
    assert rollout_status(stopping, await cluster.pods(stopping)).phase is Phase.STOPPING


async def test_a_custom_kind_is_scaled_where_it_has_its_count(server: Server, cluster: KubernetesWorkloads) -> None:
    target = ref(server, CUSTOM, await server.workload(CUSTOM))
    before = await cluster.get(target)
    assert (before.desired, before.replicas, before.selector) == (0, 0, f"app={target.name}")
    await cluster.scale(target, 2)
    after = await cluster.get(target)
    assert (after.desired, after.scaled_by) == (2, "maubot-k8s-toggle")
    assert after.generation == before.generation + 1


async def test_what_is_not_there_is_an_error(server: Server, cluster: KubernetesWorkloads) -> None:
    target = ref(server, "Deployment", "nope")
    for ask in (cluster.get(target), cluster.scale(target, 1), reached(cluster, target, Phase.OFF)):
        with pytest.raises(NotFound):
            await ask


async def test_the_rights_of_the_chart_are_found_and_suffice(server: Server, running: str, tmp_path: Path) -> None:
    target = ref(server, "Deployment", await server.workload())
    named = ("apps",), (target.name,), server.namespace
    rules = [
        PolicyRule(("get", "watch"), ("deployments",), *named),
        PolicyRule(("patch",), ("deployments/scale",), *named),
        PolicyRule(("list",), ("pods",), ("",), (), server.namespace),
    ]
    async with server.limited_to(rules) as client:
        cluster = await KubernetesWorkloads.connect(str(_kubeconfig(client, tmp_path)), log=LOG)
        try:
            found = {f"{right.verb} {right.resource}": right.granted for right in await cluster.rights(target)}
            assert {key for key, granted in found.items() if not granted} >= {"list events"}
            needed = ("get deployments", "watch deployments", "patch deployments/scale", "list pods")
            assert all(found[key] for key in needed)
            await cluster.scale(target, 1)
            await reached(cluster, target, Phase.RUNNING)
            with pytest.raises(Forbidden):
                await cluster.get(ref(server, "Deployment", running))
        finally:
            await cluster.close()


def _kubeconfig(client: Client, directory: Path) -> Path:
    access = client.access
    return write_kubeconfig(directory / "limited", "limited", access.url, access.authority, access.token)
