"""The real parts side by side: homeserver, maubot with the plugin, a cluster, a bot and people.

`Servers` are started once; each `Stack` on them has a bot, an instance, a cluster and people of its own, so tests that
share servers share nothing else.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp

from .chat import Account, ChatClient
from .cluster import Behaviour, SimulatedCluster
from .maubot import Maubot, MaubotAPI, MaubotError
from .proxy import Proxy
from .synapse import REPOSITORY, Login, Synapse

PLUGIN = "io.github.k8s_toggle"
TARGETS: Mapping[str, Mapping[str, object]] = {
    "web": {"kind": "Deployment", "namespace": "demo", "name": "web", "replicas": 1}
}
"""The targets of a stack that is not told others; the cluster has their workloads, at 0."""
READY_SECONDS = 60.0
LAST_STOP_SECONDS = 3.0
"""Short, because nobody needs their files afterwards, and because maubot 0.6.0 hangs when a signal meets a request."""
POLL_SECONDS = 0.05

Step = Callable[[str], AbstractContextManager[object]]
"""Wraps one step of the start, to show it."""


def plugin_file() -> Path:
    """The .mbp of TOGGLE_MBP, or the one in dist/.

    Raises:
        FileNotFoundError: there is none, or more than one.
    """
    named = os.environ.get("TOGGLE_MBP")
    found = [Path(named)] if named else sorted((REPOSITORY / "dist").glob("*.mbp"))
    if len(found) != 1:
        raise FileNotFoundError("dist/ must hold one .mbp file: run ./build.sh plugin, or name a file in TOGGLE_MBP")
    return found[0]


async def together(*parts: Awaitable[object]) -> None:
    """Await all; when one fails, cancel the others, wait for their end and raise its error."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def unless_gone(call: Awaitable[None]) -> None:
    """Await a deletion that may find nothing to delete."""
    try:
        await call
    except MaubotError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise


