"""Objects: each is what the API server's own schema says, without an unknown field."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import yaml

from .chart import REPOSITORY, Object, name_of

VENVS = Path(os.environ.get("TOGGLE_VENVS") or REPOSITORY / ".venv")
NOT_KUBERNETES = {"HTTPRoute"}
"""The Gateway API's schema is not Kubernetes' own."""


def validate(objects: list[Object], directory: Path) -> subprocess.CompletedProcess[str]:
    """Strictly, against the newest schemas that kubernetes-validate has."""
    manifest = directory / "objects.yaml"
    manifest.write_text(yaml.safe_dump_all(objects), encoding="utf-8")
    return subprocess.run(
        (VENVS / "chart/bin/kubernetes-validate", "--strict", manifest),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_object_is_valid(objects: list[Object], tmp_path: Path) -> None:
    known = [each for each in objects if each["kind"] not in NOT_KUBERNETES]
    done = validate(known, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for each in known:
        told = f"{each['kind'].lower()}/{each['metadata']['name']}"
        assert told in done.stdout + done.stderr, f"{name_of(each)} was not looked at"


def test_a_field_that_there_is_not_is_found(tmp_path: Path) -> None:
    wrong = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"port": 1}}
    assert validate([wrong], tmp_path).returncode != 0
