"""Age by the event's own clock: from the future, too old, and how far a clock may be ahead."""

from __future__ import annotations

import time

import pytest

from tests.integration.conversation import audit, audited
from tests.stack.stack import Stack
from tests.stack.synapse import BACKDATED

pytestmark = pytest.mark.own_sync


async def test_what_claims_to_be_from_the_future_or_is_old_by_its_own_clock_is_refused(stack: Stack) -> None:
    person = await stack.person(BACKDATED)
    await stack.settings(allowed_users=[person.user_id], maximum_age="1m")
    room = await stack.room_with_bot(person)

    async def said(line: str, seconds: float) -> str:
        """Send an encrypted line that claims to be of so many seconds from now; its ID."""
        content = await person.encrypted(room, line)
        return await stack.synapse.send_at(time.time() + seconds, person.user_id, room, "m.room.encrypted", content)

    refused = {
        await said("start", 300): "Not executed: your message claims to be ",
        await said("start", 75): "in the future; your homeserver's clock or mine is wrong.",
        await said("start", -90): "old, more than the 1m that maximum_age allows",
    }
    for event, sentence in refused.items():
        assert sentence in (await person.wait_reply(event)).body
        assert (await audited(stack, person, event))["outcome"] == "refused"
    assert stack.cluster.asked("PATCH") == []
    ahead = await said("start", 30)
    await person.wait_text(await person.wait_reply(ahead), "is running")
    assert [len(person.timeline.replies(event)) for event in (*refused, ahead)] == [1, 1, 1, 1]
    assert [row["outcome"] for row in await audit(stack)] == [*3 * ["refused"], "done"]
