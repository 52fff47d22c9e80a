"""Who scaled a workload: by what a real API server writes into managedFields, and in words for people."""

from __future__ import annotations

from typing import Any

import pytest

from tests.stack.cluster.managed_fields import Writer, updated
from toggle_plugin.managers import OURS, SHOWN_LENGTH, called, last_scaled_by

Json = dict[str, Any]
REPLICAS: Json = {"f:spec": {"f:replicas": {}}}


def entry(manager: str, time: str = "10:00:00", *, fields: Json | None = None, **more: str) -> Json:
    kept = {"manager": manager, "operation": "Update", "apiVersion": "apps/v1", "time": f"2026-11-28T{time}Z"}
    return {**kept, "fieldsType": "FieldsV1", "fieldsV1": REPLICAS if fields is None else fields, **more}


STATUS = entry("kube-controller-manager", "10:09:00", fields={"f:status": {"f:replicas": {}}}, subresource="status")


@pytest.mark.parametrize(
    ("managed", "manager"),
    [
        ([], ""),
        ([STATUS], ""),
        ([entry("kubectl-edit"), STATUS], "kubectl-edit"),
        (
            [entry("kubectl-create", fields={"f:spec": {"f:template": {}}}), entry("kubectl", subresource="scale")],
            "kubectl",
        ),
        # Server-side apply of the count that is there makes one more owner, and the newest entry is the last writer's.
        ([entry("argocd-controller", "10:00:02", operation="Apply"), entry("helm", "10:00:01")], "argocd-controller"),
        ([entry("argocd-controller", "10:00:02", operation="Apply"), entry("helm", "10:00:03")], "helm"),
        # A custom resource that keeps its count elsewhere.
        ([entry("keda", fields={"f:spec": {"f:size": {}}}, subresource="scale")], "keda"),
        ([{"manager": "old"}, {"fieldsV1": REPLICAS}], ""),
    ],
)
def test_the_last_writer_of_the_count_is_found(managed: list[Json], manager: str) -> None:
    assert last_scaled_by(managed) == manager


@pytest.mark.parametrize(
    ("manager", "words"),
    [
        ("kubectl", "kubectl"),
        ("kubectl-edit", "kubectl"),
        ("kubectl-client-side-apply", "kubectl"),
        ("kube-controller-manager", "a HorizontalPodAutoscaler"),
        ("argocd-controller", "Argo CD"),
        ("argocd-application-controller", "Argo CD"),
        ("argocd-server", "Argo CD"),
        ("kustomize-controller", "Flux"),
        ("helm-controller", "Flux"),
        ("helm", "Helm"),
        ("keda", "KEDA"),
        ("keda-operator", "KEDA"),
        (OURS, "another bot like me"),
        ("helmfile", "helmfile"),
        ("k9s", "k9s"),
        ("", ""),
    ],
)
def test_a_manager_is_called_what_people_call_it(manager: str, words: str) -> None:
    assert called(manager, "Deployment") == words


def test_a_replica_set_is_scaled_by_its_deployment() -> None:
    assert called("kube-controller-manager", "ReplicaSet") == "its Deployment"


def test_a_long_name_is_cut() -> None:
    assert len(called("m" * 128, "Deployment")) == SHOWN_LENGTH


# The simulated cluster's own, which keeps them as the real one does


def workload(replicas: int, image: str = "app:1") -> Json:
    container = {"name": "app", "image": image}
    template = {"spec": {"containers": [container]}}
    return {"apiVersion": "apps/v1", "metadata": {"name": "web"}, "spec": {"replicas": replicas, "template": template}}


def scaled(managed: list[Json], before: int, after: int, manager: str) -> list[Json]:
    return updated(managed, workload(before), workload(after), Writer(manager, "scale"), "2026-11-28T10:00:00Z")


def test_whoever_changes_a_field_takes_it_from_its_owner() -> None:
    managed = updated([], {"metadata": {}}, workload(0), Writer("kubectl-create"), "2026-11-28T09:00:00Z")
    assert last_scaled_by(managed) == "kubectl-create"
    managed = scaled(managed, 0, 2, "kubectl")
    managed = scaled(managed, 2, 1, OURS)
    assert [(entry["manager"], entry.get("subresource")) for entry in managed] == [
        ("kubectl-create", None),
        (OURS, "scale"),
    ]
    assert managed[1]["fieldsV1"] == REPLICAS
    assert managed[0]["fieldsV1"] == {
        "f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name": "app"}': {"f:image": {}, "f:name": {}}}}}}
    }


def test_whoever_writes_what_is_there_owns_nothing() -> None:
    managed = updated([], {"metadata": {}}, workload(2), Writer("kubectl-create"), "2026-11-28T09:00:00Z")
    assert scaled(managed, 2, 2, OURS) == managed


def test_a_count_that_was_scaled_to_zero_is_nobodys_until_the_workload_itself_is_written() -> None:
    managed = updated([], {"metadata": {}}, workload(2), Writer("kubectl-create"), "2026-11-28T09:00:00Z")
    managed = scaled(managed, 2, 0, OURS)
    assert last_scaled_by(managed) == ""
    managed = scaled(managed, 0, 1, "kubectl")
    assert last_scaled_by(managed) == ""
    managed = updated(managed, workload(1), workload(3), Writer("helm"), "2026-11-28T11:00:00Z")
    assert last_scaled_by(managed) == "helm"
