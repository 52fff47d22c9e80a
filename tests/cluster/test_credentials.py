"""Credentials of the bot that come from a Secret which others made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.stack.chat import Account, ChatClient

from .release import FULLNAME, NAME, Release
from .test_install import turned_on_and_off

pytestmark = pytest.mark.timeout(900)


async def made(release: Release, given: Mapping[str, str]) -> dict[str, Any]:
    """A Secret with what is given; the values of a bot that has its credentials from there."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "the-bots"}, "stringData": given}
    await release.namespace.apply(secret)
    return {**release.own_values(), "bot": {"userId": release.bot_id, "existingSecret": "the-bots"}}


@pytest.mark.parametrize("key", ["password", "jwt"])
async def test_an_existing_secret_to_log_in_with(release: Release, own: None, key: str) -> None:
    given = {"password": release.bot_password, "jwt": release.synapse.web_token(sub=release.bot)}[key]
    await release.install(await made(release, {key: given}))
    await turned_on_and_off(release)

    kept = await release.secret()
    assert {"device-id", "access-token", "recovery-key"} <= set(kept)
    assert given not in kept.values()
    log = await release.namespace.logs(f"deployment/{FULLNAME}-provisioner")
    assert [word for word in (log, await release.helm("get", "all", NAME)) if given in word] == []


async def test_an_existing_secret_with_a_token_a_device_and_the_recovery_key(release: Release, own: None) -> None:
    """As for a homeserver without password logins, and an account that another client has cross-signed before."""
    account = Account(release.synapse, release.bot, release.bot_password, release.bot_id)
    elsewhere = await ChatClient.log_in(account)
    await elsewhere.log_out()
    login = await release.synapse.login(release.bot, release.bot_password)
    given = {
        "access-token": login.access_token,
        "device-id": login.device_id,
        "recovery-key": account.recovery_key,
    }
    await release.install(await made(release, given))
    await turned_on_and_off(release)

    assert set(given).isdisjoint(await release.secret())
    answer = await release.synapse.request("GET", "/_matrix/client/v3/devices", token=login.access_token)
    assert [device["device_id"] for device in answer["devices"]] == [login.device_id]
    alice = await release.person("alice")
    assert (await alice.trust_of(release.bot_id, login.device_id)).name == "CROSS_SIGNED_TOFU"
    log = await release.namespace.logs(f"deployment/{FULLNAME}-provisioner")
    assert [value for name, value in given.items() if name != "device-id" and value in log] == []
