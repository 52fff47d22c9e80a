"""The cluster as fixtures: itself once a session, a namespace for each test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.stack.synapse import Synapse

from .base_image import base_image, own_image
from .cluster import Cluster, Namespace
from .release import PackageIndex, Release


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--keep", action="store_true", help="keep the tests' namespaces")


@pytest.fixture(scope="session")
async def cluster() -> Cluster:
    """The running cluster; without one, all tests fail."""
    return await Cluster.open()


@pytest.fixture
async def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> AsyncIterator[Namespace]:
    """A namespace that enforces Pod Security "restricted"; with --keep it stays."""
    async with cluster.namespace(keep=request.config.getoption("--keep", default=False)) as namespace:
        yield namespace


@pytest.fixture(scope="session")
async def images(cluster: Cluster) -> None:
    """The stand-in for the official maubot image is on the node, by that one's name."""
    await cluster.load(await asyncio.to_thread(base_image))


@pytest.fixture(scope="session")
async def own(cluster: Cluster) -> None:
    """The image of our Dockerfile is on the node."""
    await cluster.load(await asyncio.to_thread(own_image))


@pytest.fixture(scope="session")
async def index(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PackageIndex]:
    """A package index that pods reach."""
    index = await PackageIndex.open(tmp_path_factory.mktemp("index"), cluster.address)
    yield index
    await index.stop()


@pytest.fixture(scope="session")
async def synapse(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Synapse]:
    """A homeserver that pods reach, and people too."""
    synapse = Synapse.prepare(tmp_path_factory.mktemp("synapse"), address=cluster.address)
    await synapse.run()
    yield synapse
    await synapse.stop()


@pytest.fixture
async def release(
    images: None, cluster: Cluster, namespace: Namespace, synapse: Synapse, index: PackageIndex
) -> AsyncIterator[Release]:
    """A release that can be installed: its bot's account, its volume and a workload are there."""
    async with cluster.namespace() as workloads:
        release = Release(namespace, workloads, synapse, index)
        await release.prepare()
        yield release
        await release.close()
