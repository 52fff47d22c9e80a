"""A real maubot on loopback with SQLite, and a client of its management API; it knows nothing of the plugin."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import bcrypt
import yaml

from .processes import LOOPBACK, STOP_SECONDS, ChildProcess, free_port
from .synapse import Login, Synapse, interpreter

ADMIN = "admin"
API = "/_matrix/maubot/v1"
FEATURES = f"{API}/features"
"""Answers without a token, as soon as maubot listens."""
LOG_POLL_SECONDS = 0.01


class MaubotError(Exception):
    """The management API refused.

    Attributes:
        status: the HTTP status.
        errcode: maubot's code for it, such as ``plugin_invalid``; empty when there was none.
        text: maubot's own words, which its web UI shows.
    """

    def __init__(self, status: int, errcode: str, text: str) -> None:
        super().__init__(f"{status} {errcode}: {text}")
        self.status = status
        self.errcode = errcode
        self.text = text


class Maubot:
    """A maubot process; it can be stopped, killed and started again on the same directory and port.

    Attributes:
        url: where its web UI and API listen, on 127.0.0.1.
        user, password: an administrator's.
        log: the file that its log lines go to.
    """

    def __init__(self, directory: Path, port: int, password: str, environment: Mapping[str, str]) -> None:
        self.directory = directory
        self.url = f"http://{LOOPBACK}:{port}"
        self.user = ADMIN
        self.password = password
        self.log = directory / "maubot.log"
        self._environment = environment
        self._process: ChildProcess | None = None

    @classmethod
    def prepare(
        cls,
        directory: Path,
        synapse: Synapse,
        environment: Mapping[str, str] | None = None,
        database: str = "sqlite:maubot.db",
        password: str = "",
    ) -> Maubot:
        """Write the configuration of one that keeps everything in `directory` and knows `synapse`; nothing runs yet.

        `database` is for everything: maubot's own, the keys and the plugins' tables.
        `synapse` has to run only when a bot is to be logged in; `environment` is added to the process' own;
        the administrator's `password` is made where none is given.
        """
        (directory / "plugins").mkdir(parents=True, exist_ok=True)
        port, password = free_port(), password or secrets.token_urlsafe(12)
        settings = configuration(port, password, database)
        settings["homeservers"] = {synapse.server_name: {"url": synapse.url, "secret": synapse.registration_secret}}
        (directory / "config.yaml").write_text(json.dumps(settings))
        return cls(directory, port, password, environment or {})

    @property
    def process(self) -> ChildProcess:
        if self._process is None:
            raise RuntimeError("maubot was not started")
        return self._process

    async def run(self) -> None:
        """Start the process, again if it ended, and wait until its API answers.

        Raises:
            ProcessFailed: it did not start; the message quotes its log.
        """
        # --no-update: else it writes the file again, with another secret, and every restart logs everybody out
        command = (interpreter("maubot"), "-m", "maubot", "-c", "config.yaml", "--no-update")
        self._process = await ChildProcess.start(
            "maubot", command, directory=self.directory, log=self.log, environment=self._environment
        )
        await self._process.wait_until_ready(self.url + FEATURES)

    async def stop(self, grace: float = STOP_SECONDS) -> None:
        """Stop it in order; what has not ended within `grace` seconds is killed."""
        if self._process is not None:
            await self._process.stop(grace)

    async def kill(self) -> None:
        """End it at once, as a crash would."""
        await self.process.kill()

    async def restart(self) -> None:
        """Stop it in order and start it again."""
        await self.stop()
        await self.run()

    async def wait_logged(self, text: str, after: int) -> None:
        """Wait until it logs `text` in a line beyond the first `after` ones; for ever, if it does not."""
        while not any(text in line for line in self.log_lines()[after:]):  # noqa: ASYNC110 - it is a file
            await asyncio.sleep(LOG_POLL_SECONDS)

    def log_lines(self) -> list[str]:
        """All that it and its plugins logged, also before restarts; levels and logger names included."""
        return self.log.read_text(errors="replace").splitlines()

    def api(self) -> AbstractAsyncContextManager[MaubotAPI]:
        """A client of its management API, logged in, to be entered with ``async with``."""
        return MaubotAPI.open(self.url, self.user, self.password)


def configuration(port: int, password: str, database: str) -> dict[str, Any]:
    """config.yaml without the homeservers; relative paths are relative to where maubot runs."""
    return {
        "database": database,
        # with a file of its own, maubot 0.6.0 looks for rooms in the wrong file and does not end on SIGTERM
        "crypto_database": "default",
        "plugin_directories": {"upload": "./plugins", "load": ["./plugins"], "trash": "delete"},
        "plugin_databases": {
            "sqlite": "./plugins",
            "postgres": "default" if database.startswith("postgres") else None,
        },
        "server": {
            "hostname": LOOPBACK,
            "port": port,
            "public_url": f"http://{LOOPBACK}:{port}",
            "unshared_secret": secrets.token_hex(32),
        },
        "admins": {"root": "", ADMIN: bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()},
        "logging": logging_configuration(),
    }


def logging_configuration() -> dict[str, Any]:
    """To the console only, everything that maubot and plugins say, but no line for each of its SQL statements."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": {"format": "[%(asctime)s] [%(levelname)s@%(name)s] %(message)s"}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
        "loggers": {"maubot": {"level": "DEBUG"}, "mau": {"level": "DEBUG"}, "aiohttp": {"level": "INFO"}},
        "root": {"level": "INFO", "handlers": ["console"]},
    }


