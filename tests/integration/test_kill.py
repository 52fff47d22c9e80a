"""The bot is killed at random moments under load: no command is lost, none runs twice, none in the wrong order."""

from __future__ import annotations

import random

import pytest

from tests.integration import chaos
from tests.integration.conversation import room_of
from tests.stack.stack import Servers


@pytest.mark.parametrize("seed", [1, 2])
async def test_killed_at_random_moments(servers: Servers, seed: int) -> None:
    async with servers.stack({"targets": chaos.targets(), "maximum_age": "10m"}, sync=False) as stack:
        alice, bob = await stack.person("alice"), await stack.person("bob")
        await stack.settings(allowed_users=[alice.user_id, bob.user_id])
        room = await room_of(stack, alice, bob)
        played = await chaos.play(stack, (alice, bob), room, random.Random(seed), kills=2)  # noqa: S311
        assert played.kills == 2
        for event, _ in played.sent:
            replies, calls = chaos.answers(alice, event)
            assert replies <= 1, played
            assert calls <= 1, played
        assert played.in_order(), played
        assert played.writes[-1] == 0
        assert stack.cluster.replicas("Deployment", "demo", "web") == 0
