"""The devices of strangers, kept up to date on the side: it may take long, and nobody whom we know waits for it.

mautrix asks for them under the lock that everybody waits for who needs somebody's keys, and a stranger's homeserver can
take its time to answer. They are needed all the same: what the bot says in a room is encrypted for everybody in it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from mautrix.client import Client
from mautrix.types import UserID

from .tasks import Shield, cancelled

MOST = 5000
"""Strangers whose devices wait to be asked for; those beyond cannot read the bot on a new device."""


class StrangersDevices:
    """Asks for what changed, one question at a time."""

    def __init__(self, client: Client, log: logging.Logger) -> None:
        self._client = client
        self._log = log
        self._waiting: set[str] = set()
        self._worker: asyncio.Future[None] | None = None
        self._whole = Shield()

    def changed(self, users: Iterable[str]) -> None:
        """The devices of these strangers are others now; what changes while a question is out is asked for together."""
        if self._client.crypto is None:
            return
        for user in users:
            if len(self._waiting) < MOST:
                self._waiting.add(user)
        if self._waiting and (self._worker is None or self._worker.done()):
            self._worker = asyncio.ensure_future(self._work())

    async def close(self) -> None:
        """Ask no more; what came is still stored as a whole."""
        if self._worker is not None:
            await cancelled(self._worker)
        await self._whole.drain()

    async def _work(self) -> None:
        while self._waiting:
            users, self._waiting = [UserID(user) for user in self._waiting], set()
            try:
                # Not handle_device_lists, which holds the lock. Whom no room of ours has is left out by mautrix.
                await self._whole(self._client.crypto._fetch_keys(users))
            except Exception as error:  # noqa: BLE001 - a boundary: they would not read us, nobody else is concerned
                self._log.info("strangers=%d keys=not_refreshed error=%r", len(users), error)
