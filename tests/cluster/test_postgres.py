"""PostgreSQL for everything instead of SQLite on the claim; one that comes later than the pods is waited for."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.stack.postgres import Postgres

from .cluster import Cluster
from .node.command import CommandFailed
from .release import CLAIM, FULLNAME, Release
from .test_install import turned_on_and_off

pytestmark = pytest.mark.timeout(900)

LATER = 60.0
"""Seconds that the database comes after it was first asked for."""
POD = f"{FULLNAME}-0"


@pytest.fixture
async def postgres(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Postgres]:
    """A server that pods reach, and that asks them for a password."""
    server = await Postgres.open(tmp_path / "postgres", address=cluster.address, password=secrets.token_urlsafe(12))
    yield server
    await server.stop()


async def tables(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    try:
        return {row["tablename"] for row in await connection.fetch("SELECT tablename FROM pg_tables")}
    finally:
        await connection.close()


async def assert_everything_is_there(release: Release, url: str) -> None:
    """maubot's own tables, the keys and the plugin's; no SQLite file, and nothing of the password in the log."""
    assert {"client", "crypto_account", "command"} <= await tables(url)
    if not release.cluster.is_other:
        assert list(release.namespace.volume_directory(CLAIM).rglob("*.db")) == []
    assert str(urlsplit(url).password) not in await release.namespace.logs(POD)


async def test_by_its_url(release: Release, own: None, postgres: Postgres) -> None:
    values, url = release.own_values(), await postgres.create("maubot")
    values["maubot"]["database"] = {"url": url}
    await release.install(values)
    await turned_on_and_off(release)
    await assert_everything_is_there(release, url)


async def waiting(release: Release) -> bool:
    try:
        return "waiting for PostgreSQL" in await release.namespace.logs(POD)
    except CommandFailed:  # there is no container yet
        return False


async def test_by_an_existing_secret_and_a_minute_late(release: Release, own: None, postgres: Postgres) -> None:
    values, url = release.own_values(), await postgres.create("maubot")
    await postgres.stop()
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "the-database"}, "stringData": {"uri": url}}
    await release.namespace.apply(secret)
    values["maubot"]["database"] = {"existingSecret": "the-database", "existingSecretKey": "uri"}
    values["networkPolicy"] = {"database": {"port": urlsplit(url).port}}

    await release.install(values, wait=False)
    await release.namespace.until("maubot to wait for its database", lambda: waiting(release), 120)
    await asyncio.sleep(LATER)
    await postgres.start_again()
    await release.ready()
    [pod] = await release.namespace.pods("app.kubernetes.io/component=maubot")
    assert [container["restartCount"] for container in pod["status"]["containerStatuses"]] == [0]
    await turned_on_and_off(release)
    await assert_everything_is_there(release, url)
