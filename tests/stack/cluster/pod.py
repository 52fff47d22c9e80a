"""Run a program as if in a pod: the service account's files are where the kubelet puts them, and only for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from .cluster import SimulatedCluster

SERVICE_ACCOUNT = Path("secrets/kubernetes.io/serviceaccount")


def in_pod(
    cluster: SimulatedCluster, directory: Path, command: Sequence[str]
) -> tuple[list[str], Mapping[str, str], Path]:
    """What to start instead of `command`: arguments, environment, and where the service account's files can be changed.

    The Kubernetes client has the path below /var/run as a constant, so the program gets a mount namespace of its own in
    which /run is `directory`. Raises RuntimeError where there is no ``unshare``.
    """
    unshare = shutil.which("unshare")
    if unshare is None:
        raise RuntimeError("unshare is missing: install util-linux")
    files = directory / SERVICE_ACCOUNT
    environment = {**os.environ, **cluster.service_account(files)}
    own_user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    script = 'mount --bind "$0" /run && exec "$@"'
    return [unshare, *own_user, "--mount", "sh", "-c", script, str(directory), *command], environment, files
