"""Writes the files that the components read: keys, kubeconfigs, and one file of settings for each; starts nothing."""

from __future__ import annotations

import json
import resource
from collections.abc import Mapping

from tests.stack.cluster.certificates import (
    Authority,
    new_key,
    private_pem,
    public_pem,
    write_certificate,
    write_private,
)

from .credentials import write_kubeconfig
from .layout import ADDRESS, API_SERVICE, PODS, PODS_BRIDGE, Layout, api_url

USERS: Mapping[str, tuple[str, str]] = {
    "admin": ("admin", "system:masters"),
    "controllers": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
}
"""The kubeconfigs: their names, and the user and the group that each of them is."""
PAUSE_IMAGE = "registry.k8s.io/pause:3.10"
SERVER_NAMES = ("127.0.0.1", ADDRESS, API_SERVICE, "localhost", "kubernetes.default.svc", "kubernetes.default")

AUDIT_POLICY: Mapping[str, object] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},  # Kubernetes' own controllers
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        {"level": "None"},
    ],
}


def write_configuration(layout: Layout) -> None:
    """Make `layout.run` with everything in it that the components read."""
    for directory in (layout.authority.parent, layout.run / "cni", layout.volumes):
        directory.mkdir(parents=True)
    _write_credentials(layout)
    (layout.run / "audit-policy.json").write_text(json.dumps(AUDIT_POLICY))
    (layout.run / "cni" / "10-bridge.conflist").write_text(json.dumps(_pod_network(layout)))
    (layout.run / "kubelet.json").write_text(json.dumps(_kubelet(layout)))
    (layout.run / "containerd.toml").write_text(_containerd(layout))
    (layout.run / "Corefile").write_text(_dns(layout))


def _write_credentials(layout: Layout) -> None:
    authority = Authority.make()
    pki = layout.authority.parent
    layout.authority.write_bytes(authority.pem())
    write_private(pki / "ca.key", private_pem(authority.key))  # tests make certificates for their own servers
    write_token_keys(layout)
    write_certificate(pki, "server", authority, SERVER_NAMES)
    client = new_key()  # the API server's own, for the kubelet
    (pki / "client.crt").write_bytes(authority.issue(client, *USERS["admin"]))
    write_private(pki / "client.key", private_pem(client))
    for name, (user, group) in USERS.items():
        write_kubeconfig(layout.user(name), api_url(), authority, user, group)


def write_token_keys(layout: Layout) -> None:
    """Make the keys that service accounts' tokens are signed with, in place of those that are there."""
    key, pki = new_key(), layout.authority.parent
    (pki / "service-accounts.pub").write_bytes(public_pem(key))
    write_private(pki / "service-accounts.key", private_pem(key))


def _pod_network(layout: Layout) -> Mapping[str, object]:
    addresses = {
        "type": "host-local",
        "dataDir": str(layout.run / "cni-addresses"),
        "ranges": [[{"subnet": PODS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": PODS_BRIDGE, "isGateway": True, "hairpinMode": True, "ipam": addresses}
    return {
        "cniVersion": "1.0.0",
        "name": layout.name,
        "plugins": [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}],
    }


def _kubelet(layout: Layout) -> Mapping[str, object]:
    """The machine may lack CAP_SYS_RESOURCE and may have version 1 of cgroups, so nothing asks for more."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": ADDRESS,
        "healthzBindAddress": "127.0.0.1",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(layout.authority)},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": f"unix://{layout.containerd}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "maxOpenFiles": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        "enforceNodeAllocatable": [],
        "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,  # it never removes an image: there is nowhere to get it again
        "clusterDNS": [ADDRESS],
        "clusterDomain": "cluster.local",
        "podLogsDir": str(layout.run / "pod-logs"),
    }


def _containerd(layout: Layout) -> str:
    run = layout.run
    return f"""\
version = 3
root = "{run}/containerd"
state = "{run}/containerd-state"
[grpc]
  address = "{layout.containerd}"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{PAUSE_IMAGE}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni", "/opt/cni/bin"]
    conf_dir = "{run}/cni"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      Root = "{run}/runc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{run}/containerd-opt"
"""


def _dns(layout: Layout) -> str:
    return f"""\
.:53 {{
  bind {ADDRESS}
  errors
  ready 127.0.0.1:8181
  kubernetes cluster.local {{
    kubeconfig {layout.kubeconfig}
    ttl 1
  }}
}}
"""
