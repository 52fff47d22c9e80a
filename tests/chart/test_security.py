"""Hardening: Pod Security "restricted", a read-only root, and a token only where it is needed."""

from __future__ import annotations

import pytest

from .chart import Object, containers, name_of, pods, render

TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
"""What "restricted" lets a pod mount."""
TALK_TO_THE_API_SERVER = {"maubot", "provisioner", "check"}


def test_pods_pass_pod_security_restricted(objects: list[Object]) -> None:
    for owner, pod in pods(objects):
        context = pod["spec"]["securityContext"]
        assert context["runAsNonRoot"] is True, owner
        assert context["runAsUser"] > 0, owner
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, owner
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod["spec"]), owner
        for volume in pod["spec"].get("volumes", ()):
            assert set(volume) - {"name"} <= VOLUMES, f"{owner}, volume {volume['name']}"


def test_containers_pass_pod_security_restricted(objects: list[Object]) -> None:
    for name, container in containers(objects):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name
        assert not context.get("privileged"), name
        assert "hostPort" not in str(container.get("ports", "")), name


def test_no_container_can_write_its_root(objects: list[Object]) -> None:
    for name, container in containers(objects):
        assert container["securityContext"]["readOnlyRootFilesystem"] is True, name


def test_a_token_is_mounted_only_into_containers_that_need_it(objects: list[Object]) -> None:
    for owner, pod in pods(objects):
        assert pod["spec"]["automountServiceAccountToken"] is False, owner
    uploads = any(each["kind"] == "Job" for each in objects)
    for name, container in containers(objects):
        has_token = TOKEN in [mount["mountPath"] for mount in container["volumeMounts"]]
        needs = container["name"] in TALK_TO_THE_API_SERVER and not (uploads and container["name"] == "provisioner")
        assert has_token == needs, name


def test_a_token_is_projected_and_short_lived(objects: list[Object]) -> None:
    for owner, pod in pods(objects):
        for volume in (each for each in pod["spec"]["volumes"] if "projected" in each):
            tokens = [
                each["serviceAccountToken"] for each in volume["projected"]["sources"] if "serviceAccountToken" in each
            ]
            assert [token["path"] for token in tokens] == ["token"], owner
            assert 600 <= tokens[0]["expirationSeconds"] <= 3600, owner


def test_no_service_account_mounts_its_token_by_itself(objects: list[Object]) -> None:
    for account in (each for each in objects if each["kind"] == "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False, name_of(account)


def test_every_container_has_its_resources(objects: list[Object]) -> None:
    for name, container in containers(objects):
        assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
        assert "memory" in container["resources"]["limits"], name


def test_nothing_stands_in_the_way_of_a_node_that_is_drained(objects: list[Object]) -> None:
    assert "PodDisruptionBudget" not in {each["kind"] for each in objects}


@pytest.mark.parametrize("values", ["minimal", "everything"])
def test_there_is_one_maubot_and_one_provisioner_whatever_the_values(values: str) -> None:
    for each in render(values):
        if each["kind"] in ("StatefulSet", "Deployment"):
            assert each["spec"]["replicas"] == 1, name_of(each)
        if each["kind"] == "Deployment":
            assert each["spec"]["strategy"] == {"type": "Recreate"}, name_of(each)


def test_under_openshift_the_users_can_be_left_to_the_cluster() -> None:
    nobody = {f"podSecurityContext.{key}": None for key in ("runAsUser", "runAsGroup", "fsGroup")}
    for owner, pod in pods(render("minimal", nobody)):
        assert set(pod["spec"]["securityContext"]) == {"runAsNonRoot", "fsGroupChangePolicy", "seccompProfile"}, owner
