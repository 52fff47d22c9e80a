"""The count that `restore` brings back is the last one that was seen, whoever set it."""

from __future__ import annotations

import asyncio
import logging
import sqlite3

import pytest
from mautrix.util.async_db import Database

from tests.stack.cluster import SimulatedCluster
from toggle_plugin.models import Result, Verb, WorkloadRef
from toggle_plugin.restore import LastCounts
from toggle_plugin.store import Store
from toggle_plugin.toggle import ToggleService
from toggle_plugin.workloads import KubernetesWorkloads

from .builders import ALICE, WEB, reached, target, workload

LOG = logging.getLogger("test.restore")
RESTORED = target(replicas=None)
TIMEOUT = 30.0

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def service(workloads: KubernetesWorkloads, store: Store) -> ToggleService:
    async def connect() -> KubernetesWorkloads:
        return workloads

    return ToggleService(connect, store, lambda: TIMEOUT, LOG)


async def start(service: ToggleService) -> None:
    outcome = await asyncio.wait_for(service.toggle(Verb.START, RESTORED, ALICE, lambda _: None), 2 * TIMEOUT)
    assert (outcome.result, outcome.note) == (Result.DONE, "")


async def test_a_count_that_status_saw_is_brought_back(
    service: ToggleService, store: Store, cluster: SimulatedCluster
) -> None:
    cluster.scale("games", "web", 3)
    await service.status(RESTORED)
    cluster.scale("games", "web", 0)
    await service.status(RESTORED)
    assert await store.recall(WEB) == 3
    await start(service)
    assert cluster.replicas("Deployment", "games", "web") == 3


async def test_what_somebody_else_set_while_it_was_followed_is_brought_back(
    service: ToggleService, store: Store, cluster: SimulatedCluster
) -> None:
    cluster.behave("games", "web", step=0.3)
    await store.remember(WEB, 2)
    following = asyncio.ensure_future(service.toggle(Verb.START, RESTORED, ALICE, lambda _: None))
    await reached(lambda: cluster.open_watches == 1)
    cluster.scale("games", "web", 4)
    assert (await asyncio.wait_for(following, TIMEOUT)).result is Result.CHANGED
    cluster.scale("games", "web", 0)
    await start(service)
    assert cluster.replicas("Deployment", "games", "web") == 4


async def test_of_a_target_with_a_count_of_its_own_only_a_stop_is_noted(
    service: ToggleService, store: Store, cluster: SimulatedCluster
) -> None:
    cluster.scale("games", "web", 3)
    await service.status(target(replicas=1))
    assert await store.recall(WEB) is None
    await asyncio.wait_for(service.toggle(Verb.STOP, target(replicas=1), ALICE, lambda _: None), TIMEOUT)
    assert await store.recall(WEB) == 3


async def test_what_does_not_differ_is_not_written_again(store: Store, database: Database) -> None:
    counts = LastCounts(store, LOG)
    await counts.see(workload(desired=3))
    await database.execute("DELETE FROM replica_count")
    await counts.see(workload(desired=3))
    await counts.see(workload(desired=0))
    assert await store.recall(WEB) is None
    await counts.see(workload(desired=4))
    assert (await store.recall(WEB), await counts.recall(WEB)) == (4, 4)


async def test_a_count_from_before_a_restart_is_known(store: Store) -> None:
    await store.remember(WEB, 5)
    assert await LastCounts(store, LOG).recall(WEB) == 5


async def test_a_database_that_fails_keeps_nobody_from_looking(
    service: ToggleService, cluster: SimulatedCluster, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.scale("games", "web", 3)
    await database.execute("DROP TABLE replica_count")
    assert (await service.status(RESTORED)).desired == 3
    assert "remembered=no" in caplog.text
    with pytest.raises(sqlite3.OperationalError):
        await service.toggle(Verb.STOP, RESTORED, ALICE, lambda _: None)
    assert cluster.replicas("Deployment", "games", "web") == 3, "what cannot be remembered is not stopped"


async def test_the_kind_is_part_of_what_is_remembered(store: Store) -> None:
    rollout = WorkloadRef("Deployment", WEB.namespace, WEB.name, "example.org/v1")
    await store.remember(WEB, 2)
    await store.remember(rollout, 7)
    assert (await store.recall(WEB), await store.recall(rollout)) == (2, 7)
