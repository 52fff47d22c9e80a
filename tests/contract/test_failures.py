"""Why a workload is stuck: the conditions, pods and events of either server come to the same sentence."""

from __future__ import annotations

import asyncio
import logging
import re

import pytest

from toggle_plugin.follow import Diagnosis
from toggle_plugin.models import Phase, WorkloadRef
from toggle_plugin.workloads import KubernetesWorkloads

from .failures import FAILURES, Failure
from .server import Server

LOG = logging.getLogger("test.contract")
SECONDS = 90.0


async def until_told(cluster: KubernetesWorkloads, target: WorkloadRef, failure: Failure) -> None:
    """Ask how it stands, and why, until that is the failure's sentence."""
    diagnosis = Diagnosis(cluster, LOG)
    said: list[str] = []
    deadline = asyncio.get_running_loop().time() + SECONDS
    while asyncio.get_running_loop().time() < deadline:
        status = await diagnosis.of(await cluster.get(target))
        assert status.phase is not Phase.RUNNING
        if status.reason not in said:
            said.append(status.reason)
        if status.phase is Phase.STUCK and re.match(failure.words, status.reason):
            return
        await asyncio.sleep(0.2)
    raise AssertionError(f"it was never told: {said}")


@pytest.mark.parametrize("name", FAILURES)
async def test_it_is_told_in_the_same_words(server: Server, cluster: KubernetesWorkloads, name: str) -> None:
    target = WorkloadRef("Deployment", server.namespace, await server.failing(FAILURES[name]))
    await cluster.scale(target, 1)
    await until_told(cluster, target, FAILURES[name])
    await cluster.scale(target, 0)
