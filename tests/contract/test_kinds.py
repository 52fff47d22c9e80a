"""Other kinds: how a ReplicaSet stands, and a custom resource whose count is not in ``spec.replicas``."""

from __future__ import annotations

import pytest

from .client import MERGE_PATCH, STRATEGIC_MERGE_PATCH
from .refusals import refusal
from .server import GAME_SERVER, Server

pytestmark = pytest.mark.first

REPLICAS = {"spec": {"replicas": 2}}


async def test_a_replicaset_counts_its_pods(server: Server) -> None:
    name = await server.workload("ReplicaSet", replicas=1)
    found = await server.client.get(server.path("ReplicaSet", name))
    counts = ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration")
    assert {count: found["status"].get(count) for count in counts} == dict.fromkeys(counts, 1)
    assert "updatedReplicas" not in found["status"]
    pods = await server.client.get(f"{server.core('pods')}?labelSelector=app%3D{name}")
    [owner] = pods["items"][0]["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("ReplicaSet", name, True)


async def test_a_replicaset_that_is_off_writes_one_of_its_zeros(server: Server) -> None:
    found = await server.client.get(server.path("ReplicaSet", await server.workload("ReplicaSet")))
    assert found["status"] == {"replicas": 0, "observedGeneration": 1}


async def test_discovery_tells_of_a_custom_kind_and_its_scale(server: Server) -> None:
    document = await server.client.get("/apis/games.example/v1")
    assert (document["kind"], document["groupVersion"]) == ("APIResourceList", "games.example/v1")
    entries = {entry["name"]: entry for entry in document["resources"]}
    told = ("kind", "namespaced", "singularName")
    assert [entries["gameservers"][key] for key in told] == ["GameServer", True, "gameserver"]
    assert [entries["gameservers/scale"][key] for key in told] == ["Scale", True, ""]


@pytest.mark.parametrize("path", ["/apis/games.example/v2", "/apis/nowhere.example/v1"])
async def test_discovery_of_what_is_not_served(server: Server, path: str) -> None:
    answer = await server.client("GET", path)
    assert (answer.status, answer.body) == (404, "404 page not found\n")


async def test_the_scale_of_a_custom_resource_shows_its_count_wherever_that_is(server: Server) -> None:
    path = server.path(GAME_SERVER, await server.workload(GAME_SERVER))
    assert (await server.client.get(f"{path}/scale"))["spec"] == {}
    scale = await server.client.patch(f"{path}/scale", REPLICAS)
    assert (scale["kind"], scale["apiVersion"], scale["spec"]) == ("Scale", "autoscaling/v1", {"replicas": 2})
    found = await server.client.get(path)
    assert found["spec"]["fleet"] == {"size": 2}
    assert found["metadata"]["generation"] == 2


async def test_a_custom_resource_takes_no_strategic_merge(server: Server) -> None:
    path = server.path(GAME_SERVER, await server.workload(GAME_SERVER), "scale")
    answer = await server.client("PATCH", path, REPLICAS, STRATEGIC_MERGE_PATCH)
    assert (answer.status, answer.body["reason"]) == (415, "UnsupportedMediaType")


async def test_a_custom_resource_without_its_count_has_no_scale(server: Server) -> None:
    path = server.path(GAME_SERVER, await server.workload(GAME_SERVER))
    await server.client.patch(path, {"spec": {"fleet": None}})
    problem = 'the spec replicas field ".spec.fleet.size" does not exist'
    message = f"Internal error occurred: {problem}"
    expected = refusal(500, "InternalError", message, causes=[{"message": problem}])
    assert await server.client("GET", f"{path}/scale") == expected
    assert await server.client("PATCH", f"{path}/scale", REPLICAS, MERGE_PATCH) == expected
