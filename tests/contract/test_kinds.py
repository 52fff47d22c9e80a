"""Kinds besides Deployments and StatefulSets: how discovery tells them, and where a custom one has its counts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.stack.cluster.resources import GAMESERVERS

from .client import MERGE_PATCH, STRATEGIC_MERGE_PATCH, Answer
from .refusals import no_such_resource, refusal
from .server import CUSTOM, Server

pytestmark = pytest.mark.first


async def resources(server: Server, api: str) -> dict[str, Any]:
    """The entries of a discovery document by their names."""
    found = await server.client.get(f"/apis/{api}")
    assert (found["kind"], found["apiVersion"], found["groupVersion"]) == ("APIResourceList", "v1", api)
    return {entry["name"]: entry for entry in found["resources"]}


async def test_the_server_says_its_version(server: Server) -> None:
    version = await server.client.get("/version")
    assert version["gitVersion"].startswith("v1.")
    assert {"major", "minor", "platform"} <= set(version)


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "ReplicaSet"])
async def test_discovery_tells_the_built_in_kinds(server: Server, kind: str) -> None:
    found = await resources(server, "apps/v1")
    plural = f"{kind.lower()}s"
    entry, scale = found[plural], found[f"{plural}/scale"]
    assert (entry["kind"], entry["namespaced"], entry["singularName"]) == (kind, True, kind.lower())
    assert {"get", "list", "patch", "watch"} <= set(entry["verbs"])
    assert (scale["kind"], scale["group"], scale["version"]) == ("Scale", "autoscaling", "v1")
    assert scale["verbs"] == ["get", "patch", "update"]


async def test_discovery_tells_a_custom_kind(server: Server) -> None:
    found = await resources(server, GAMESERVERS.api_version)
    entry, scale = found[GAMESERVERS.plural], found[f"{GAMESERVERS.plural}/scale"]
    assert (entry["kind"], entry["namespaced"]) == (GAMESERVERS.kind, True)
    assert {"get", "list", "patch", "watch"} <= set(entry["verbs"])
    assert (scale["kind"], scale["namespaced"]) == ("Scale", True)
    assert {"get", "patch"} <= set(scale["verbs"])


async def test_discovery_of_what_is_not_there(server: Server) -> None:
    assert await server.client("GET", "/apis/example.com/v1") == Answer(404, "404 page not found\n")
    for unserved in ("apps/v9", f"{GAMESERVERS.group}/v9"):
        assert (await server.client("GET", f"/apis/{unserved}")).status == 404
    assert await server.client("GET", "/apis/apps/v9") == no_such_resource()


async def test_a_custom_kind_has_its_counts_in_its_scale(server: Server) -> None:
    name = await server.workload(CUSTOM)
    path = server.path(CUSTOM, name)
    scale = await server.client.get(f"{path}/scale")
    assert (scale["kind"], scale["apiVersion"]) == ("Scale", "autoscaling/v1")
    assert scale["spec"] == {}
    assert scale["status"] == {"replicas": 0, "selector": f"app={name}"}
    scale = await server.client.patch(f"{path}/scale", {"spec": {"replicas": 2}})
    assert scale["spec"] == {"replicas": 2}
    whole = await server.client.get(path)
    assert (whole["kind"], whole["apiVersion"]) == (GAMESERVERS.kind, GAMESERVERS.api_version)
    assert whole["spec"]["fleet"] == {"size": 2}
    assert "replicas" not in whole["spec"]
    assert whole["metadata"]["generation"] == 2


async def test_the_objects_of_a_custom_list_say_their_kind(server: Server) -> None:
    path = server.path(CUSTOM, await server.workload(CUSTOM))
    found = await server.client.get(server.path(CUSTOM))
    assert found["kind"] == f"{GAMESERVERS.kind}List"
    assert await server.client.get(path) in found["items"]


async def test_a_custom_kind_takes_no_strategic_merge(server: Server) -> None:
    path = server.path(CUSTOM, await server.workload(CUSTOM))
    patch = {"metadata": {"labels": {"tier": "front"}}}
    answer = await server.client("PATCH", path, patch, STRATEGIC_MERGE_PATCH)
    assert (answer.status, answer.body["reason"]) == (415, "UnsupportedMediaType")
    answer = await server.client("PATCH", path, patch, MERGE_PATCH)
    assert (answer.status, answer.body["metadata"]["labels"]["tier"]) == (200, "front")
    assert answer.body["metadata"]["generation"] == 1


async def test_a_custom_kind_is_watched_by_its_name(server: Server) -> None:
    name = await server.workload(CUSTOM)
    query = {"fieldSelector": f"metadata.name={name}", "timeoutSeconds": "30"}
    async with server.client.watch(server.path(CUSTOM), **query) as events:
        kind, found = await anext(events)
        assert (kind, found["metadata"]["name"]) == ("ADDED", name)
        await server.client.patch(server.path(CUSTOM, name, "scale"), {"spec": {"replicas": 1}})
        kind, found = await anext(events)
        assert (kind, found["spec"]["fleet"]["size"]) == ("MODIFIED", 1)


@pytest.mark.parametrize("replicas", [0, 1])
async def test_a_replicaset_counts_its_pods(server: Server, replicas: int) -> None:
    name = await server.workload("ReplicaSet", replicas)
    path = server.path("ReplicaSet", name)
    found = await server.client.get(path)
    counts = ("fullyLabeledReplicas", "readyReplicas", "availableReplicas") if replicas else ()
    expected = {"observedGeneration": 1, "replicas": replicas, **dict.fromkeys(counts, replicas)}
    # terminatingReplicas is not told by every version.
    assert {key: value for key, value in found["status"].items() if key != "terminatingReplicas"} == expected
    assert (await server.client.get(f"{path}/scale"))["status"] == {"replicas": replicas, "selector": f"app={name}"}


async def test_the_scale_of_a_custom_resource_without_its_count_can_be_set_only(server: Server) -> None:
    path = server.path(CUSTOM, await server.workload(CUSTOM))
    await server.client.patch(path, {"spec": {"fleet": None}})
    problem = 'the spec replicas field ".spec.fleet.size" does not exist'
    message = f"Internal error occurred: {problem}"
    expected = refusal(500, "InternalError", message, causes=[{"message": problem}])
    assert await server.client("GET", f"{path}/scale") == expected
    assert (await server.client.patch(f"{path}/scale", {"spec": {"replicas": 2}}))["spec"] == {"replicas": 2}
    assert (await server.client.get(path))["spec"]["fleet"] == {"size": 2}
