"""Twenty rounds of kill -9 at random moments under load."""

from __future__ import annotations

import os
import random

from tests.integration import chaos
from tests.integration.conversation import room_of
from tests.stack.stack import Servers

ROUNDS = int(os.environ.get("TOGGLE_SOAK_ROUNDS", "20"))


async def test_twenty_rounds_of_kill(servers: Servers) -> None:
    sent = kills = writes = 0
    async with servers.stack({"targets": chaos.targets(), "maximum_age": "10m"}, sync=False) as stack:
        alice, bob = await stack.person("alice"), await stack.person("bob")
        await stack.settings(allowed_users=[alice.user_id, bob.user_id])
        room = await room_of(stack, alice, bob)
        for seed in range(ROUNDS):
            played = await chaos.play(stack, (alice, bob), room, random.Random(seed), kills=3)  # noqa: S311
            for event, _ in played.sent:
                assert max(chaos.answers(alice, event)) <= 1, (seed, event, played)
            assert played.in_order(), (seed, played)
            assert stack.cluster.replicas("Deployment", "demo", "web") == 0, (seed, played)
            sent, kills, writes = sent + len(played.sent), kills + played.kills, writes + len(played.writes)
        rows = await stack.rows("SELECT COUNT(*) AS n FROM command WHERE outcome <> ''")
    figures = {"rounds": ROUNDS, "commands": sent, "ended": rows[0]["n"], "kills": kills, "writes": writes}
    print("\nkill -9:", figures)  # noqa: T201 - figures for the docs
    assert rows[0]["n"] == sent
