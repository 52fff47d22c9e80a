"""What maubot's own table says about our client: who syncs it, whether it is still in use, and who else uses it.

A plugin is given a client, but not told when maubot replaces it (a new login) or hands it to a second instance.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from maubot.client import Client as Entry
from mautrix.client import Client
from mautrix.util import background_task

_OWNER = "io.github.k8s_toggle.instance"
"""The attribute of a client that names the instance which answers for it; it goes with the client."""

HANDLERS_END = 1.0
"""Seconds that the handlers of messages have to end, before maubot closes its database; of maubot's own five."""


class Account:
    """The bot's account, as maubot keeps it.

    Args:
        instance: the ID of our instance.
    """

    def __init__(self, client: Client, instance: str) -> None:
        self.client = client
        self._instance = instance

    @property
    def entry(self) -> Any:
        """maubot's row of this account; None once it is deleted."""
        # mautrix and maubot are typed for each other only
        return cast("dict[str, Any]", Entry.cache).get(self.client.mxid)

    @property
    def replaced(self) -> bool:
        """Whether maubot uses another client for this account now, as it does after a new login (trap D)."""
        return self.entry is None or self.entry.client is not self.client

    @property
    def synced_by_maubot(self) -> bool:
        """Whether maubot is set to sync it, and so loses what comes with the first sync after a start (trap B)."""
        return bool(self.entry is not None and self.entry.sync)

    @property
    def shared(self) -> bool:
        """Whether instances of other plugins use it as well."""
        return self.entry is not None and len(self.entry.references) > 1

    @property
    def joins_everything(self) -> bool:
        """Whether maubot accepts every invite."""
        return bool(self.entry is not None and self.entry.autojoin)

    def claim(self) -> str:
        """Take this account for our instance; the ID of the one that has it already, or nothing."""
        owner: str = self.client.__dict__.setdefault(_OWNER, self._instance)
        return "" if owner == self._instance else owner

    def release(self) -> None:
        """Leave it to the next instance."""
        if self.client.__dict__.get(_OWNER) == self._instance:
            del self.client.__dict__[_OWNER]

    async def settle(self) -> None:
        """Where maubot syncs this client and is about to stop it: end that sync, then wait for what it has begun.

        maubot does the first too, right after us, but not the second: it closes its database on messages that are being
        decrypted (the last may be our own, come back), and each leaves a traceback.
        """
        if self.replaced or not self.synced_by_maubot or self.entry.started:
            return
        self.client.stop()
        handlers = {task for task in asyncio.all_tasks() if _is_handler(task)} - {asyncio.current_task()}
        if handlers:
            await asyncio.wait(handlers, timeout=HANDLERS_END)


def _is_handler(task: asyncio.Task[Any]) -> bool:
    """Whether it runs beside the sync of mautrix, as its handlers do."""
    return getattr(task.get_coro(), "cr_code", None) is background_task.catch.__code__