class MaubotAPI:
    """maubot's management API, as its web UI uses it. Every refusal is a `MaubotError`."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, url: str, user: str, password: str) -> AsyncIterator[MaubotAPI]:
        """Log in at the maubot at `url`."""
        async with aiohttp.ClientSession(url) as session:
            api = cls(session)
            await api.login(user, password)
            yield api

    async def login(self, user: str, password: str) -> None:
        """Get a token; all other calls need it."""
        answer = await self.call("POST", "/auth/login", {"username": user, "password": password})
        self._session.headers["Authorization"] = f"Bearer {answer['token']}"

    async def call(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """One call below /_matrix/maubot/v1; `body` is sent as JSON, bytes as they are. None for an empty answer."""
        payload = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with self._session.request(method, API + path, params=query, **payload) as response:
            text = await response.text()
            if response.status >= 400:
                raise refusal(response.status, text)
            return json.loads(text) if text else None

    async def upload_plugin(self, archive: bytes) -> dict[str, Any]:
        """Install an .mbp, or replace the one with the same ID; its instances are restarted."""
        return dict(await self.call("POST", "/plugins/upload", archive, allow_override="true"))

    async def reload_plugin(self, plugin: str) -> None:
        await self.call("POST", f"/plugin/{plugin}/reload")

    async def delete_plugin(self, plugin: str) -> None:
        await self.call("DELETE", f"/plugin/{plugin}")

    async def login_bot(self, server: str, name: str, password: str) -> Login:
        """Log a new device of the bot in; no client is made or changed."""
        body = {"username": name, "password": password, "device_name": "maubot"}
        answer = await self.call("POST", f"/client/auth/{server}/login", body)
        return Login(answer["user_id"], answer["device_id"], answer["access_token"])

    async def put_client(
        self, homeserver: str, login: Login, *, sync: bool = True, autojoin: bool = False, **other: Any
    ) -> dict[str, Any]:
        """Make or change the client of `login`, everything at once: what is left out, maubot would empty."""
        body = {
            "homeserver": homeserver,
            "access_token": login.access_token,
            "device_id": login.device_id,
            "enabled": True,
            "started": True,
            "sync": sync,
            "autojoin": autojoin,
            "online": False,
            **other,
        }
        return dict(await self.call("PUT", client_path(login.user_id), body))

    async def change_client(self, user_id: str, **changes: Any) -> dict[str, Any]:
        """Change some fields of a client, such as ``started`` or ``sync``."""
        return dict(await self.call("PUT", client_path(user_id), changes))

    async def client(self, user_id: str) -> dict[str, Any]:
        return dict(await self.call("GET", client_path(user_id)))

    async def delete_client(self, user_id: str) -> None:
        await self.call("DELETE", client_path(user_id))

    async def generate_recovery_key(self, user_id: str) -> str:
        """Cross-sign the bot for the first time; its recovery key, which is told only once."""
        return str((await self.call("POST", client_path(user_id) + "/generate_recovery_key"))["recovery_key"])

    async def verify(self, user_id: str, recovery_key: str) -> None:
        """Cross-sign the bot's current device with its recovery key."""
        await self.call("POST", client_path(user_id) + "/verify", {"recovery_key": recovery_key})

    async def create_instance(
        self, name: str, plugin: str, user_id: str, settings: Mapping[str, Any] | str
    ) -> dict[str, Any]:
        """Make an instance of a plugin and start it; `settings` as a mapping or as YAML."""
        body = {"type": plugin, "primary_user": user_id, "enabled": True, "config": as_yaml(settings)}
        return dict(await self.call("PUT", f"/instance/{name}", body))

    async def save_settings(self, name: str, settings: Mapping[str, Any] | str) -> dict[str, Any]:
        """Save an instance's settings, as the web UI does."""
        return await self.change_instance(name, config=as_yaml(settings))

    async def change_instance(self, name: str, **changes: Any) -> dict[str, Any]:
        """Change some fields of an instance, such as ``started`` or ``enabled``."""
        return dict(await self.call("PUT", f"/instance/{name}", changes))

    async def instance(self, name: str) -> dict[str, Any]:
        return dict(await self.call("GET", f"/instance/{name}"))

    async def settings(self, name: str) -> dict[str, Any]:
        """An instance's settings as maubot keeps them."""
        return dict(yaml.safe_load((await self.instance(name))["config"]) or {})

    async def delete_instance(self, name: str) -> None:
        await self.call("DELETE", f"/instance/{name}")

    async def query(self, name: str, sql: str) -> list[dict[str, Any]]:
        """The rows of a SELECT in an instance's database."""
        # rows_as_dict fails with SQLite in maubot 0.6.0
        answer = await self.call("POST", f"/instance/{name}/database/query", {"query": sql})
        return [dict(zip(answer["columns"], row, strict=True)) for row in answer["rows"]]


def refusal(status: int, text: str) -> MaubotError:
    """The error in an answer's body, whether it is maubot's JSON or plain text."""
    try:
        body = json.loads(text)
        return MaubotError(status, str(body.get("errcode", "")), str(body.get("error", text)))
    except (ValueError, AttributeError):
        return MaubotError(status, "", text)


def client_path(user_id: str) -> str:
    return f"/client/{quote(user_id)}"


def as_yaml(settings: Mapping[str, Any] | str) -> str:
    return settings if isinstance(settings, str) else yaml.safe_dump(dict(settings), sort_keys=False)
