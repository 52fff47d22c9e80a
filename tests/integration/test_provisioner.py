"""The chart's provisioner on a real Synapse and a real maubot: from nothing to a bot, killed anywhere, never twice."""

from __future__ import annotations

import asyncio
import json
import secrets
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.conversation import told
from tests.integration.provisioning import NAMESPACE, Release
from tests.stack.chat import Account, ChatClient
from tests.stack.cluster import SimulatedCluster
from tests.stack.maubot import Maubot, MaubotAPI
from tests.stack.stack import PLUGIN, Servers, plugin_file

GENERATE = "generate_recovery_key"


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


async def account(servers: Servers, name: str) -> Account:
    local, password = f"{name}-{secrets.token_hex(3)}", secrets.token_urlsafe(12)
    return Account(servers.synapse, local, password, await servers.synapse.register(local, password))


@pytest.fixture
async def release(
    servers: Servers, maubot: Maubot, api: MaubotAPI, cluster: SimulatedCluster, tmp_path: Path
) -> AsyncIterator[Release]:
    """A release whose bot has an account, and nothing else."""
    async with Release.open(tmp_path, cluster, maubot, api, await account(servers, "bot")) as release:
        yield release


def plugin_of(path: Path, version: str) -> str:
    """The built plugin, as if it had another version."""
    with zipfile.ZipFile(plugin_file()) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "maubot.yaml":
                content = b"".join(
                    f"version: {version}\n".encode() if line.startswith(b"version:") else line
                    for line in content.splitlines(keepends=True)
                )
            new.writestr(name, content)
    return str(path)


async def version_at(release: Release) -> str:
    return str((await release.api.call("GET", f"/plugin/{PLUGIN}"))["version"])


async def assert_whole(release: Release, *, recovery_key: bool = True) -> None:
    """One device, signed; a recovery key that verifies; one client and one instance, running."""
    secret = release.secret
    assert await release.devices() == [secret["device-id"]]
    assert await release.signed()
    client = await release.api.client(release.bot.user_id)
    assert (client["enabled"], client["started"], client["sync"], client["autojoin"]) == (True, True, False, False)
    assert (client["device_id"], client["access_token"]) == (secret["device-id"], secret["access-token"])
    assert [instance["id"] for instance in client["instances"]] == [release.name]
    assert (await release.api.instance(release.name))["started"]
    if recovery_key:
        await release.api.verify(release.bot.user_id, secret["recovery-key"])


async def test_from_nothing_to_a_bot_that_answers(
    release: Release, servers: Servers, cluster: SimulatedCluster
) -> None:
    alice_account = await account(servers, "alice")
    target = {"kind": "Deployment", "namespace": "demo", "name": "web", "replicas": 1}
    cluster.authorization.reset()
    release.config["instance"]["settings"] = {
        "allowed_users": [alice_account.user_id],
        "targets": {"web": target},
        "kubeconfig": str(cluster.kubeconfig),
    }
    await release.run_until_ready()
    await assert_whole(release)
    alice = await ChatClient.log_in(alice_account)
    try:
        room = await alice.create_room(invite=[release.bot.user_id])
        await alice.wait_membership(room, release.bot.user_id)
        await told(alice, room, "start", "is running")
    finally:
        await alice.close()
    assert cluster.replicas("Deployment", "demo", "web") == 1
    log = release.log.read_text()
    assert all(value not in log for key, value in release.secret.items() if key not in ("state", "device-id"))
    assert release.bot.password not in log


async def test_a_second_run_writes_nothing(release: Release) -> None:
    await release.run_until_ready()
    made = release.gate.writes.copy()
    assert made, "the gate sees writes"
    version = release.secret
    release.gate.asked.clear()
    await release.run_until_ready()
    assert release.gate.writes == made
    assert release.secret == version
    assert not any(name.endswith("/login") and "auth" not in name for name in release.gate.asked)


@pytest.mark.parametrize("spared", ["", GENERATE])
async def test_killed_after_every_single_write(release: Release, spared: str) -> None:
    """Each run does one write (and, where it is spared, the one after that) and does not live to hear of it."""
    release.gate.kill_after = lambda write: not (spared and write.endswith(spared))
    runs = 0
    while True:
        before = len(release.gate.writes)
        await release.start()
        await release.until(lambda: release.ready.exists() or not release.process.running, "an end")
        if release.process.running:
            break
        assert len(release.gate.writes) > before
        runs += 1
        assert runs < 40, release.gate.writes
    await release.kill()
    assert runs >= 10
    assert sum(write.endswith("/instance/" + release.name) for write in release.gate.writes) <= 4
    await assert_whole(release, recovery_key=bool(spared))
    if not spared:  # maubot told it once, to somebody who was dead
        assert "recovery-key" not in release.secret
        assert any("its recovery key is not known here" in line for line in release.lines())
