"""The bot's account: how it is logged in, once, and what happens to a device that is lost."""

from __future__ import annotations

import asyncio
import sqlite3
import time

from tests.stack.stack import Servers

from .outcome import account, assert_answers, assert_whole
from .release import Release


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


async def test_a_json_web_token_instead_of_a_password(release: Release, servers: Servers) -> None:
    release.credentials = {"jwt": release.synapse.web_token(sub=release.bot.name)}
    await assert_answers(release, servers)
    assert release.credentials["jwt"] not in release.log.read_text()


async def test_a_json_web_token_that_has_expired(release: Release) -> None:
    release.credentials = {"jwt": release.synapse.web_token(sub=release.bot.name, exp=int(time.time()) - 3600)}
    line = await release.run_until_told("cannot log in")
    assert "expired" in line
    assert "check bot.userId and bot.password or bot.jwt" in line
    assert release.credentials["jwt"] not in line


async def test_a_json_web_token_of_somebody_else(release: Release, servers: Servers) -> None:
    """Nothing is done in the name of another account, and what is told to do about it helps."""
    other = await account(servers, "other")
    release.credentials = {"jwt": release.synapse.web_token(sub=other.name)}
    line = await release.run_until_told("level=error step=log_in")
    assert f"of {other.user_id}, not of" in line
    assert "remove device-id, access-token and recovery-key from the Secret" in line
    release.change_secret(device_id=None, access_token=None, recovery_key=None)
    release.credentials = {"jwt": release.synapse.web_token(sub=release.bot.name)}
    await release.run_until_ready()
    await assert_whole(release)


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
