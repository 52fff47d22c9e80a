"""maubot as the chart's container starts it: with its secrets from the environment, and after its database is there."""

from __future__ import annotations

import asyncio
import stat
import time
from pathlib import Path

import aiohttp
import pytest

from tests.stack.container import PASSWORD, SECRETS, SETTLE_SECONDS, Container
from tests.stack.maubot import ADMIN, API, FEATURES
from tests.stack.postgres import Postgres
from tests.stack.processes import LOOPBACK, free_port

SECRET_WORDS = (PASSWORD, SECRETS["MAUBOT_UNSHARED_SECRET"], "hunter2")


@pytest.fixture
def container(tmp_path: Path) -> Container:
    return Container(tmp_path, {})


def process_file(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_bytes().replace(b"\0", b" ").decode(errors="replace")


async def test_the_admin_can_log_in_and_the_folders_are_made(container: Container) -> None:
    async with container.running():
        async with container.api() as api:
            assert await api.call("GET", "/plugins") == []
        made = {path.name for path in container.data.iterdir() if path.is_dir()}
    assert made == {"plugins", "trash", "dbs"}
    assert (container.data / "maubot.db").is_file()


async def test_only_its_user_can_read_the_secrets(container: Container) -> None:
    async with container.running() as process:
        mode = stat.S_IMODE(container.target.stat().st_mode)
        shown = process_file(process.pid, "cmdline") + process_file(process.pid, "environ") + container.log.read_text()
    assert mode == 0o600
    assert [word for word in SECRET_WORDS if word in shown] == []
    assert "maubot" in shown


async def test_sigterm_ends_it(container: Container) -> None:
    async with container.running() as process:
        await asyncio.sleep(SETTLE_SECONDS)
        begun = time.monotonic()
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 5) == 0
    assert time.monotonic() - begun < 5


async def test_who_is_logged_in_stays_so_over_a_restart(container: Container) -> None:
    async with container.running(), container.api() as api:
        token = (await api.call("POST", "/auth/login", {"username": ADMIN, "password": PASSWORD}))["token"]
    async with container.running(), aiohttp.ClientSession(container.url) as session:
        headers = {"Authorization": f"Bearer {token}"}
        async with session.get(f"{API}/plugins", headers=headers) as answer, session.get(f"{API}/plugins") as refused:
            assert (answer.status, refused.status) == (200, 401)


async def test_a_missing_secret_is_one_sentence(tmp_path: Path) -> None:
    container = Container(tmp_path, {"MAUBOT_UNSHARED_SECRET": ""})
    process = await container.start()
    assert await asyncio.wait_for(process.wait(), 20) == 1
    assert container.lines() == ["start: MAUBOT_UNSHARED_SECRET must be set in the container's environment."]


# PostgreSQL


async def logged(container: Container, text: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not (container.log.exists() and any(text in line for line in container.lines())):
        assert time.monotonic() < deadline, container.lines()
        await asyncio.sleep(0.05)


async def test_a_database_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    """Nothing listens, then something that is no PostgreSQL yet, then the database."""
    postgres = await Postgres.open(tmp_path / "postgres")
    url = await postgres.create("maubot")
    await postgres.stop()
    container = Container(tmp_path, {"MAUBOT_DATABASE": url.replace("maubot@", "maubot:hunter2@")})
    process = await container.start()
    try:
        await logged(container, "start: waiting for PostgreSQL at 127.0.0.1:")
        await asyncio.sleep(10)
        assert process.running
        await postgres.start_again()
        await process.wait_until_ready(container.url + FEATURES)
        async with container.api() as api:
            assert await api.call("GET", "/plugins") == []
        assert "hunter2" not in container.log.read_text() + process_file(process.pid, "environ")
        said = [line for line in container.lines() if line.startswith("start: ")]
        assert len(said) <= 3, "a reason is told once"
        assert " answers after " in said[-1]
        assert not (container.data / "maubot.db").exists()
    finally:
        await process.stop()
        await postgres.stop()


async def test_sigterm_ends_it_while_it_waits(tmp_path: Path) -> None:
    container = Container(tmp_path, {"MAUBOT_DATABASE": f"postgresql://maubot@{LOOPBACK}:{free_port()}/maubot"})
    process = await container.start()
    await logged(container, "waiting for PostgreSQL")
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 5) == 143


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://maubot:hunter2@db:port/maubot",
        "postgresql://maubot:5432/hunter2@db/maubot",
        "postgresql://maubot:5432#hunter2@db/maubot",
        "postgresql://maubot:hunter2@[db/maubot",
    ],
)
async def test_a_url_that_is_none_is_one_sentence_without_it(url: str, tmp_path: Path) -> None:
    container = Container(tmp_path, {"MAUBOT_DATABASE": url})
    process = await container.start()
    assert await asyncio.wait_for(process.wait(), 20) == 1
    assert len(container.lines()) == 1
    assert "hunter2" not in container.log.read_text()


async def test_a_database_that_refuses_is_not_waited_for(tmp_path: Path) -> None:
    """maubot says what is wrong, and the kubelet starts it again."""
    postgres = await Postgres.open(tmp_path / "postgres")
    container = Container(tmp_path, {"MAUBOT_DATABASE": postgres.url("nowhere")})
    process = await container.start()
    try:
        assert await asyncio.wait_for(process.wait(), 30) != 0
        assert 'database "nowhere" does not exist' in container.log.read_text()
    finally:
        await process.stop()
        await postgres.stop()
