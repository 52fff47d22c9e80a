"""The bot's account: logged in once, the only client of its kind in maubot, cross-signed. See `provision`."""

import contextlib
import secrets
import signal
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import quote

from apis import MATRIX, MINUTE, PATIENT, Api, Json, Maubot, Problem, Refused, Secret, tell

GIVEN_LOGIN = "bot.userId and bot.deviceId"
STORED_LOGIN = "bot.userId, or for another account remove device-id, access-token and recovery-key from the Secret"
NO_KEY = (
    "the account has cross-signing keys already, and none of them has signed this device; give their recovery key as "
    "bot.recoveryKey, or reset the bot's cross-signing in another client of the bot and give the new one"
)
LOST_KEY = (
    "the bot is cross-signed, but its recovery key is not known here: another device of it could not be signed; "
    "give it as bot.recoveryKey, or reset the bot's cross-signing in another client of the bot and give the new one"
)


class Signing(NamedTuple):
    """What the homeserver knows of a device: its key, whether its account has an identity, whether that signed it."""

    fingerprint: str
    identity: bool
    signed: bool

    @classmethod
    def read(cls, answer: Json, user: str, device: str) -> "Signing":
        keys = answer["device_keys"].get(user, {}).get(device, {})
        own = answer.get("self_signing_keys", {}).get(user, {}).get("keys", {})
        signed = any(key in keys.get("signatures", {}).get(user, {}) for key in own)
        return cls(keys.get("keys", {}).get(f"ed25519:{device}", ""), user in answer.get("master_keys", {}), signed)


