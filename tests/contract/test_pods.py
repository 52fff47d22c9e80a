"""Pods and events, as far as they explain how a workload fares."""

from __future__ import annotations

from typing import Any

import pytest

from .server import Server

pytestmark = pytest.mark.first


async def pods(server: Server, name: str) -> list[Any]:
    found = await server.client.get(f"{server.core('pods')}?labelSelector=app%3D{name}&limit=200")
    assert (found["kind"], found["apiVersion"]) == ("PodList", "v1")
    items: list[Any] = found["items"]
    return items


async def test_a_pod_that_is_ready(server: Server, running: str) -> None:
    [pod] = await pods(server, running)
    assert pod["status"]["phase"] == "Running"
    conditions = {condition["type"]: condition["status"] for condition in pod["status"]["conditions"]}
    wanted = dict.fromkeys(("PodScheduled", "Initialized", "ContainersReady", "Ready"), "True")
    assert wanted.items() <= conditions.items()
    [container] = pod["status"]["containerStatuses"]
    assert (container["ready"], container["started"], container["restartCount"]) == (True, True, 0)
    assert list(container["state"]) == ["running"]
    assert container["lastState"] == {}
    assert {"name", "image", "imageID"} <= set(container)


async def test_a_pods_owners(server: Server, running: str) -> None:
    [pod] = await pods(server, running)
    [owner] = pod["metadata"]["ownerReferences"]
    assert (owner["apiVersion"], owner["kind"], owner["controller"]) == ("apps/v1", "ReplicaSet", True)
    assert owner["name"].rsplit("-", 1)[0] == running
    assert owner["name"].rsplit("-", 1)[1] == pod["metadata"]["labels"]["pod-template-hash"]
    assert pod["metadata"]["name"].rsplit("-", 1)[0] == owner["name"]


async def test_a_statefulsets_pods_are_called_after_it(server: Server) -> None:
    name = await server.workload("StatefulSet", replicas=1)
    [pod] = await pods(server, name)
    assert pod["metadata"]["name"] == f"{name}-0"
    assert pod["metadata"]["ownerReferences"][0]["kind"] == "StatefulSet"
    assert pod["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] == f"{name}-0"


async def test_events_say_what_happened_to_whom(server: Server) -> None:
    name = await server.workload()
    async with server.client.watch(
        server.path("Deployment"), fieldSelector=f"metadata.name={name}", timeoutSeconds="60"
    ) as events:
        await server.client.patch(server.path("Deployment", name, "scale"), {"spec": {"replicas": 1}})
        async for _, web in events:
            if web["status"].get("readyReplicas"):
                break
    [pod] = await pods(server, name)
    found = await server.client.get(f"{server.core('events')}?limit=500")
    assert (found["kind"], found["apiVersion"]) == ("EventList", "v1")
    about = [event for event in found["items"] if event["involvedObject"].get("name") == pod["metadata"]["name"]]
    for event in about:
        assert event["involvedObject"]["kind"] == "Pod"
        assert event["involvedObject"]["namespace"] == server.namespace
        assert event["involvedObject"]["uid"] == pod["metadata"]["uid"]
        assert event["type"] in ("Normal", "Warning")
        assert {"reason", "message", "reportingComponent"} <= set(event)
        assert event.get("lastTimestamp") or event.get("eventTime")
        assert event["metadata"]["creationTimestamp"].endswith("Z")
    assert {event["reason"] for event in about} >= {"Scheduled", "Started"}
