"""One healthy release and a person who talks to its bot, and what a trouble may change of them: next to nothing."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.stack.chat import ChatClient
from tests.stack.maubot import MaubotAPI

from .base_image import OWN
from .cluster import Cluster
from .release import FULLNAME, Release

PATIENCE = 180.0
"""Seconds until something has come back by itself, on a machine that does much else."""
QUIET = 3.0
"""Seconds of silence that count as no second answer."""
REPLACED, RESTARTED = "replaced", "restarted"


@dataclass(frozen=True)
class Identity:
    """What makes the bot the one that it was.

    A homeserver gives a device another token when it is logged in again, and takes the old one no more.
    """

    device: str
    token: str
    recovery_key: str
    devices: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """A pod of one container: which one it is, and how often its container was started again."""

    pod: str
    restarts: int

    def since(self, before: Run) -> str:
        """What happened to it; nothing is the empty string."""
        if self.pod != before.pod:
            return REPLACED if not self.restarts else f"{REPLACED}, and then {RESTARTED}"
        return RESTARTED * (self.restarts - before.restarts)


@dataclass(frozen=True)
class Said:
    """A command, and what its answer ends with."""

    event: str
    text: str
    end: str


def values(release: Release) -> dict[str, Any]:
    """The release's values, with the image that has its packages, and time for a roll-out that is disturbed."""
    repository, tag = OWN.rsplit(":", 1)
    chosen = release.values()
    chosen["dependencies"] = {"install": False}
    chosen["maubot"] = {"image": {"repository": repository, "tag": tag}}
    chosen["instance"]["settings"]["rollout_timeout"] = "4m"
    return chosen


async def identity(release: Release) -> Identity:
    """By the Secret and by the homeserver, which has to take the Secret's token."""
    secret = await release.secret()
    path = "/_matrix/client/v3/devices"
    found = (await release.synapse.request("GET", path, token=secret["access-token"]))["devices"]
    devices = tuple(sorted(device["device_id"] for device in found))
    return Identity(secret["device-id"], secret["access-token"], secret.get("recovery-key", ""), devices)


async def is_signed(release: Release) -> bool:
    """Whether the bot's device is signed by its account's self-signing key."""
    bot, device = release.bot_id, await release.bot_login()
    path, body = "/_matrix/client/v3/keys/query", {"device_keys": {bot: [device.device_id]}}
    answer = await release.synapse.request("POST", path, body, token=device.access_token)
    signatures = answer["device_keys"][bot][device.device_id]["signatures"][bot]
    return any(key in signatures for key in answer["self_signing_keys"][bot]["keys"])


async def pod_of(release: Release, component: str) -> dict[str, Any] | None:
    """The one pod of maubot or the provisioner, None while there is none or another one too."""
    pods = await release.namespace.pods(f"app.kubernetes.io/component={component}")
    return pods[0] if len(pods) == 1 else None


def container_id(pod: Mapping[str, Any] | None, kind: str = "containerStatuses") -> str:
    """Of the pod's running container; empty if it does not run. `kind`: initContainerStatuses for one of those."""
    statuses = pod["status"].get(kind, []) if pod else []
    running = [status for status in statuses if "running" in status["state"]]
    return str(running[0]["containerID"].rpartition("/")[2]) if running else ""


async def kill(release: Release, component: str) -> None:
    """SIGKILL for every process of a component's container, on the node of tests/cluster/node only."""
    container = container_id(await pod_of(release, component))
    assert container, await release.describe()
    assert kill_processes(release.cluster, container), await release.describe()


def kill_processes(cluster: Cluster, container: str) -> int:
    """How many there were; their control group is below the node's and has the container's name."""
    killed = 0
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            group = (directory / "cgroup").read_text()
            if cluster.layout.name in group and container in group:
                os.kill(int(directory.name), signal.SIGKILL)
                killed += 1
    return killed


async def runs_of(release: Release) -> dict[str, Run]:
    """By component; one that has no pod, or another one too, is left out."""
    found = {}
    for component in ("maubot", "provisioner"):
        if pod := await pod_of(release, component):
            counts = [status["restartCount"] for status in pod["status"].get("containerStatuses", [])]
            found[component] = Run(pod["metadata"]["uid"], sum(counts))
    return found


