"""PostgreSQL as the tests start it: for this machine only, not as root, and gone with whoever started it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import asyncpg
import pytest

from tests.integration.test_stack import ended, is_running, listening_addresses
from tests.stack.postgres import Postgres
from tests.stack.stack import Servers, Stack

OWNER = """
import asyncio, pathlib, sys
from tests.stack.postgres import Postgres
async def main():
    server = await Postgres.open(pathlib.Path(sys.argv[1]))
    print(server.process.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


async def test_it_listens_on_loopback_only_and_is_not_root(tmp_path: Path) -> None:
    server = await Postgres.open(tmp_path / "postgres")
    try:
        assert listening_addresses(server.process.pid) == {"127.0.0.1"}
        uid = owner_of(server.process.pid)
        assert uid != 0
        assert os.geteuid() in (0, uid)
    finally:
        await server.stop()
    assert not server.process.running


async def test_with_a_password_nobody_gets_in_without_it(tmp_path: Path) -> None:
    server = await Postgres.open(tmp_path / "postgres", password="the-right-one")
    try:
        url = await server.create("one")
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(url.replace("the-right-one", "another"))
        await server.stop()
        await server.start_again()
        await (await asyncpg.connect(url)).close()
    finally:
        await server.stop()
    assert not (tmp_path / "postgres" / "password").exists()


async def test_databases_are_apart(tmp_path: Path) -> None:
    server = await Postgres.open(tmp_path / "postgres")
    try:
        one, other = await server.create("one"), await server.create("other")
        connection = await asyncpg.connect(one)
        await connection.execute("CREATE TABLE here (n INT)")
        await connection.close()
        connection = await asyncpg.connect(other)
        with pytest.raises(asyncpg.UndefinedTableError):
            await connection.execute("SELECT * FROM here")
        await connection.close()
    finally:
        await server.stop()


async def test_it_ends_when_its_owner_is_killed(tmp_path: Path) -> None:
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER, str(tmp_path / "postgres")), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert owner.stdout is not None
        server = int(await owner.stdout.readline())
        workers = children(server)
        assert is_running(server)
        assert workers
    finally:
        owner.kill()
        await owner.wait()
    await asyncio.wait_for(asyncio.gather(*(ended(pid) for pid in (server, *workers))), 30)


async def test_everything_of_maubots_is_in_it(postgres_servers: Servers) -> None:
    """maubot's own tables and keys, and the instance's tables in a schema of their own; no SQLite file is left."""
    async with postgres_servers.stack(sync=False) as stack:
        await stack.wait_ready()
        assert await tables(stack, "crypto_account", "command") == {"crypto_account", "command"}
    assert not list(postgres_servers.maubot.directory.rglob("*.db"))


async def tables(stack: Stack, *names: str) -> set[str]:
    rows = await stack.rows(f"SELECT tablename FROM pg_tables WHERE tablename IN {names}")  # noqa: S608 - our own
    return {row["tablename"] for row in rows}


def owner_of(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