class Servers:
    """A running Synapse, and a running maubot that has the plugin. Made by `open`.

    Attributes:
        api: maubot's management API, logged in.
        stock_message_limits: whether Synapse limits messages as it comes.
    """

    def __init__(
        self, directory: Path, *, stock_message_limits: bool, environment: Mapping[str, str] | None, database: str
    ) -> None:
        self.directory = directory
        self.stock_message_limits = stock_message_limits
        self.synapse = Synapse.prepare(directory / "synapse", stock_message_limits=stock_message_limits)
        self.maubot = Maubot.prepare(directory / "maubot", self.synapse, environment, database)
        self.api: MaubotAPI
        self._numbers = itertools.count(1)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        directory: Path,
        *,
        plugin: Path | None = None,
        stock_message_limits: bool = False,
        environment: Mapping[str, str] | None = None,
        database: str = "sqlite:maubot.db",
        step: Step = nullcontext,
    ) -> AsyncIterator[Servers]:
        """Start both in `directory`, upload the plugin, and stop them in the end, whatever happens.

        Args:
            plugin: the .mbp; by default `plugin_file`.
            environment: added to maubot's own.
            database: the URL of maubot's database, which must be empty.

        Raises:
            ProcessFailed: one of them did not start.
            MaubotError: maubot does not take the plugin.
        """
        archive = (plugin or plugin_file()).read_bytes()
        servers = cls(directory, stock_message_limits=stock_message_limits, environment=environment, database=database)
        async with AsyncExitStack() as parts:
            parts.push_async_callback(servers.synapse.stop, LAST_STOP_SECONDS)
            parts.push_async_callback(servers.maubot.stop, LAST_STOP_SECONDS)
            await together(servers._run_synapse(step), servers._run_maubot(step))
            servers.api = await parts.enter_async_context(servers.maubot.api())
            with step("Plugin uploaded"):
                await servers.api.upload_plugin(archive)
            yield servers

    @asynccontextmanager
    async def stack(
        self,
        settings: Mapping[str, Any] | None = None,
        *,
        kubeconfig: Path | None = None,
        behaviour: Behaviour | None = None,
        sync: bool = True,
        autojoin: bool = False,
        cross_signed: bool = True,
        proxied: bool = False,
        tidy: bool = True,
        step: Step = nullcontext,
    ) -> AsyncIterator[Stack]:
        """A bot with an instance of the plugin, and a cluster; all of it is gone in the end.

        Args:
            settings: changes to the default settings, which allow `alice` to turn `TARGETS` on and off.
            kubeconfig: a real cluster's; by default there is a simulated one with the targets' workloads.
            behaviour: of the simulated cluster's workloads.
            sync, autojoin: of the bot's client in maubot.
            cross_signed: whether the bot's device is.
            proxied: put a `Proxy` between the bot and the homeserver, and one between it and the simulated cluster.
            tidy: delete instance and client in the end, because others go on with the servers.
        """
        async with AsyncExitStack() as parts:
            stack = Stack(self, next(self._numbers))
            if kubeconfig is None:
                with step("Simulated cluster runs"):
                    cluster = SimulatedCluster(self.directory / f"cluster-{stack.instance}", behaviour=behaviour)
                    stack.cluster = await parts.enter_async_context(cluster)
                    stack.add_workloads()
            stack.kubeconfig = kubeconfig or stack.cluster.kubeconfig
            if proxied:
                stack.homeserver_proxy = await parts.enter_async_context(Proxy(self.synapse.url))
                stack.cluster_proxy = await parts.enter_async_context(Proxy(stack.cluster.url))
                stack.kubeconfig = stack.cluster.write_kubeconfig(
                    stack.kubeconfig.with_name("proxied.kubeconfig"), server=stack.cluster_proxy.url
                )
            if tidy:
                parts.push_async_callback(stack.delete)
            parts.push_async_callback(stack.close)
            with step("Bot logged in" + (" and cross-signed" if cross_signed else "")):
                await stack.log_bot_in(sync=sync, autojoin=autojoin, cross_signed=cross_signed)
            with step("Instance of the plugin runs"):
                all_settings = {**stack.default_settings(), **(settings or {})}
                await self.api.create_instance(stack.instance, PLUGIN, stack.bot_id, all_settings)
            yield stack

    async def wait_failure(self) -> None:
        """Wait until one of the servers ends by itself, which raises ProcessFailed."""
        await together(self.synapse.process.wait_failure(), self.maubot.process.wait_failure())

    async def ensure_running(self) -> None:
        """Start again what a test has stopped or killed."""
        for server in (self.synapse, self.maubot):
            server.process.resume()
            if not server.process.running:
                await server.run()

    async def _run_synapse(self, step: Step) -> None:
        with step("Synapse answers"):
            await self.synapse.run()

    async def _run_maubot(self, step: Step) -> None:
        with step("maubot answers"):
            await self.maubot.run()


