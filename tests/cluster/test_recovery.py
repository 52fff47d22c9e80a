"""It comes back by itself: whatever ends or is away, no command is lost or runs twice, and nobody logs in again."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest

from tests.stack.synapse import Synapse

from .cluster import Cluster
from .recovery import (
    PATIENCE,
    REPLACED,
    RESTARTED,
    Healthy,
    container_id,
    identity,
    is_signed,
    kill,
    kill_processes,
    pod_of,
    runs_of,
    values,
)
from .release import CLAIM, FULLNAME, PackageIndex, Release

pytestmark = pytest.mark.timeout(900)

OUTAGE_SECONDS = 420
"""maubot gives a homeserver up after 360, and disables the client."""
KILLS = 4
"""Of the provisioner's first run; the kubelet waits longer after each."""


@pytest.fixture(scope="module")
async def healthy(
    own: None, cluster: Cluster, synapse: Synapse, index: PackageIndex, request: pytest.FixtureRequest
) -> AsyncIterator[Healthy]:
    """One release for all troubles but those of a first start."""
    keep = request.config.getoption("--keep", default=False)
    async with Release.open(cluster, synapse, index, keep=keep) as release:
        await release.install(values(release))
        yield await Healthy.meet(release)


@pytest.fixture
async def new(
    own: None, cluster: Cluster, synapse: Synapse, index: PackageIndex, request: pytest.FixtureRequest
) -> AsyncIterator[Release]:
    """A release that was not installed yet."""
    keep = request.config.getoption("--keep", default=False)
    async with Release.open(cluster, synapse, index, keep=keep) as release:
        yield release


async def test_maubot_is_killed(healthy: Healthy) -> None:
    """With one command in flight, and one that comes while it is away."""
    async with healthy.trouble(maubot=RESTARTED):
        await healthy.say("start", "is running")
        await kill(healthy.release, "maubot")
        await healthy.say("status", "web")


async def test_the_provisioner_is_killed(healthy: Healthy) -> None:
    async with healthy.trouble(provisioner=RESTARTED):
        await kill(healthy.release, "provisioner")
        await healthy.say("start", "is running")


@pytest.mark.parametrize("component", ["maubot", "provisioner"])
async def test_a_pod_is_deleted(healthy: Healthy, component: str) -> None:
    async with healthy.trouble(**{component: REPLACED}):
        label = f"app.kubernetes.io/component={component}"
        await healthy.release.namespace.kubectl("delete", "pods", "--selector", label, "--wait=false")
        await healthy.say("start", "is running")


@asynccontextmanager
async def away(cluster: Cluster, component: str) -> AsyncIterator[None]:
    """A component of the node is stopped for as long as the context lasts."""
    await cluster.stop(component)
    try:
        yield
    finally:
        await cluster.start(component)


async def test_the_kubelet_is_restarted(healthy: Healthy) -> None:
    """Nobody starts containers while it is away, so that start takes until it is back."""
    async with healthy.trouble(), away(healthy.release.cluster, "kubelet"):
        await healthy.say("start", "is running")
        await healthy.say("status", "web")


async def test_the_api_server_is_restarted(healthy: Healthy) -> None:
    """A roll-out is followed through that; what comes while it is away is told so."""
    async with healthy.trouble():
        start = await healthy.say("start", "is running")
        await healthy.alice.wait_reply(start)
        async with away(healthy.release.cluster, "apiserver"):
            # It refuses connections, or does not answer: where kube-proxy drops the Service meanwhile, nobody refuses.
            status = await healthy.say("status", "The cluster at ")
            await healthy.alice.wait_reply(status)


async def test_tokens_expire(healthy: Healthy) -> None:
    """People are told; both programs take the new tokens as soon as the kubelet has written them."""
    async with healthy.trouble():
        async with healthy.release.cluster.tokens_invalid():
            await told_of_the_token(healthy)
            before = len(reads(healthy.release))
        await healthy.release.namespace.until("the provisioner to read its Secret", read_since(healthy, before), 240)
        await healthy.say("start", "is running")


