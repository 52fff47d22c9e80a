"""What was received when the process died: judged anew, gone on with or answered, and never called what it is not."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.stack.cluster import SimulatedCluster
from toggle_plugin.errors import SettingsProblem
from toggle_plugin.models import AuditEntry, Trust, WorkloadRef

from .builders import ALICE, BOB, ROOM, WEB, reached, requester, target
from .room import Room

ENCRYPTION = f"/_matrix/client/v3/rooms/{ROOM}/state/m.room.encryption/"

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed transport <asyncio.sslproto:ResourceWarning"),
    pytest.mark.usefixtures("impatient"),
]
GIVEN_UP = (
    "I was stopped while I worked on **web**, and it is too late to go on, or my settings no longer allow it; "
    "ask `!toggle status` for how it stands."
)


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


async def test_who_was_taken_out_of_the_settings_gets_no_answer(room: Room, cluster: SimulatedCluster) -> None:
    await room.admitted("start web", requester(BOB))
    await room.intended("start web", requester(BOB))
    room.settings = replace(room.settings, allowed_users=frozenset({ALICE}))
    await room.restart()
    assert room.homeserver.bodies == []
    assert cluster.requests == []
    assert await room.outcomes() == [("start", str(WEB), "refused"), ("start", str(WEB), "interrupted")]


# What was meant


async def test_broken_settings_are_not_called_a_target_that_is_gone(room: Room, cluster: SimulatedCluster) -> None:
    await room.admitted("start web")
    room.settings = replace(room.settings, targets={})
    room.problems = [SettingsProblem("targets.web.kind", "write Deployment")]
    await room.restart()
    assert room.homeserver.bodies[-1].startswith("My settings cannot be used")
    assert cluster.requests == []


async def test_a_target_that_is_another_workload_now_is_left_alone(room: Room, cluster: SimulatedCluster) -> None:
    cluster.add_deployment("games", "other")
    await room.admitted("start web")
    await room.intended("start web", after=3)
    other = target("web", WorkloadRef("Deployment", "games", "other"))
    room.settings = replace(room.settings, targets={"web": other})
    await room.restart()
    assert cluster.requests == []
    assert any("became another workload" in body for body in room.homeserver.bodies)
    assert await room.outcomes() == [("start", str(WEB), "refused"), ("start", str(WEB), "interrupted")]


# What was begun


@pytest.mark.parametrize("gone", ["fresh", "right", "settings"])
async def test_what_was_begun_and_may_not_go_on_is_never_called_not_executed(
    room: Room, cluster: SimulatedCluster, gone: str
) -> None:
    cluster.scale("games", "web", 1)
    await room.intended("start web", seconds_ago=3600 if gone == "fresh" else 0)
    if gone == "right":
        web = replace(room.settings.targets["web"], allowed_users=frozenset({BOB}))
        room.settings = replace(room.settings, targets={"web": web})
    if gone == "settings":
        room.problems = [SettingsProblem("command", "write a word")]
    cluster.requests.clear()
    await room.restart()
    assert cluster.requests == []
    assert {body.removeprefix(f"{ALICE}: ") for body in room.homeserver.bodies} == {GIVEN_UP}
    assert any("m.mentions" in content for content in room.homeserver.contents)
    (entry,) = await room.store.entries(10)
    assert (entry.outcome, entry.replicas_before, entry.replicas_after) == ("interrupted", 0, None)


async def test_what_was_written_and_set_back_by_somebody_else_is_not_written_again(
    room: Room, cluster: SimulatedCluster
) -> None:
    cluster.scale("games", "web", 1)
    cluster.scale("games", "web", 0)
    event = await room.intended("start web")
    await room.store.wrote(event)
    await room.restart()
    assert cluster.asked("PATCH") == []
    assert "Somebody else set it to 0 meanwhile" in room.homeserver.bodies[-1]
    assert await room.outcomes() == [("start", str(WEB), "changed by others")]


async def test_what_the_cluster_took_is_written_down(room: Room, cluster: SimulatedCluster) -> None:
    cluster.behave("games", "web", step=60.0)
    starting = room.begin("start web")
    await reached(lambda: len(room.homeserver.sent) > 0)
    (entry,) = await room.store.entries(10)
    assert (entry.replicas_before, entry.replicas_after, entry.written) == (0, 1, True)
    starting.cancel()
    await asyncio.wait({starting})


async def test_what_was_undone_by_a_newer_command_is_not_written_again_whatever_becomes_of_that_one(
    room: Room, cluster: SimulatedCluster
) -> None:
    await room.intended("start web")
    await room.intended("stop web", requester(BOB), before=1, after=0)
    room.settings = replace(room.settings, allowed_users=frozenset({ALICE}))
    await room.restart()
    assert cluster.asked("PATCH") == []
    assert f"a newer command of {BOB} for **web** took over" in room.homeserver.bodies[-1]
    assert await room.outcomes() == [("start", str(WEB), "superseded"), ("stop", str(WEB), "interrupted")]


async def test_what_the_cluster_refused_is_told_after_a_restart_too(room: Room, cluster: SimulatedCluster) -> None:
    cluster.deny("patch", "deployments/scale")
    room.homeserver.held = asyncio.Event()
    starting = room.begin("start web")
    await reached(lambda: len(room.homeserver.requests) > 0)
    starting.cancel()
    room.homeserver.held.set()
    await asyncio.wait({starting})
    await room.restart()
    assert "I may not patch deployments/scale of web" in room.homeserver.bodies[-1]
    assert await room.outcomes() == [("start", str(WEB), "failed: Forbidden")]


async def test_how_long_it_took_counts_from_when_it_came(room: Room, cluster: SimulatedCluster) -> None:
    asked = await room.admitted("start web")
    assert asked.entry is not None
    await room.database.execute("UPDATE command SET received_at=$1", asked.entry.received_at - 60_000)
    await room.restart()
    (entry,) = await room.store.entries(10)
    assert entry.duration_ms is not None
    assert entry.duration_ms >= 60_000


# What goes wrong


async def test_what_cannot_be_gone_on_with_ends(
    room: Room, cluster: SimulatedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: AuditEntry) -> str:
        raise OSError("disk")

    await room.admitted("start web")
    monkeypatch.setattr(room.store, "overtaken_by", broken)
    await room.restart()
    assert set(room.homeserver.bodies) == {"Something went wrong here; the log has the details."}
    assert await room.outcomes() == [("start", str(WEB), "interrupted")]


async def test_what_was_called_not_written_down_is_not_run_though_it_was(
    room: Room, cluster: SimulatedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = room.store.receive

    async def answer_lost(entry: AuditEntry) -> bool:
        await receive(entry)
        raise ConnectionError("the database went away after it had committed")

    monkeypatch.setattr(room.store, "receive", answer_lost)
    assert (await room.say("start web")).startswith("I could not write your command down")
    await room.restart()
    assert cluster.requests == []
    assert await room.outcomes() == [("start", str(WEB), "refused")]
