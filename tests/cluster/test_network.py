"""The NetworkPolicies where they are enforced: what the bot needs passes, and nothing else does, in or out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from yarl import URL

from tests.stack.synapse import Synapse

from .cluster import Cluster, Manifest
from .node.command import CommandFailed
from .release import FULLNAME, NAME, RESTRICTED_CONTAINER, RESTRICTED_POD, PackageIndex, Release
from .test_install import turned_on_and_off

pytestmark = pytest.mark.timeout(900)

UI = "/_matrix/maubot/v1/features"
FRIEND = {"may-see": "the-ui"}
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5).close()"
"""Ends with an error, and says which, unless somebody accepts the connection within five seconds."""


def only(address: str) -> list[Manifest]:
    """To this address and no other, as NetworkPolicy has it."""
    return [{"ipBlock": {"cidr": f"{address}/32"}}]


async def values(release: Release) -> dict[str, Any]:
    """As tight as they can be: places, not only ports, and one pod more than the release's own that may see the UI."""
    api = await release.cluster.get("endpointslice", "kubernetes", "--namespace=default")
    policy = {
        "homeserver": {"to": only(release.cluster.address)},
        "apiServer": {"to": only(api["endpoints"][0]["addresses"][0])},
        "ingressFrom": [{"podSelector": {"matchLabels": FRIEND}}],
    }
    return {**release.own_values(), "networkPolicy": policy}


def server(image: str, name: str, port: int, labels: Manifest) -> Manifest:
    """A pod that answers on a port."""
    container = {
        "name": "web",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["serve", str(port)],
        "securityContext": RESTRICTED_CONTAINER,
    }
    spec = {"containers": [container], "securityContext": RESTRICTED_POD, "terminationGracePeriodSeconds": 1}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


class Pods:
    """The bot's pod, and two beside it that no policy is about: one that may see the UI, and a stranger.

    Attributes:
        release: the bot's.
        port: where the two others answer; the homeserver has the same one.
    """

    def __init__(self, release: Release) -> None:
        self.release = release
        self.port = URL(release.synapse.url).port or 0

    async def start(self) -> None:
        image, namespace = await self.release.cluster.probe(), self.release.namespace
        await namespace.apply(server(image, "stranger", self.port, {}), server(image, "friend", self.port, FRIEND))
        for name in ("stranger", "friend"):
            await namespace.condition(f"pod/{name}", "condition=Ready")

    async def address(self, pod: str) -> str:
        return str((await self.release.namespace.get("pod", pod))["status"]["podIP"])

    async def fetch(self, pod: str, url: str) -> str:
        """What one of the two gets from there, or why it does not."""
        return await self._said(pod, "/probe", "fetch", url)

    async def connect(self, address: str, port: int) -> str:
        """Nothing, or why the bot's pod cannot connect to there."""
        return await self._said(f"{FULLNAME}-0", "python3", "-c", CONNECT, address, str(port))

    async def _said(self, pod: str, *command: str) -> str:
        try:
            return await self.release.namespace.exec(pod, *command)
        except CommandFailed as failure:
            return str(failure)


@pytest.fixture(scope="module")
async def pods(
    own: None, cluster: Cluster, synapse: Synapse, index: PackageIndex, request: pytest.FixtureRequest
) -> AsyncIterator[Pods]:
    """Beside a release that is installed."""
    keep = request.config.getoption("--keep", default=False)
    async with Release.open(cluster, synapse, index, keep=keep) as release:
        await release.install(await values(release))
        pods = Pods(release)
        await pods.start()
        yield pods


async def test_what_the_bot_needs_passes(pods: Pods) -> None:
    """Its whole way from an invitation to a workload and back; that it is there shows the provisioner's."""
    await turned_on_and_off(pods.release)
    assert await pods.connect("kubernetes.default.svc", 443) == ""
    assert "Succeeded" in await pods.release.helm("test", NAME)


async def test_nothing_else_goes_out(pods: Pods, cluster: Cluster) -> None:
    """To the right place and the wrong port, and to the right port at another place; others reach both."""
    index, stranger = URL(pods.release.index.url), await pods.address("stranger")
    assert await pods.connect(cluster.address, pods.port) == ""
    assert "timed out" in await pods.connect(cluster.address, index.port or 0)
    assert "certificate" in await pods.fetch("friend", str(index))
    assert "timed out" in await pods.connect(stranger, pods.port)
    assert await pods.fetch("friend", f"http://{stranger}:{pods.port}") == "here\n"


async def test_only_those_who_may_see_the_ui_do(pods: Pods) -> None:
    ui = f"http://{await pods.address(f'{FULLNAME}-0')}:29316{UI}"
    assert "deadline exceeded" in await pods.fetch("stranger", ui)
    assert "login" in await pods.fetch("friend", ui)
