"""What an instance says of itself when it could not start."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from mautrix.client import Client
from mautrix.util.async_db import Database

from toggle_plugin import ToggleBot
from toggle_plugin.membership import Membership
from toggle_plugin.migrations import upgrade_table

from .builders import tasks_of_the_plugin
from .homeserver import Homeserver

LOG = logging.getLogger("test.bot")
SHIPPED = Path(__file__).parents[2] / "base-config.yaml"


class Saved:
    """The settings as they were saved."""

    def read(self) -> Any:
        return yaml.safe_load(SHIPPED.read_text())

    def load_and_update(self) -> None:
        pass


def instance(client: Client, database: Database | None = None) -> Any:
    """An instance as maubot makes it."""
    parts: dict[str, Any] = {
        "client": client,
        "loop": asyncio.get_running_loop(),
        "http": client.api.session,
        "instance_id": "toggle",
        "log": LOG,
        "config": Saved(),
        "database": database,
        "webapp": None,
        "webapp_url": None,
        "loader": None,
    }
    return ToggleBot(**parts)


async def test_an_instance_that_could_not_start_says_so_also_after_its_settings_were_saved(
    homeserver: Homeserver, caplog: pytest.LogCaptureFixture
) -> None:
    client = homeserver.client()
    bot = instance(client)
    await bot.start()
    assert "start=failed" in caplog.text
    await bot.on_external_config_update()
    (reason,) = await bot._not_ready()
    assert "did not start" in reason
    await bot.stop()
    await client.api.session.close()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database.create(f"sqlite:{tmp_path / 'plugin.db'}", upgrade_table=upgrade_table)
    await database.start()
    yield database
    await database.stop()


async def test_an_instance_that_could_not_start_whole_does_nothing(
    homeserver: Homeserver, database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What its loop handed over to nobody would be lost to the next start."""

    def broken(_: Membership) -> None:
        raise OSError("no")

    monkeypatch.setattr(Membership, "start", broken)
    client = homeserver.client()
    bot = instance(client, database)
    await bot.start()
    assert "start=failed" in caplog.text
    assert tasks_of_the_plugin() == []
    assert await bot._not_ready() == ["the instance did not start; maubot's log says why"]
    await bot.stop()
    await client.api.session.close()
