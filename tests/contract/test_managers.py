"""Who wrote what, as ``metadata.managedFields`` tell it: for the wanted count less than one would think."""

from __future__ import annotations

from typing import Any

import pytest

from .client import MERGE_PATCH
from .server import CUSTOM, Server

pytestmark = pytest.mark.first


async def owners(server: Server, path: str) -> list[dict[str, Any]]:
    """The entries that own a Deployment's wanted count, without their fields."""
    managed = (await server.client.get(path))["metadata"]["managedFields"]
    there = [entry for entry in managed if "f:replicas" in entry["fieldsV1"].get("f:spec", {})]
    return [{key: value for key, value in entry.items() if key != "fieldsV1"} for entry in there]


async def scale(server: Server, path: str, replicas: int, manager: str) -> None:
    query = f"?fieldManager={manager}" if manager else ""
    answer = await server.client("PATCH", f"{path}/scale{query}", {"spec": {"replicas": replicas}}, MERGE_PATCH)
    assert answer.status == 200


def by_scale(manager: str) -> list[dict[str, Any]]:
    """The owner after a write to the scale subresource; it has no time."""
    entry = {"manager": manager, "operation": "Update", "apiVersion": "apps/v1", "fieldsType": "FieldsV1"}
    return [{**entry, "subresource": "scale"}]


async def test_who_makes_a_workload_owns_its_count(server: Server) -> None:
    [owner] = await owners(server, server.path("Deployment", await server.workload()))
    assert owner.pop("time").endswith("Z")
    assert owner == {
        "manager": "kubectl-create",
        "operation": "Update",
        "apiVersion": "apps/v1",
        "fieldsType": "FieldsV1",
    }


async def test_who_scales_takes_the_count_from_the_others_and_no_time_is_kept(server: Server) -> None:
    path = server.path("Deployment", await server.workload())
    await scale(server, path, 1, "somebody")
    assert await owners(server, path) == by_scale("somebody")
    await scale(server, path, 2, "another")
    assert await owners(server, path) == by_scale("another")
    await scale(server, path, 1, "")
    assert await owners(server, path) == by_scale("Python"), "the begin of the User-Agent"


async def test_who_sets_a_count_to_zero_by_its_scale_does_not_own_it(server: Server) -> None:
    path = server.path("Deployment", await server.workload())
    await scale(server, path, 1, "somebody")
    await scale(server, path, 0, "somebody")
    assert await owners(server, path) == []


async def test_a_count_that_nobody_owns_is_not_owned_by_who_scales_it(server: Server) -> None:
    path = server.path("Deployment", await server.workload(replicas=1))
    await scale(server, path, 0, "somebody")
    await scale(server, path, 1, "another")
    assert await owners(server, path) == []


async def test_who_writes_the_workload_itself_owns_the_count_again(server: Server) -> None:
    path = server.path("Deployment", await server.workload(replicas=1))
    await scale(server, path, 0, "somebody")
    answer = await server.client("PATCH", f"{path}?fieldManager=whole", {"spec": {"replicas": 0}}, MERGE_PATCH)
    assert answer.status == 200
    assert await owners(server, path) == [], "what is so already is nobody's change"
    await server.client("PATCH", f"{path}?fieldManager=whole", {"spec": {"replicas": 2}}, MERGE_PATCH)
    [owner] = await owners(server, path)
    assert (owner["manager"], owner["operation"], "subresource" in owner) == ("whole", "Update", False)
    assert owner["time"].endswith("Z")


async def test_a_custom_kind_says_who_scaled_it_too(server: Server) -> None:
    path = server.path(CUSTOM, await server.workload(CUSTOM))
    await scale(server, path, 1, "somebody")
    managed = (await server.client.get(path))["metadata"]["managedFields"]
    [entry] = [entry for entry in managed if entry.get("subresource") == "scale"]
    assert (entry["manager"], entry["operation"], "time" in entry) == ("somebody", "Update", False)
    assert entry["fieldsV1"] == {"f:spec": {"f:fleet": {"f:size": {}}}}
