"""A node leaves nothing behind: no process, no control group, no file, whatever ends it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .cluster import Manifest
from .node import control
from .node.layout import PROBE_IMAGE, Layout
from .test_node import RESTRICTED_CONTAINER, RESTRICTED_POD

pytestmark = pytest.mark.timeout(300)

HOLD = """
import sys
from tests.cluster.node.__main__ import start_supervisor
from tests.cluster.node.layout import Layout
start_supervisor(Layout.default(), until_we_end=True)
print("up", flush=True)
sys.stdin.read()
"""
"""What ``cluster test`` does while pytest runs."""
POD: Manifest = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "probe"},
    "spec": {**RESTRICTED_POD, "containers": [{**RESTRICTED_CONTAINER, "name": "probe", "image": PROBE_IMAGE}]},
}
GONE_SECONDS = 60.0


@pytest.fixture
def layout(monkeypatch: pytest.MonkeyPatch) -> Iterator[Layout]:
    """Of a second node on this machine."""
    with tempfile.TemporaryDirectory() as directory:
        monkeypatch.setenv("TOGGLE_CLUSTER", directory)
        layout = Layout.default()
        yield layout
        command("down")


@pytest.fixture
def holder(layout: Layout) -> Iterator[subprocess.Popen[str]]:
    """A process that has started a node with a running container, and ends it with its own end."""
    pipe = subprocess.PIPE
    with subprocess.Popen((sys.executable, "-c", HOLD), stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        command("kubectl", "wait", "--for=create", "serviceaccount/default")
        command("kubectl", "apply", "--filename=-", content=json.dumps(POD))
        command("kubectl", "wait", "--for=condition=Ready", "pod/probe", "--timeout=60s")
        assert remains(layout)
        yield process


def command(*arguments: str, content: str = "") -> str:
    words = (sys.executable, "-m", "tests.cluster.node", *arguments)
    return subprocess.run(words, input=content, stdout=subprocess.PIPE, text=True, check=True).stdout


def remains(layout: Layout) -> list[str]:
    """What there still is of a node, for a person."""
    files = [str(layout.run)] if layout.run.exists() else []
    groups = [str(group) for group in Path("/sys/fs/cgroup").glob(f"*/{layout.name}")]
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if str(layout.base) in line]
    return [*files, *groups, *mounts, *processes(layout)]


def processes(layout: Layout) -> Iterator[str]:
    """The components and shims by their arguments, the containers by their control group; zombies have no arguments."""
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            arguments = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            ours = str(layout.base) in arguments or layout.name in (directory / "cgroup").read_text()
            if arguments and ours:
                yield f"{directory.name} {arguments}"


def test_it_ends_when_the_process_that_tests_is_killed(layout: Layout, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    deadline = time.monotonic() + GONE_SECONDS
    while (left := remains(layout)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def test_down_cleans_up_after_a_killed_supervisor(layout: Layout, holder: subprocess.Popen[str]) -> None:
    os.kill(control.supervisor(layout), signal.SIGKILL)
    command("down")
    assert remains(layout) == []
    command("down")
    holder.kill()
