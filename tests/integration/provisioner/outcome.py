"""What a run of the provisioner has to leave behind: one signed device, one client, one instance, and answers."""

from __future__ import annotations

import secrets

from tests.integration.conversation import told
from tests.stack.chat import Account, ChatClient
from tests.stack.stack import Servers

from .release import Release


async def account(servers: Servers, name: str) -> Account:
    local, password = f"{name}-{secrets.token_hex(3)}", secrets.token_urlsafe(12)
    return Account(servers.synapse, local, password, await servers.synapse.register(local, password))


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
