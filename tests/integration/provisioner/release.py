"""A release as the provisioner meets it: configuration and credentials, its Secret, and what stands before the APIs.

The program itself runs as a child process, exactly the file that the chart ships.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import secrets
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from tests.stack.chat import Account
from tests.stack.cluster import PolicyRule, SimulatedCluster
from tests.stack.maubot import Maubot, MaubotAPI
from tests.stack.processes import LOOPBACK, ChildProcess
from tests.stack.stack import PLUGIN, plugin_file, unless_gone
from tests.stack.synapse import REPOSITORY, Synapse

PROGRAM = REPOSITORY / "chart" / "files" / "provision.py"
AGENT = "maubot-k8s-toggle-provisioner"
NAMESPACE = "maubot"
POLL_SECONDS = 0.02
PATIENCE = 60.0
READS = ("/keys/query", "/auth/login")
"""POST requests that change nothing which lasts."""
PASSED_ON = ("Content-Type", "Authorization", "User-Agent", "Accept")


class Gate:
    """Sees every write of the provisioner, and can end it before or after one.

    Attributes:
        writes: names of those that were answered by the server, in order; dry runs are not among them.
        asked: method and path of all its requests.
        kill_before, kill_after: whether to kill it then; it gets no answer to that write.
    """

    def __init__(self) -> None:
        self.writes: list[str] = []
        self.asked: list[str] = []
        self.kill_before: Callable[[str], bool] = lambda _: False
        self.kill_after: Callable[[str], bool] = lambda _: False
        self.kill: Callable[[], Awaitable[None]]

    def write(self, request: web.BaseRequest, body: bytes) -> str:
        """The name of a request that is one: method and path, and of a patch what it sets. Else nothing."""
        if request.headers.get("User-Agent") != AGENT:
            return ""
        name = f"{request.method} {request.path}"
        self.asked.append(name)
        if request.method == "GET" or "dryRun" in request.query or request.path.endswith(READS):
            return ""
        return f"{name}{patched(json.loads(body))}" if request.method == "PATCH" else name


def patched(body: Any) -> str:
    """What a patch of the Secret sets: its keys, and of the state the values too."""
    data = body["data"]
    return f" {' '.join(sorted(data))} {base64.b64decode(data.get('state', '')).decode()}"


class Before:
    """An HTTP proxy before one server, through which the gate sees the requests; to be entered with ``async with``."""

    def __init__(self, gate: Gate, target: str, cluster: SimulatedCluster | None = None) -> None:
        self._gate, self._target, self._cluster = gate, target, cluster
        self.port = 0

    @property
    def url(self) -> str:
        return f"{URL(self._target).scheme}://{LOOPBACK}:{self.port}"

    async def __aenter__(self) -> Before:  # noqa: PYI034 - typing.Self came with Python 3.11
        serving, calling = self._tls()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=calling, limit=0), timeout=aiohttp.ClientTimeout(total=None)
        )
        self._runner = web.ServerRunner(
            web.Server(self._handle, access_log=None, handler_cancellation=True), shutdown_timeout=0.1
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, LOOPBACK, 0, ssl_context=serving).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await self._session.close()

    def _tls(self) -> tuple[ssl.SSLContext | None, ssl.SSLContext | bool]:
        if self._cluster is None:
            return None, True
        serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        serving.load_cert_chain(self._cluster.certificates.certificate, self._cluster.certificates.key)
        return serving, ssl.create_default_context(cafile=str(self._cluster.ca_file))

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        write = self._gate.write(request, body)
        if write and self._gate.kill_before(write):
            return await self._end(request)
        answer = await self._pass_on(request, body)
        if write:
            self._gate.writes.append(write)
        return await self._end(request) if write and self._gate.kill_after(write) else answer

    async def _pass_on(self, request: web.BaseRequest, body: bytes) -> web.Response:
        headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
        url = URL(self._target + request.raw_path, encoded=True)
        try:
            async with self._session.request(
                request.method, url, data=body or None, headers=headers, allow_redirects=False
            ) as response:
                kind = {"Content-Type": response.headers.get("Content-Type", "application/json")}
                return web.Response(body=await response.read(), status=response.status, headers=kind)
        except aiohttp.ClientError:
            return self._cut(request)

    async def _end(self, request: web.BaseRequest) -> web.Response:
        await self._gate.kill()
        return self._cut(request)

    @staticmethod
    def _cut(request: web.BaseRequest) -> web.Response:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=502)


class Release:
    """One release with a bot of its own on shared servers. Made by `open`.

    Attributes:
        credentials: the files in the provisioner's /credentials, by name; change them before `start`.
        config: its configuration; change it before `start`.
        gate: what stands between it and the APIs.
        bot: the bot's account, of which it is told user ID and password.
    """

    def __init__(
        self, directory: Path, cluster: SimulatedCluster, maubot: Maubot, api: MaubotAPI, bot: Account
    ) -> None:
        self.directory, self.cluster, self.maubot, self.api, self.bot = directory, cluster, maubot, api, bot
        self.synapse: Synapse = bot.synapse
        self.gate = Gate()
        self.gate.kill = self.kill
        self.name = f"release-{secrets.token_hex(3)}"
        self.log = directory / "provision.log"
        self.ready = directory / "ready"
        self.credentials: dict[str, str] = {"password": bot.password}
        self.config: dict[str, Any] = {}
        self._environment: dict[str, str] = {}
        self._process: ChildProcess | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, directory: Path, cluster: SimulatedCluster, maubot: Maubot, api: MaubotAPI, bot: Account
    ) -> AsyncIterator[Release]:
        """An empty Secret (but for the password of a maubot that runs already), and proxies before all three APIs."""
        release = cls(directory, cluster, maubot, api, bot)
        cluster.add_secret(NAMESPACE, release.name)
        cluster.change_secret(NAMESPACE, release.name, admin_password=maubot.password)
        cluster.grant([PolicyRule(("get", "patch"), ("secrets",), ("",), (release.name,), NAMESPACE)])
        async with (
            Before(release.gate, bot.synapse.url) as homeserver,
            Before(release.gate, maubot.url) as before_maubot,
            Before(release.gate, cluster.url, cluster) as kubernetes,
        ):
            release.configure(homeserver.url, before_maubot.url, kubernetes.port)
            try:
                yield release
            finally:
                await release.kill()

    def configure(self, homeserver: str, maubot: str, kubernetes_port: int) -> None:
        """What the chart would render, for these addresses."""
        self.config = {
            "mode": "deploy",
            "homeserver": homeserver,
            "user": self.bot.user_id,
            "device_name": "maubot",
            "maubot": maubot,
            "secret": {"namespace": NAMESPACE, "name": self.name},
            "plugin": str(plugin_file()),
            "instance": {"id": self.name, "manage": "create", "settings": {}},
            "ready_file": str(self.ready),
        }
        account = self.directory / "serviceaccount"
        self._environment = {
            **self.cluster.service_account(account),
            "KUBERNETES_SERVICE_PORT": str(kubernetes_port),
            "SERVICE_ACCOUNT_DIR": str(account),
            "CREDENTIALS": str(self.directory / "credentials"),
        }

    # The program

    async def start(self) -> None:
        """Run it."""
        files = self.directory / "credentials"
        files.mkdir(exist_ok=True)
        for old in files.iterdir():
            old.unlink()
        for name, value in self.credentials.items():
            (files / name).write_text(value + "\n")
        configuration = self.directory / "provision.json"
        configuration.write_text(json.dumps(self.config))
        self._process = await ChildProcess.start(
            "the provisioner",
            (sys.executable, "-B", str(PROGRAM), str(configuration)),
            directory=self.directory,
            log=self.log,
            environment=self._environment,
        )

    @property
    def process(self) -> ChildProcess:
        assert self._process is not None
        return self._process

    async def kill(self) -> None:
        """SIGKILL, if it runs."""
        if self._process is not None and self._process.running:
            await self._process.kill()

    async def run_until_ready(self) -> None:
        """Run it until everything is in place, and kill it then."""
        await self.start()
        await self.until(self.ready.exists, "the provisioner to be ready")
        await self.kill()
        self.ready.unlink(missing_ok=True)

    async def run_until_told(self, text: str, **changes: Any) -> str:
        """Run it until its log has a new line with `text`, kill it then, and give back that line.

        `changes` are to the configuration, for this run.
        """
        before, config = len(self.lines()), self.config
        self.config = {**config, **changes}
        await self.start()
        self.config = config
        found: list[str] = await self.until(lambda: self.told(text, before), repr(text))
        await self.kill()
        return found[0]

    def told(self, text: str, since: int = 0) -> list[str]:
        """The lines of its log with `text`, but for the first `since` of all."""
        return [line for line in self.lines()[since:] if text in line]

    async def until(self, condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
        """Wait for something true, which is given back; fails with the provisioner's log."""
        deadline = asyncio.get_running_loop().time() + patience
        while not (found := condition()):
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError(f"waited for {what}; the log:\n" + "\n".join(self.lines()[-30:]))
            await asyncio.sleep(POLL_SECONDS)
        return found

    def lines(self) -> list[str]:
        """Its log."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    # What it made

    @property
    def secret(self) -> dict[str, str]:
        return self.cluster.secret(NAMESPACE, self.name)

    def change_secret(self, **changes: str | None) -> None:
        """Change keys (`_` for `-`) as somebody else; None removes one."""
        self.cluster.change_secret(NAMESPACE, self.name, **changes)

    async def devices(self) -> list[str]:
        """The bot's logged-in devices."""
        path = "/_matrix/client/v3/devices"
        answer = await self.synapse.request("GET", path, token=self.secret["access-token"])
        return [device["device_id"] for device in answer["devices"]]

    async def signed(self) -> bool:
        """Whether the bot's device is signed by its account's self-signing key."""
        user, device = self.bot.user_id, self.secret["device-id"]
        body: Mapping[str, Any] = {"device_keys": {user: [device]}}
        path = "/_matrix/client/v3/keys/query"
        answer = await self.synapse.request("POST", path, body, token=self.secret["access-token"])
        signatures = answer["device_keys"][user][device]["signatures"][user]
        return any(key in signatures for key in answer["self_signing_keys"][user]["keys"])

    async def delete(self) -> None:
        """Delete what is of it in maubot, and the plugin."""
        for path in (f"/instance/{self.name}", f"/client/{self.bot.user_id}", f"/plugin/{PLUGIN}"):
            await unless_gone(self.api.call("DELETE", path))
