"""The scale subresource: how it looks, what a patch of it changes, and which patches are refused."""

from __future__ import annotations

from typing import Any

import pytest

from .client import JSON, MERGE_PATCH, STRATEGIC_MERGE_PATCH
from .refusals import conflict, no_such_resource, not_found, refusal
from .server import Server

pytestmark = pytest.mark.first


def replicas(count: Any) -> dict[str, Any]:
    return {"spec": {"replicas": count}}


async def test_a_scale_tells_both_counts_and_leaves_a_wanted_zero_out(server: Server) -> None:
    name = await server.workload()
    scale = await server.client.get(server.path("Deployment", name, "scale"))
    assert (scale["kind"], scale["apiVersion"]) == ("Scale", "autoscaling/v1")
    assert set(scale["metadata"]) == {"name", "namespace", "uid", "resourceVersion", "creationTimestamp"}
    assert scale["spec"] == {}
    assert scale["status"] == {"replicas": 0, "selector": f"app={name}"}


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
async def test_a_merge_patch_sets_the_count(server: Server, kind: str) -> None:
    name = await server.workload(kind)
    scale = await server.client.patch(server.path(kind, name, "scale"), replicas(1))
    assert (scale["kind"], scale["spec"]) == ("Scale", {"replicas": 1})
    workload = await server.client.get(server.path(kind, name))
    assert (workload["spec"]["replicas"], workload["metadata"]["generation"]) == (1, 2)


async def test_the_same_count_again_changes_nothing(server: Server) -> None:
    path = server.path("Deployment", await server.workload())
    for _ in range(2):
        assert (await server.client.patch(f"{path}/scale", replicas(1)))["spec"] == {"replicas": 1}
        assert (await server.client.get(path))["metadata"]["generation"] == 2


async def test_a_missing_count_is_zero(server: Server) -> None:
    path = server.path("Deployment", await server.workload(replicas=1))
    assert (await server.client.patch(f"{path}/scale", replicas(None)))["spec"] == {}
    assert (await server.client.get(path))["spec"]["replicas"] == 0


async def test_only_a_version_that_the_patch_names_itself_can_conflict(server: Server) -> None:
    name = await server.workload()
    path = server.path("Deployment", name, "scale")
    old = (await server.client.get(path))["metadata"]["resourceVersion"]
    await server.client.patch(path, replicas(1))
    for stale in (path, server.path("Deployment", name)):
        patch = {"metadata": {"resourceVersion": old}, **replicas(2)}
        assert await server.client("PATCH", stale, patch, MERGE_PATCH) == conflict(name)
    assert (await server.client.get(path))["spec"] == {"replicas": 1}


async def test_a_count_that_cannot_be_is_refused(server: Server) -> None:
    name = await server.workload()
    path = server.path("Deployment", name, "scale")
    before = await server.client.get(path)
    problem = "Invalid value: -1: must be greater than or equal to 0"
    message = f'Scale.autoscaling "{name}" is invalid: spec.replicas: {problem}'
    causes = [{"reason": "FieldValueInvalid", "message": problem, "field": "spec.replicas"}]
    expected = refusal(422, "Invalid", message, name=name, group="autoscaling", kind="Scale", causes=causes)
    assert await server.client("PATCH", path, replicas(-1), MERGE_PATCH) == expected
    for count in ("two", 1.5, 2**31):
        answer = await server.client("PATCH", path, replicas(count), MERGE_PATCH)
        assert (answer.status, answer.body["reason"]) == (422, "Invalid")
    assert await server.client.get(path) == before


@pytest.mark.parametrize(
    ("body", "content_type", "code", "reason"),
    [
        ("{", MERGE_PATCH, 400, "BadRequest"),
        ("[]", MERGE_PATCH, 400, "BadRequest"),
        ('{"spec": {"replicas": 1}}', JSON, 415, "UnsupportedMediaType"),
    ],
)
async def test_what_is_no_patch(server: Server, body: str, content_type: str, code: int, reason: str) -> None:
    path = server.path("Deployment", await server.workload(), "scale")
    answer = await server.client("PATCH", path, body, content_type)
    assert (answer.status, answer.body["code"], answer.body["reason"]) == (code, code, reason)
    assert (await server.client.get(path))["spec"] == {}


async def test_what_cannot_be_scaled(server: Server) -> None:
    missing = server.path("Deployment", "nope", "scale")
    assert await server.client("PATCH", missing, replicas(1), MERGE_PATCH) == not_found("nope")
    name = await server.workload()
    pod = f"{server.core('pods')}/{name}/scale"
    assert await server.client("PATCH", pod, replicas(1), MERGE_PATCH) == no_such_resource()


async def test_a_strategic_merge_patch_of_a_workload_adds_to_it(server: Server) -> None:
    path = server.path("Deployment", await server.workload())
    template = {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "2026-11-28T12:00:00Z"}}}
    patch = {"spec": {"template": template}}
    for content_type in (STRATEGIC_MERGE_PATCH, MERGE_PATCH):  # the second time it changes nothing
        answer = await server.client("PATCH", path, patch, content_type)
        assert answer.status == 200
        assert answer.body["metadata"]["generation"] == 2
        metadata = answer.body["spec"]["template"]["metadata"]
        assert metadata["annotations"] == template["metadata"]["annotations"]
        assert set(metadata["labels"]) == {"app"}
