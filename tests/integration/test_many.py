"""Many targets: groups in order, names by their beginning, five hundred in one reply; also over a crash."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from tests.integration.conversation import ask, audited, room_of, told
from tests.stack.chat import ChatClient
from tests.stack.cluster import When
from tests.stack.cluster.behaviour import Outcome
from tests.stack.stack import Stack

pytestmark = pytest.mark.own_sync

STACK: dict[str, Any] = {
    "targets": {
        "web": {"namespace": "demo", "name": "web"},
        "api": {"namespace": "demo", "name": "api"},
        "db": {"kind": "StatefulSet", "namespace": "demo", "name": "db"},
    },
    "groups": {"stack": ["db", "api", "web"]},
}
NAMESPACES, IN_EACH = 5, 100
LARGEST_EVENT = 65_535


async def with_group(stack: Stack) -> Stack:
    """`stack` with the group `stack` of db, api and web, in this order."""
    stack.cluster.add_deployment("demo", "api")
    stack.cluster.add_statefulset("demo", "db")
    await stack.settings(**STACK)
    return stack


@pytest.fixture
async def grouped(stack: Stack) -> Stack:
    return await with_group(stack)


def written(stack: Stack) -> list[tuple[str, int]]:
    """What was written, in its order: workload and count."""
    patches = stack.cluster.asked("PATCH")
    return [(patch.path.split("/")[-2], json.loads(patch.body)["spec"]["replicas"]) for patch in patches]


async def test_a_group_goes_up_in_order_and_down_the_other_way_in_one_reply(any_stack: Stack) -> None:
    grouped = await with_group(any_stack)
    alice = await grouped.person("alice")
    room = await grouped.room_with_bot(alice)
    started = await told(alice, room, "start sta", "**stack** is running, after")
    assert "**stack** is starting" in started.history[0]
    assert [line.split("**")[1] for line in started.body.splitlines()[2:]] == ["db", "api", "web"]
    await told(alice, room, "stop stack", "**stack** is off, after")
    assert written(grouped) == [("db", 1), ("api", 1), ("web", 1), ("web", 0), ("api", 0), ("db", 0)]
    history = await ask(alice, room, "history web")
    assert "`stop stack`: done" in history.body
    assert "`start stack`: done" in history.body


async def test_one_that_is_stuck_keeps_the_rest_from_their_turn(grouped: Stack, alice: ChatClient, room: str) -> None:
    await grouped.settings(rollout_timeout="15s")
    grouped.cluster.behave("demo", "api", outcome=Outcome.IMAGE_PULL)
    event = await alice.send(room, "start stack")
    reply = await alice.wait_text(await alice.wait_reply(event), "The start of **stack** ended at **api**", 60)
    assert "**web** was not started" in reply.body
    assert written(grouped) == [("db", 1), ("api", 1)]
    assert (await audited(grouped, alice, event))["outcome"] == "timed out"
    assert "◐" not in (await ask(alice, room, "status stack")).body


@pytest.mark.parametrize("when", ["before the write", "after the write", "while it starts"])
async def test_killed_in_the_middle_each_target_is_written_once(
    grouped: Stack, alice: ChatClient, room: str, when: str
) -> None:
    path, method = "deployments/api", "GET" if when == "before the write" else "PATCH"
    grouped.cluster.behave("demo", "api", outcome=Outcome.NEVER_READY)
    if when == "before the write":
        grouped.cluster.fail(method="GET", path=path, delay=60.0, times=None)
    elif when == "after the write":
        grouped.cluster.fail(method="PATCH", path=path, cut=True, when=When.AFTER, times=None)
    event = await alice.send(room, "start stack")
    reply = await alice.wait_text(await alice.wait_reply(event), "1 of 3 done")
    while not grouped.cluster.asked(method, path):
        await alice.settle(0.1)
    await grouped.maubot.kill()
    grouped.cluster.faults.clear()
    grouped.cluster.behave("demo", "api", outcome=Outcome.NORMAL)
    await grouped.maubot.run()
    await alice.wait_text(reply, "**stack** is running, after", 60)
    assert [name for name, _ in written(grouped) if name != "api"] == ["db", "web"]
    assert grouped.cluster.replicas("Deployment", "demo", "api") == 1
    assert (await audited(grouped, alice, event))["outcome"] == "done"
    assert len([reply for reply in alice.timeline.replies(event) if not reply.mentions]) == 1


async def test_somebody_elses_newer_command_for_one_of_them_ends_it(grouped: Stack, alice: ChatClient) -> None:
    bob = await grouped.person("bob")
    await grouped.settings(allowed_users=[alice.user_id, bob.user_id])
    grouped.cluster.behave("demo", "api", outcome=Outcome.NEVER_READY)
    room = await room_of(grouped, alice, bob)
    first = await alice.wait_text(await ask(alice, room, "!toggle start stack"), "1 of 3 done")
    second = await ask(bob, room, "!toggle stop db")
    await alice.wait_text(first, f"because a newer command of {bob.user_id} for one of its targets took over")
    await bob.wait_text(second, "**db** is off")
    assert grouped.cluster.replicas("Deployment", "demo", "web") == 0


async def test_names_are_completed_for_those_who_speak_to_the_bot_only(grouped: Stack, alice: ChatClient) -> None:
    bob = await grouped.person("bob")
    await grouped.settings(allowed_users=[alice.user_id, bob.user_id], bare_commands="always")
    room = await room_of(grouped, alice, bob)
    talk = await alice.send(room, "stop w")
    assert "**web** is off" in (await ask(alice, room, "!toggle stop w")).body
    assert "**db** is off" in (await ask(alice, room, "stop db")).body
    assert alice.timeline.replies(talk) == []


def fleet() -> dict[str, dict[str, str]]:
    """500 targets in five namespaces, whose names have 30 letters."""
    return {
        f"workload-of-a-large-fleet-{number // IN_EACH}-{number % IN_EACH:02}": {
            "namespace": f"fleet-{number // IN_EACH}",
            "name": f"app-{number % IN_EACH}",
        }
        for number in range(NAMESPACES * IN_EACH)
    }


@pytest.mark.parametrize("wide", [True, False])
async def test_five_hundred_targets_are_one_reply_of_few_requests(
    stack: Stack, alice: ChatClient, room: str, wide: bool
) -> None:
    for number, target in enumerate(fleet().values()):
        stack.cluster.add_deployment(target["namespace"], target["name"], replicas=int(number % 10 == 0))
    await stack.settings(targets=fleet())
    for resource in ("horizontalpodautoscalers", "scaledobjects", *(() if wide else ("deployments",))):
        stack.cluster.deny("list", resource)
    stack.cluster.requests.clear()
    event = await alice.send(room, "status")
    reply = await alice.wait_reply(event)
    await alice.settle()
    running, off = reply.body.splitlines()
    assert running.startswith("● 🟢 **50 running**: workload-of-a-large-fleet-0-00, workload-of-a-large-fleet-0-10,")
    assert off.startswith("● ⚪ **450 off**: ")
    assert off.endswith("workload-of-a-large-fleet-4-99")
    asked = Counter(request.path.rsplit("/", 1)[1].split("-")[0] for request in stack.cluster.requests)
    lists = {"deployments": NAMESPACES} if wide else {"app": len(fleet())}
    # In each namespace: whether Deployments, HorizontalPodAutoscalers and ScaledObjects may be listed.
    assert asked == {"selfsubjectaccessreviews": 3 * NAMESPACES, "pods": NAMESPACES, **lists}
    path = f"/_matrix/client/v3/rooms/{room}/event/{reply.event_id}"
    raw = await stack.synapse.request("GET", path, token=alice.access_token)
    assert raw["type"] == "m.room.encrypted"
    assert 30_000 < len(json.dumps(raw)) < LARGEST_EVENT
