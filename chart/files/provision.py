"""Brings a maubot to what a release asks for, then looks every minute whether it still is so: provision.py CONFIG.json

Each step reads first and writes only what is missing. What a later run must know is in the release's Secret before
anything depends on it, so this program can be killed anywhere and started again.
"""  # noqa: INP001 - a file that the chart ships, not a package

import contextlib
import hashlib
import json
import os
import re
import secrets
import signal
import sys
import time
import zipfile
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from apis import MAUBOT, MINUTE, Api, Json, Maubot, Problem, Refused, Secret, hide, tell

MATRIX = "/_matrix/client"
PATIENT = 300.0
"""Seconds that maubot gets for what it does only once, such as telling a recovery key."""
UNFINISHED = "unfinished"
"""In the state, instead of the hash of the instance's text: it is being written, or written anew by maubot."""
NO_KEY = (
    "the account has cross-signing keys already, and none of them has signed this device; give their recovery key as "
    "bot.recoveryKey, or reset the bot's cross-signing in another client of the bot and give the new one"
)
LOST_KEY = (
    "the bot is cross-signed, but its recovery key is not known here: another device of it could not be signed; "
    "give it as bot.recoveryKey, or reset the bot's cross-signing in another client of the bot and give the new one"
)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:24]


class Plugin(NamedTuple):
    """An .mbp file; `mark` is its version and a hash, to know it again."""

    content: bytes
    id: str
    version: str
    mark: str

    @classmethod
    def load(cls, path: Path) -> "Plugin":
        with zipfile.ZipFile(path) as archive:
            text, content = archive.read("maubot.yaml").decode(), path.read_bytes()
        meta = dict(re.findall(r"^(id|version):\s*['\"]?([^\s'\"#]+)", text, re.MULTILINE))
        return cls(content, meta["id"], meta["version"], f"{meta['version']} {digest(content)}")

    def version_at(self, maubot: Maubot) -> str:
        """The version that maubot has; empty if it has none."""
        return str((maubot.find(f"/plugin/{self.id}") or {}).get("version", ""))

    def upload(self, maubot: Maubot) -> None:
        maubot.call("POST", "/plugins/upload?allow_override=true", self.content, PATIENT)
        tell("info", "plugin", f"uploaded version {self.version} of {self.id}")


def order(version: str) -> tuple[list[int], bool, list[int]]:
    """What versions are compared by: 1.0rc1 < 1.0 = 1.0.0 < 1.0.post1 < 1.1."""
    release, rest = re.findall(r"^v?([\d.]*)(.*)$", version)[0]
    numbers = [int(number) for number in re.sub(r"(\.0)*\.?$", "", release).split(".") if number]
    final = not re.match(r"[-._]?(a|b|c|rc|dev|pre)", rest)
    return numbers, final, [int(number) for number in re.findall(r"\d+", rest)]


def must_upload(there: str, ours: Plugin, last: str) -> bool:
    """Whether a maubot that has version `there` (empty: none), and got `last` from us, gets ours."""
    return not there or order(there) < order(ours.version) or (last.split()[:1] == [there] and last != ours.mark)


def must_apply(state: Mapping[str, str], values: str, text: str, *, reconcile: bool) -> bool:
    """Whether the settings are to be written, by the hashes of what the values say and of what maubot has."""
    if (state.get("values"), state.get("text")) == (values, text):
        return False
    return reconcile or state.get("text") in (text, UNFINISHED)


class Signing(NamedTuple):
    """What the homeserver knows of a device: its key, whether its account has an identity, whether that signed it."""

    fingerprint: str
    identity: bool
    signed: bool

    @classmethod
    def read(cls, answer: Json, user: str, device: str) -> "Signing":
        keys = answer.get("device_keys", {}).get(user, {}).get(device, {})
        own = answer.get("self_signing_keys", {}).get(user, {}).get("keys", {})
        signed = any(key in keys.get("signatures", {}).get(user, {}) for key in own)
        return cls(keys.get("keys", {}).get(f"ed25519:{device}", ""), user in answer.get("master_keys", {}), signed)


