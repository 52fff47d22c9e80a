"""The decisions of the chart's provisioner; what it does with them, the integration tests show."""

from __future__ import annotations

import importlib
import json
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FILES = Path(__file__).resolve().parents[2] / "chart" / "files"
MODULES = ("apis", "bot", "provision")
LINES = 300


@pytest.fixture
def provision(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program, imported as Python does when it is started: its own directory is on the path."""
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    monkeypatch.syspath_prepend(FILES)
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("provision")


def plugin(provision: ModuleType, version: str, content: bytes = b"") -> Any:
    return provision.Plugin(content, "some.plugin", version, f"{version} {provision.digest(content)}")


def test_each_file_stays_small() -> None:
    assert {name for name in MODULES if len((FILES / f"{name}.py").read_text().splitlines()) >= LINES} == set()


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("0.9.0", "0.10.0"),
        ("1.0", "1.0.1"),
        ("1.0rc1", "1.0"),
        ("1.0a2", "1.0a10"),
        ("1.0.dev1", "1.0"),
        ("1.0-rc.1", "1.0.0"),
        ("1.0", "1.0.post1"),
        ("1.9.9", "10"),
        ("2.0.dev3", "2.0.1.dev1"),
    ],
)
def test_versions_in_order(provision: ModuleType, older: str, newer: str) -> None:
    assert provision.order(older) < provision.order(newer)


@pytest.mark.parametrize(("one", "other"), [("1", "1.0.0"), ("1.20", "1.20.0"), ("v1.2", "1.2"), ("0.0", "0")])
def test_versions_that_are_the_same(provision: ModuleType, one: str, other: str) -> None:
    assert provision.order(one) == provision.order(other)


def test_which_plugin_goes_up(provision: ModuleType) -> None:
    ours = plugin(provision, "1.1.0")
    older, newer = plugin(provision, "1.0.0"), plugin(provision, "1.2.0")
    rebuilt = plugin(provision, "1.1.0", b"rebuilt")
    assert provision.must_upload("", ours, ""), "maubot has none"
    assert provision.must_upload("1.0.0", ours, older.mark)
    assert provision.must_upload("1.0.0", ours, ""), "an older one, whoever brought it"
    assert provision.must_upload("1.2.0", ours, newer.mark), "a rollback"
    assert provision.must_upload("1.1.0", ours, rebuilt.mark), "ours, and not the same any more"
    assert not provision.must_upload("1.1.0", ours, ours.mark)
    assert not provision.must_upload("1.1.0", ours, ""), "somebody else brought it"
    assert not provision.must_upload("1.2.0", ours, ours.mark), "an admin brought it"
    assert not provision.must_upload("1.2.0", ours, "")
    assert provision.must_upload("1.2.0rc1", ours, "1.2.0-rc.1 hash"), "maubot writes versions in its own way"


@pytest.mark.parametrize(
    ("state", "create", "reconcile"),
    [
        ({"values": "new", "text": "there"}, False, False),
        ({"values": "old", "text": "there"}, True, True),
        ({"values": "new", "text": "unfinished"}, True, True),
        ({"values": "new", "text": "other"}, False, True),
        ({"values": "old", "text": "other"}, False, True),
        ({}, False, True),
    ],
)
def test_when_settings_are_applied(provision: ModuleType, state: dict[str, str], create: bool, reconcile: bool) -> None:
    decided = [provision.must_apply(state, "new", "there", reconcile=wins) for wins in (False, True)]
    assert decided == [create, reconcile]


@pytest.mark.parametrize("line", ["version: 1.2.3", "version: '1.2.3'", 'version:   "1.2.3"  # the newest'])
def test_what_a_plugin_says_of_itself(provision: ModuleType, tmp_path: Path, line: str) -> None:
    path = tmp_path / "plugin.mbp"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("maubot.yaml", f"maubot: 0.6.0\nid: some.plugin\n{line}\nextra_id: no\n")
    loaded = provision.Plugin.load(path)
    assert (loaded.id, loaded.version, loaded.content) == ("some.plugin", "1.2.3", path.read_bytes())


def test_what_the_homeserver_knows_of_a_device(provision: ModuleType) -> None:
    user, read = "@bot:example.org", provision.Bot.__init__.__globals__["Signing"].read
    keys = {"keys": {"ed25519:DEV": "device key"}, "signatures": {user: {"ed25519:DEV": "own"}}}
    answer: dict[str, Any] = {"device_keys": {user: {"DEV": keys}}}
    assert read(answer, user, "DEV") == ("device key", False, False)
    assert read(answer, user, "OTHER") == ("", False, False)
    answer["master_keys"] = {user: {}}
    answer["self_signing_keys"] = {user: {"keys": {"ed25519:self": "self"}}}
    assert read(answer, user, "DEV") == ("device key", True, False)
    keys["signatures"] = {user: {"ed25519:self": "signature"}}
    assert read(answer, user, "DEV") == ("device key", True, True)
    with pytest.raises(KeyError):
        read({}, user, "DEV")


def test_no_secret_gets_into_the_log(provision: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    provision.hide("hunter22", "ab", "")
    provision.tell("info", "step", 'password hunter22, and "ab"\nnew line')
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert json.loads(line.partition("message=")[2]) == 'password …, and "ab"\nnew line'


def test_a_refusal_of_kubernetes_is_told_without_its_text(provision: ModuleType) -> None:
    body = {"kind": "Status", "reason": "Invalid", "message": 'cannot handle "c2VjcmV0"'}
    assert str(provision.Refused("Kubernetes", 422, body)) == "Kubernetes answered 422 Invalid"


def test_a_homeserver_says_how_long_to_wait(provision: ModuleType) -> None:
    body = {"errcode": "M_LIMIT_EXCEEDED", "error": "slow down", "retry_after_ms": 90000}
    refusal = provision.Refused("x", 429, body)
    assert (str(refusal), refusal.pause) == ("x answered 429 M_LIMIT_EXCEEDED: slow down", 90.0)


def test_it_looks_sooner_while_something_is_missing(
    provision: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each pass: what it found, how long to wait at least; then how long it waited, and whether it was ready."""
    passes = [(False, 0), (False, 0), (False, 60), (True, 0), (False, 0), *5 * [(False, 0)], (True, 0)]
    ready, rests = tmp_path / "ready", list[tuple[float, bool]]()

    class Pass:
        pause = 0.0

        def look(self) -> bool:
            if len(rests) == len(passes):
                raise SystemExit
            found, self.pause = passes[len(rests)]
            return found

    monkeypatch.setattr(provision, "Provisioner", lambda *_: Pass())
    monkeypatch.setattr(provision, "Secret", lambda **_: None)
    monkeypatch.setattr(provision.time, "sleep", lambda seconds: rests.append((seconds, ready.exists())))
    with pytest.raises(SystemExit):
        provision.deploy({"secret": {}, "ready_file": str(ready)})
    assert [seconds for seconds, _ in rests] == [1, 2, 60, 60, 1, 2, 4, 8, 16, 32, 60]
    assert [there for _, there in rests] == [found for found, _ in passes]
    assert not ready.exists()
