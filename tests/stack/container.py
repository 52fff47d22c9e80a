"""A real maubot, started as the chart's container starts it: by chart/files/start.py, with JSON and environment."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from .maubot import ADMIN, FEATURES, MaubotAPI, configuration
from .processes import LOOPBACK, STOP_SECONDS, ChildProcess, free_port
from .synapse import REPOSITORY, interpreter

START = REPOSITORY / "chart/files/start.py"
PASSWORD = 'an-admin\'s "pass: word" #1 é'
SECRETS = {"MAUBOT_ADMIN_PASSWORD": PASSWORD, "MAUBOT_UNSHARED_SECRET": "unshared" * 8}


SETTLE_SECONDS = 0.5
"""maubot itself hangs when SIGTERM comes while it writes an answer. Our plugin sees to that, but it is not there."""


class Container:
    """What the container's folder and environment hold; it can be started again on the same data.

    Attributes:
        log: what it writes, also before restarts.
        target: the file that start.py writes for maubot.
    """

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._port = free_port()
        self.data, self.target = directory / "data", directory / "maubot.yaml"
        self.log = directory / "container.log"
        self.url = f"http://{LOOPBACK}:{self._port}"
        self._source = directory / "maubot.json"
        self._source.write_text(json.dumps(self._configuration()))
        self._environment = {**SECRETS, **environment}

    def _configuration(self) -> dict[str, Any]:
        """Without secrets, and with places that are not there yet."""
        data = self.data
        done = configuration(self._port, "", f"sqlite:{data}/maubot.db")
        done["server"]["unshared_secret"] = ""
        done["plugin_directories"] = {
            "upload": f"{data}/plugins",
            "load": [f"{data}/plugins"],
            "trash": f"{data}/trash",
        }
        return {
            **done,
            "admins": {"root": "", ADMIN: ""},
            "plugin_databases": {"sqlite": f"{data}/dbs", "postgres": None},
        }

    async def start(self) -> ChildProcess:
        """Start it, and do not wait until it answers."""
        command = (interpreter("maubot"), str(START), str(self._source), str(self.target))
        return await ChildProcess.start(
            "maubot", command, directory=self._source.parent, log=self.log, environment=self._environment
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[ChildProcess]:
        """Start it, wait until its API answers, and stop it in the end."""
        process = await self.start()
        try:
            await process.wait_until_ready(self.url + FEATURES)
            yield process
        finally:
            await asyncio.sleep(SETTLE_SECONDS)
            await process.stop(STOP_SECONDS)

    def api(self) -> AbstractAsyncContextManager[MaubotAPI]:
        """A client of its management API, logged in, to be entered with ``async with``."""
        return MaubotAPI.open(self.url, ADMIN, PASSWORD)

    def lines(self) -> list[str]:
        return self.log.read_text(errors="replace").splitlines()
