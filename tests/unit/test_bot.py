"""What an instance says of itself when it could not start."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml
from mautrix.client import Client

from toggle_plugin import ToggleBot

from .homeserver import Homeserver

LOG = logging.getLogger("test.bot")
SHIPPED = Path(__file__).parents[2] / "base-config.yaml"


class Saved:
    """The settings as they were saved."""

    def read(self) -> Any:
        return yaml.safe_load(SHIPPED.read_text())

    def load_and_update(self) -> None:
        pass


def instance(client: Client) -> Any:
    """An instance as maubot makes it, without a database."""
    parts: dict[str, Any] = {
        "client": client,
        "loop": asyncio.get_running_loop(),
        "http": client.api.session,
        "instance_id": "toggle",
        "log": LOG,
        "config": Saved(),
        "database": None,
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
