"""How others speak with the supervisor: one JSON object each way over a Unix socket of root's.

{"command": "stop", "component": "kubelet"}  ->  {}   or   {"error": "a sentence"}
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .layout import Layout

ANSWER_SECONDS = 180.0
CREDENTIALS = struct.Struct("3i")  # struct ucred: process, user, group


class Refused(Exception):
    """The supervisor could not do it; its sentence."""


class NotRunning(Exception):
    """The node is not up."""

    def __init__(self) -> None:
        super().__init__("the cluster is not up: ./build.sh cluster up")


def ask(layout: Layout, command: str, component: str = "", flags: Sequence[str] = ()) -> None:
    """Have the supervisor do something, and wait until it is done.

    Raises:
        NotRunning: there is no supervisor.
        Refused: it failed.
    """
    with _connected(layout) as connection, connection.makefile("rw", encoding="utf-8") as stream:
        json.dump({"command": command, "component": component, "flags": list(flags)}, stream)
        stream.write("\n")
        stream.flush()
        answer: dict[str, Any] = json.loads(stream.readline() or '{"error": "the supervisor ended"}')
    if "error" in answer:
        raise Refused(answer["error"])


def supervisor(layout: Layout) -> int:
    """The process ID of the supervisor, which the kernel tells of the other end of a socket.

    Raises:
        NotRunning: there is none.
    """
    with _connected(layout) as connection:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        process: int = CREDENTIALS.unpack(credentials)[0]
        return process


def is_running(layout: Layout) -> bool:
    try:
        return bool(supervisor(layout))
    except NotRunning:
        return False


def is_inside(layout: Layout) -> bool:
    """Whether this process is in the node's network namespace."""
    return os.path.samefile("/proc/self/ns/net", _namespace(layout))  # noqa: PTH121 (it follows both)


def inside(layout: Layout) -> tuple[str, ...]:
    """The words before a command that run it in the node's network."""
    return ("nsenter", f"--net={_namespace(layout)}", "--")


def _namespace(layout: Layout) -> Path:
    return Path(f"/proc/{supervisor(layout)}/ns/net")


@contextlib.contextmanager
def _connected(layout: Layout) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(str(layout.control))
        except (FileNotFoundError, ConnectionRefusedError):
            raise NotRunning from None
        yield connection
