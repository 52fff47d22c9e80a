"""Getting and listing workloads: what is in them, what is left out of them, and what is not there."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from .client import Answer
from .refusals import no_such_resource, not_found
from .server import Server

pytestmark = pytest.mark.first


async def test_a_deployment_that_is_off_leaves_its_zeros_out(server: Server) -> None:
    web = await server.client.get(server.path("Deployment", name := await server.workload()))
    assert (web["kind"], web["apiVersion"]) == ("Deployment", "apps/v1")
    assert (web["metadata"]["name"], web["metadata"]["namespace"]) == (name, server.namespace)
    assert web["metadata"]["generation"] == web["status"]["observedGeneration"] == 1
    assert web["metadata"]["resourceVersion"].isdigit()
    assert {"uid", "creationTimestamp"} <= set(web["metadata"])
    assert "deletionTimestamp" not in web["metadata"]
    assert web["spec"]["replicas"] == 0
    assert web["spec"]["selector"] == {"matchLabels": {"app": name}}
    # terminatingReplicas is not told by every version.
    assert set(web["status"]) - {"terminatingReplicas"} == {"observedGeneration", "conditions"}
    assert not web["status"].get("terminatingReplicas")


async def test_a_deployment_that_is_on_counts_its_pods(server: Server, running: str) -> None:
    web = await server.client.get(server.path("Deployment", running))
    counts = {key: value for key, value in web["status"].items() if key.endswith("eplicas") and value}
    assert counts == {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}
    said = {condition["type"]: (condition["status"], condition["reason"]) for condition in web["status"]["conditions"]}
    assert said["Available"] == ("True", "MinimumReplicasAvailable")
    assert said["Progressing"] == ("True", "NewReplicaSetAvailable")


async def test_a_condition_says_what_why_and_since_when(server: Server, running: str) -> None:
    web = await server.client.get(server.path("Deployment", running))
    for condition in web["status"]["conditions"]:
        assert set(condition) == {"type", "status", "reason", "message", "lastUpdateTime", "lastTransitionTime"}


async def test_a_statefulset_that_is_off_writes_two_of_its_zeros(server: Server) -> None:
    db = await server.client.get(server.path("StatefulSet", await server.workload("StatefulSet")))
    assert db["spec"]["updateStrategy"]["type"] == "RollingUpdate"
    assert db["spec"]["updateStrategy"]["rollingUpdate"]["partition"] == 0
    assert db["status"].pop("currentRevision") == db["status"].pop("updateRevision")
    assert db["status"] == {"observedGeneration": 1, "replicas": 0, "availableReplicas": 0, "collisionCount": 0}


async def test_a_statefulset_that_is_on_counts_its_pods(server: Server) -> None:
    db = await server.client.get(server.path("StatefulSet", await server.workload("StatefulSet", replicas=1)))
    counts = {key: value for key, value in db["status"].items() if key.endswith("eplicas")}
    assert counts == {
        "replicas": 1,
        "availableReplicas": 1,
        "readyReplicas": 1,
        "currentReplicas": 1,
        "updatedReplicas": 1,
    }


async def test_what_is_not_there(server: Server) -> None:
    assert await server.client("GET", server.path("Deployment", "nope")) == not_found("nope")
    assert await server.client("GET", server.path("Deployment", "nope", "scale")) == not_found("nope")
    assert await server.client("GET", server.path("StatefulSet", "nope")) == not_found("nope", "statefulsets")
    assert await server.client("GET", f"/apis/apps/v1/namespaces/{server.namespace}/things/x") == no_such_resource()
    unknown = f"/apis/example.com/v1/namespaces/{server.namespace}/things/x"
    assert await server.client("GET", unknown) == Answer(404, "404 page not found\n")


async def test_the_objects_of_a_list_do_not_say_their_kind(server: Server, running: str) -> None:
    found = await server.client.get(f"{server.path('Deployment')}?labelSelector=tier")
    assert (found["kind"], found["apiVersion"], found["items"]) == ("DeploymentList", "apps/v1", [])
    assert found["metadata"]["resourceVersion"].isdigit()
    whole = await server.client.get(server.path("Deployment", running))
    found = await server.client.get(f"{server.path('Deployment')}?fieldSelector=metadata.name%3D{running}")
    del whole["kind"], whole["apiVersion"]
    assert found["items"] == [whole]


@pytest.mark.parametrize(
    ("selector", "selects"),
    [
        ("app={}", True),
        ("app=={}", True),
        ("app!={}", False),
        ("app in ({}, other)", True),
        ("app notin ({})", False),
        ("app", True),
        ("!app", False),
        ("app={},!tier", True),
        ("app={},tier in (front)", False),
        ("app={},tier notin (front)", True),
    ],
)
async def test_pods_are_selected_by_their_labels(server: Server, running: str, selector: str, selects: bool) -> None:
    query = quote(selector.format(running))
    pods = (await server.client.get(f"{server.core('pods')}?labelSelector={query}"))["items"]
    assert any(pod["metadata"]["labels"].get("app") == running for pod in pods) is selects


async def test_a_selector_that_nobody_understands(server: Server) -> None:
    path = server.path("Deployment")
    answer = await server.client("GET", f"{path}?labelSelector={quote('app ===')}")
    assert (answer.status, answer.body["reason"]) == (400, "BadRequest")
    answer = await server.client("GET", f"{path}?fieldSelector=spec.replicas%3D1")
    assert (answer.status, answer.body["reason"]) == (400, "BadRequest")
    answer = await server.client("GET", f"{server.core('pods')}?fieldSelector=spec.colour%3Dred")
    assert answer.body["message"] == "field label not supported: spec.colour"
