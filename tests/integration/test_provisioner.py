"""The chart's provisioner on a real Synapse and a real maubot: from nothing to a bot, killed anywhere, never twice."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.conversation import told
from tests.integration.provisioning import Release
from tests.stack.chat import Account, ChatClient
from tests.stack.cluster import SimulatedCluster
from tests.stack.maubot import Maubot, MaubotAPI
from tests.stack.stack import PLUGIN, Servers, plugin_file


@pytest.fixture(scope="module")
async def maubot(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Maubot]:
    """A maubot without anything in it."""
    maubot = Maubot.prepare(tmp_path_factory.mktemp("provisioned"), servers.synapse)
    try:
        await maubot.run()
        yield maubot
    finally:
        await maubot.stop(3)


@pytest.fixture(scope="module")
async def api(maubot: Maubot) -> AsyncIterator[MaubotAPI]:
    async with maubot.api() as api:
        yield api


@pytest.fixture
async def cluster() -> AsyncIterator[SimulatedCluster]:
    async with SimulatedCluster() as cluster:
        cluster.add_deployment("demo", "web")
        yield cluster


async def account(servers: Servers, name: str) -> Account:
    local, password = f"{name}-{secrets.token_hex(3)}", secrets.token_urlsafe(12)
    return Account(servers.synapse, local, password, await servers.synapse.register(local, password))


@pytest.fixture
async def release(
    servers: Servers, maubot: Maubot, api: MaubotAPI, cluster: SimulatedCluster, tmp_path: Path
) -> AsyncIterator[Release]:
    """A release whose bot has an account, and nothing else."""
    async with Release.open(tmp_path, cluster, maubot, api, await account(servers, "bot")) as release:
        yield release
        await release.kill()
        await release.delete()


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


async def assert_whole(release: Release, *, recovery_key: bool = True) -> None:
    """One device, signed; a recovery key that verifies; one client and one instance, running."""
    secret = release.secret
    assert await release.devices() == [secret["device-id"]]
    assert await release.signed()
    client = await release.api.client(release.bot.user_id)
    assert (client["enabled"], client["started"], client["sync"], client["autojoin"]) == (True, True, False, False)
    assert (client["device_id"], client["access_token"]) == (secret["device-id"], secret["access-token"])
    assert [instance["id"] for instance in client["instances"]] == [release.name]
    assert (await release.api.instance(release.name))["started"]
    if recovery_key:
        await release.api.verify(release.bot.user_id, secret["recovery-key"])


async def assert_answers(release: Release, servers: Servers) -> None:
    """Somebody whom the release allows starts the workload in an encrypted room."""
    person = await account(servers, "alice")
    target = {"kind": "Deployment", "namespace": "demo", "name": "web", "replicas": 1}
    settings = {"targets": {"web": target}, "kubeconfig": str(release.cluster.kubeconfig)}
    release.config["instance"]["settings"] = {**settings, "allowed_users": [person.user_id]}
    release.cluster.authorization.reset()
    release.cluster.scale("demo", "web", 0)
    await release.run_until_ready()
    await assert_whole(release)
    alice = await ChatClient.log_in(person)
    try:
        room = await alice.create_room(invite=[release.bot.user_id])
        await alice.wait_membership(room, release.bot.user_id)
        await told(alice, room, "start", "is running")
    finally:
        await alice.close()
    assert release.cluster.replicas("Deployment", "demo", "web") == 1


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


# The account


async def test_a_token_and_a_device_that_are_given(release: Release) -> None:
    login = await release.synapse.login(release.bot.name, release.bot.password)
    release.credentials = {"access-token": login.access_token, "device-id": login.device_id}
    await release.run_until_ready()
    assert not release.gate.asked.count("POST /_matrix/client/v3/login")
    assert {"access-token", "device-id"}.isdisjoint(release.secret)
    client = await release.api.client(release.bot.user_id)
    assert (client["device_id"], client["access_token"]) == (login.device_id, login.access_token)


async def test_a_token_of_another_device(release: Release) -> None:
    login = await release.synapse.login(release.bot.name, release.bot.password)
    release.credentials = {"access-token": login.access_token, "device-id": "ANOTHER"}
    line = await release.run_until_told("level=error step=log_in")
    assert f"is of '{login.device_id}' of {release.bot.user_id}, not of 'ANOTHER'" in line
    assert "correct bot.userId and bot.deviceId" in line


async def test_a_wrong_password_is_told_and_tried_once(release: Release) -> None:
    release.credentials = {"password": "wrong, and secret"}
    await release.start()
    line = await release.until(lambda: [line for line in release.lines() if "cannot log in" in line], "a refusal")
    assert "M_FORBIDDEN" in line[0]
    await asyncio.sleep(4)
    assert release.gate.asked.count("POST /_matrix/client/v3/login") == 1
    assert "wrong, and secret" not in release.log.read_text()


async def test_a_token_that_is_not_taken_is_renewed_on_the_same_device(release: Release, servers: Servers) -> None:
    """The instance is restarted, since it would keep the old client: plaintext, or silence."""
    await release.run_until_ready()
    first = release.secret
    release.change_secret(access_token="expired")
    release.gate.writes.clear()
    await release.run_until_ready()
    same = f"takes the stored token no more: logging {release.bot.user_id} in as device {first['device-id']}"
    assert len(release.told(same)) == 1
    assert release.gate.writes.count(f"PUT /_matrix/maubot/v1/instance/{release.name}") == 2
    assert "expired" not in release.secret["access-token"]
    kept = ("device-id", "recovery-key", "admin-password", "unshared-secret")
    assert [release.secret[key] for key in kept] == [first[key] for key in kept]
    await assert_answers(release, servers)


async def test_a_device_that_was_logged_out_is_replaced(release: Release, servers: Servers) -> None:
    """The homeserver forgets a device's keys with it, and maubot would never send them again: the bot would be deaf."""
    await release.run_until_ready()
    first = release.secret
    await release.synapse.request("POST", "/_matrix/client/v3/logout", {}, token=first["access-token"])
    await assert_answers(release, servers)
    assert release.told("were lost, in maubot or at the homeserver; the bot gets a new device")
    assert release.secret["device-id"] != first["device-id"]
    assert release.secret["recovery-key"] == first["recovery-key"]


