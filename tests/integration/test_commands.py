"""The commands, from an encrypted line to the last edit of its reply."""

from __future__ import annotations

import pytest

from tests.integration.conversation import ask, audited, hears_nothing, room_of, told
from tests.stack.chat import ChatClient
from tests.stack.cluster.behaviour import Outcome
from tests.stack.stack import Stack

TWO: dict[str, dict[str, object]] = {
    "web": {"kind": "Deployment", "namespace": "demo", "name": "web"},
    "db": {"kind": "StatefulSet", "namespace": "demo", "name": "db", "replicas": 2},
}


@pytest.fixture
async def bob(stack: Stack) -> ChatClient:
    return await stack.person("bob")


async def test_the_mission(stack: Stack, alice: ChatClient, room: str) -> None:
    off = await ask(alice, room, "status")
    assert "is off (desired 0, ready 0, available 0)" in off.body

    running = await told(alice, room, "start", "is running (desired 1, ready 1, available 1)")
    assert stack.cluster.replicas("Deployment", "demo", "web") == 1
    assert "is starting" in running.history[0]
    assert (running.msgtype, running.encrypted, running.sender) == ("m.notice", True, stack.bot_id)
    assert "<strong>web</strong>" in running.formatted_body

    assert "is running" in (await ask(alice, room, "status")).body

    stopped = await told(alice, room, "stop", "is off (desired 0, ready 0, available 0)")
    assert "is stopping" in stopped.history[0]
    assert stack.cluster.pods("demo") == []


async def test_the_cluster_is_asked_as_kubernetes_wants_it(stack: Stack, alice: ChatClient, room: str) -> None:
    await told(alice, room, "start", "is running")
    (patch,) = stack.cluster.asked("PATCH")
    assert patch.path == "/apis/apps/v1/namespaces/demo/deployments/web/scale"
    assert patch.content_type == "application/merge-patch+json"
    assert patch.body.replace(" ", "") == '{"spec":{"replicas":1}}'


async def test_a_command_leaves_an_audit_row(stack: Stack, alice: ChatClient, room: str) -> None:
    event = await alice.send(room, "!toggle start web")
    await alice.wait_text(await alice.wait_reply(event), "is running")
    row = await audited(stack, alice, event)
    assert row["user_id"] == alice.user_id
    assert row["room_id"] == room
    assert row["fingerprint"] == alice.fingerprint
    assert row["device_id"] == alice.device_id
    assert (row["verb"], row["target"], row["workload"]) == ("start", "web", "Deployment demo/web")
    assert (row["replicas_before"], row["replicas_after"], row["outcome"]) == (0, 1, "done")
    assert row["duration_ms"] > 0


@pytest.mark.parametrize(
    "line", ["  START \n", "On", "on web", "start WEB", "!toggle start", "!TOGGLE On Web", "  !toggle\tstart"]
)
async def test_a_command_is_trimmed_and_may_be_in_any_case(alice: ChatClient, room: str, line: str) -> None:
    await told(alice, room, line, "web is running".replace("web", "**web**"))


async def test_the_reply_answers_the_line(alice: ChatClient, room: str) -> None:
    event = await alice.send(room, "status")
    reply = await alice.wait_reply(event)
    assert reply.reply_to == event
    assert reply.thread == ""


async def test_in_a_thread_the_reply_is_in_the_thread(alice: ChatClient, room: str) -> None:
    root = await alice.send(room, "status")
    await alice.wait_reply(root)
    inside = await alice.send(room, "status", thread=root)
    reply = await alice.wait_reply(inside)
    assert (reply.thread, reply.reply_to) == (root, inside)


async def test_starting_what_runs_writes_nothing(stack: Stack, alice: ChatClient, room: str) -> None:
    await told(alice, room, "start", "is running")
    stack.cluster.requests.clear()
    again = await ask(alice, room, "start")
    assert "as it was already" in again.body
    assert again.history == [again.body]
    assert stack.cluster.asked("PATCH") == []


async def test_a_newer_command_takes_over(stack: Stack, alice: ChatClient, bob: ChatClient) -> None:
    await stack.settings(allowed_users=[alice.user_id, bob.user_id])
    stack.cluster.behave("demo", "web", outcome=Outcome.NEVER_READY)
    room = await room_of(stack, alice, bob)
    first = await ask(alice, room, "!toggle start")
    second = await ask(bob, room, "!toggle stop")
    await alice.wait_text(first, f"a newer command of {bob.user_id} took over")
    await bob.wait_text(second, "is off")
    # It was not what alice asked for, and somebody else's doing, so she is called.
    calls = await alice.wait_replies(first.reply_to, 2)
    assert calls[1].mentions == [alice.user_id]


async def test_a_failure_is_told_at_once_and_calls(stack: Stack, alice: ChatClient, room: str) -> None:
    stack.cluster.delete("demo", "web")
    event = await alice.send(room, "start")
    reply = await alice.wait_reply(event)
    assert (reply.msgtype, reply.mentions) == ("m.text", [alice.user_id])
    assert "web" in reply.body
    assert "{" not in reply.body
    await alice.settle()
    assert len(alice.timeline.replies(event)) == 1


async def test_a_start_that_gets_stuck_says_why_and_calls_once(stack: Stack, alice: ChatClient, room: str) -> None:
    await stack.settings(rollout_timeout="15s")
    stack.cluster.behave("demo", "web", outcome=Outcome.IMAGE_PULL)
    event = await alice.send(room, "start")
    reply = await alice.wait_text(await alice.wait_reply(event), "cannot get its image", 20)
    assert "is stuck" in reply.body
    (_, call) = await alice.wait_replies(event, 2, 20)
    assert (call.msgtype, call.mentions) == ("m.text", [alice.user_id])
    assert "cannot get its image" in call.body
    await alice.wait_text(reply, "I followed it for 15s", 20)
    await alice.settle()
    assert len(alice.timeline.replies(event)) == 2


