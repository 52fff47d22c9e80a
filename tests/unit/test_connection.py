"""One connection for all: made once, tried anew, not after the end; and what /readyz hears of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.stack.cluster import SimulatedCluster
from toggle_plugin.connection import Connection
from toggle_plugin.errors import NotConfigured

LOG = logging.getLogger("test.connection")


class Setting:
    """The kubeconfig that holds now."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self) -> str:
        return str(self.path)


@pytest.fixture
async def cluster() -> AsyncIterator[SimulatedCluster]:
    async with SimulatedCluster() as cluster:
        yield cluster


@pytest.fixture
def setting(cluster: SimulatedCluster) -> Setting:
    return Setting(cluster.kubeconfig)


@pytest.fixture
async def connection(setting: Setting) -> AsyncIterator[Connection]:
    connection = Connection(setting, LOG)
    yield connection
    await connection.close()


async def test_all_who_ask_get_the_same_one(connection: Connection) -> None:
    found = await asyncio.gather(*(connection.workloads() for _ in range(5)))
    assert len(set(map(id, found))) == 1
    assert await connection.workloads() is found[0]


async def test_another_kubeconfig_is_another_connection(
    connection: Connection, setting: Setting, cluster: SimulatedCluster, tmp_path: Path
) -> None:
    before = await connection.workloads()
    setting.path = cluster.write_kubeconfig(tmp_path / "other")
    after = await connection.workloads()
    assert after is not before
    assert await before.version()  # what is being followed goes on with it


async def test_a_missing_kubeconfig_is_looked_for_each_time(
    connection: Connection, setting: Setting, cluster: SimulatedCluster, tmp_path: Path
) -> None:
    setting.path = tmp_path / "later"
    with pytest.raises(NotConfigured):
        await connection.workloads()
    assert await connection.trouble() == "NotConfigured"
    cluster.write_kubeconfig(tmp_path / "later")
    await connection.workloads()
    assert await connection.trouble() == ""


async def test_readiness_asks_the_cluster_once_for_many_probes(
    connection: Connection, cluster: SimulatedCluster
) -> None:
    await connection.workloads()
    cluster.requests.clear()
    assert [await connection.trouble() for _ in range(10)] == [""] * 10
    assert len(cluster.requests) == 1


async def test_after_the_end_there_is_no_other(connection: Connection) -> None:
    await connection.workloads()
    await connection.close()
    with pytest.raises(NotConfigured, match="I am being restarted"):
        await connection.workloads()
    assert await connection.trouble() in ("", "NotConfigured")
