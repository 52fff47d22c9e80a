"""Where the node keeps its files, and its addresses; the same for whoever asks, so nothing has to be handed around."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

NAME = "node0"
"""Of the node, of its bridge, and of nothing else on this machine: all are in a namespace."""
ADDRESS = "10.250.0.1"
"""The node's, inside its namespace. A server that pods must reach is started inside and listens here."""
API_PORT = 6443
PODS = "10.88.0.0/24"
PODS_BRIDGE = "cni0"
SERVICES = "10.0.0.0/24"
API_SERVICE = "10.0.0.1"
PROBE_IMAGE = "maubot-k8s-toggle.test/probe:1"
"""The image that every node has: one static program, see probe/main.go."""


@dataclass(frozen=True)
class Layout:
    """The node's files below one directory, which belongs to root alone."""

    base: Path

    @classmethod
    def default(cls) -> Layout:
        """Below TOGGLE_CLUSTER, if that is set, else in the directory for temporary files."""
        named = os.environ.get("TOGGLE_CLUSTER")
        return cls(Path(named).resolve() if named else Path(tempfile.gettempdir()) / "maubot-k8s-toggle-cluster")

    @property
    def name(self) -> str:
        """Of the control group that all pods are below, and of the pod network: no two nodes may share them."""
        return f"maubot-k8s-toggle-{hashlib.sha256(bytes(self.base)).hexdigest()[:8]}"

    @property
    def lock(self) -> Path:
        return self.base / "lock"

    @property
    def log(self) -> Path:
        """What the supervisor says; it outlives `run`."""
        return self.base / "log"

    @property
    def run(self) -> Path:
        """Everything that is gone when the node is down."""
        return self.base / "run"

    @property
    def control(self) -> Path:
        return self.run / "control.sock"

    @property
    def containerd(self) -> Path:
        return self.run / "containerd.sock"

    @property
    def kubeconfig(self) -> Path:
        """Of an administrator."""
        return self.user("admin")

    @property
    def authority(self) -> Path:
        return self.run / "pki" / "ca.crt"

    @property
    def audit_log(self) -> Path:
        """One JSON object a line: each request that a service account outside kube-system made of the API."""
        return self.run / "audit.log"

    @property
    def volumes(self) -> Path:
        """The directories behind `local` PersistentVolumes."""
        return self.run / "volumes"

    def user(self, name: str) -> Path:
        return self.run / f"{name}.kubeconfig"

    def component_log(self, name: str) -> Path:
        return self.run / f"{name}.log"


def api_url() -> str:
    return f"https://{ADDRESS}:{API_PORT}"
