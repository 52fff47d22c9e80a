"""Which programs make a node, with what arguments, and how each says that it is ready; starts nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .build import Programs
from .layout import ADDRESS, API_PORT, NAME, PODS, SERVICES, Layout, api_url

ETCD = "http://127.0.0.1:2379"
ETCD_PEERS = "http://127.0.0.1:2380"
KWOK = "127.0.0.1:10247"
POLICY_QUEUE = "100"
"""Of the kernel: the one that kube-network-policies listens to, if nobody says otherwise."""


@dataclass(frozen=True)
class Component:
    """One program: its arguments, and the URL (or, where it has none, the command) that succeeds once it is ready."""

    command: Sequence[str]
    ready: str | Sequence[str]


def components(layout: Layout, programs: Programs) -> Mapping[str, Component]:
    """All of them by name."""
    return {
        "etcd": _etcd(layout, programs),
        "apiserver": _apiserver(layout, programs),
        "controllers": _controllers(layout, programs),
        "scheduler": _scheduler(layout, programs),
        "containerd": _containerd(layout, programs),
        "dns": Component(
            (programs["coredns"], "-conf", str(layout.run / "Corefile")),
            "http://127.0.0.1:8181/ready",
        ),
        "kubelet": _kubelet(layout, programs),
        "proxy": _proxy(layout, programs),
        "policies": _policies(layout, programs),
        "kwok": _kwok(layout, programs),
    }


def _etcd(layout: Layout, programs: Programs) -> Component:
    command = (
        *(programs["etcd"], "--data-dir", str(layout.run / "etcd"), "--unsafe-no-fsync"),
        *("--listen-client-urls", ETCD, "--advertise-client-urls", ETCD),
        *("--listen-peer-urls", ETCD_PEERS, "--initial-advertise-peer-urls", ETCD_PEERS),
        *("--initial-cluster", f"default={ETCD_PEERS}"),
    )
    return Component(command, f"{ETCD}/health")


def _apiserver(layout: Layout, programs: Programs) -> Component:
    pki = layout.authority.parent
    command = (
        *(programs["kube-apiserver"], "--etcd-servers", ETCD),
        *("--bind-address", ADDRESS, "--secure-port", str(API_PORT), "--advertise-address", ADDRESS),
        *("--tls-cert-file", str(pki / "server.crt"), "--tls-private-key-file", str(pki / "server.key")),
        *("--client-ca-file", str(layout.authority), "--authorization-mode", "RBAC"),
        *("--service-account-issuer", "https://kubernetes.default.svc"),
        *("--service-account-key-file", str(pki / "service-accounts.pub")),
        *("--service-account-signing-key-file", str(pki / "service-accounts.key")),
        # else a token is good for a year, whatever the pod asked for
        "--service-account-extend-token-expiration=false",
        *("--service-cluster-ip-range", SERVICES),
        # else it looks for the node's name in DNS, for logs and exec
        *("--kubelet-preferred-address-types", "InternalIP"),
        *("--kubelet-client-certificate", str(pki / "client.crt")),
        *("--kubelet-client-key", str(pki / "client.key")),
        *("--audit-policy-file", str(layout.run / "audit-policy.json"), "--audit-log-path", str(layout.audit_log)),
    )
    return Component(command, f"{api_url()}/readyz")


def _controllers(layout: Layout, programs: Programs) -> Component:
    pki = layout.authority.parent
    command = (
        *(programs["kube-controller-manager"], "--kubeconfig", str(layout.user("controllers"))),
        *("--service-account-private-key-file", str(pki / "service-accounts.key")),
        *("--root-ca-file", str(layout.authority), "--use-service-account-credentials"),
        *("--leader-elect=false", "--bind-address", "127.0.0.1"),
    )
    return Component(command, "https://127.0.0.1:10257/healthz")


def _scheduler(layout: Layout, programs: Programs) -> Component:
    command = (
        *(programs["kube-scheduler"], "--kubeconfig", str(layout.user("scheduler"))),
        *("--leader-elect=false", "--bind-address", "127.0.0.1"),
    )
    return Component(command, "https://127.0.0.1:10259/healthz")


def _containerd(layout: Layout, programs: Programs) -> Component:
    """It finds its shim on PATH, where `environment` in __main__ puts all programs."""
    return Component(
        (programs["containerd"], "-c", str(layout.run / "containerd.toml")),
        (programs["ctr"], "--address", str(layout.containerd), "version"),
    )


def _kubelet(layout: Layout, programs: Programs) -> Component:
    command = (
        *(programs["kubelet"], "--kubeconfig", str(layout.kubeconfig), "--config", str(layout.run / "kubelet.json")),
        *("--root-dir", str(layout.run / "kubelet"), "--hostname-override", NAME, "--node-ip", ADDRESS),
    )
    return Component(command, "http://127.0.0.1:10248/healthz")


def _proxy(layout: Layout, programs: Programs) -> Component:
    command = (
        *(programs["kube-proxy"], "--kubeconfig", str(layout.kubeconfig), "--hostname-override", NAME),
        *("--proxy-mode", "nftables", "--cluster-cidr", PODS, "--bind-address", ADDRESS),
        *("--conntrack-max-per-core", "0", "--oom-score-adj", "0"),  # both need CAP_SYS_RESOURCE
        *("--healthz-bind-address", "127.0.0.1:10256"),
    )
    return Component(command, "http://127.0.0.1:10256/livez")


def _policies(layout: Layout, programs: Programs) -> Component:
    """It is ready once the kernel has somebody to ask."""
    return Component(
        (programs["policies"], str(layout.kubeconfig), NAME),
        ("grep", "--quiet", f"^ *{POLICY_QUEUE} ", "/proc/net/netfilter/nfnetlink_queue"),
    )


def _kwok(layout: Layout, programs: Programs) -> Component:
    """It plays the kubelet of nodes that are annotated kwok.x-k8s.io/node=fake, and of no others."""
    command = (
        *(programs["kwok"], "--kubeconfig", str(layout.kubeconfig), "--server-address", KWOK),
        *("--manage-all-nodes=false", "--manage-nodes-with-annotation-selector", "kwok.x-k8s.io/node=fake"),
        *(word for stage in programs.stages for word in ("--config", str(stage))),
    )
    return Component(command, f"http://{KWOK}/healthz")
