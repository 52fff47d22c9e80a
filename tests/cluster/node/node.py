"""The components of one node, as child processes of this process, in its network and mount namespace."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from tests.stack.processes import ChildProcess, last_lines

from .build import Programs
from .command import CommandFailed, run
from .components import POLICY_QUEUE, Component, components
from .configuration import PAUSE_IMAGE, write_configuration
from .image import write_archive
from .layout import ADDRESS, NAME, PODS_BRIDGE, PROBE_IMAGE, Layout
from .remains import end_containers, make_control_groups, remove

READY_SECONDS = 90.0
"""For each component."""
POLL_SECONDS = 0.05
GRACE_SECONDS = 5.0
"""The API server would take a minute, for requests that go on for ever."""
LAST_GRACE_SECONDS = 3.0
"""Nobody needs their files afterwards."""
PROBE_CONFIG: Mapping[str, object] = {"Entrypoint": ["/probe"], "User": "65535:65535"}
IMAGES_NAMESPACE = "k8s.io"
BEFORE_CONTAINERS = ("kwok", "kubelet", "policies", "proxy", "dns", "scheduler", "controllers")
AFTER_CONTAINERS = ("containerd", "apiserver", "etcd")


SHARED_DIRECTORIES = ("/run/containerd", "/run/nri", "/var/lib/cni", "/var/log/containers")
"""Where containerd, its shims, the network plugins and the kubelet write, whatever they are told."""


class NodeFailed(Exception):
    """A part of the node did not start; one sentence, and what that part said."""


class Node:
    """A node. `up` once, then `down` once; in between its components can be stopped and started one by one."""

    def __init__(self, layout: Layout, programs: Programs) -> None:
        self._layout = layout
        self._programs = programs
        self._components = components(layout, programs)
        self._processes: dict[str, ChildProcess] = {}

    async def up(self) -> None:
        """Start everything, and wait until the node is ready for pods.

        Raises:
            NodeFailed, CommandFailed: something did not start; what was started still runs, see `down`.
        """
        write_configuration(self._layout)
        make_control_groups(self._layout)
        await self._make_private()
        await self._make_network()
        await together(self._control_plane(), self._containers())
        await together(*(self.start(name) for name in ("kubelet", "proxy", "policies", "dns", "kwok")))
        await self._kubectl("wait", "--for=create", f"node/{NAME}", f"--timeout={READY_SECONDS}s")
        await self._kubectl("wait", "--for=condition=Ready", f"node/{NAME}", f"--timeout={READY_SECONDS}s")

    async def down(self) -> None:
        """Stop everything in order and remove it."""
        await asyncio.gather(*(self.stop(name, LAST_GRACE_SECONDS) for name in BEFORE_CONTAINERS))
        await asyncio.to_thread(end_containers, self._layout)
        for name in AFTER_CONTAINERS:
            await self.stop(name, LAST_GRACE_SECONDS)
        await asyncio.to_thread(remove, self._layout)

    async def start(self, name: str, flags: Sequence[str] = ()) -> None:
        """Start a component, with more `flags` than usual, and wait until it is ready."""
        component = self._component(name)
        if (running := self._processes.get(name)) and running.running:
            raise NodeFailed(f"{name} runs already")
        process = await ChildProcess.start(
            name,
            (*component.command, *flags),
            directory=self._layout.run,
            log=self._layout.component_log(name),
        )
        self._processes[name] = process
        await self._wait_until_ready(process, component.ready)

    async def stop(self, name: str, grace: float = GRACE_SECONDS) -> None:
        """SIGTERM, and SIGKILL if it has not ended within `grace` seconds; nothing if it does not run."""
        self._component(name)
        if process := self._processes.pop(name, None):
            await process.stop(grace)

    async def kill(self, name: str) -> None:
        """SIGKILL; nothing if it does not run."""
        self._component(name)
        if process := self._processes.pop(name, None):
            await process.kill()

    def _component(self, name: str) -> Component:
        try:
            return self._components[name]
        except KeyError:
            raise NodeFailed(f"there is no component {name!r}, only {', '.join(self._components)}") from None

    async def _make_private(self) -> None:
        """This process was started in a mount namespace: what is mounted here is seen by its children only."""
        for shared in SHARED_DIRECTORIES:
            private = self._layout.run / "private" / shared.strip("/").replace("/", "-")
            for directory in (private, Path(shared)):
                directory.mkdir(parents=True, exist_ok=True)
            await run(("mount", "--bind", str(private), shared))

    async def _make_network(self) -> None:
        """This process was started in a network namespace that has nothing yet.

        A bridge carries the node's address, because some kernels lack the `dummy` device.
        """
        for command in (
            "link set lo up",
            f"link add {NAME} type bridge",
            f"addr add {ADDRESS}/24 dev {NAME}",
            f"link set {NAME} up",
            f"route add default dev {NAME} src {ADDRESS}",
        ):
            await run(("ip", *command.split()))
        await asyncio.to_thread(Path("/proc/sys/net/ipv4/ip_forward").write_text, "1")
        await self._ask_for_policies()

    async def _ask_for_policies(self) -> None:
        """Have the kernel ask about each new connection of a pod, after a Service's address was replaced.

        What the node itself connects to is let through. By xtables, because some kernels lack nftables' own `queue`;
        the component makes rules with that too, and complains in its log of such a kernel.
        """
        for chain in ("INPUT", "FORWARD"):
            new = f"--append {chain} --in-interface {PODS_BRIDGE} --match conntrack --ctstate NEW"
            queue = f"--jump NFQUEUE --queue-num {POLICY_QUEUE} --queue-bypass"
            await run(("iptables", "--table", "mangle", *new.split(), *queue.split()))

    async def _control_plane(self) -> None:
        await self.start("etcd")
        await self.start("apiserver")
        await together(self.start("controllers"), self.start("scheduler"))

    async def _containers(self) -> None:
        await self.start("containerd")
        for name in (PAUSE_IMAGE, PROBE_IMAGE):
            archive = self._layout.run / "probe.tar"
            await asyncio.to_thread(write_archive, archive, name, self._programs.probe, PROBE_CONFIG)
            await load(self._layout, self._programs, archive)
            archive.unlink()

    async def _kubectl(self, *arguments: str) -> None:
        await run((self._programs["kubectl"], "--kubeconfig", str(self._layout.kubeconfig), *arguments))

    async def _wait_until_ready(self, process: ChildProcess, ready: str | Sequence[str]) -> None:
        answers = _answers(ready) if isinstance(ready, str) else _succeeds(ready)
        ended, answered = asyncio.ensure_future(process.wait()), asyncio.ensure_future(answers)
        try:
            await asyncio.wait({ended, answered}, timeout=READY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not answered.done():
                what = f"ended with status {ended.result()}" if ended.done() else f"is not ready in {READY_SECONDS:g} s"
                raise NodeFailed(f"{process.name} {what}; the end of its log:\n{last_lines(process.log)}")
        finally:
            for task in (ended, answered):
                task.cancel()
            await asyncio.gather(ended, answered, return_exceptions=True)


async def load(layout: Layout, programs: Programs, archive: Path) -> None:
    """Give the node an image from an archive as `docker save` and `buildah push … docker-archive:` write it."""
    ctr = (programs["ctr"], "--address", str(layout.containerd), "--namespace", IMAGES_NAMESPACE)
    await run((*ctr, "images", "import", str(archive)))


async def together(*parts: Coroutine[Any, Any, None]) -> None:
    """Await all; when one fails, cancel the others, wait for their end and raise its error."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _answers(url: str) -> None:
    """Wait for a 200; whose certificate it is does not matter to a probe."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError, asyncio.TimeoutError):
                async with session.get(url, ssl=False) as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(POLL_SECONDS)


async def _succeeds(command: Sequence[str]) -> None:
    while True:
        with contextlib.suppress(CommandFailed):
            await run(command)
            return
        await asyncio.sleep(POLL_SECONDS)
