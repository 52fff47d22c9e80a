"""What people hear when the cluster does not do as asked: one true sentence, and nobody else waits for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.integration.conversation import ask, audited, room_of, told
from tests.stack.chat import ChatClient
from tests.stack.cluster.faults import When
from tests.stack.stack import Stack

SCALE = r"/deployments/web/scale"
SECRET = "do-not-show-this-body"


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ({"status": 409}, "at the same moment"),
        ({"status": 422}, "refused"),
        ({"status": 429, "retry_after": 0.1}, "busy"),
        ({"status": 500}, "500"),
        ({"status": 503}, "503"),
        ({"cut": True}, "broke off"),
    ],
)
async def test_each_failure_is_one_sentence(
    stack: Stack, alice: ChatClient, room: str, fault: dict[str, Any], sentence: str
) -> None:
    body = None if fault.get("cut") else f'{{"kind": "Status", "message": "{SECRET}"}}'
    stack.cluster.fail(method="PATCH", path=SCALE, times=None, body=body, **fault)
    event = await alice.send(room, "start")
    reply = await alice.wait_reply(event, 60)
    assert sentence in reply.body
    assert SECRET not in reply.body
    assert "\n" not in reply.body
    assert stack.cluster.replicas("Deployment", "demo", "web") == 0
    assert (await audited(stack, alice, event))["outcome"].startswith("failed")


async def test_a_missing_right_is_named(stack: Stack, alice: ChatClient, room: str) -> None:
    stack.cluster.deny("patch", "deployments/scale")
    reply = await ask(alice, room, "start")
    assert "deployments/scale" in reply.body
    assert "patch" in reply.body
    assert "web" in reply.body


async def test_an_invalid_token_is_told(stack: Stack, alice: ChatClient, room: str) -> None:
    stack.cluster.rotate_token()
    reply = await ask(alice, room, "status")
    assert "not known" in reply.body
    assert stack.cluster.token not in reply.body


async def test_what_is_not_there_is_told(stack: Stack, alice: ChatClient, room: str) -> None:
    stack.cluster.delete("demo", "web")
    assert "web" in (await ask(alice, room, "status")).body


async def test_a_passing_fault_is_tried_again_and_not_told(stack: Stack, alice: ChatClient, room: str) -> None:
    stack.cluster.fail(method="PATCH", path=SCALE, times=2, status=503)
    await told(alice, room, "start", "is running")
    assert len(stack.cluster.asked("PATCH")) == 3


async def test_an_answer_that_got_lost_is_no_second_change(stack: Stack, alice: ChatClient, room: str) -> None:
    stack.cluster.fail(method="PATCH", path=SCALE, times=1, cut=True, when=When.AFTER)
    await told(alice, room, "start", "is running (desired 1")
    assert stack.cluster.workload("Deployment", "demo", "web")["metadata"]["generation"] == 2


async def test_a_cluster_that_is_not_there_is_told_and_comes_back(stack: Stack, alice: ChatClient, room: str) -> None:
    await ask(alice, room, "status")
    await stack.cluster.refuse()
    event = await alice.send(room, "status")
    reply = await alice.wait_reply(event, 60)
    assert "refuses connections" in reply.body
    status, answer = await stack.readyz()
    assert status == 503
    assert answer["reasons"] == ["cluster: Unreachable"]
    await stack.cluster.listen()
    assert "is off" in (await ask(alice, room, "status")).body


async def test_a_roll_out_is_followed_through_a_cluster_that_goes_away(
    stack: Stack, alice: ChatClient, room: str
) -> None:
    stack.cluster.behave("demo", "web", step=1.0)
    reply = await ask(alice, room, "start")
    await stack.cluster.refuse()
    await asyncio.sleep(2)  # an outage has a length
    await stack.cluster.listen()
    await alice.wait_text(reply, "is running", 60)


async def test_a_slow_answer_is_announced_by_a_reaction(stack: Stack, alice: ChatClient, room: str) -> None:
    await ask(alice, room, "status")
    stack.cluster.fail(method="GET", path="deployments/web", delay=4.0)
    event = await alice.send(room, "status")
    await alice.wait_message(event)
    await alice.wait_for(lambda: alice.message(event).reactions, what="a reaction")
    assert alice.timeline.replies(event) == []
    assert "is off" in (await alice.wait_reply(event)).body


async def test_a_quick_answer_needs_no_reaction(stack: Stack, alice: ChatClient, room: str) -> None:
    event = await alice.send(room, "status")
    await alice.wait_reply(event)
    await alice.settle(1.5)
    assert alice.message(event).reactions == []


async def test_a_slow_cluster_delays_nobody_else(stack: Stack, alice: ChatClient) -> None:
    bob = await stack.person("bob")
    stack.cluster.add_deployment("demo", "api")
    targets = {name: {"namespace": "demo", "name": name} for name in ("web", "api")}
    await stack.settings(targets=targets, allowed_users=[alice.user_id, bob.user_id])
    room = await room_of(stack, alice, bob)
    await ask(alice, room, "!toggle status api")
    stack.cluster.fail(path="deployments/web", times=None, delay=8.0)
    slow = await alice.send(room, "!toggle status web")
    await told(bob, room, "!toggle start api", "is running")
    assert "start" in (await ask(bob, room, "!toggle help")).body
    assert alice.timeline.replies(slow) == []
    await alice.wait_reply(slow)


async def test_no_rights_to_look_at_pods_means_a_shorter_answer(stack: Stack, alice: ChatClient, room: str) -> None:
    stack.cluster.deny("list", "pods")
    stack.cluster.deny("list", "events")
    await told(alice, room, "start", "is running")
    await told(alice, room, "stop", "is off")