class Healthy:
    """A release that runs, and Alice in a room with its bot."""

    def __init__(self, release: Release, alice: ChatClient, room: str) -> None:
        self.release = release
        self.alice = alice
        self.room = room
        self._said: list[Said] = []

    @classmethod
    async def meet(cls, release: Release) -> Healthy:
        """Alice invites the bot, which answers."""
        alice = await release.person("alice")
        healthy = cls(release, alice, await release.room(alice))
        await healthy.say("status", "is off")
        await healthy.answered()
        return healthy

    @asynccontextmanager
    async def maubot(self) -> AsyncIterator[MaubotAPI]:
        """maubot's management API, as its admin."""
        service = await self.release.namespace.get("service", FULLNAME)
        password = (await self.release.secret())["admin-password"]
        async with MaubotAPI.open(f"http://{service['spec']['clusterIP']}:29316", "admin", password) as api:
            yield api

    async def say(self, text: str, end: str) -> str:
        """Alice types a command, which has to be answered some time with what contains `end`."""
        event = await self.alice.send(self.room, text)
        self._said.append(Said(event, text, end))
        return event

    async def answered(self, seconds: float = PATIENCE) -> None:
        """Wait until everything that was said is answered, exactly once."""
        said, self._said = self._said, []
        for command in said:
            await self._ended(command, seconds)
        await self.alice.settle(QUIET)
        for command in said:
            replies = self.alice.timeline.replies(command.event)
            # After a long wait the end is told by a message that mentions her.
            kinds = [bool(reply.mentions) for reply in replies]
            assert kinds.count(False) == 1, (command, replies)
            assert kinds.count(True) <= 1, (command, replies)

    async def _ended(self, command: Said, seconds: float) -> None:
        def ended() -> bool:
            return any(command.end in reply.body for reply in self.alice.timeline.replies(command.event))

        try:
            await self.alice.wait_for(ended, seconds, f"{command.text!r} to end with {command.end!r}")
        except AssertionError as silence:
            raise AssertionError(f"{silence}\n{await self.release.describe()}") from silence

    async def generation(self) -> int:
        """How often the workload's spec was changed."""
        return int((await self.release.workloads.get("deployment", "web"))["metadata"]["generation"])

    async def changed(self, before: Mapping[str, Run]) -> dict[str, str]:
        """What happened to which component."""
        now = await runs_of(self.release)
        happened = {name: now[name].since(run) if name in now else "gone" for name, run in before.items()}
        return {name: what for name, what in happened.items() if what}

    async def off(self) -> None:
        """The workload is off, and everything ready; whatever an earlier test left."""
        await self.release.ready(PATIENCE)
        await self.release.workloads.kubectl("scale", "deployment/web", "--replicas=0")

        async def gone() -> bool:
            return not await self.release.workloads.pods("app=web")

        await self.release.workloads.until("no pod of web", gone)
        self._said = []

    @asynccontextmanager
    async def trouble(self, **components: str) -> AsyncIterator[None]:
        """Make trouble inside, and say what the bot has to answer and one start that it has to obey.

        Afterwards all that was said is answered exactly once, a stop too, each of the two has changed the workload
        once, of the pods only `components` were restarted or replaced, and the bot is who it was.
        """
        await self.off()
        who, runs, generation = await identity(self.release), await runs_of(self.release), await self.generation()
        yield
        await self.answered()
        await self.says_stop()
        await self.settled(runs, components)
        assert await self.generation() == generation + 2
        assert await identity(self.release) == who
        assert who.devices == (who.device,)

    async def says_stop(self) -> None:
        await self.say("stop", "is off")
        await self.answered()

    async def settled(self, runs: Mapping[str, Run], components: Mapping[str, str]) -> None:
        """Wait until everything is ready, and these and no other have started again since."""

        async def as_told() -> bool:
            return await self.changed(runs) == dict(components)

        await self.release.namespace.until(f"only these to start again: {components}", as_told, PATIENCE)
        await self.release.ready(PATIENCE)
        assert await self.changed(runs) == dict(components), await self.release.describe()
