"""The least possible bot: one command, one PATCH, one reply; it knows nobody, remembers nothing and follows nothing."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import aiohttp
from maubot.handlers import command
from maubot.matrix import MaubotMessageEvent as MessageEvent
from maubot.plugin_base import Plugin


def read_settings() -> dict[str, str]:
    """The scale's URL, a token and a CA file, in maubot's directory."""
    found: dict[str, str] = json.loads(Path("least.json").read_text(encoding="utf-8"))
    return found


class Least(Plugin):
    async def start(self) -> None:
        settings = read_settings()
        self._url = settings["url"]
        context = ssl.create_default_context(cafile=settings["authority"])
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context),
            headers={"Authorization": f"Bearer {settings['token']}", "Content-Type": "application/merge-patch+json"},
        )

    async def stop(self) -> None:
        await self._session.close()

    @command.new("least")
    @command.argument("replicas")
    async def scale(self, event: MessageEvent, replicas: str) -> None:
        async with self._session.patch(self._url, json={"spec": {"replicas": int(replicas)}}) as response:
            await event.reply(f"answered {response.status}")
