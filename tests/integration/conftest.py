"""The stack as fixtures: servers once a session, everything else new for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator

import pytest

from tests.stack.chat import ChatClient
from tests.stack.postgres import Postgres
from tests.stack.processes import last_lines
from tests.stack.stack import Servers, Stack


@pytest.fixture(scope="session")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    """Synapse without limits on messages, and maubot with the plugin, for all tests."""
    async with Servers.open(tmp_path_factory.mktemp("servers")) as servers:
        yield servers


@pytest.fixture(scope="session")
async def stock_servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    """The same, with the limit on messages that Synapse comes with; it is started when a test asks for it."""
    async with Servers.open(tmp_path_factory.mktemp("stock-servers"), stock_message_limits=True) as servers:
        yield servers


@pytest.fixture(scope="session")
async def postgres_servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    """The same as `servers`, with everything of maubot's in PostgreSQL."""
    directory = tmp_path_factory.mktemp("postgres-servers")
    postgres = await Postgres.open(directory / "postgres")
    try:
        async with Servers.open(directory, database=await postgres.create("maubot")) as servers:
            yield servers
    finally:
        await postgres.stop()


@pytest.fixture(params=["sqlite", "postgres"])
def any_servers(request: pytest.FixtureRequest) -> Servers:
    """A test that asks for it runs on both databases; only the one that is asked for is started."""
    name = {"sqlite": "servers", "postgres": "postgres_servers"}[request.param]
    servers: Servers = request.getfixturevalue(name)
    return servers


@pytest.fixture
async def any_stack(any_servers: Servers) -> AsyncIterator[Stack]:
    """A stack on either database whose bot syncs by itself, as the docs recommend."""
    async with any_servers.stack(sync=False) as stack:
        yield stack


@pytest.fixture
async def stack(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[Stack]:
    """A bot, its instance with the default settings, and a simulated cluster, for one test.

    maubot syncs the bot, or the bot itself in tests that are marked with `own_sync`.
    """
    async with servers.stack(sync=request.node.get_closest_marker("own_sync") is None) as stack:
        yield stack


@pytest.fixture
async def stock_stack(stock_servers: Servers) -> AsyncIterator[Stack]:
    """The same on a homeserver that limits the bot; people are exempt unless they are made with `limited`."""
    async with stock_servers.stack() as stack:
        yield stack


@pytest.fixture
async def alice(stack: Stack) -> ChatClient:
    """The person whom the default settings allow everything."""
    return await stack.person("alice")


@pytest.fixture
async def room(stack: Stack, alice: ChatClient) -> str:
    """An encrypted room of alice and the bot."""
    return await stack.room_with_bot(alice)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the instance logged beside a test that failed."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        for name, part in item.funcargs.items():
            if isinstance(part, Stack):
                report.sections.append((f"log of the instance of {name}", "\n".join(part.instance_log()[-60:])))
            if isinstance(part, Servers):
                report.sections.append((f"maubot's log of {name}", last_lines(part.maubot.log)))
    return report
