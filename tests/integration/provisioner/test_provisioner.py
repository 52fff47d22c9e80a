"""The chart's provisioner on a real Synapse and a real maubot: from nothing to a bot, killed anywhere, never twice."""

from __future__ import annotations

import asyncio
import zipfile
from pathlib import Path

import pytest

from tests.stack.maubot import Maubot
from tests.stack.stack import PLUGIN, Servers, plugin_file

from .outcome import assert_answers, assert_whole
from .release import Release


def plugin_of(path: Path, version: str) -> str:
    """The built plugin, as if it had another version."""
    with zipfile.ZipFile(plugin_file()) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "maubot.yaml":
                content = b"".join(
                    f"version: {version}\n".encode() if line.startswith(b"version:") else line
                    for line in content.splitlines(keepends=True)
                )
            new.writestr(name, content)
    return str(path)


def archive_of(path: str) -> bytes:
    return Path(path).read_bytes()


async def version_at(release: Release) -> str:
    return str((await release.api.call("GET", f"/plugin/{PLUGIN}"))["version"])


async def test_from_nothing_to_a_bot_that_answers(release: Release, servers: Servers, tmp_path: Path) -> None:
    """maubot is started with the password that was made for it, as the kubelet would."""
    release.change_secret(admin_password=None)
    await release.run_until_told("waiting for it", maubot="http://127.0.0.1:9")
    made = release.secret
    assert set(made) == {"admin-password", "unshared-secret"}
    maubot, shared = Maubot.prepare(tmp_path / "maubot", servers.synapse, password=made["admin-password"]), release.api
    try:
        await maubot.run()
        async with maubot.api() as release.api:
            release.config["maubot"] = maubot.url
            await assert_answers(release, servers)
    finally:
        release.api = shared
        await maubot.stop(3)
    log = release.log.read_text()
    assert all(value not in log for key, value in release.secret.items() if key not in ("state", "device-id"))
    assert release.bot.password not in log


async def test_a_second_run_writes_nothing(release: Release) -> None:
    await release.run_until_ready()
    made = release.gate.writes.copy()
    assert made, "the gate sees writes"
    version = release.secret
    release.gate.asked.clear()
    await release.run_until_ready()
    assert release.gate.writes == made
    assert release.secret == version
    assert not any(name.endswith("/login") and "auth" not in name for name in release.gate.asked)


@pytest.mark.parametrize(
    ("when", "spared"),
    [("after", "no write"), ("after", "generate_recovery_key"), ("before", " recovery-key")],
)
async def test_killed_at_every_single_write(release: Release, when: str, spared: str) -> None:
    """Each run is killed at its first write at which none was killed before, and hears of it no more.

    maubot tells a recovery key once: it is lost with who asked for it, if that is killed then and not spared.
    """
    killed: list[str] = []

    def kill(write: str) -> bool:
        if write in killed or spared in write:
            return False
        killed.append(write)
        return True

    setattr(release.gate, f"kill_{when}", kill)
    while not release.ready.exists():
        await release.start()
        await release.until(lambda: release.ready.exists() or not release.process.running, "an end")
        assert len(killed) < 40, killed
    await release.kill()
    assert len(killed) >= 12, killed
    told_once = spared != "no write"
    await assert_whole(release, recovery_key=told_once)
    lost = bool(release.told("its recovery key is not known here"))
    assert ("recovery-key" in release.secret, lost) == (told_once, not told_once)


# What an admin did, and what the release asks for


async def test_a_client_that_was_disabled_comes_back(release: Release) -> None:
    await release.run_until_ready()
    await release.api.change_client(release.bot.user_id, started=False, enabled=False, displayname="Toggle")
    before = len(release.gate.writes)
    await release.run_until_ready()
    assert len(release.gate.writes) == before + 2
    await assert_whole(release)
    assert (await release.api.client(release.bot.user_id))["displayname"] == "Toggle"


