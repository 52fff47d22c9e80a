"""Who else sets a count by itself: how a list tells it, and what the plugin makes of that."""

from __future__ import annotations

import pytest

from tests.stack.cluster.resources import HPAS, SCALED_OBJECTS, Resource
from toggle_plugin.models import Autoscaler, WorkloadRef
from toggle_plugin.workloads import KubernetesWorkloads

from .server import AUTOSCALED, Server

pytestmark = pytest.mark.first

KINDS = pytest.mark.parametrize(
    ("resource", "bounds"),
    [(HPAS, ("minReplicas", "maxReplicas")), (SCALED_OBJECTS, ("minReplicaCount", "maxReplicaCount"))],
    ids=lambda value: value.kind if isinstance(value, Resource) else "",
)


@KINDS
async def test_a_list_tells_whom_it_scales_and_between_what(
    server: Server, resource: Resource, bounds: tuple[str, str]
) -> None:
    name = await server.workload()
    await server.autoscaler(resource.kind, name)
    path = f"/apis/{resource.api_version}/namespaces/{server.namespace}/{resource.plural}"
    found = await server.client.get(path)
    assert (found["kind"], found["apiVersion"]) == (f"{resource.kind}List", resource.api_version)
    [item] = [item for item in found["items"] if item["metadata"]["name"] == name]
    assert item["spec"]["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    assert tuple(item["spec"][key] for key in bounds) == AUTOSCALED
    assert ("kind" in item) == resource.custom


@KINDS
async def test_the_plugin_finds_those_of_its_target_only(
    server: Server, cluster: KubernetesWorkloads, resource: Resource, bounds: tuple[str, str]
) -> None:
    names = [await server.workload(), await server.workload()]
    await server.autoscaler(resource.kind, names[0])
    scaled, alone = (WorkloadRef("Deployment", server.namespace, name) for name in names)
    assert await cluster.autoscalers(scaled) == (Autoscaler(resource.kind, scaled.name, *AUTOSCALED),)
    assert await cluster.autoscalers(alone) == ()
