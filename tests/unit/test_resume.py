"""What was received when the process died: judged anew, gone on with or answered, and never called what it is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.stack.cluster import SimulatedCluster
from toggle_plugin.models import Trust

from .builders import ALICE, ROOM, WEB, requester
from .room import Room

ENCRYPTION = f"/_matrix/client/v3/rooms/{ROOM}/state/m.room.encryption/"

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed transport <asyncio.sslproto:ResourceWarning"),
    pytest.mark.usefixtures("impatient"),
]


# Who


@pytest.mark.parametrize("trust", [Trust.BLACKLISTED, Trust.UNVERIFIED, Trust.UNKNOWN_DEVICE, Trust.FORWARDED])
async def test_a_device_that_is_not_taken_is_not_taken_after_a_restart_either(
    room: Room, cluster: SimulatedCluster, trust: Trust
) -> None:
    await room.admitted("start web", requester(trust=trust))
    await room.restart()
    assert cluster.requests == []
    assert "so I did nothing" in room.homeserver.bodies[-1]
    assert await room.outcomes() == [("start", "", "refused")]


async def test_an_identity_that_is_accepted_by_name_is_accepted_after_a_restart_too(
    room: Room, cluster: SimulatedCluster
) -> None:
    room.settings = replace(room.settings, accepted_identities={ALICE: "new"})
    await room.admitted("start web", requester(trust=Trust.CROSS_SIGNED_UNTRUSTED, identity="new"))
    await room.restart()
    assert cluster.replicas("Deployment", "games", "web") == 1
    assert await room.outcomes() == [("start", str(WEB), "done")]


async def test_a_message_that_could_not_be_judged_is_not_called_unencrypted_after_a_restart(
    room: Room, cluster: SimulatedCluster
) -> None:
    unknown = requester(encrypted=False, known=False, trust=Trust.NONE, device="", fingerprint="")
    room.homeserver.documents[("GET", ENCRYPTION)] = lambda _: {"algorithm": "m.megolm.v1.aes-sha2"}
    await room.admitted("start web", unknown)
    await room.restart()
    assert set(room.homeserver.bodies) == {
        "I could not find out how your message came here, so I did nothing; send it again."
    }
