"""Another database, and a backup that is put back, as docs/operations.md has them: a new device, the same identity."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from tests.integration.provisioner.outcome import account, assert_answers
from tests.integration.provisioner.release import Release
from tests.stack.cluster import SimulatedCluster
from tests.stack.maubot import Maubot
from tests.stack.postgres import Postgres
from tests.stack.stack import Servers


@pytest.fixture
async def release(servers: Servers, tmp_path: Path) -> AsyncIterator[Release]:
    """A release whose maubot the test brings along."""
    async with SimulatedCluster() as cluster, servers.maubot.api() as api:
        cluster.add_deployment("demo", "web")
        bot = await account(servers, "bot")
        async with Release.open(tmp_path, cluster, servers.maubot, api, bot) as release:
            yield release


@asynccontextmanager
async def running(release: Release, database: str = "sqlite:maubot.db") -> AsyncIterator[Maubot]:
    """The release's own maubot, on the directory that it had before."""
    directory, password = release.directory / "maubot", release.secret["admin-password"]
    maubot = Maubot.prepare(directory, release.synapse, database=database, password=password)
    try:
        await maubot.run()
        async with maubot.api() as release.api:
            release.maubot, release.config["maubot"] = maubot, maubot.url
            yield maubot
    finally:
        await maubot.stop()


async def test_from_sqlite_to_postgresql(release: Release, servers: Servers, tmp_path: Path) -> None:
    """The claim stays, so the plugin's file is there; the tables are new."""
    async with running(release):
        await assert_answers(release, servers)
    first, postgres = release.secret, await Postgres.open(tmp_path / "postgres")
    try:
        async with running(release, await postgres.create("maubot")):
            await assert_answers(release, servers)
    finally:
        await postgres.stop()
    assert release.told("the bot gets a new device")
    assert_same_identity(release, first)


async def test_a_backup_that_is_put_back(release: Release, servers: Servers) -> None:
    """Copied while maubot runs. What the device has said since is not in it, so it must not go on as that device."""
    async with running(release) as maubot:
        await assert_answers(release, servers)
        files = [maubot.directory / "maubot.db", maubot.directory / "plugins" / f"{release.name}.db"]
        for file in files:
            copy(file)
        await assert_answers(release, servers)
    first = release.secret
    await release.synapse.request("POST", "/_matrix/client/v3/logout", {}, token=first["access-token"])
    for file in files:
        put_back(file)
    release.change_secret(device_id=None, access_token=None)
    release.config["instance"]["manage"] = "reconcile"  # the settings went back too
    async with running(release):
        await assert_answers(release, servers)
    assert_same_identity(release, first)


def assert_same_identity(release: Release, before: dict[str, str]) -> None:
    assert release.secret["recovery-key"] == before["recovery-key"]
    assert release.secret["device-id"] != before["device-id"]


def copy(file: Path) -> None:
    with closing(sqlite3.connect(file)) as one, closing(sqlite3.connect(file.with_suffix(".copy"))) as other:
        one.backup(other)


def put_back(file: Path) -> None:
    """The copy takes the place of the database and of its journals."""
    for left in file.parent.glob(f"{file.name}*"):
        left.unlink()
    file.with_suffix(".copy").rename(file)
