"""Kubeconfigs that hold a bearer token; knows no server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def write_kubeconfig(path: Path, name: str, url: str, authority: Path, token: str, **changes: Any) -> Path:
    """Write a kubeconfig (mode 0600) whose every part is called `name`; `changes` go into its cluster entry.

    Args:
        authority: the CA file to trust.
    """
    cluster = {"server": url, "certificate-authority": str(authority), **changes}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(yaml.safe_dump(document))
    return path
