"""Watching one object from now on, and how a workload's status moves while its pods come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from .server import Server

pytestmark = pytest.mark.first

Events = AsyncIterator[tuple[str, Any]]
SECONDS = 60.0


def only(name: str) -> dict[str, str]:
    """The query by which a watch is about one name."""
    return {"fieldSelector": f"metadata.name={name}", "timeoutSeconds": "60"}


async def until(events: Events, reached: Callable[[Any], bool]) -> list[Any]:
    """The objects that a watch tells, to the first that `reached` is true of."""
    seen = []

    async def read() -> None:
        async for kind, obj in events:
            assert kind in ("ADDED", "MODIFIED")
            seen.append(obj)
            if reached(obj):
                return
        raise AssertionError("the watch ended")

    await asyncio.wait_for(read(), SECONDS)
    return seen


def observed(workload: Any) -> bool:
    """Whether its status is about its spec."""
    return bool(workload["status"].get("observedGeneration", 0) >= workload["metadata"]["generation"])


async def test_a_watch_from_now_begins_with_the_object_as_it_is(server: Server) -> None:
    name = await server.workload()
    whole = await server.client.get(server.path("Deployment", name))
    async with server.client.watch(server.path("Deployment"), **only(name)) as events:
        assert await anext(events) == ("ADDED", whole)
        await server.client.patch(server.path("Deployment", name, "scale"), {"spec": {"replicas": 1}})
        kind, changed = await anext(events)
    assert (kind, changed["spec"]["replicas"]) == ("MODIFIED", 1)
    assert (changed["kind"], changed["apiVersion"]) == ("Deployment", "apps/v1")
    assert int(changed["metadata"]["resourceVersion"]) > int(whole["metadata"]["resourceVersion"])


async def test_a_watch_of_what_is_not_there_says_nothing_and_ends_in_time(server: Server) -> None:
    query = {**only("nope"), "timeoutSeconds": "1"}
    async with server.client.watch(server.path("Deployment"), **query) as events:
        assert [event async for event in events] == []


async def test_a_deletion_is_told_with_the_object(server: Server) -> None:
    name = await server.workload()
    async with server.client.watch(server.path("Deployment"), **only(name)) as events:
        assert (await anext(events))[0] == "ADDED"
        assert (await server.client("DELETE", server.path("Deployment", name))).status == 200
        told = [event async for event in _to_deletion(events)]
    assert told[-1][0] == "DELETED"
    assert told[-1][1]["metadata"]["name"] == name


async def _to_deletion(events: Events) -> Events:
    async for event in events:
        yield event
        if event[0] == "DELETED":
            return


async def test_a_deployment_starts_and_stops(server: Server) -> None:
    name = await server.workload()
    scale = server.path("Deployment", name, "scale")
    async with server.client.watch(server.path("Deployment"), **only(name)) as events:
        await server.client.patch(scale, {"spec": {"replicas": 1}})
        started = await until(events, lambda web: web["status"].get("availableReplicas") == 1)
        await server.client.patch(scale, {"spec": {"replicas": 0}})
        stopped = await until(events, lambda web: observed(web) and "replicas" not in web["status"])

    assert any(not observed(web) for web in started), "the controller is later than the API server"
    begun = [web for web in started if observed(web) and web["spec"]["replicas"] == 1]
    assert begun[0]["status"].get("availableReplicas") is None
    assert any(web["status"].get("unavailableReplicas") == 1 for web in begun)
    conditions = {condition["type"]: condition["status"] for condition in started[-1]["status"]["conditions"]}
    assert conditions == {"Available": "True", "Progressing": "True"}
    assert not observed(stopped[0])
    assert stopped[0]["status"]["replicas"] == 1


async def test_a_statefulset_starts_and_stops(server: Server) -> None:
    name = await server.workload("StatefulSet")
    scale = server.path("StatefulSet", name, "scale")
    async with server.client.watch(server.path("StatefulSet"), **only(name)) as events:
        await server.client.patch(scale, {"spec": {"replicas": 2}})
        started = await until(events, lambda db: db["status"].get("readyReplicas") == 2)
        await server.client.patch(scale, {"spec": {"replicas": 0}})
        stopped = await until(events, lambda db: observed(db) and not db["status"]["replicas"])

    ready = [db["status"].get("readyReplicas", 0) for db in started]
    assert sorted(ready) == ready
    assert set(ready) == {0, 1, 2}, "one after the other"
    assert stopped[-1]["status"]["availableReplicas"] == 0
    assert "readyReplicas" not in stopped[-1]["status"]


async def test_pods_outlive_the_count_that_a_stop_sets(server: Server) -> None:
    """So that only the pods themselves tell when it is off; where Deployments count them, they tell it too."""
    name = await server.workload(replicas=1)
    pods = f"{server.core('pods')}?labelSelector=app%3D{name}"
    async with server.client.watch(server.path("Deployment"), **only(name)) as events:
        await server.client.patch(server.path("Deployment", name, "scale"), {"spec": {"replicas": 0}})
        seen = await until(events, lambda web: observed(web) and "replicas" not in web["status"])
        [pod] = (await server.client.get(pods))["items"]
        assert "deletionTimestamp" in pod["metadata"]
        if seen[-1]["status"].get("terminatingReplicas"):
            await until(events, lambda web: not web["status"]["terminatingReplicas"])
    for _ in range(int(SECONDS)):
        if not (await server.client.get(pods))["items"]:
            return
        await asyncio.sleep(1)
    raise AssertionError("the pod never ended")


async def test_a_template_that_changes_rolls_out_anew(server: Server) -> None:
    name = await server.workload(replicas=1)
    path = server.path("Deployment", name)
    annotations = {"kubectl.kubernetes.io/restartedAt": "2026-11-28T12:00:00Z"}
    async with server.client.watch(server.path("Deployment"), **only(name)) as events:
        await server.client.patch(path, {"spec": {"template": {"metadata": {"annotations": annotations}}}})
        seen = await until(events, lambda web: _is_complete(web) and web["metadata"]["generation"] > 1)
    updating = [web for web in seen if observed(web) and not _is_complete(web) and web["metadata"]["generation"] > 1]
    assert any(web["status"]["replicas"] == 2 and web["status"].get("updatedReplicas") == 1 for web in updating)


async def test_a_paused_deployment_is_scaled_with_the_template_that_it_had(server: Server) -> None:
    name = await server.workload()
    annotations = {"kubectl.kubernetes.io/restartedAt": "2026-11-28T12:00:00Z"}
    async with server.client.watch(server.path("Deployment"), **only(name)) as events:
        await server.client.patch(server.path("Deployment", name), {"spec": {"paused": True}})
        template = {"metadata": {"annotations": annotations}}
        await server.client.patch(server.path("Deployment", name), {"spec": {"template": template, "replicas": 1}})
        seen = await until(events, lambda web: observed(web) and web["status"].get("readyReplicas") == 1)
        status = seen[-1]["status"]
        assert (status["replicas"], "updatedReplicas" in status) == (1, False)
        progressing = next(each for each in status["conditions"] if each["type"] == "Progressing")
        assert (progressing["status"], progressing["reason"]) == ("Unknown", "DeploymentPaused")
        await server.client.patch(server.path("Deployment", name), {"spec": {"paused": False}})
        await until(events, _is_complete)


def _is_complete(web: Any) -> bool:
    status = web["status"]
    return observed(web) and status["replicas"] == status.get("updatedReplicas") == status.get("availableReplicas")