async def test_keys_that_maubot_lost_are_replaced_with_the_device(release: Release, servers: Servers) -> None:
    """Others would go on encrypting for the old ones."""
    await release.run_until_ready()
    first = release.secret
    await release.maubot.stop()
    with sqlite3.connect(release.maubot.directory / "maubot.db") as database:
        database.execute("DELETE FROM crypto_account WHERE account_id = ?", (release.bot.user_id,))
    database.close()
    await release.maubot.run()
    await assert_answers(release, servers)
    assert release.secret["device-id"] != first["device-id"]
    assert release.secret["recovery-key"] == first["recovery-key"]


async def test_the_same_device_for_a_client_and_an_instance_that_are_gone(release: Release) -> None:
    await release.run_until_ready()
    kept = ("device-id", "access-token", "recovery-key")
    before = release.secret
    await release.delete()
    await release.run_until_ready()
    assert [release.secret[key] for key in kept] == [before[key] for key in kept]
    await assert_whole(release)


# Cross-signing


async def test_an_account_that_has_cross_signing_already(release: Release) -> None:
    elsewhere = await ChatClient.log_in(release.bot)
    await elsewhere.log_out()
    line = await release.run_until_told("level=error step=cross_sign")
    assert "give their recovery key as bot.recoveryKey, or reset" in line
    await release.start()
    await release.until(lambda: "the instance is given its settings" in release.log.read_text(), "the instance")
    assert not release.ready.exists()
    await release.kill()
    release.credentials["recovery-key"] = "EsTx oNe1 oNLY"
    await release.run_until_told("the recovery key does not fit")
    release.credentials["recovery-key"] = release.bot.recovery_key
    await release.run_until_ready()
    assert await release.signed()
    assert "recovery-key" not in release.secret
    assert not [name for name in release.gate.asked if name.endswith("generate_recovery_key")]
    assert release.bot.recovery_key not in release.log.read_text()


async def test_no_identity_is_made_whose_key_cannot_be_stored(release: Release) -> None:
    """As if the right to write went away just then."""
    release.cluster.fail(method="PATCH", path="dryRun", status=403, times=None)
    line = await release.run_until_told("level=error step=cross_sign")
    assert "give the provisioner's service account get and patch on it" in line
    assert not [name for name in release.gate.asked if name.endswith("generate_recovery_key")]
    release.cluster.faults.clear()
    await release.run_until_ready()
    await assert_whole(release)


async def test_a_recovery_key_is_stored_however_long_it_takes(release: Release) -> None:
    refusals = release.cluster.fail(method="PATCH", path="nothing", status=503, times=3)

    def refuse_from_now_on(write: str) -> bool:
        if write.endswith("generate_recovery_key"):
            refusals.path = "secrets"
        return False

    release.gate.kill_after = refuse_from_now_on
    await release.start()
    await release.until(lambda: refusals.struck, "a refusal")
    release.process.terminate()
    assert await release.process.wait() == 0
    assert refusals.struck == 3
    await release.run_until_ready()
    await assert_whole(release)


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
