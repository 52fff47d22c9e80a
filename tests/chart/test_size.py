"""Sizes: objects and releases have limits in Kubernetes, and the plugin is inside both."""

from __future__ import annotations

import base64
import gzip
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

from .chart import SOURCE, Object, environment, find, name_of, render, template

LOAD = """
import asyncio, sys
from maubot.loader.zip import ZippedPluginLoader
print(asyncio.run(ZippedPluginLoader(sys.argv[1]).load()).__name__)
"""
KIB = 1024
OBJECT = 1024 * KIB
"""Of a ConfigMap's or Secret's data."""
ANNOTATION = 256 * KIB
"""Of all annotations of an object; `kubectl apply` keeps the whole object in one."""
OTHERS = 32 * KIB
"""What is left for the annotations of others, and for labels and annotations from the values."""


def packed() -> dict[str, bytes]:
    with tarfile.open(environment("TOGGLE_CHART")) as archive:
        members = [member for member in archive.getmembers() if member.isfile()]
        return {member.name.partition("/")[2]: archive.extractfile(member).read() for member in members}  # type: ignore[union-attr]


def test_every_object_can_be_applied_by_kubectl(objects: list[Object]) -> None:
    for each in objects:
        size = len(json.dumps(each))
        assert size < ANNOTATION - OTHERS, f"{name_of(each)} has {size // KIB} KiB"


def test_the_plugin_is_far_under_the_limit_of_a_configmap() -> None:
    plugin = find(render("minimal"), "ConfigMap", "rel-maubot-k8s-toggle-plugin")["binaryData"]["plugin.mbp"]
    assert len(plugin) < OBJECT / 4, f"{len(plugin) // KIB} KiB"


def test_the_plugin_in_it_is_the_one_that_is_built() -> None:
    plugin = find(render("minimal"), "ConfigMap", "rel-maubot-k8s-toggle-plugin")["binaryData"]["plugin.mbp"]
    assert contents(base64.b64decode(plugin)) == contents(Path(environment("TOGGLE_MBP")).read_bytes())


def test_maubot_loads_it(tmp_path: Path) -> None:
    """In a process of its own, for maubot's loader puts the plugin's modules in the place of those that are tested."""
    plugin = find(render("minimal"), "ConfigMap", "rel-maubot-k8s-toggle-plugin")["binaryData"]["plugin.mbp"]
    (tmp_path / "plugin.mbp").write_bytes(base64.b64decode(plugin))
    command = (sys.executable, "-I", "-c", LOAD, str(tmp_path / "plugin.mbp"))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "ToggleBot\n"), done.stderr


def contents(archive: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def test_a_release_fits_into_the_secret_that_helm_keeps_it_in() -> None:
    """As Helm stores it: JSON with the files in base64 and the manifest, gzipped, and that in base64."""
    release: dict[str, Any] = {
        "manifest": template("everything"),
        "chart": {name: base64.b64encode(content).decode() for name, content in packed().items()},
    }
    size = len(base64.b64encode(gzip.compress(json.dumps(release).encode())))
    assert size < OBJECT * 0.75, f"{size // KIB} KiB"


def test_the_package_has_what_is_needed_and_nothing_of_the_tests() -> None:
    names = set(packed())
    assert {"Chart.yaml", "values.yaml", "values.schema.json", "README.md", "files/plugin.mbp"} <= names
    assert {name for name in names if name.startswith("ci/") or name == "readme.py" or "__pycache__" in name} == set()
    assert {path.name for path in (SOURCE / "files").glob("*.py")} == {
        name.removeprefix("files/") for name in names if name.startswith("files/") and name.endswith(".py")
    }
