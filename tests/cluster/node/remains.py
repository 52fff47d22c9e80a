"""Ends and removes what is left of a node whose components have ended: containers, control groups, files.

Everything is recognised by the node's own directory or control group; another cluster's is left alone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from .layout import Layout

SHIM = "containerd-shim-runc-v2"
GONE_SECONDS = 10.0
PAUSE_SECONDS = 0.02


def end_containers(layout: Layout) -> None:
    """Kill the containers and their shims; containerd does neither when it ends."""
    deadline = time.monotonic() + GONE_SECONDS
    while (processes := {*_members(layout), *_shims(layout)}) and time.monotonic() < deadline:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(PAUSE_SECONDS)


def remove(layout: Layout) -> None:
    """Remove every file and every control group; may be called again."""
    for group in _control_groups(layout):
        _remove_control_group(group)
    _unmount(layout)
    _remove_files(layout.run)


def make_control_groups(layout: Layout) -> None:
    """The kubelet wants its root control group to be there, with every controller."""
    for group in _control_groups(layout):
        group.mkdir(exist_ok=True)


def _shims(layout: Layout) -> Iterator[int]:
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            program, *arguments = (directory / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if Path(program).name == SHIM and str(layout.containerd) in arguments:
                yield int(directory.name)


def _members(layout: Layout) -> Iterator[int]:
    """The processes in our control groups: those of the containers."""
    for group in _control_groups(layout):
        for file in group.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                yield from map(int, file.read_text().split())


def _control_groups(layout: Layout) -> list[Path]:
    """Ours in every hierarchy; version 1 has one for each controller."""
    lines = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return [Path(line[1]) / layout.name for line in lines if line[2] in {"cgroup", "cgroup2"}]


def _remove_control_group(group: Path) -> None:
    """A killed process leaves its group a moment later."""
    deadline = time.monotonic() + GONE_SECONDS
    while group.exists() and time.monotonic() < deadline:
        for directory, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                Path(directory).rmdir()
        time.sleep(PAUSE_SECONDS)


def _remove_files(directory: Path) -> None:
    """A process that is just being killed may still write to it."""
    deadline = time.monotonic() + GONE_SECONDS
    while directory.exists():
        shutil.rmtree(directory, ignore_errors=time.monotonic() < deadline)


def _unmount(layout: Layout) -> None:
    """What containers and the kubelet mounted, in the supervisor's mount namespace: elsewhere it is not seen.

    A volume that is still mounted must not be emptied with the directory that it is mounted in.
    """
    mounted = [Path(line.split()[1]) for line in Path("/proc/mounts").read_text().splitlines()]
    for point in reversed([point for point in mounted if layout.run in point.parents]):
        subprocess.run(("umount", "--lazy", str(point)), check=True)
