"""One release of the chart in the cluster, with a homeserver beside it and people who talk to its bot."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.stack.chat import Account, ChatClient
from tests.stack.cluster.certificates import Certificates, write_certificates
from tests.stack.processes import ChildProcess, free_port
from tests.stack.synapse import Login, Synapse

from .base_image import OWN, REPOSITORY
from .cluster import Cluster, Manifest, Namespace, NotInTime
from .node.command import CommandFailed, run

NAME = "bot"
FULLNAME = f"{NAME}-maubot-k8s-toggle"
CLAIM = f"data-{FULLNAME}-0"
INSTALL_SECONDS = 600
"""Until the bot is there: the packages are installed first, on a machine that does much else."""

RESTRICTED_CONTAINER: Manifest = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
RESTRICTED_POD: Manifest = {"runAsNonRoot": True, "runAsUser": 1337, "seccompProfile": {"type": "RuntimeDefault"}}


def workload(image: str, name: str = "web") -> Manifest:
    """A Deployment at 0 that serves HTTP, and is ready when it does."""
    container = {
        "name": "web",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["serve", "8080"],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
        "securityContext": RESTRICTED_CONTAINER,
    }
    pod = {"containers": [container], "securityContext": RESTRICTED_POD, "terminationGracePeriodSeconds": 1}
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "labels": labels}, "spec": spec}


class PackageIndex:
    """tests/cluster/index.py as a process, on the address that pods reach.

    Attributes:
        url: for pip.
        certificates: which `authority` to trust.
        log: a line for each request.
    """

    def __init__(self, address: str, certificates: Certificates, log: Path) -> None:
        self._address = address
        self._port = free_port()
        self.url = f"https://{address}:{self._port}/simple"
        self.certificates = certificates
        self.log = log
        self._process: ChildProcess | None = None

    @classmethod
    async def open(cls, directory: Path, address: str) -> PackageIndex:
        index = cls(address, write_certificates(directory, [address]), directory / "index.log")
        certificate, key = str(index.certificates.certificate), str(index.certificates.key)
        command = (sys.executable, "-m", "tests.cluster.index", address, str(index._port), certificate, key)
        index._process = await ChildProcess.start("the package index", command, directory=REPOSITORY, log=index.log)
        await index._until_it_serves()
        return index

    async def _until_it_serves(self) -> None:
        # The wheels may have to be downloaded first.
        for _ in range(3000):
            if "serving" in self.log.read_text():
                return
            await asyncio.sleep(0.1)
        raise TimeoutError(f"the package index does not serve: {self.log.read_text()}")

    async def stop(self) -> None:
        if self._process is not None:
            await self._process.stop()


class Release:
    """What `helm install` makes of the chart, and what is around it. Leave it with `close`.

    Attributes:
        namespace: of the release.
        workloads: the namespace of what the bot turns on and off.
        synapse: the homeserver of the bot and of the people.
        index: where the packages are installed from.
        bot, bot_password: the bot's account.
    """

    def __init__(self, namespace: Namespace, workloads: Namespace, synapse: Synapse, index: PackageIndex) -> None:
        self.namespace = namespace
        self.workloads = workloads
        self.synapse = synapse
        self.index = index
        self.bot = f"bot-{namespace.name}"
        self.bot_password = secrets.token_urlsafe(12)
        self._people: dict[str, ChatClient] = {}

    @classmethod
    @asynccontextmanager
    async def open(
        cls, cluster: Cluster, synapse: Synapse, index: PackageIndex, *, keep: bool = False
    ) -> AsyncIterator[Release]:
        """One in namespaces of its own, prepared and not installed, for as long as the context lasts."""
        async with cluster.namespace(keep=keep) as namespace, cluster.namespace(keep=keep) as workloads:
            release = cls(namespace, workloads, synapse, index)
            await release.prepare()
            try:
                yield release
            finally:
                await release.close()

    @property
    def cluster(self) -> Cluster:
        return self.namespace.cluster

    @property
    def bot_id(self) -> str:
        return f"@{self.bot}:{self.synapse.server_name}"

    def user_id(self, name: str) -> str:
        return f"@{name}-{self.namespace.name}:{self.synapse.server_name}"

    async def prepare(self) -> None:
        """What is there before the release: the bot's account, a volume, the index' CA, and a workload at 0."""
        await self.synapse.register(self.bot, self.bot_password)
        await self.namespace.volume(CLAIM, access_mode="ReadWriteOncePod")
        authority = self.index.certificates.authority.read_text()
        await self.namespace.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "index-ca"}, "data": {"ca.crt": authority}}
        )
        await self.workloads.apply(workload(await self.cluster.probe()))

    async def close(self) -> None:
        await asyncio.gather(*(person.close() for person in self._people.values()))

    # The release

    def values(self) -> dict[str, Any]:
        """The README's values, with the names of here, and the index that stands in for PyPI."""
        return {
            "homeserver": {"url": self.synapse.url},
            "bot": {"userId": self.bot_id, "password": self.bot_password},
            "instance": {
                "settings": {
                    "allowed_users": [self.user_id("alice")],
                    "rollout_timeout": "1m",
                    "targets": {
                        "web": {"kind": "Deployment", "namespace": self.workloads.name, "name": "web", "replicas": 1}
                    },
                }
            },
            "dependencies": {"indexUrl": self.index.url, "caConfigMap": "index-ca"},
        }

    def own_values(self) -> dict[str, Any]:
        """The same with the image of our Dockerfile, for which nothing is installed; the fixture `own` brings it."""
        repository, tag = OWN.rsplit(":", 1)
        image = {"image": {"repository": repository, "tag": tag}}
        return {**self.values(), "dependencies": {"install": False}, "maubot": image}

    async def helm(self, *arguments: str, values: Mapping[str, Any] | None = None) -> str:
        """What a helm command prints, in this namespace; `values` are its only ones."""
        given = ("--values=-",) if values is not None else ()
        place = ("--namespace", self.namespace.name, "--kubeconfig", str(self.cluster.kubeconfig))
        return await run((os.environ["TOGGLE_HELM"], *arguments, *place, *given), json.dumps(values or {}))

    async def install(self, values: Mapping[str, Any] | None = None, *, wait: bool = True, chart: str = "") -> None:
        """`helm install`, or an upgrade if it is there; `wait` until every pod is ready. `chart`: another package."""
        flags = ("--wait", f"--timeout={INSTALL_SECONDS}s") if wait else ()
        package = chart or os.environ["TOGGLE_CHART"]
        await self._change("upgrade", "--install", NAME, package, *flags, values=values or self.values())

    async def roll_back(self, revision: int) -> None:
        """`helm rollback`, and wait until every pod is ready."""
        await self._change("rollback", NAME, str(revision), "--wait", f"--timeout={INSTALL_SECONDS}s")

    async def _change(self, *arguments: str, values: Mapping[str, Any] | None = None) -> None:
        try:
            await self.helm(*arguments, values=values)
        except CommandFailed as error:
            raise NotInTime(f"{error}\n{await self.describe()}") from error

    async def uninstall(self) -> None:
        await self.helm("uninstall", NAME, "--wait")

    async def ready(self, seconds: float = INSTALL_SECONDS) -> None:
        """Wait until the bot is ready, as /readyz says, and the provisioner has nothing to do."""
        await self.namespace.rolled_out(f"statefulset/{FULLNAME}", seconds)
        await self.namespace.rolled_out(f"deployment/{FULLNAME}-provisioner", seconds)

    async def secret(self) -> dict[str, str]:
        """What the provisioner keeps."""
        data = (await self.namespace.get("secret", FULLNAME)).get("data") or {}
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    async def describe(self) -> str:
        """The pods, the events and the ends of the logs."""
        workloads = (f"statefulset/{FULLNAME}", f"deployment/{FULLNAME}-provisioner")
        logs = [f"{of}:\n{await self._log(of)}" for of in workloads]
        return "\n".join([await self.cluster.describe(self.namespace.name), *logs])

    async def _log(self, of: str) -> str:
        try:
            return await self.namespace.logs(of, "--all-containers", "--tail=40")
        except CommandFailed as error:
            return str(error)

    # People

    async def person(self, name: str = "alice") -> ChatClient:
        """The chat client of a person; it is closed with the release."""
        if name not in self._people:
            local, password = f"{name}-{self.namespace.name}", secrets.token_urlsafe(12)
            account = Account(self.synapse, local, password, await self.synapse.register(local, password))
            self._people[name] = await ChatClient.log_in(account)
        return self._people[name]

    async def room(self, person: ChatClient) -> str:
        """A new encrypted room of `person` and the bot, once the bot has joined."""
        room = await person.create_room(encrypted=True, invite=[self.bot_id])
        await person.wait_membership(room, self.bot_id)
        return room

    async def bot_login(self) -> Login:
        """The bot's device as the Secret has it."""
        secret = await self.secret()
        return Login(self.bot_id, secret["device-id"], secret["access-token"])
