"""One fixture: each test runs against the simulated cluster, and against a real one where there is one."""

from __future__ import annotations

import gc
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from toggle_plugin.workloads import KubernetesWorkloads

from . import real
from .real import RealServer
from .server import Server
from .simulated import SimulatedServer

SERVERS = ("simulated", "real") if real.is_there() else ("simulated",)


@pytest.fixture(scope="session", params=SERVERS)
async def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """An API server with an empty namespace."""
    if request.param == "real":
        async with RealServer.open(tmp_path_factory.mktemp("real")) as server:
            yield server
    else:
        async with SimulatedServer.open() as simulated:
            yield simulated
        gc.collect()


@pytest.fixture(scope="session")
async def running(server: Server) -> str:
    """The name of a Deployment with one pod that is ready; for tests that change nothing."""
    return await server.workload(replicas=1)


@pytest.fixture
async def cluster(server: Server, tmp_path: Path) -> AsyncIterator[KubernetesWorkloads]:
    """The plugin's connection, with all rights in the namespace."""
    connected = await KubernetesWorkloads.connect(
        str(server.kubeconfig(tmp_path)), log=logging.getLogger("test.contract")
    )
    yield connected
    await connected.close()
