"""The cluster as fixtures: itself once a session, a namespace for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from .cluster import Cluster, Namespace


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
