"""The packages that the chart installs have wheels for every system that the image may run on: asked of the index."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from .conftest import REPOSITORY, VENVS

CHART = REPOSITORY / "chart/files/requirements.txt"
SYSTEMS = [f"{processor}-unknown-linux-{libc}" for processor in ("x86_64", "aarch64") for libc in ("gnu", "musl")]


def choose(requirements: Path, system: str, python: str, target: Path) -> subprocess.CompletedProcess[str]:
    """Let uv choose the wheels for another system, by name and hash, and install nothing."""
    uv = "uv pip install --dry-run --no-deps --require-hashes --only-binary :all:"
    script = f'source "{REPOSITORY}/build.sh"; {uv} "$@"'
    arguments = ("--python-platform", system, "--python-version", python, "--target", str(target))
    return subprocess.run(
        ("/bin/bash", "-c", script, "-", *arguments, "--requirement", str(requirements)),
        env={**os.environ, "TOGGLE_VENVS": str(VENVS)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("python", ["3.11", "3.12"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_each_package_has_a_wheel_with_a_hash_of_the_lock(system: str, python: str, tmp_path: Path) -> None:
    done = choose(CHART, system, python, tmp_path / "nothing")
    assert done.returncode == 0, done.stderr


def test_a_package_without_wheels_for_a_system_is_noticed(tmp_path: Path) -> None:
    """python-olm has none for musl: this is what the test above would see."""
    runtime = (REPOSITORY / "requirements/runtime.txt").read_text(encoding="utf-8")
    olm = re.search(r"^python-olm==.*\n(?:    --hash.*\n)+", runtime, re.MULTILINE)
    assert olm
    (tmp_path / "olm.txt").write_text(olm[0], encoding="utf-8")
    codes = [
        choose(tmp_path / "olm.txt", f"x86_64-unknown-linux-{libc}", "3.12", tmp_path / "nothing")
        for libc in ("gnu", "musl")
    ]
    assert [done.returncode for done in codes] == [0, 1]
    assert "no usable wheels" in codes[1].stderr
