"""Brings a maubot to what a release asks for, then looks every minute whether it still is so: provision.py CONFIG.json

Each step reads first and writes only what is missing. What a later run must know is in the release's Secret before
anything depends on it, so this program can be killed anywhere and started again.
"""

import hashlib
import json
import os
import re
import secrets
import signal
import sys
import time
import traceback
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from apis import MATRIX, MAUBOT, MINUTE, PATIENT, Api, Json, Maubot, Problem, Refused, Secret, hide, tell
from bot import Bot

UNFINISHED = "unfinished"
"""In the state, instead of the hash of the instance's text: it is being written, or written anew by maubot."""

NOT_APPLIED = "instance.settings are not applied: the settings were changed in maubot's UI"


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
    if not there or order(there) < order(ours.version):
        return True
    return bool(last) and order(last.split(maxsplit=1)[0]) == order(there) and last != ours.mark


def must_apply(state: Mapping[str, str], values: str, text: str, *, reconcile: bool) -> bool:
    """Whether the settings are to be written, by the hashes of what the values say and of what maubot has."""
    if (state.get("values"), state.get("text")) == (values, text):
        return False
    return reconcile or state.get("text") in (text, UNFINISHED)


class Provisioner:
    """One release: its Secret, its maubot, its bot. `look` is one pass over all steps; their methods are named so."""

    def __init__(self, config: Json, given: Callable[[str], str], secret: Secret) -> None:
        self._config, self._given, self._secret = config, given, secret
        self._reconcile = config["instance"]["manage"] == "reconcile"
        self._settings = json.dumps(config["instance"]["settings"], ensure_ascii=False)  # JSON is YAML
        self._homeserver = Api("the homeserver", config["homeserver"])
        self._maubot = Maubot(config["maubot"], "admin", lambda: secret.data["admin-password"])
        self._bot = Bot(config, given, secret, self._homeserver, self._maubot)
        self._instance_path = f"/instance/{quote(config['instance']['id'].lower(), safe='')}"
        self.pause = 0.0

    def look(self) -> bool:
        """One pass: whether everything is in place. What is not, the log says; `pause` is how long to wait at least."""
        self.pause = 0.0
        known = all(self._tried(step) for step in (self.secret, self.wait, self._bot.log_in, self._bot.client))
        if not known:
            return False
        rest = (self._bot.cross_sign, self.plugin, self.instance)  # each of them, whatever became of the one before
        return False not in [self._tried(step) for step in rest]

    def _tried(self, step: Callable[[], None]) -> bool:
        try:
            step()
        except Problem as problem:
            self.pause = max(self.pause, problem.pause)
            tell("error", step.__name__, problem)
        except Exception as error:  # noqa: BLE001 - an answer of a kind that nobody expects must not end us
            where = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__} in {where.name}, line {where.lineno}"  # its text may quote what is secret
            tell("error", step.__name__, f"something is not as expected ({what}); trying again")
        else:
            return True
        return False

    def secret(self) -> None:
        self._secret.read()
        if absent := sorted({"admin-password", "unshared-secret"} - self._secret.data.keys()):
            self._secret.write({key: secrets.token_urlsafe(32) for key in absent})
            tell("info", "secret", f"made {' and '.join(absent)}")

    def wait(self) -> None:
        for api, path in ((self._homeserver, MATRIX + "/versions"), (self._maubot.api, MAUBOT + "/features")):
            wait_for(api, path, Path(self._config["ready_file"]))

    def plugin(self) -> None:
        ours = Plugin.load(Path(self._config["plugin"]))
        there = ours.version_at(self._maubot)
        if must := must_upload(there, ours, self._secret.state.get("plugin", "")):
            found = self._maubot.find(self._instance_path)
            if found and digest(found["config"].encode()) == self._secret.state.get("text"):
                self._secret.remember(text=UNFINISHED)  # a plugin with other settings makes another text of the same
            if not there:
                self._secret.remember(revive="yes")  # maubot disables an instance that misses its plugin
            ours.upload(self._maubot)
        if not must and order(there) > order(ours.version):
            tell("info", "plugin", f"maubot has the newer version {there}, not our {ours.version}: it stays", once=True)
        else:
            self._secret.remember(plugin=ours.mark)

    def instance(self) -> None:
        found = self._maubot.find(self._instance_path)
        if found is None:
            self._secret.remember(values=digest(self._settings.encode()), text=UNFINISHED, restart="")
            found = self._make_instance()
        if not found["enabled"]:
            state = self._secret.state
            if not (self._reconcile or state.get("revive") or state.get("text") == UNFINISHED):
                raise Problem("the instance is disabled; enable it in maubot's UI, or let instance.manage be reconcile")
            found = self._put_instance("enabled", {"enabled": True})
        if self._secret.state.get("restart") and found["started"]:
            found = self._put_instance("stopped, since its client was replaced", {"started": False})
        if not found["started"]:
            found = self._put_instance("started", {"started": True})
        if not found["started"]:
            raise Problem("the instance does not start; maubot's log says why")
        self._secret.remember(restart="", revive="")
        self._apply_settings(found["config"])

    def _make_instance(self) -> Json:
        plugin = Plugin.load(Path(self._config["plugin"])).id
        running = {"primary_user": self._config["user"], "enabled": True, "started": True}
        return self._put_instance("made", {"type": plugin, **running, "config": self._settings})

    def _put_instance(self, what: str, changes: Json) -> Json:
        tell("info", "instance", f"the instance is {what}")
        return self._maubot.call("PUT", self._instance_path, changes, PATIENT)

    def _apply_settings(self, text: str) -> None:
        state, values = self._secret.state, digest(self._settings.encode())
        if not must_apply(state, values, digest(text.encode()), reconcile=self._reconcile):
            if state.get("values") != values:
                tell("warning", "instance", NOT_APPLIED, once=True)
            return
        self._secret.remember(values=values, text=UNFINISHED)
        again = "\n" if self._settings == text else ""  # maubot does not look at the same text twice
        try:
            text = self._put_instance("given its settings", {"config": self._settings + again})["config"]
        except Refused as refusal:
            raise Problem(f"instance.settings are refused ({refusal}); correct them") from None
        self._secret.remember(text=digest(text.encode()))


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
    if name not in ("device-id", "username"):
        hide(value)
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
                pause, rest = 1.0, MINUTE
            else:
                ready.unlink(missing_ok=True)
                pause, rest = min(pause * 2, MINUTE), max(pause, provisioner.pause)
            time.sleep(rest)
    finally:
        ready.unlink(missing_ok=True)


def upload(config: Json) -> None:
    """Bring the plugin to a maubot that somebody else runs. Raises Problem."""
    ours = Plugin.load(Path(config["plugin"]))
    maubot = Maubot(config["maubot"], given("username"), lambda: given("password"))
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
