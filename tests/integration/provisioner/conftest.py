"""Releases for the provisioner, each with a bot of its own, on one maubot."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.stack.cluster import SimulatedCluster
from tests.stack.maubot import Maubot, MaubotAPI
from tests.stack.stack import Servers

from .outcome import account
from .release import Release


@pytest.fixture(scope="module")
async def maubot(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Maubot]:
    """A maubot without anything in it."""
    maubot = Maubot.prepare(tmp_path_factory.mktemp("provisioned"), servers.synapse)
    try:
        await maubot.run()
        yield maubot
    finally:
        await maubot.stop(3)


@pytest.fixture(scope="module")
async def api(maubot: Maubot) -> AsyncIterator[MaubotAPI]:
    async with maubot.api() as api:
        yield api


@pytest.fixture
async def cluster() -> AsyncIterator[SimulatedCluster]:
    async with SimulatedCluster() as cluster:
        cluster.add_deployment("demo", "web")
        yield cluster


@pytest.fixture
async def release(
    servers: Servers, maubot: Maubot, api: MaubotAPI, cluster: SimulatedCluster, tmp_path: Path
) -> AsyncIterator[Release]:
    """A release whose bot has an account, and nothing else."""
    async with Release.open(tmp_path, cluster, maubot, api, await account(servers, "bot")) as release:
        yield release
        await release.kill()
        await release.delete()