async def test_an_end_after_half_a_minute_calls(stack: Stack, alice: ChatClient, room: str) -> None:
    stack.cluster.behave("demo", "web", step=12.0)
    event = await alice.send(room, "start")
    (reply, call) = await alice.wait_replies(event, 2, 60)
    assert "is running" in reply.body
    assert (call.msgtype, call.mentions) == ("m.text", [alice.user_id])
    assert call.body.startswith(alice.user_id)
    assert "is running after" in call.body


async def test_an_unknown_word_gets_one_helpful_line(alice: ChatClient, room: str) -> None:
    reply = await ask(alice, room, "!toggle strat")
    assert "`!toggle start`" in reply.body
    assert "\n" not in reply.body


async def test_an_unknown_target_gets_one_helpful_line(alice: ChatClient, room: str) -> None:
    reply = await ask(alice, room, "start wep")
    assert "`start web`" in reply.body
    assert "\n" not in reply.body


async def test_alone_with_the_bot_every_other_line_gets_one_helpful_line(alice: ChatClient, room: str) -> None:
    reply = await ask(alice, room, "good morning!")
    assert "`help`" in reply.body
    assert "\n" not in reply.body


async def test_talk_among_people_gets_nothing(stack: Stack, alice: ChatClient, bob: ChatClient) -> None:
    await stack.settings(bare_commands="always")
    room = await room_of(stack, alice, bob)
    talk = [await alice.send(room, line) for line in ("stop it, bob", "start wep", "on second thought", "hello")]
    assert [await hears_nothing(alice, event) for event in talk] == [True] * 4
    assert stack.cluster.asked("PATCH") == []
    assert "is off" in (await ask(alice, room, "status")).body


async def test_direct_means_bare_words_only_alone_with_the_bot(
    stack: Stack, alice: ChatClient, bob: ChatClient
) -> None:
    room = await room_of(stack, alice, bob)
    assert await hears_nothing(alice, await alice.send(room, "status"))
    assert "is off" in (await ask(alice, room, "!toggle status")).body


async def test_never_means_only_with_the_prefix(stack: Stack, alice: ChatClient, room: str) -> None:
    await stack.settings(bare_commands="never")
    reply = await ask(alice, room, "start")
    assert "`!toggle" in reply.body
    assert stack.cluster.replicas("Deployment", "demo", "web") == 0


async def test_the_prefix_can_be_another(stack: Stack, alice: ChatClient, room: str) -> None:
    await stack.settings(command="power", bare_commands="never")
    assert "is off" in (await ask(alice, room, "!power status")).body


async def test_with_two_targets_a_start_asks_which(stack: Stack, alice: ChatClient, room: str) -> None:
    stack.cluster.add_statefulset("demo", "db")
    await stack.settings(targets=TWO)
    reply = await ask(alice, room, "start")
    assert "`start web` or `start db`" in reply.body
    every = await ask(alice, room, "status all")
    assert "**2 off**: web, db" in every.body
    running = await told(alice, room, "start db", "is running (desired 2, ready 2, available 2)")
    assert "**db**" in running.body
    assert stack.cluster.replicas("Deployment", "demo", "web") == 0


async def test_restore_brings_back_the_count_before_the_last_stop(stack: Stack, alice: ChatClient, room: str) -> None:
    await stack.settings(targets={"web": {**TWO["web"], "replicas": "restore"}})
    stack.cluster.scale("demo", "web", 3)
    await told(alice, room, "stop", "is off")
    await told(alice, room, "stop", "is off")
    await told(alice, room, "start", "is running (desired 3, ready 3, available 3)")


async def test_restore_without_a_known_count_says_so(stack: Stack, alice: ChatClient, room: str) -> None:
    await stack.settings(targets={"web": {**TWO["web"], "replicas": "restore"}})
    reply = await told(alice, room, "start", "is running (desired 1")
    assert "not known" in reply.body


async def test_help_shows_what_this_person_may_do(stack: Stack, alice: ChatClient, bob: ChatClient) -> None:
    targets = {"web": TWO["web"], "db": {**TWO["db"], "allowed_users": [alice.user_id]}}
    carol = await stack.person("carol")
    await stack.settings(targets=targets, allowed_users=[alice.user_id, bob.user_id], viewers=[carol.user_id])
    of_alice = await ask(alice, await stack.room_with_bot(alice), "help")
    of_bob = await ask(bob, await stack.room_with_bot(bob), "help")
    of_carol = await ask(carol, await stack.room_with_bot(carol), "help")
    assert "`start NAME`" in of_alice.body
    assert "db" in of_alice.body
    assert "`start`" in of_bob.body
    assert "db" not in of_bob.body
    assert "`status`" in of_carol.body
    assert "start" not in of_carol.body


async def test_check_reports_the_whole_chain(stack: Stack, alice: ChatClient, room: str) -> None:
    stack.cluster.deny("list", "events")
    reply = await ask(alice, room, "check")
    assert "Kubernetes v1.37" in reply.body
    assert "`list events`" in reply.body
    assert alice.fingerprint[:4] in reply.body
    assert stack.bot.device_id in reply.body
    assert "cross-signed" in reply.body


async def test_check_names_a_missing_right(stack: Stack, alice: ChatClient, room: str) -> None:
    stack.cluster.deny("patch", "deployments/scale")
    assert "missing `patch deployments/scale`" in (await ask(alice, room, "check")).body
