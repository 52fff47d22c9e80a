"""Values that tests are about, with everything filled in that a test does not care about; and what tests wait for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mautrix.client import Client

from toggle_plugin.models import ClusterEvent, Container, Pod, Requester, Trust, Workload, WorkloadRef
from toggle_plugin.reach import Reach
from toggle_plugin.settings import Settings, Target

ALICE, BOB, CAROL, MALLORY = (f"@{name}:example.org" for name in ("alice", "bob", "carol", "mallory"))
ROOM, OTHER_ROOM = "!room:example.org", "!other:example.org"
WEB = WorkloadRef("Deployment", "games", "web")
DATABASE = WorkloadRef("StatefulSet", "games", "db")

_WORKLOAD = Workload(
    ref=WEB,
    uid="7e1",
    resource_version="10",
    generation=2,
    observed_generation=2,
    desired=1,
    replicas=1,
    updated=1,
    ready=1,
    available=1,
    selector="app=web",
)


def workload(**changes: Any) -> Workload:
    """A Deployment with one replica whose roll-out is complete, but for `changes`."""
    return replace(_WORKLOAD, **changes)


def pod(*containers: Container, **changes: Any) -> Pod:
    """A running pod that is not ready, but for `changes`."""
    return replace(Pod("web-1", "Running", terminating=False, ready=False, containers=containers), **changes)


def container(**changes: Any) -> Container:
    """A container that is not ready and was never restarted, but for `changes`."""
    return replace(Container("app", ready=False, restarts=0), **changes)


def event(reason: str, message: str, **changes: Any) -> ClusterEvent:
    """A warning about the pod web-1 that was seen once, but for `changes`."""
    return replace(ClusterEvent("Pod", "web-1", "Warning", reason, message, 1, 0.0), **changes)


def requester(user: str = ALICE, **changes: Any) -> Requester:
    """Somebody in an encrypted room with a device that is cross-signed, but for `changes`."""
    ours = Requester(
        user,
        ROOM,
        room_encrypted=True,
        encrypted=True,
        trust=Trust.CROSS_SIGNED_TOFU,
        device="PHONE",
        fingerprint="abcdefgh",
    )
    return replace(ours, **changes)


def target(name: str = "web", ref: WorkloadRef = WEB, **changes: Any) -> Target:
    """A target without a list of its own that starts with one replica, but for `changes`."""
    return replace(Target(name, ref), **changes)


def settings(*targets: Target, **changes: Any) -> Settings:
    """Settings that let alice in, with these targets, and with `changes`."""
    named = {target.name: target for target in targets}
    return replace(Settings(targets=named, allowed_users=frozenset({ALICE})), **changes)


async def reached(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until `condition` is true; fails with TimeoutError when it does not become so."""

    async def wait() -> None:
        while not condition():  # noqa: ASYNC110 - the condition is somebody else's
            await asyncio.sleep(0.005)

    await asyncio.wait_for(wait(), seconds)


def tasks_of_the_plugin() -> list[str]:
    """The plugin's own coroutines that are still running as tasks."""
    running = (task.get_coro() for task in asyncio.all_tasks() if not task.done())
    return [repr(work) for work in running if Path(_file(work)).parent.name == "toggle_plugin"]


def _file(work: object) -> str:
    code = getattr(work, "cr_code", None)
    return code.co_filename if code else ""


def reach_of(client: Client) -> Reach:
    """What watches the requests of `client`, which is never replaced; mautrix' own go past it."""
    return Reach(client, lambda: False, logging.getLogger("test.reach"))
