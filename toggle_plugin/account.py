"""What maubot's own table says about our client: who syncs it, whether it is still in use, and who else uses it.

A plugin is given a client, but not told when maubot replaces it (a new login) or hands it to a second instance.
"""

from __future__ import annotations

from typing import Any, cast

from maubot.client import Client as Entry
from mautrix.client import Client

_OWNER = "io.github.k8s_toggle.instance"
"""The attribute of a client that names the instance which answers for it; it goes with the client."""


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
