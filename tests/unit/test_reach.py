"""What was under way in an outage fails at its end, and nothing else does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from mautrix.api import Method
from mautrix.client import Client
from mautrix.errors import MatrixConnectionError

from tests.stack.processes import LOOPBACK, free_port
from toggle_plugin import reach as reach_module
from toggle_plugin.reach import Reach

from .builders import reached, tasks_of_the_plugin

SYNC = {"timeout": "600"}
"""Milliseconds that a sync may wait for news."""


class Homeserver:
    """Answers nothing while it is mute; what was asked then is never answered, as when a connection lost packets."""

    def __init__(self) -> None:
        self.mute = False
        self.slow = 0.0
        self.probes = 0
        self.port = free_port()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        is_probe = request.path.endswith("/versions")
        self.probes += is_probe
        if self.mute:
            await asyncio.sleep(3600)
        if not is_probe:
            await asyncio.sleep(self.slow)
        return web.json_response({"versions": ["v1.11"]})


@pytest.fixture
async def server() -> AsyncIterator[Homeserver]:
    homeserver = Homeserver()
    runner = web.ServerRunner(web.Server(homeserver, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, homeserver.port).start()
    yield homeserver
    await runner.cleanup()


@pytest.fixture
async def client(server: Homeserver, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    monkeypatch.setattr(reach_module, "SLOW", 0.2)
    monkeypatch.setattr(reach_module, "PROBE", 0.2)
    monkeypatch.setattr(reach_module, "PROBE_PAUSE", 0.05)
    client = Client(mxid="@bot:example.org", base_url=f"http://{LOOPBACK}:{server.port}", token="secret")
    yield client
    await client.api.session.close()


@pytest.fixture
async def reach(client: Client) -> AsyncIterator[Reach]:
    reach = Reach(client, lambda: False, logging.getLogger("test.reach"))
    reach.install()
    yield reach
    await reach.close()
    assert tasks_of_the_plugin() == []


async def ask(client: Client, **options: Any) -> Any:
    return await client.api.request(Method.GET, "/anything", **options)


async def test_what_was_under_way_in_an_outage_fails_at_its_end(
    client: Client, server: Homeserver, reach: Reach
) -> None:
    server.mute = True
    asked = asyncio.create_task(ask(client))
    await reached(lambda: server.probes > 1)
    assert not asked.done(), "as long as nobody answers, there is nothing better"
    server.mute = False
    with pytest.raises(MatrixConnectionError, match="in an outage"):
        await asyncio.wait_for(asked, 10)
    assert await ask(client) == {"versions": ["v1.11"]}


async def test_what_began_after_the_outage_goes_on(client: Client, server: Homeserver, reach: Reach) -> None:
    server.mute = True
    lost = asyncio.create_task(ask(client))
    await reached(lambda: server.probes > 1)
    server.mute, server.slow = False, 1.0
    with pytest.raises(MatrixConnectionError):
        await lost
    assert await asyncio.wait_for(ask(client), 10)


async def test_a_slow_answer_is_waited_for(client: Client, server: Homeserver, reach: Reach) -> None:
    server.slow = 1.0
    assert await asyncio.wait_for(ask(client), 10)
    assert server.probes > 1, "it was looked whether it lives"


async def test_a_sync_without_news_is_not_slow(client: Client, server: Homeserver, reach: Reach) -> None:
    server.slow = 0.6
    await ask(client, query_params=SYNC)
    assert server.probes == 0


async def test_the_watching_ends_with_what_is_watched(client: Client, server: Homeserver, reach: Reach) -> None:
    server.slow = 0.5
    await ask(client)
    await reached(lambda: tasks_of_the_plugin() == [])
    seen = server.probes
    await asyncio.sleep(0.3)
    assert server.probes == seen, "an idle bot asks nothing"


async def test_a_client_that_was_replaced_is_not_watched(client: Client, server: Homeserver) -> None:
    reach = Reach(client, lambda: True, logging.getLogger("test.reach"))
    reach.install()
    server.slow = 0.5
    await ask(client)
    assert server.probes == 0
    await reach.close()


async def test_whoever_gives_up_ends_the_request(client: Client, server: Homeserver, reach: Reach) -> None:
    server.mute = True
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(ask(client), 0.1)
    assert reach._under_way == {}


async def test_the_requests_are_given_back(client: Client, reach: Reach) -> None:
    await reach.close()
    assert "request" not in client.api.__dict__


async def test_what_somebody_else_took_over_stays_theirs(client: Client, reach: Reach) -> None:
    theirs: Any = object()
    client.api.request = theirs  # type: ignore[method-assign]
    await reach.close()
    assert client.api.request is theirs


async def test_a_failure_stays_what_it_is(client: Client, reach: Reach) -> None:
    client.api.base_url = client.api.base_url.with_port(free_port())
    with pytest.raises(MatrixConnectionError, match="Cannot connect"):
        await ask(client)