class Bot:
    """The account that a release names; its steps follow each other, and `cross_sign` needs those before.

    `given` reads one of the credentials that people gave, and is empty where they did not.
    """

    def __init__(
        self, config: Json, given: Callable[[str], str], secret: Secret, homeserver: Api, maubot: Maubot
    ) -> None:
        self._config, self._given, self._secret = config, given, secret
        self._homeserver, self._maubot = homeserver, maubot
        self._user, self._reconcile = config["user"], config["instance"]["manage"] == "reconcile"
        self._path = f"/client/{quote(self._user, safe='')}"
        self._token, self._device, self._fingerprint = "", "", ""

    def log_in(self) -> None:
        given = self._given("access-token")
        token = given or self._secret.data.get("access-token", "")
        found = self._whoami(token) if token else None
        if found is None and given:
            raise Problem("the homeserver does not take bot.accessToken; give a valid one and its bot.deviceId", MINUTE)
        if found is None:
            token = self._new_login("the homeserver takes the stored token no more" if token else "there is no token")
            found = self._whoami(token) or {}
        there = str(found.get("device_id", ""))
        device = (self._given("device-id") or there) if given else self._secret.data.get("device-id", "")
        if not device or (found.get("user_id"), there or device) != (self._user, device):
            what = f"the access token is of '{there}' of {found.get('user_id')}, not of '{device}' of {self._user}"
            raise Problem(f"{what}; correct {GIVEN_LOGIN if given else STORED_LOGIN}", MINUTE)
        self._token, self._device = token, device

    def _whoami(self, token: str) -> Json | None:
        """Whose token it is; None if the homeserver does not take it."""
        try:
            return self._homeserver.call("GET", MATRIX + "/v3/account/whoami", None, token)
        except Refused as refusal:
            if refusal.code == "M_UNKNOWN_TOKEN":
                return None
            raise

    def _new_login(self, why: str) -> str:
        password, jwt = self._given("password"), self._given("jwt")
        if not password and not jwt:
            raise Problem("nothing to log the bot in with; give bot.password, bot.jwt or bot.accessToken", MINUTE)
        if "device-id" not in self._secret.data:
            self._secret.write({"device-id": self._given("device-id") or secrets.token_hex(5).upper()})
        device = self._secret.data["device-id"]
        body: Json = {"type": "org.matrix.login.jwt", "token": jwt}
        if password:
            identifier = {"type": "m.id.user", "user": self._user}
            body = {"type": "m.login.password", "identifier": identifier, "password": password}
        body.update(device_id=device, initial_device_display_name=self._config["device_name"])
        tell("info", "log_in", f"{why}: logging {self._user} in as device {device}")
        try:
            token = str(self._homeserver.call("POST", MATRIX + "/v3/login", body)["access_token"])
        except Refused as refusal:
            wrong = f"the bot cannot log in ({refusal}); check bot.userId and bot.password or bot.jwt"
            raise Problem(wrong, max(MINUTE, refusal.pause)) from None
        self._secret.insist({"access-token": token})
        return token

    def client(self) -> None:
        details = {"homeserver": self._config["homeserver"], "access_token": self._token, "device_id": self._device}
        quiet = {"sync": False, "autojoin": False}  # the plugin does both itself, and better
        found = self._maubot.find(self._path)
        if found is None:
            self._secret.remember(revive="yes")  # maubot disables an instance that misses its client
            found = self._put_client("made", {**details, **quiet, "enabled": True, "started": True})
        if any(found[key] != value for key, value in details.items()):
            self._secret.remember(restart="yes")  # a running instance keeps the client that it was started with
            found = self._put_client("corrected", details)  # all three: what is left out, maubot empties
        if self._reconcile and any(found[key] for key in quiet):
            found = self._put_client("quieted", quiet)
        if not found["enabled"]:
            found = self._put_client("enabled", {"enabled": True})
        if not found["started"]:  # not together with enabled: maubot starts only what is enabled before
            found = self._put_client("started", {"started": True})
        if not found["started"] or not found["fingerprint"]:
            raise Problem("the client does not start, or not with encryption; maubot's log says why")
        self._fingerprint = found["fingerprint"].replace(" ", "")

    def _put_client(self, what: str, changes: Json) -> Json:
        tell("info", "client", f"the client of {self._user} is {what}")
        return self._maubot.call("PUT", self._path, changes, PATIENT)

    def cross_sign(self) -> None:
        found = self._signing()
        self._check_keys(found.fingerprint)
        self._secret.remember(keys=f"{self._device} {self._fingerprint}")
        key = self._given("recovery-key") or self._secret.data.get("recovery-key", "")
        if not found.signed and not found.identity:
            self._generate_recovery_key()
        elif not found.signed:
            self._verify(key)
        elif not key:
            tell("warning", "cross_sign", LOST_KEY, once=True)
        if not found.signed and not self._signing().signed:
            raise Problem("maubot has signed the device, and the homeserver does not show it; trying again")

    def _signing(self) -> Signing:
        body = {"device_keys": {self._user: [self._device]}}
        answer = self._homeserver.call("POST", MATRIX + "/v3/keys/query", body, self._token)
        return Signing.read(answer, self._user, self._device)

    def _check_keys(self, fingerprint: str) -> None:
        """A device whose keys were lost stays deaf, since others keep to the old ones: log in as another one."""
        device, _, before = self._secret.state.get("keys", "").partition(" ")
        if device != self._device and fingerprint != self._fingerprint:
            raise Problem("the homeserver has not got the device's keys from maubot yet; trying again")
        if device != self._device or before == fingerprint == self._fingerprint:
            return
        lost = f"the keys of device {device} were lost, in maubot or at the homeserver"
        if self._given("access-token") or not (self._given("password") or self._given("jwt")):
            raise Problem(f"{lost}; log the bot in as a new device, and give bot.accessToken and bot.deviceId of it")
        self._secret.write({"device-id": secrets.token_hex(5).upper(), "access-token": None})
        with contextlib.suppress(Problem):
            self._homeserver.call("POST", MATRIX + "/v3/logout", {}, self._token)
        raise Problem(f"{lost}; the bot gets a new device")

    def _generate_recovery_key(self) -> None:
        self._secret.write({"recovery-key": "a proof that it could be stored"}, dry_run=True)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # nobody but us is ever told the key
        try:
            answer = self._maubot.call("POST", self._path + "/generate_recovery_key", {}, PATIENT)
            self._secret.insist({"recovery-key": answer["recovery_key"]})
        except Refused as refusal:
            raise Problem(NO_KEY if refusal.status == HTTPStatus.CONFLICT else f"{refusal}; trying again") from None
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        tell("info", "cross_sign", "the bot is cross-signed; its recovery key is in the Secret")

    def _verify(self, key: str) -> None:
        if not key:
            raise Problem(NO_KEY)
        try:
            self._maubot.call("POST", self._path + "/verify", {"recovery_key": key}, PATIENT)
        except Refused as refusal:
            wrong = f"the recovery key does not fit ({refusal}); give the account's own as bot.recoveryKey"
            raise Problem(wrong) from None
        tell("info", "cross_sign", f"signed device {self._device} with the recovery key")
