"""What several unit tests share: the plugin's own database, and a cluster with the connection to it."""

from __future__ import annotations

import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from mautrix.util.async_db import Database

from tests.stack.cluster import SimulatedCluster
from toggle_plugin import api_transport, api_watch, follow
from toggle_plugin import progress as progress_module
from toggle_plugin.migrations import upgrade_table
from toggle_plugin.store import Store
from toggle_plugin.workloads import KubernetesWorkloads

from .builders import tasks_of_the_plugin
from .homeserver import Homeserver
from .room import Room

# A noisy machine is no finding, so nothing is judged by how long it took.
settings.register_profile("toggle", deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
settings.load_profile("toggle")


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Database]:
    """The plugin's database as maubot opens it."""
    database = Database.create(f"sqlite:{path}", upgrade_table=upgrade_table)
    await database.start()
    try:
        yield database
    finally:
        await database.stop()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with opened(tmp_path / "plugin.db") as database:
        yield database


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database)


@pytest.fixture
async def cluster() -> AsyncIterator[SimulatedCluster]:
    """A cluster with the Deployment games/web and the StatefulSet games/db, both off."""
    async with SimulatedCluster() as cluster:
        cluster.add_deployment("games", "web")
        cluster.add_statefulset("games", "db")
        yield cluster
    gc.collect()


@pytest.fixture
async def workloads(cluster: SimulatedCluster) -> AsyncIterator[KubernetesWorkloads]:
    connected = await KubernetesWorkloads.connect(str(cluster.kubeconfig), log=logging.getLogger("test.workloads"))
    yield connected
    await connected.close()


@pytest.fixture
async def homeserver() -> AsyncIterator[Homeserver]:
    async with Homeserver() as homeserver:
        yield homeserver


@pytest.fixture
async def room(
    workloads: KubernetesWorkloads,
    store: Store,
    database: Database,
    homeserver: Homeserver,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Room]:
    """A room with alice, bob and a viewer, and the targets `web` and `db`, which is bob's."""
    monkeypatch.setattr(progress_module, "PACE", 0.02)
    monkeypatch.setattr(progress_module, "REACT_AFTER", 3600.0)
    made = Room(workloads, store, database, homeserver)
    yield made
    await made.close()
    left = tasks_of_the_plugin()
    await made.client.api.session.close()
    assert not left


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is waited for is waited for in hundredths of a second."""
    monkeypatch.setattr(follow, "LOOK_EVERY", 0.1)
    monkeypatch.setattr(follow, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(follow, "SETTLE", 0.1)
    monkeypatch.setattr(follow, "SETTLE_AFTER_STUCK", 0.1)
    monkeypatch.setattr(follow, "PATIENCE", 0.5)
    monkeypatch.setattr(api_transport, "BACKOFF", 0.01)
    monkeypatch.setattr(api_watch, "SHORTEST_PAUSE", 0.02)
    monkeypatch.setattr(api_watch, "LONGEST_PAUSE", 0.1)
