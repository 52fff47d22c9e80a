"""The cluster's kubeconfigs, with the certificates that they hold; knows no process."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from tests.stack.cluster.certificates import Authority, new_key, private_pem, write_private


def write_kubeconfig(file: Path, url: str, authority: Authority, user: str, group: str = "") -> None:
    """A kubeconfig that can be copied anywhere: what it needs is inside it."""
    key = new_key()
    cluster = {"server": url, "certificate-authority-data": _base64(authority.pem())}
    certificate = {
        "client-certificate-data": _base64(authority.issue(key, user, group)),
        "client-key-data": _base64(private_pem(key)),
    }
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "node", "cluster": cluster}],
        "users": [{"name": user, "user": certificate}],
        "contexts": [{"name": "node", "context": {"cluster": "node", "user": user}}],
        "current-context": "node",
    }
    write_private(file, json.dumps(content, indent=1).encode())


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
