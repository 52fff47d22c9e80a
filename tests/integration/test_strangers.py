"""A stranger's traffic: silence, no work, no row. The long version is in tests/soak."""

from __future__ import annotations

import pytest

from tests.integration.flood import NOTHING, Scene
from tests.stack.stack import Stack

MESSAGES = 200
MOST_KEYS = 20_000
"""Bytes that maubot's own database may grow by: a key for each hundred messages, and none for each message."""

pytestmark = pytest.mark.own_sync


@pytest.mark.parametrize("encrypted", [False, True], ids=["plaintext", "encrypted"])
async def test_a_strangers_flood_leaves_no_trace(stack: Stack, encrypted: bool) -> None:
    scene = await Scene.open(stack, encrypted=encrypted)
    before = await scene.flood(MESSAGES // 4)
    after = await scene.flood(MESSAGES)
    assert (before.visible, after.visible) == (NOTHING, NOTHING)
    assert after.database <= before.database
    assert after.keys - before.keys < MOST_KEYS
    assert after.memory - before.memory < 10_000