async def told_of_the_token(healthy: Healthy) -> None:
    """Alice asks until the API server, which has just been started, can be reached again."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    answer = ""
    while "does not know me (HTTP 401)" not in answer:
        assert asyncio.get_running_loop().time() < deadline, answer
        event = await healthy.say("status", "")
        answer = (await healthy.alice.wait_reply(event)).body


async def test_an_admin_disables_the_client(healthy: Healthy) -> None:
    async with healthy.trouble(), healthy.maubot() as maubot:
        await maubot.change_client(healthy.release.bot_id, started=False, enabled=False)
        await healthy.say("start", "is running")


def reads(release: Release) -> list[str]:
    """When the provisioner has been shown its Secret."""
    name = f"system:serviceaccount:{release.namespace.name}:{FULLNAME}-provisioner"
    events = release.cluster.audit(release.namespace.name)
    mine = [event for event in events if event["user"]["username"] == name and event["verb"] == "get"]
    return [event["stageTimestamp"] for event in mine if event["responseStatus"]["code"] == 200]


def read_since(healthy: Healthy, before: int) -> Callable[[], Awaitable[bool]]:
    async def read() -> bool:
        return len(reads(healthy.release)) > before

    return read


async def test_maubot_starts_while_the_homeserver_is_down_for_seven_minutes(healthy: Healthy) -> None:
    """maubot gives up and disables the client for good; whoever is there waits, and nothing starts again."""
    async with healthy.trouble(maubot=REPLACED):
        await healthy.release.synapse.stop()
        try:
            until = asyncio.get_running_loop().time() + OUTAGE_SECONDS
            await healthy.release.namespace.kubectl("delete", "pod", f"{FULLNAME}-0")
            await healthy.release.namespace.until("maubot to give up", gave_up(healthy), OUTAGE_SECONDS)
            await asyncio.sleep(until - asyncio.get_running_loop().time())
            assert await pod_of(healthy.release, "maubot")
        finally:
            await healthy.release.synapse.run()
        await healthy.say("start", "is running")


def gave_up(healthy: Healthy) -> Callable[[], Awaitable[bool]]:
    async def disabled() -> bool:
        try:
            async with healthy.maubot() as maubot:
                return not (await maubot.client(healthy.release.bot_id))["enabled"]
        except aiohttp.ClientError:  # it listens only when it has given up
            return False

    return disabled


def wipe_keys(release: Release) -> None:
    """Empty every table of keys, sessions and devices; maubot must not run."""
    path = release.namespace.volume_directory(CLAIM) / "maubot.db"
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        tables = [name for name in names if name.startswith("crypto_") and "version" not in name]
        assert "crypto_account" in tables, names
        for table in tables:
            database.execute(f"DELETE FROM {table}")  # noqa: S608 - mautrix' own names


async def scale_maubot(release: Release, replicas: int) -> None:
    await release.namespace.kubectl("scale", f"statefulset/{FULLNAME}", f"--replicas={replicas}")
    if replicas == 0:
        await release.namespace.condition(f"pod/{FULLNAME}-0", "delete", PATIENCE)


async def test_the_keys_are_wiped(healthy: Healthy) -> None:
    """Others go on encrypting for the old keys, so only a new device can be spoken to; the identity signs it."""
    await healthy.off()
    release, before, runs = healthy.release, await identity(healthy.release), await runs_of(healthy.release)
    await scale_maubot(release, 0)
    wipe_keys(release)
    healthy.alice.keep_keys()  # as clients do towards a device that never had them
    await healthy.say("status", "I cannot read your message")
    await scale_maubot(release, 1)
    await release.namespace.until("another device", another_device(release, before.device), PATIENCE)
    await healthy.settled(runs, {"maubot": REPLACED})
    after = await identity(release)
    assert after.devices == (after.device,), "the old one is logged out"
    assert after.recovery_key == before.recovery_key
    assert await is_signed(release)
    generation = await healthy.generation()
    await healthy.say("start", "is running")
    await healthy.answered()
    await healthy.says_stop()
    assert await healthy.generation() == generation + 2


def another_device(release: Release, device: str) -> Callable[[], Awaitable[bool]]:
    async def other() -> bool:
        return (await release.secret())["device-id"] != device

    return other


async def test_the_provisioner_is_killed_at_any_moments_of_its_first_run(new: Release) -> None:
    """Every single one of its steps is killed in tests/integration/provisioner; here it is really a container.

    maubot tells the recovery key once: it is lost with a provisioner that is killed while it is told, which it says.
    """
    chance = random.Random(new.namespace.name)  # noqa: S311 - guards nothing
    await new.install(values(new), wait=False)
    for _ in range(KILLS):
        await killed_at_some_moment(new, chance)
    await new.ready()
    who = await identity(new)
    assert who.devices == (who.device,)
    assert await is_signed(new)
    log = await new.namespace.logs(f"deployment/{FULLNAME}-provisioner")
    assert bool(who.recovery_key) != ("its recovery key is not known here" in log), log
    healthy = await Healthy.meet(new)
    runs = await runs_of(healthy.release)
    assert (runs["maubot"].restarts, runs["provisioner"].restarts) == (0, KILLS)
    async with healthy.trouble():
        await healthy.say("start", "is running")


async def killed_at_some_moment(release: Release, chance: random.Random) -> None:
    container = ""

    async def running() -> bool:
        nonlocal container
        container = container_id(await pod_of(release, "provisioner"))
        return bool(container)

    await release.namespace.until("the provisioner's container to run", running, PATIENCE)
    await asyncio.sleep(chance.uniform(0, 4))
    assert kill_processes(release.cluster, container), await release.describe()
    ended = f"{container} to have ended"

    async def gone() -> bool:
        return container_id(await pod_of(release, "provisioner")) != container

    await release.namespace.until(ended, gone)
