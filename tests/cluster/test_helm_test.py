"""`helm test`: passes when the release is ready; else it fails and says what is missing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.stack.synapse import Synapse

from .cluster import Cluster
from .node.command import CommandFailed
from .release import FULLNAME, NAME, PackageIndex, Release

pytestmark = pytest.mark.timeout(600)

POD = f"{FULLNAME}-test"


@pytest.fixture(scope="module")
async def ready(own: None, cluster: Cluster, synapse: Synapse, index: PackageIndex) -> AsyncIterator[Release]:
    """A release that is ready."""
    async with Release.open(cluster, synapse, index) as release:
        await release.install(release.own_values())
        await release.ready()
        yield release


async def passes(release: Release) -> list[str]:
    """What it says when it passes."""
    printed = await release.helm("test", NAME, "--logs")
    return [line for line in printed.splitlines() if line.startswith("check: ")]


async def fails(release: Release) -> list[str]:
    """What it says when it fails, as it has to."""
    with pytest.raises(CommandFailed, match=POD):
        await release.helm("test", NAME)
    return (await release.namespace.logs(f"pod/{POD}")).splitlines()


@asynccontextmanager
async def role_without(release: Release, *taken: str) -> AsyncIterator[None]:
    """The Role of the targets without some verbs, for as long as the context lasts; without any, when none is named."""
    role = await release.workloads.get("role", FULLNAME)
    kept = {key: role[key] for key in ("apiVersion", "kind", "rules")} | {"metadata": {"name": FULLNAME}}
    rules = [{**rule, "verbs": [verb for verb in rule["verbs"] if verb not in taken]} for rule in role["rules"]]
    patch = [{"op": "replace", "path": "/rules", "value": [rule for rule in rules if rule["verbs"]] if taken else []}]
    await release.workloads.kubectl("patch", "role", FULLNAME, "--type=json", f"--patch={json.dumps(patch)}")
    try:
        yield
    finally:
        await release.workloads.apply(kept)


def not_allowed(release: Release, *rights: str) -> list[str]:
    return [f"check: not allowed: {right} in namespace {release.workloads.name}" for right in rights]


async def test_it_passes_when_everything_is_in_place(ready: Release) -> None:
    assert await passes(ready) == ["check: all 5 rights are there; the bot is ready"]
    assert await passes(ready) == ["check: all 5 rights are there; the bot is ready"]


@pytest.mark.parametrize(
    ("verb", "right"),
    [("patch", "patch deployments/scale web"), ("watch", "watch deployments web")],
)
async def test_it_fails_when_a_right_is_taken_away_and_names_it(ready: Release, verb: str, right: str) -> None:
    async with role_without(ready, verb):
        assert await fails(ready) == not_allowed(ready, right)
    assert await passes(ready)


async def test_it_names_every_right_when_none_is_left(ready: Release) -> None:
    workload = ("patch deployments/scale web", "get deployments web", "watch deployments web")
    async with role_without(ready):
        assert await fails(ready) == not_allowed(ready, *workload, "list pods", "list events")


async def test_it_fails_when_the_bot_is_not_ready_and_says_why(ready: Release, synapse: Synapse) -> None:
    await synapse.stop()
    try:
        [line] = await fails(ready)
    finally:
        await synapse.run()
    assert "the bot is not ready: HTTP 503" in line
    assert "sync: " in line
    assert await passes(ready)  # the bot comes back by itself, and the test waits for it
