"""A Kubernetes cluster as tests use it: kubectl, namespaces, and waiting that says what it waited for.

It is the node of tests/cluster/node, or any other cluster that KUBECONFIG_FOR_TESTS names.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import shlex
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from .node import control
from .node.build import programs
from .node.command import CommandFailed, run
from .node.configuration import write_token_keys
from .node.image import write_archive
from .node.layout import ADDRESS, NAME, PROBE_IMAGE, Layout
from .node.node import PROBE_CONFIG, load

Manifest = Mapping[str, Any]

READY_SECONDS = 60.0
POLL_SECONDS = 0.2
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


class NotInTime(Exception):
    """What was waited for did not come; says what, and how the namespace looked."""


class NotOurs(Exception):
    """Something that only the node of tests/cluster/node can do was asked of another cluster."""


class Cluster:
    """A running cluster, and an administrator's rights in it.

    Attributes:
        kubeconfig: the administrator's.
        url: the API server's, for servers and tests beside the cluster.
    """

    def __init__(self, kubeconfig: Path, kubectl: Sequence[str], url: str, layout: Layout | None) -> None:
        self.kubeconfig = kubeconfig
        self.url = url
        self._kubectl = kubectl
        self._layout = layout

    @classmethod
    async def open(cls) -> Cluster:
        """The cluster of KUBECONFIG_FOR_TESTS, or the node, in whose network this process has to be.

        Raises:
            NotRunning: the node is not up.
            NotOurs: this process is not in its network.
        """
        if named := os.environ.get("KUBECONFIG_FOR_TESTS"):
            return await cls._open(Path(named), "kubectl", None)
        layout = Layout.default()
        if not control.is_inside(layout):
            raise NotOurs("these tests run in the cluster's network: ./build.sh cluster test")
        return await cls._open(layout.kubeconfig, programs()["kubectl"], layout)

    @classmethod
    async def _open(cls, kubeconfig: Path, program: str, layout: Layout | None) -> Cluster:
        kubectl = (program, "--kubeconfig", str(kubeconfig))
        url = await run((*kubectl, "config", "view", "--minify", "--output=jsonpath={.clusters[0].cluster.server}"))
        return cls(kubeconfig, kubectl, url, layout)

    @property
    def address(self) -> str:
        """Where pods reach the servers that a test starts; listen on it.

        Raises:
            NotOurs: another cluster, and ADDRESS_FOR_TESTS does not say it.
        """
        if self._layout is not None:
            return ADDRESS
        if named := os.environ.get("ADDRESS_FOR_TESTS"):
            return named
        raise NotOurs("set ADDRESS_FOR_TESTS to an address of this machine that the cluster's pods reach")

    @property
    def is_other(self) -> bool:
        """Whether it is the cluster of KUBECONFIG_FOR_TESTS."""
        return self._layout is None

    @property
    def layout(self) -> Layout:
        """The node's files, its audit log and certificate authority among them.

        Raises:
            NotOurs: it is another cluster.
        """
        if self._layout is None:
            raise NotOurs("another cluster than that of ./build.sh cluster cannot do that")
        return self._layout

    async def kubectl(self, *arguments: str, content: str = "") -> str:
        """What ``kubectl ARGUMENTS`` prints; `content` is its standard input.

        Raises:
            CommandFailed: it fails.
        """
        return await run((*self._kubectl, *arguments), content)

    async def get(self, *what: str) -> dict[str, Any]:
        """An object, or a list of them, as ``kubectl get WHAT`` finds it."""
        found: dict[str, Any] = json.loads(await self.kubectl("get", *what, "--output=json"))
        return found

    async def authority(self) -> bytes:
        """The certificates (PEM) that the API server's is signed by."""
        words = ("config", "view", "--raw", "--minify", "--flatten", "--output=json")
        [entry] = json.loads(await self.kubectl(*words))["clusters"]
        return base64.b64decode(entry["cluster"]["certificate-authority-data"])

    async def apply(self, *manifests: Manifest) -> None:
        """Apply on the server's side, as whoever deploys does."""
        content = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
        await self.kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", content=content)

    async def until(
        self, what: str, happened: Callable[[], Awaitable[object]], seconds: float = READY_SECONDS, namespace: str = ""
    ) -> None:
        """Ask `happened` again and again until what it returns is true.

        Raises:
            NotInTime: `seconds` passed first; says `what`, and how `namespace` looks.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        while not await happened():
            if asyncio.get_running_loop().time() > deadline:
                raise NotInTime(f"waited {seconds:g} s: {what}\n{await self.describe(namespace)}")
            await asyncio.sleep(POLL_SECONDS)

    async def describe(self, namespace: str) -> str:
        """The pods and the events of a namespace, for a person."""
        if not namespace:
            return ""
        pods = await self.kubectl("get", "pods", "--output=wide", "--namespace", namespace)
        events = await self.kubectl("events", "--namespace", namespace)
        return f"{pods}\n{events}"

    async def load(self, archive: Path) -> None:
        """Give the node an image from an archive as docker and buildah write it.

        Another cluster gets it from the command of LOAD_FOR_TESTS, such as "kind load image-archive".
        """
        if self._layout is not None:
            await load(self._layout, programs(), archive)
        elif command := os.environ.get("LOAD_FOR_TESTS"):
            await run((*shlex.split(command), str(archive)))
        else:
            raise NotOurs('set LOAD_FOR_TESTS to what loads an image into the cluster: "kind load image-archive"')

    async def image(self, name: str, folder: Path, config: Mapping[str, object]) -> None:
        """Make an image NAME:TAG of a folder, with `config` (Entrypoint, Env, User …), and load it."""
        with tempfile.TemporaryDirectory() as directory:
            archive = Path(directory) / "image.tar"
            await asyncio.to_thread(write_archive, archive, name, folder, config)
            await self.load(archive)

    async def probe(self) -> str:
        """The name of the image of probe/main.go, which the cluster then has."""
        if self._layout is None:
            await self.image(PROBE_IMAGE, programs().probe, PROBE_CONFIG)
        return PROBE_IMAGE

    async def start(self, component: str, *flags: str) -> None:
        """Start a stopped component of the node, with more `flags` than usual, and wait until it is ready."""
        await asyncio.to_thread(control.ask, self.layout, "start", component, flags)

    async def stop(self, component: str) -> None:
        """End a component of the node with SIGTERM: etcd, apiserver, controllers, scheduler, containerd, kubelet …"""
        await asyncio.to_thread(control.ask, self.layout, "stop", component)

    async def kill(self, component: str) -> None:
        """End a component of the node with SIGKILL."""
        await asyncio.to_thread(control.ask, self.layout, "kill", component)

    async def restart(self, component: str, *flags: str) -> None:
        await self.stop(component)
        await self.start(component, *flags)

    async def invalidate_tokens(self) -> None:
        """End every service account's token now: an API server lets none expire in less than ten minutes.

        The kubelet writes new ones into the pods, within a minute or two.
        """
        async with self.tokens_invalid():
            pass

    @asynccontextmanager
    async def tokens_invalid(self) -> AsyncIterator[None]:
        """The same, but nobody writes new ones into the pods as long as the context lasts."""
        for component in ("kubelet", "apiserver"):
            await self.stop(component)
        try:
            await asyncio.to_thread(write_token_keys, self.layout)
            await self.start("apiserver")
            for component in ("controllers", "proxy"):  # they would go on for a while with what they know
                await self.restart(component)
            yield
        finally:
            await self.start("kubelet")

    def audit(self, namespace: str) -> list[dict[str, Any]]:
        """The requests that the service accounts of `namespace` have made so far, as audit.k8s.io/v1 events."""
        lines = self.layout.audit_log.read_text().splitlines() if self.layout.audit_log.exists() else []
        group = f"system:serviceaccounts:{namespace}"
        return [event for event in map(json.loads, lines) if group in event["user"].get("groups", ())]

    @asynccontextmanager
    async def namespace(self, *, keep: bool = False) -> AsyncIterator[Namespace]:
        """A namespace that enforces Pod Security "restricted", for as long as the context lasts."""
        namespace = Namespace(self, f"test-{secrets.token_hex(4)}")
        labels = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace.name, "labels": RESTRICTED}}
        await self.apply(labels)
        try:
            await self.kubectl(
                "wait", "--for=create", "serviceaccount/default", "--namespace", namespace.name, "--timeout=30s"
            )
            yield namespace
        finally:
            if not keep:
                await namespace.delete()


class Namespace:
    """One namespace of a cluster, and the volumes that were made for it."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self._volumes: list[str] = []

    async def kubectl(self, *arguments: str, content: str = "") -> str:
        return await self.cluster.kubectl("--namespace", self.name, *arguments, content=content)

    async def get(self, *what: str) -> dict[str, Any]:
        return await self.cluster.get("--namespace", self.name, *what)

    async def apply(self, *manifests: Manifest) -> None:
        """Apply objects that are in this namespace, whether they say so or not."""
        placed = [{**manifest, "metadata": {**manifest["metadata"], "namespace": self.name}} for manifest in manifests]
        await self.cluster.apply(*placed)

    async def until(self, what: str, happened: Callable[[], Awaitable[object]], seconds: float = READY_SECONDS) -> None:
        await self.cluster.until(what, happened, seconds, self.name)

    async def rolled_out(self, workload: str, seconds: float = READY_SECONDS) -> None:
        """Wait until KIND/NAME (a Deployment, StatefulSet or DaemonSet) runs as it was last asked for.

        Raises:
            NotInTime: it does not within `seconds`.
        """
        await self._wait(f"{workload} to be rolled out", "rollout", "status", workload, f"--timeout={seconds}s")

    async def condition(self, what: str, condition: str, seconds: float = READY_SECONDS) -> None:
        """Wait for what ``kubectl wait --for=CONDITION`` knows: condition=Ready, delete, create, jsonpath=…"""
        await self._wait(f"{what} to have {condition}", "wait", f"--for={condition}", what, f"--timeout={seconds}s")

    async def _wait(self, what: str, *arguments: str) -> None:
        try:
            await self.kubectl(*arguments)
        except CommandFailed as error:
            raise NotInTime(f"waited for {what}: {error}\n{await self.cluster.describe(self.name)}") from error

    async def pods(self, selector: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.get("pods", f"--selector={selector}"))["items"]
        return found

    async def logs(self, of: str, *options: str) -> str:
        """The log of a pod, or of KIND/NAME."""
        return await self.kubectl("logs", of, *options)

    async def exec(self, pod: str, *command: str, container: str = "") -> str:
        chosen = (f"--container={container}",) if container else ()
        return await self.kubectl("exec", pod, *chosen, "--", *command)

    async def volume(self, claim: str, *, size: str = "1Gi", access_mode: str = "ReadWriteOnce") -> None:
        """See to it that the claim of this name finds a volume: on the node, a `local` one that only that claim gets.

        ReadWriteOncePod has to be a volume's only access mode, so there is one. Another cluster has volumes of its own.
        """
        if self.cluster.is_other:
            return
        directory = self.volume_directory(claim)
        directory.mkdir()
        self._volumes.append(directory.name)
        await self.cluster.apply(_local_volume(directory, self.name, claim, size, access_mode))

    def volume_directory(self, claim: str) -> Path:
        """Where the files of a volume are on the node."""
        return self.cluster.layout.volumes / f"{self.name}-{claim}"

    async def delete(self) -> None:
        """Have everything in it deleted; that goes on for a while, which is nobody's concern."""
        await self.cluster.kubectl("delete", "namespace", self.name, "--wait=false")
        if self._volumes:
            await self.cluster.kubectl("delete", "persistentvolume", *self._volumes, "--wait=false")


def _local_volume(directory: Path, namespace: str, claim: str, size: str, access_mode: str) -> Manifest:
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NAME]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": directory.name},
        "spec": {
            "capacity": {"storage": size},
            "accessModes": [access_mode],
            "claimRef": {"namespace": namespace, "name": claim},
            "local": {"path": str(directory)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }
