"""A real Synapse with SQLite, as cheap as it can be, on loopback if nobody says otherwise; it knows nothing of bots."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

from .processes import LOOPBACK, STOP_SECONDS, ChildProcess, free_port

REPOSITORY = Path(__file__).resolve().parents[2]
SERVER_NAME = "localhost"
BACKDATED = "clock"
"""What the names of accounts begin with whose events may have any time, as those of another homeserver may."""
UNLIMITED = {"per_second": 10_000, "burst_count": 10_000}
APPLICATION_SERVICE = "application-service.yaml"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"level": "INFO", "handlers": ["console"]},
}


def interpreter(name: str) -> str:
    """The Python of ``TOGGLE_<NAME>_PYTHON``, or that of the virtual environment `name` that build.sh makes."""
    environments = Path(os.environ.get("TOGGLE_VENVS") or REPOSITORY / ".venv")
    return os.environ.get(f"TOGGLE_{name.upper()}_PYTHON") or str(environments / name / "bin" / "python")


@dataclass(frozen=True)
class Login:
    """A device that is logged in."""

    user_id: str
    device_id: str
    access_token: str


class Synapse:
    """A homeserver process; it can be stopped, killed, paused and started again on the same directory and port.

    Attributes:
        url: its client-server API, on 127.0.0.1 or the address that it was prepared for.
        registration_secret: with which accounts are made, and JSON Web Tokens signed.
        log: the file that its log lines go to.
    """

    def __init__(self, directory: Path, address: str, port: int, registration_secret: str) -> None:
        self.directory = directory
        self.url = f"http://{address}:{port}"
        self.registration_secret = registration_secret
        self.server_name = SERVER_NAME
        self.log = directory / "synapse.log"
        self._process: ChildProcess | None = None
        self._admin: Login | None = None

    @classmethod
    def prepare(cls, directory: Path, *, address: str = LOOPBACK, stock_message_limits: bool = False) -> Synapse:
        """Write the configuration of one that keeps everything in `directory`; nothing runs yet.

        Args:
            address: where it listens: one that is only this machine's, or a network namespace's.
            stock_message_limits: 0.2 messages a second after 10, as Synapse comes; all other limits are always lifted.
        """
        port, secret = free_port(), secrets.token_urlsafe()
        limits = rate_limits(stock_message_limits=stock_message_limits)
        write_configuration(directory, {**configuration(directory, address, port, secret), **limits})
        return cls(directory, address, port, secret)

    @property
    def process(self) -> ChildProcess:
        if self._process is None:
            raise RuntimeError("Synapse was not started")
        return self._process

    async def run(self) -> None:
        """Start the process, again if it ended, and wait until it answers.

        Raises:
            ProcessFailed: it did not start; the message quotes its log.
        """
        command = (interpreter("synapse"), "-m", "synapse.app.homeserver", "-c", "homeserver.yaml")
        self._process = await ChildProcess.start("Synapse", command, directory=self.directory, log=self.log)
        await self._process.wait_until_ready(f"{self.url}/health")

    async def stop(self, grace: float = STOP_SECONDS) -> None:
        """Stop it in order; what has not ended within `grace` seconds is killed."""
        if self._process is not None:
            await self._process.stop(grace)

    async def register(self, name: str, password: str, *, admin: bool = False) -> str:
        """Make an account and give back its user ID; no device is logged in."""
        path = "/_synapse/admin/v1/register"
        nonce = (await self.request("GET", path))["nonce"]
        mac = registration_mac(self.registration_secret, nonce, name, password, admin=admin)
        account = {"username": name, "password": password, "admin": admin, "inhibit_login": True}
        return str((await self.request("POST", path, {**account, "nonce": nonce, "mac": mac}))["user_id"])

    async def login(self, name: str, password: str, device_name: str = "") -> Login:
        """Log a new device in."""
        proof = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": name}, "password": password}
        body = {**proof, "initial_device_display_name": device_name}
        answer = await self.request("POST", "/_matrix/client/v3/login", body)
        return Login(answer["user_id"], answer["device_id"], answer["access_token"])

    def web_token(self, **claims: object) -> str:
        """A JSON Web Token with which it logs in the account whose name is the claim `sub`."""
        return json_web_token(self.registration_secret, claims)

    async def send_at(self, moment: float, user_id: str, room: str, event_type: str, content: Mapping[str, Any]) -> str:
        """Send an event that says it is of `moment` (seconds since the epoch); its ID.

        Homeservers let application services say when an event was: `user_id` must be one of ours (`BACKDATED`).
        """
        path = f"/_matrix/client/v3/rooms/{quote(room)}/send/{event_type}/{secrets.token_hex()}"
        query = f"?user_id={quote(user_id)}&ts={round(moment * 1000)}"
        return str((await self.request("PUT", path + query, content, token=self.registration_secret))["event_id"])

    async def lift_limits(self, user_id: str) -> None:
        """Exempt an account from the limit on messages, as a homeserver's administrator can."""
        if self._admin is None:
            await self.register("admin", self.registration_secret, admin=True)
            self._admin = await self.login("admin", self.registration_secret)
        path = f"/_synapse/admin/v1/users/{quote(user_id)}/override_ratelimit"
        unlimited = {"messages_per_second": 0, "burst_count": 0}
        await self.request("POST", path, unlimited, token=self._admin.access_token)

    async def request(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, token: str = "") -> Any:
        """One API call.

        Raises:
            aiohttp.ClientResponseError: any status from 400 on.
        """
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with (
            aiohttp.ClientSession(self.url, headers=headers) as session,
            session.request(method, path, json=body) as response,
        ):
            response.raise_for_status()
            return await response.json()


def write_configuration(directory: Path, settings: Mapping[str, Any]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "logging.yaml").write_text(json.dumps(LOGGING))
    (directory / APPLICATION_SERVICE).write_text(
        json.dumps(application_service(settings["registration_shared_secret"]))
    )
    (directory / "homeserver.yaml").write_text(json.dumps(settings))


def configuration(directory: Path, address: str, port: int, secret: str) -> dict[str, Any]:
    """homeserver.yaml: clients only, nothing that costs time at start, and no hash that is meant to be slow."""
    return {
        "server_name": SERVER_NAME,
        "public_baseurl": f"http://{address}:{port}/",
        "pid_file": str(directory / "synapse.pid"),
        "listeners": [
            {
                "port": port,
                "type": "http",
                "bind_addresses": [address],
                "resources": [{"names": ["client"], "compress": False}],
            }
        ],
        "database": {"name": "sqlite3", "args": {"database": str(directory / "homeserver.db")}},
        "signing_key_path": str(directory / "signing.key"),
        "media_store_path": str(directory / "media"),
        "log_config": str(directory / "logging.yaml"),
        "app_service_config_files": [str(directory / APPLICATION_SERVICE)],
        "registration_shared_secret": secret,
        "jwt_config": {"enabled": True, "secret": secret, "algorithm": "HS256"},
        "macaroon_secret_key": secret,
        "form_secret": secret,
        "bcrypt_rounds": 4,
        "report_stats": False,
        "trusted_key_servers": [],
        "suppress_key_server_warning": True,
        "enable_media_repo": False,
        "url_preview_enabled": False,
        "presence": {"enabled": False},
        "federation_domain_whitelist": [],
        "encryption_enabled_by_default_for_room_type": "off",
    }


def application_service(secret: str) -> dict[str, Any]:
    """One that hears of nothing and may speak for the accounts that `BACKDATED` names."""
    return {
        "id": "backdated",
        "url": None,
        "as_token": secret,
        "hs_token": secret,
        "sender_localpart": "backdated",
        "rate_limited": False,
        "namespaces": {"users": [{"regex": f"@{BACKDATED}.*", "exclusive": False}]},
    }


def rate_limits(*, stock_message_limits: bool) -> dict[str, Any]:
    """The limits that are lifted: all that a test run would hit, and the one on messages unless it is wanted."""
    lifted = {
        "rc_registration": UNLIMITED,
        "rc_login": {"address": UNLIMITED, "account": UNLIMITED, "failed_attempts": UNLIMITED},
        "rc_joins": {"local": UNLIMITED, "remote": UNLIMITED},
        "rc_joins_per_room": UNLIMITED,
        "rc_invites": {"per_room": UNLIMITED, "per_user": UNLIMITED, "per_issuer": UNLIMITED},
        "rc_room_creation": UNLIMITED,
        "rc_key_requests": UNLIMITED,
    }
    return lifted if stock_message_limits else {**lifted, "rc_message": UNLIMITED}


def registration_mac(secret: str, nonce: str, name: str, password: str, *, admin: bool) -> str:
    """Proof that we know the registration secret, as Synapse's admin API wants it."""
    fields = (nonce, name, password, "admin" if admin else "notadmin")
    return hmac.new(secret.encode(), b"\x00".join(field.encode() for field in fields), hashlib.sha1).hexdigest()


def json_web_token(secret: str, claims: Mapping[str, object]) -> str:
    """Claims with a signature by HMAC and SHA-256, as RFC 7515 has it."""
    signed = b".".join(_base64(json.dumps(part).encode()) for part in ({"alg": "HS256"}, claims))
    return (signed + b"." + _base64(hmac.digest(secret.encode(), signed, "sha256"))).decode()


def _base64(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")
