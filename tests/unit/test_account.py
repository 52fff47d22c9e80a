"""What becomes of maubot's own sync, and of what it has begun, when maubot stops the client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from maubot.client import Client as Entry
from mautrix.client import Client
from mautrix.types import EventType

from toggle_plugin import account as account_module
from toggle_plugin.account import Account

from .homeserver import Homeserver


class Handler:
    """A handler of mautrix's, which runs beside the sync until it is let go."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.let_go = asyncio.Event()
        self.ended = False

    async def __call__(self, _: object) -> None:
        self.began.set()
        await self.let_go.wait()
        self.ended = True


@pytest.fixture
async def client(homeserver: Homeserver) -> AsyncIterator[Client]:
    client = homeserver.client()
    client.syncing_task = asyncio.create_task(asyncio.sleep(3600))
    yield client
    client.stop()
    await client.api.session.close()


@pytest.fixture
def entry(client: Client, monkeypatch: pytest.MonkeyPatch) -> Any:
    """maubot's row of the client, which maubot syncs and is stopping: it says so before it stops the plugins."""
    entry = SimpleNamespace(client=client, sync=True, started=False)
    monkeypatch.setattr(Entry, "cache", {client.mxid: entry}, raising=False)
    return entry


@pytest.fixture
async def handler(client: Client) -> Handler:
    handler = Handler()
    client.add_event_handler(EventType.ROOM_MESSAGE, handler)
    client.dispatch_manual_event(EventType.ROOM_MESSAGE, {})
    await handler.began.wait()
    return handler


async def settling(client: Client) -> asyncio.Task[None]:
    """The settling, once it waits or has ended."""
    task = asyncio.create_task(Account(client, "toggle").settle())
    await asyncio.sleep(0.05)
    return task


async def test_what_was_begun_ends_before_maubot_goes_on(client: Client, entry: Any, handler: Handler) -> None:
    syncing = client.syncing_task
    task = await settling(client)
    assert syncing is not None
    assert syncing.cancelled(), "else it goes on to begin more"
    assert not task.done()
    handler.let_go.set()
    await task
    assert handler.ended


async def test_a_handler_that_hangs_holds_nobody_up(
    client: Client, entry: Any, handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_module, "HANDLERS_END", 0.1)
    await asyncio.wait_for(await settling(client), 10)
    handler.let_go.set()


@pytest.mark.parametrize("change", [{"started": True}, {"sync": False}, {"client": None}])
async def test_a_client_that_goes_on_or_is_not_maubots_to_sync_is_left_alone(
    client: Client, entry: Any, handler: Handler, change: dict[str, object]
) -> None:
    vars(entry).update(change)
    syncing = client.syncing_task
    assert (await settling(client)).done()
    assert client.syncing_task is syncing
    handler.let_go.set()