class Provisioner:
    """One release: its Secret, its maubot, its bot. `look` is one pass over all steps; their methods are named so."""

    def __init__(self, config: Json, given: Callable[[str], str], secret: Secret) -> None:
        self._config, self._given, self._secret = config, given, secret
        self._user, self._reconcile = config["user"], config["instance"]["manage"] == "reconcile"
        self._settings = json.dumps(config["instance"]["settings"], ensure_ascii=False)  # JSON is YAML
        self._homeserver = Api("the homeserver", config["homeserver"])
        self._maubot = Maubot(config["maubot"], "admin", lambda: secret.data["admin-password"])
        self._client_path = f"/client/{quote(self._user, safe='')}"
        self._instance_path = f"/instance/{quote(config['instance']['id'].lower(), safe='')}"
        self._token, self._device, self._fingerprint = "", "", ""
        self._told: set[str] = set()
        self.pause = 0.0

    def look(self) -> bool:
        """One pass: whether everything is in place. What is not, the log says; `pause` is how long to wait at least."""
        self.pause = 0.0
        known = all(self._tried(step) for step in (self.secret, self.wait, self.log_in, self.client))
        if not known:
            return False
        done = [self._tried(step) for step in (self.cross_sign, self.plugin, self.instance)]  # each, as far as it goes
        return all(done)

    def _tried(self, step: Callable[[], None]) -> bool:
        try:
            step()
        except Problem as problem:
            self.pause = max(self.pause, problem.pause)
            tell("error", step.__name__, problem)
        except Exception as error:  # noqa: BLE001 - an answer of a kind that nobody expects must not end us
            tell("error", step.__name__, f"something is not as expected ({type(error).__name__}); trying again")
        else:
            return True
        return False

    def _tell_once(self, step: str, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            tell("warning", step, text)

    @property
    def _state(self) -> dict[str, str]:
        return dict(json.loads(self._secret.data.get("state") or "{}"))

    def _remember(self, **changes: str) -> None:
        state = self._state
        if any(state.get(key, "") != value for key, value in changes.items()):
            self._secret.write({"state": json.dumps({**state, **changes}, sort_keys=True)})

    def secret(self) -> None:
        self._secret.read()
        if absent := sorted({"admin-password", "unshared-secret"} - self._secret.data.keys()):
            self._secret.write({key: secrets.token_urlsafe(32) for key in absent})
            tell("info", "secret", f"made {' and '.join(absent)}")

    def wait(self) -> None:
        for api, path in ((self._homeserver, MATRIX + "/versions"), (self._maubot.api, MAUBOT + "/features")):
            wait_for(api, path, Path(self._config["ready_file"]))

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
        device = (self._given("device-id") or there) if given else self._secret.data["device-id"]
        if not device or (found.get("user_id"), there or device) != (self._user, device):
            where = (
                "bot.userId and bot.deviceId" if given else "bot.userId, or empty the Secret's device-id, access-token"
            )
            what = (
                f"the access token is of device '{there}' of {found.get('user_id')}, not of '{device}' of {self._user}"
            )
            raise Problem(f"{what}; correct {where}", MINUTE)
        self._token, self._device = token, device

    def _whoami(self, token: str) -> Json | None:
        """Whose token it is; None if the homeserver does not take it."""
        try:
            return self._homeserver.call("GET", MATRIX + "/v3/account/whoami", None, token)
        except Refused as refusal:
            if refusal.status == HTTPStatus.UNAUTHORIZED:
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
        found = self._maubot.find(self._client_path)
        if found is None:
            found = self._put_client("made", {**details, **quiet, "enabled": True, "started": True})
        if any(found[key] != value for key, value in details.items()):
            self._remember(restart="yes")  # a running instance keeps the client that it was started with
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
        return self._maubot.call("PUT", self._client_path, changes, PATIENT)

    def cross_sign(self) -> None:
        found = self._signing()
        self._check_keys(found.fingerprint)
        key = self._given("recovery-key") or self._secret.data.get("recovery-key", "")
        if not found.signed and not found.identity:
            self._generate_recovery_key()
        elif not found.signed:
            self._verify(key)
        elif not key:
            self._tell_once("cross_sign", LOST_KEY)
        if not found.signed and not self._signing().signed:
            raise Problem("maubot has signed the device, and the homeserver does not show it; trying again")
        self._remember(keys=f"{self._device} {self._fingerprint}")

    def _signing(self) -> Signing:
        body = {"device_keys": {self._user: [self._device]}}
        answer = self._homeserver.call("POST", MATRIX + "/v3/keys/query", body, self._token)
        return Signing.read(answer, self._user, self._device)

    def _check_keys(self, fingerprint: str) -> None:
        """A device whose keys were lost stays deaf, since others keep to the old ones: log in as another one."""
        device, _, before = self._state.get("keys", "").partition(" ")
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
            answer = self._maubot.call("POST", self._client_path + "/generate_recovery_key", {}, PATIENT)
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
            self._maubot.call("POST", self._client_path + "/verify", {"recovery_key": key}, PATIENT)
        except Refused as refusal:
            raise Problem(
                f"the recovery key does not fit ({refusal}); give the account's own as bot.recoveryKey"
            ) from None
        tell("info", "cross_sign", f"signed device {self._device} with the recovery key")

    def plugin(self) -> None:
        ours = Plugin.load(Path(self._config["plugin"]))
        there = ours.version_at(self._maubot)
        if must := must_upload(there, ours, self._state.get("plugin", "")):
            found = self._maubot.find(self._instance_path)
            if found and digest(found["config"].encode()) == self._state.get("text"):
                self._remember(text=UNFINISHED)  # a plugin with other settings makes another text of the same
            ours.upload(self._maubot)
        if not must and order(there) > order(ours.version):
            self._tell_once("plugin", f"maubot has the newer version {there}, not our {ours.version}: it stays")
        else:
            self._remember(plugin=ours.mark)

    def instance(self) -> None:
        found = self._maubot.find(self._instance_path)
        if found is None:
            self._remember(values=digest(self._settings.encode()), text=UNFINISHED, restart="")
            found = self._make_instance()
        if not found["enabled"]:
            if not self._reconcile:
                raise Problem("the instance is disabled; enable it in maubot's UI, or let instance.manage be reconcile")
            found = self._put_instance("enabled", {"enabled": True})
        if self._state.get("restart") and found["started"]:
            found = self._put_instance("stopped, since its client was replaced", {"started": False})
        if not found["started"]:
            found = self._put_instance("started", {"started": True})
        if not found["started"]:
            raise Problem("the instance does not start; maubot's log says why")
        self._remember(restart="")
        self._apply_settings(found["config"])

    def _make_instance(self) -> Json:
        plugin = Plugin.load(Path(self._config["plugin"])).id
        body = {"type": plugin, "primary_user": self._user, "enabled": True, "started": True, "config": self._settings}
        return self._put_instance("made", body)

    def _put_instance(self, what: str, changes: Json) -> Json:
        tell("info", "instance", f"the instance is {what}")
        return self._maubot.call("PUT", self._instance_path, changes, PATIENT)

    def _apply_settings(self, text: str) -> None:
        state, values = self._state, digest(self._settings.encode())
        if not must_apply(state, values, digest(text.encode()), reconcile=self._reconcile):
            if state.get("values") != values:
                self._tell_once(
                    "instance", "instance.settings are not applied: the settings were changed in maubot's UI"
                )
            return
        self._remember(values=values, text=UNFINISHED)
        new = (
            self._settings if self._settings != text else self._settings + "\n"
        )  # maubot does not check the same again
        try:
            text = self._put_instance("given its settings", {"config": new})["config"]
        except Refused as refusal:
            raise Problem(f"instance.settings are refused ({refusal}); correct them") from None
        self._remember(text=digest(text.encode()))


def silence(api: Api, path: str) -> str:
    """Why a server does not answer; nothing if it does."""
    try:
        api.call("GET", path)
    except Problem as problem:
        return str(problem)
    return ""


def wait_for(api: Api, path: str, ready: Path) -> None:
    """Wait until a server answers; we are not ready meanwhile."""
    pause = 1.0
    while reason := silence(api, path):
        if pause == 1.0:
            ready.unlink(missing_ok=True)
            tell("warning", "wait", f"{reason}; waiting for it")
        time.sleep(pause)
        pause = min(pause * 2, 10.0)
    if pause > 1.0:
        tell("info", "wait", f"{api.name} answers")


def given(name: str) -> str:
    """One of the credentials, or nothing; looked up anew each time, since the kubelet renews their files."""
    path = Path(os.environ.get("CREDENTIALS", "/credentials")) / name
    value = path.read_text().strip("\r\n") if path.is_file() else ""
    hide(*([value] if name not in ("device-id", "username") else []))
    return value


def deploy(config: Json) -> None:
    """Look for ever: every minute, and sooner while something is missing."""
    provisioner, ready, pause = Provisioner(config, given, Secret(**config["secret"])), Path(config["ready_file"]), 1.0
    try:
        while True:
            if provisioner.look():
                if not ready.exists():
                    tell("info", "done", "everything is in place")
                ready.touch()
                pause = MINUTE
            else:
                ready.unlink(missing_ok=True)
            time.sleep(max(pause, provisioner.pause))
            pause = min(pause * 2, MINUTE)
    finally:
        ready.unlink(missing_ok=True)


def upload(config: Json) -> None:
    """Bring the plugin to a maubot that somebody else runs. Raises Problem."""
    ours, maubot = (
        Plugin.load(Path(config["plugin"])),
        Maubot(config["maubot"], given("username"), lambda: given("password")),
    )
    wait_for(maubot.api, MAUBOT + "/features", Path(config["ready_file"]))
    there = ours.version_at(maubot)
    if must_upload(there, ours, ""):
        ours.upload(maubot)
    else:
        tell("info", "plugin", f"maubot has version {there}, which is not older than {ours.version}: it stays")


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    config: Json = json.loads(Path(sys.argv[1]).read_text())
    try:
        (upload if config["mode"] == "upload" else deploy)(config)
    except Problem as problem:
        tell("error", "plugin", problem)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