class Stack:
    """One bot, its instance, its cluster and its people, on shared servers. Made by `Servers.stack`.

    Attributes:
        instance: the instance's ID in maubot.
        bot: the login of the bot that maubot uses.
        recovery_key: of the bot; empty if it is not cross-signed.
        kubeconfig: the file that the default settings name.
    """

    cluster: SimulatedCluster
    """There is none when the stack was given a kubeconfig."""
    kubeconfig: Path
    bot: Login

    def __init__(self, servers: Servers, number: int) -> None:
        self.servers = servers
        self.synapse = servers.synapse
        self.maubot = servers.maubot
        self.api = servers.api
        self.instance = self._numbered("toggle", number)
        self.bot_password = secrets.token_urlsafe(12)
        self.recovery_key = ""
        self.homeserver_proxy: Proxy | None = None
        self.cluster_proxy: Proxy | None = None
        self._number = number
        self._people: dict[str, ChatClient] = {}

    @property
    def bot_id(self) -> str:
        """The bot's user ID."""
        return self.user_id("bot")

    def user_id(self, name: str) -> str:
        """The user ID that `person(name)` has or will have in this stack."""
        return f"@{self._numbered(name, self._number)}:{self.synapse.server_name}"

    # People

    async def account(self, name: str, *, limited: bool = False) -> Account:
        """Make an account; `limited` leaves it under the homeserver's limit on messages, if there is one."""
        local, password = self._numbered(name, self._number), secrets.token_urlsafe(12)
        account = Account(self.synapse, local, password, await self.synapse.register(local, password))
        if self.servers.stock_message_limits and not limited:
            await self.synapse.lift_limits(account.user_id)
        return account

    async def person(self, name: str = "alice", *, cross_signed: bool = True, limited: bool = False) -> ChatClient:
        """The chat client of a person, who is made if new; it is closed with the stack."""
        if name not in self._people:
            account = await self.account(name, limited=limited)
            self._people[name] = await ChatClient.log_in(account, cross_signed=cross_signed)
        return self._people[name]

    async def room_with_bot(self, person: ChatClient, *, encrypted: bool = True, **options: Any) -> str:
        """A new room of `person` and the bot, once the bot has joined; `options` as for `ChatClient.create_room`."""
        room = await person.create_room(encrypted=encrypted, invite=[self.bot_id], **options)
        await person.wait_membership(room, self.bot_id)
        return room

    # The instance

    def default_settings(self) -> dict[str, Any]:
        """What an instance gets that is told nothing else: `alice` may turn `TARGETS` on and off."""
        return {
            "targets": {name: dict(target) for name, target in TARGETS.items()},
            "rollout_timeout": "1m",
            "kubeconfig": str(self.kubeconfig),
            "allowed_users": [self.user_id("alice")],
        }

    async def settings(self, **changes: Any) -> dict[str, Any]:
        """Save changed settings as the web UI does, the others as they are; gives back all of them.

        Raises:
            MaubotError: the plugin refused them; its `text` is what the web UI shows.
        """
        await self.api.save_settings(self.instance, {**await self.api.settings(self.instance), **changes})
        return await self.api.settings(self.instance)

    async def readyz(self) -> tuple[int, Any]:
        """The status and the JSON body of the plugin's /readyz; None instead of a body that is not JSON."""
        url = f"{self.maubot.url}/_matrix/maubot/plugin/{self.instance}/readyz"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            is_json = response.content_type == "application/json"
            return response.status, await response.json() if is_json else None

    async def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait until the plugin says that it is ready.

        Raises:
            AssertionError: it did not within `seconds`; says why not.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        while (answer := await self.readyz())[0] != 200:
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError(f"not ready after {seconds:g} s: {answer[1]}")
            await asyncio.sleep(POLL_SECONDS)

    def instance_log(self) -> list[str]:
        """What the instance has logged, tracebacks included."""
        lines, ours = [], False
        for line in self.maubot.log_lines():
            if line.startswith("["):
                ours = f"@maubot.instance.{self.instance}]" in line or f"@maubot.instance.{self.instance}." in line
            if ours:
                lines.append(line)
        return lines

    async def rows(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a SELECT in the instance's database."""
        return await self.api.query(self.instance, sql)

    # The bot

    async def log_bot_in(self, *, sync: bool, autojoin: bool, cross_signed: bool) -> None:
        """Make the bot's account and its client in maubot."""
        local = self._numbered("bot", self._number)
        await self.synapse.register(local, self.bot_password)
        self.bot = await self.api.login_bot(self.synapse.server_name, local, self.bot_password)
        url = self.homeserver_proxy.url if self.homeserver_proxy else self.synapse.url
        await self.api.put_client(url, self.bot, sync=sync, autojoin=autojoin)
        if cross_signed:
            self.recovery_key = await self.api.generate_recovery_key(self.bot_id)

    def add_workloads(self) -> None:
        """Put what `TARGETS` name into the simulated cluster."""
        for target in TARGETS.values():
            self.cluster.add(str(target["kind"]), str(target["namespace"]), str(target["name"]))

    def has_workload(self, kind: str, namespace: str, name: str) -> bool:
        """Whether `add_workloads` puts it into the simulated cluster."""
        return {"kind": kind, "namespace": namespace, "name": name, "replicas": 1} in TARGETS.values()

    async def close(self) -> None:
        """Close the chat clients."""
        await together(*(person.close() for person in self._people.values()))

    async def delete(self) -> None:
        """Delete instance and client where they are; what a test has stopped is started again for it."""
        await self.servers.ensure_running()
        await unless_gone(self.api.delete_instance(self.instance))
        await unless_gone(self.api.delete_client(self.bot_id))

    @staticmethod
    def _numbered(name: str, number: int) -> str:
        return name if number == 1 else f"{name}-{number}"