async def test_an_instance_that_maubot_disabled_for_want_of_its_plugin_comes_back(release: Release) -> None:
    """As when the claim is lost, and the database is elsewhere."""
    await release.run_until_ready()
    for file in (release.maubot.directory / "plugins").glob("*.mbp"):
        file.unlink()
    await release.maubot.restart()
    assert not (await release.api.instance(release.name))["enabled"]
    await release.run_until_ready()
    await assert_whole(release)


async def test_plugins_go_up_and_back_and_not_over_a_newer_one(release: Release, tmp_path: Path) -> None:
    ours = release.config["plugin"]
    await release.run_until_ready()
    for version in ("0.2.0", "0.1.5"):
        release.config["plugin"] = plugin_of(tmp_path / f"{version}.mbp", version)
        await release.run_until_ready()
        assert await version_at(release) == version
        await assert_whole(release)
    await release.api.upload_plugin(archive_of(plugin_of(tmp_path / "admin.mbp", "7.0.0")))
    release.config["plugin"] = ours
    await release.run_until_ready()
    assert await version_at(release) == "7.0.0"
    assert release.told("maubot has the newer version 7.0.0, not our 0.1.0: it stays")


@pytest.mark.parametrize("manage", ["create", "reconcile"])
async def test_who_wins_over_the_settings(release: Release, manage: str) -> None:
    instance = release.config["instance"]
    instance["manage"] = manage
    await release.run_until_ready()
    instance["settings"] = {"maximum_age": "3m"}
    await release.run_until_ready()
    assert (await release.api.settings(release.name))["maximum_age"] == "3m", "nobody has changed anything in the UI"
    await release.api.save_settings(release.name, {**await release.api.settings(release.name), "maximum_age": "4m"})
    await release.run_until_ready()
    instance["settings"] = {"maximum_age": "5m"}
    await release.run_until_ready()
    wins = manage == "reconcile"
    assert (await release.api.settings(release.name))["maximum_age"] == ("5m" if wins else "4m")
    assert bool(release.told("instance.settings are not applied")) != wins
    await release.api.change_instance(release.name, started=False, enabled=False)
    if wins:
        await release.run_until_ready()
    else:
        await release.run_until_told("the instance is disabled; enable it in maubot's UI")
    assert (await release.api.instance(release.name))["enabled"] == wins


@pytest.mark.parametrize("there", [False, True])
async def test_settings_that_the_plugin_refuses(release: Release, there: bool) -> None:
    if there:
        await release.run_until_ready()
    release.config["instance"]["settings"] = {"maximum_age": "soon"}
    line = await release.run_until_told("instance.settings are refused")
    assert "maximum_age" in line
    await release.run_until_told("instance.settings are refused")
    release.config["instance"]["settings"] = {"maximum_age": "3m"}
    await release.run_until_ready()
    assert (await release.api.settings(release.name))["maximum_age"] == "3m"


# Its life


async def test_it_waits_for_what_does_not_answer_and_ends_on_sigterm(release: Release) -> None:
    release.ready.touch()
    homeserver, release.config["homeserver"] = release.config["homeserver"], "http://127.0.0.1:9"
    await release.start()
    await release.until(lambda: release.told("waiting for it"), "it to wait")
    assert not release.ready.exists()
    await asyncio.sleep(2.5)
    assert len(release.told("step=wait")) == 1
    release.process.terminate()
    assert await release.process.wait() == 0
    release.config["homeserver"] = homeserver
    await release.start()
    await release.until(release.ready.exists, "it to be ready")
    release.process.terminate()
    assert await release.process.wait() == 0
    assert not release.ready.exists()


async def test_a_maubot_that_others_run_gets_the_plugin_once(release: Release) -> None:
    release.config["mode"] = "upload"
    release.credentials = {"username": "admin", "password": "not this one"}
    await release.start()
    assert await release.process.wait() == 1
    assert "maubot refuses the password of admin" in release.log.read_text()
    release.credentials["password"] = release.maubot.password
    for _ in range(2):
        await release.start()
        assert await release.process.wait() == 0
    assert await version_at(release) == "0.1.0"
    assert release.gate.writes == ["POST /_matrix/maubot/v1/plugins/upload"]
    assert {name.split("/")[1] for name in release.gate.asked} == {"_matrix"}
