"""From nothing to an answer: `helm install`, an invite, and real containers that come and go."""

from __future__ import annotations

import pytest

from tests.integration.conversation import told

from .release import FULLNAME, Release

pytestmark = pytest.mark.timeout(900)


async def turned_on_and_off(release: Release) -> None:
    """Alice invites the bot and types; the containers are there, and then gone."""
    alice = await release.person("alice")
    room = await release.room(alice)
    await told(alice, room, "start", "is running", 90)
    [pod] = await release.workloads.pods("app=web")
    [container] = pod["status"]["containerStatuses"]
    assert container["ready"]
    await told(alice, room, "stop", "is off", 90)
    assert await release.workloads.pods("app=web") == []


@pytest.mark.first
async def test_from_nothing_to_an_answer(release: Release) -> None:
    await release.install()
    await turned_on_and_off(release)
    secret = await release.secret()
    assert {"admin-password", "unshared-secret", "device-id", "access-token", "recovery-key"} <= set(secret)
    assert "admin-password" in await release.helm("get", "notes", "bot")


async def test_with_an_image_that_has_the_packages_nothing_is_downloaded(release: Release, own: None) -> None:
    asked = len(release.index.log.read_text().splitlines())
    await release.install(release.own_values())
    await turned_on_and_off(release)
    assert len(release.index.log.read_text().splitlines()) == asked
    [pod] = await release.namespace.pods("app.kubernetes.io/component=maubot")
    assert pod["metadata"]["name"] == f"{FULLNAME}-0"
    assert "initContainers" not in pod["spec"]
