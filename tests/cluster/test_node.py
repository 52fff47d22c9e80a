"""The node itself: what the tests of the chart take for granted is so."""

from __future__ import annotations

import pytest

from .cluster import Cluster, Manifest, Namespace
from .node.command import CommandFailed
from .node.layout import ADDRESS, API_SERVICE

LABELS = {"app": "probe"}
RESTRICTED_CONTAINER: Manifest = {
    "imagePullPolicy": "IfNotPresent",
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    },
}
RESTRICTED_POD: Manifest = {
    "securityContext": {
        "runAsNonRoot": True,
        "runAsUser": 1337,
        "runAsGroup": 1337,
        "fsGroup": 1337,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "terminationGracePeriodSeconds": 1,
}
DATA: Manifest = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}


def deployment(image: str, **pod: object) -> Manifest:
    """One replica of the probe, serving, with a volume."""
    container = {
        **RESTRICTED_CONTAINER,
        "name": "probe",
        "image": image,
        "args": ["serve", "8080"],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    template = {
        "metadata": {"labels": LABELS},
        "spec": {**RESTRICTED_POD, "containers": [container], "volumes": [DATA], **pod},
    }
    spec = {"replicas": 1, "selector": {"matchLabels": LABELS}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "probe"}, "spec": spec}


def service() -> Manifest:
    spec = {"selector": LABELS, "ports": [{"port": 80, "targetPort": 8080}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "probe"}, "spec": spec}


def claim() -> Manifest:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": spec}


@pytest.mark.first
async def test_a_restricted_pod_runs_with_a_volume_dns_logs_and_exec(cluster: Cluster, namespace: Namespace) -> None:
    await namespace.volume("data")
    await namespace.apply(claim(), service(), deployment(await cluster.probe()))
    await namespace.rolled_out("deployment/probe")

    [pod] = [pod["metadata"]["name"] for pod in await namespace.pods("app=probe")]
    assert await namespace.logs(pod) == "listening on port 8080\n"
    await namespace.exec(pod, "/probe", "write", "/data/file")
    written = namespace.volume_directory("data") / "file"
    assert (written.read_text(), written.stat().st_uid, written.stat().st_gid) == ("written\n", 1337, 1337)
    resolved = await namespace.exec(pod, "/probe", "resolve", "kubernetes.default.svc.cluster.local")
    assert resolved.split() == [API_SERVICE]

    async def is_served() -> bool:
        try:
            return await namespace.exec(pod, "/probe", "fetch", f"http://probe.{namespace.name}.svc") == "here\n"
        except CommandFailed:
            return False

    # kube-proxy hears of a ready pod a moment after everybody else.
    await namespace.until("the Service to lead to its pod", is_served)


@pytest.mark.first
async def test_what_is_not_restricted_is_refused(cluster: Cluster, namespace: Namespace) -> None:
    pod = {"containers": [{"name": "probe", "image": await cluster.probe()}]}
    with pytest.raises(CommandFailed, match='violates PodSecurity "restricted'):
        await namespace.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": pod})


@pytest.mark.first
async def test_the_audit_log_has_what_service_accounts_ask_for(cluster: Cluster, namespace: Namespace) -> None:
    with pytest.raises(CommandFailed, match="cannot get resource"):
        await ask_with(await new_token(namespace), cluster)
    [event] = cluster.audit(namespace.name)
    asked = event["objectRef"]
    assert (event["verb"], asked["resource"], asked["name"]) == ("get", "secrets", "nothing")
    assert event["annotations"]["authorization.k8s.io/decision"] == "forbid"


async def test_tokens_can_be_ended(cluster: Cluster, namespace: Namespace) -> None:
    old = await new_token(namespace)
    await cluster.invalidate_tokens()
    with pytest.raises(CommandFailed, match="must be logged in"):
        await ask_with(old, cluster)
    with pytest.raises(CommandFailed, match="cannot get resource"):
        await ask_with(await new_token(namespace), cluster)


async def new_token(namespace: Namespace) -> str:
    return (await namespace.kubectl("create", "token", "default")).strip()


async def ask_with(token: str, cluster: Cluster) -> None:
    """Ask for a Secret that there is not, as a pod would."""
    server = (f"--server={cluster.url}", f"--certificate-authority={cluster.layout.authority}", f"--token={token}")
    await cluster.kubectl("--kubeconfig=/dev/null", *server, "get", "secret", "nothing")


@pytest.mark.parametrize("component", ["apiserver", "kubelet", "containerd"])
async def test_a_component_can_be_restarted(cluster: Cluster, namespace: Namespace, component: str) -> None:
    await namespace.volume("data")
    await namespace.apply(claim(), deployment(await cluster.probe()))
    await namespace.rolled_out("deployment/probe")
    before = await namespace.pods("app=probe")

    await cluster.restart(component)
    await namespace.kubectl("annotate", "deployment/probe", "seen=yes")
    await namespace.rolled_out("deployment/probe")
    assert [pod["metadata"]["uid"] for pod in await namespace.pods("app=probe")] == [before[0]["metadata"]["uid"]]
    assert ADDRESS in cluster.url
