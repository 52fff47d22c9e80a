"""Nobody gets in who should not: each refusal, and the silence for strangers."""

from __future__ import annotations

import asyncio

import pytest

from tests.integration.conversation import ask, audit, hears_nothing, room_of, told
from tests.stack.chat import ChatClient
from tests.stack.stack import Stack


@pytest.fixture
async def mallory(stack: Stack) -> ChatClient:
    return await stack.person("mallory")


async def test_a_stranger_gets_no_answer_and_causes_no_work(
    stack: Stack, alice: ChatClient, mallory: ChatClient
) -> None:
    await stack.settings(bare_commands="always")
    room = await room_of(stack, alice, mallory)
    stack.cluster.requests.clear()
    lines = ["!toggle", "!toggle start", "!toggle nonsense", "!toggle help", "start", "help", "check"]
    events = [await mallory.send(room, line) for line in lines]
    assert [await hears_nothing(mallory, event) for event in events] == [True] * len(lines)
    # The instance itself may still be saying hello to a cluster that it has just met.
    assert [request for request in stack.cluster.requests if request.path != "/version"] == []
    assert await audit(stack) == []


async def test_the_log_says_who_was_ignored_and_which_setting_lets_them_in(
    stack: Stack, alice: ChatClient, mallory: ChatClient
) -> None:
    room = await room_of(stack, alice, mallory)
    for _ in range(5):
        await mallory.send(room, "!toggle start")
    await ask(alice, room, "!toggle status")
    (line,) = [line for line in stack.instance_log() if "ignored=command" in line]
    assert mallory.user_id in line
    assert room in line
    assert "allowed_users" in line


async def test_a_strangers_invite_is_refused_and_logged(
    stack: Stack, alice: ChatClient, room: str, mallory: ChatClient
) -> None:
    trap = await mallory.create_room(invite=[stack.bot_id])
    await mallory.settle()
    assert mallory.membership(trap, stack.bot_id) == "invite"
    (line,) = [line for line in stack.instance_log() if "ignored=invite" in line]
    assert mallory.user_id in line
    assert "allowed_users" in line


async def test_an_invite_to_a_room_that_is_not_allowed_is_refused_and_logged(stack: Stack, alice: ChatClient) -> None:
    await stack.settings(allowed_rooms=["!elsewhere:localhost"])
    room = await alice.create_room(invite=[stack.bot_id])
    await alice.settle()
    assert alice.membership(room, stack.bot_id) == "invite"
    (line,) = [line for line in stack.instance_log() if "ignored=invite" in line]
    assert "allowed_rooms" in line


async def test_an_empty_list_of_users_lets_nobody_in(stack: Stack, alice: ChatClient, room: str) -> None:
    await stack.settings(allowed_users=[])
    assert await hears_nothing(alice, await alice.send(room, "start"))
    assert stack.cluster.replicas("Deployment", "demo", "web") == 0


async def test_a_viewer_sees_but_does_not_touch(stack: Stack, alice: ChatClient) -> None:
    bob = await stack.person("bob")
    await stack.settings(viewers=[bob.user_id])
    room = await stack.room_with_bot(bob)
    assert "is off" in (await ask(bob, room, "status")).body
    for line in ("start", "stop", "check"):
        reply = await ask(bob, room, line)
        assert "allowed_users" in reply.body
    assert stack.cluster.asked("PATCH") == []


async def test_a_room_that_is_not_allowed_is_refused_with_a_reason(stack: Stack, alice: ChatClient, room: str) -> None:
    await stack.settings(allowed_rooms=["!elsewhere:localhost"])
    assert "allowed_rooms" in (await ask(alice, room, "start")).body
    await stack.settings(allowed_rooms=[room])
    await told(alice, room, "start", "is running")


async def test_another_persons_target_is_refused_with_a_reason(stack: Stack, alice: ChatClient) -> None:
    bob = await stack.person("bob")
    target = {"kind": "Deployment", "namespace": "demo", "name": "web", "allowed_users": [alice.user_id]}
    await stack.settings(targets={"web": target}, allowed_users=[alice.user_id, bob.user_id])
    room = await stack.room_with_bot(bob)
    assert "targets.web.allowed_users" in (await ask(bob, room, "start web")).body
    assert "no target" in (await ask(bob, room, "start")).body
    assert stack.cluster.asked("PATCH") == []


async def test_the_target_may_be_left_out_when_all_others_belong_to_other_people(
    stack: Stack, alice: ChatClient
) -> None:
    bob = await stack.person("bob")
    stack.cluster.add_deployment("demo", "api")
    web = {"namespace": "demo", "name": "web", "allowed_users": [alice.user_id]}
    api = {"namespace": "demo", "name": "api"}
    await stack.settings(targets={"web": web, "api": api}, allowed_users=[alice.user_id, bob.user_id])
    await told(bob, await stack.room_with_bot(bob), "start", "**api** is running")


async def test_a_room_without_encryption_is_refused(stack: Stack, alice: ChatClient) -> None:
    room = await stack.room_with_bot(alice, encrypted=False)
    reply = await ask(alice, room, "start")
    assert "not encrypted" in reply.body
    assert stack.cluster.asked("PATCH") == []


async def test_without_the_requirement_a_room_without_encryption_works(stack: Stack, alice: ChatClient) -> None:
    await stack.settings(require_encryption=False)
    room = await stack.room_with_bot(alice, encrypted=False)
    await told(alice, room, "start", "is running")


@pytest.mark.parametrize("required", [True, False])
async def test_plaintext_in_an_encrypted_room_is_refused(
    stack: Stack, alice: ChatClient, room: str, required: bool
) -> None:
    await stack.settings(require_encryption=required)
    reply = await ask(alice, room, "start", plaintext=True)
    assert "was not encrypted although this room is" in reply.body
    assert reply.encrypted
    assert stack.cluster.asked("PATCH") == []
    row = (await audit(stack))[-1]
    assert (row["outcome"], row["device_id"], row["fingerprint"]) == ("refused", "", ""), "nobody proved who they are"


async def test_a_device_that_its_owner_has_not_verified_is_refused(stack: Stack, alice: ChatClient, room: str) -> None:
    phone = await alice.second_device(cross_signed=False)
    try:
        reply = await ask(phone, room, "start")
        assert "not verified" in reply.body
        assert stack.cluster.asked("PATCH") == []
        row = (await audit(stack))[-1]
        assert (row["outcome"], row["device_id"], row["fingerprint"]) == ("refused", phone.device_id, phone.fingerprint)
        # Signed just now: nobody waits for the bot to notice by itself.
        await phone.sign_device()
        await told(phone, room, "start", "is running")
    finally:
        await phone.close()


async def test_unverified_as_the_minimum_accepts_that_device(stack: Stack) -> None:
    await stack.settings(minimum_trust="unverified")
    alice = await stack.person("alice", cross_signed=False)
    room = await stack.room_with_bot(alice)
    await told(alice, room, "start", "is running")


async def test_an_identity_that_was_reset_is_refused_until_it_is_accepted_by_name(
    stack: Stack, alice: ChatClient, room: str
) -> None:
    await ask(alice, room, "status")
    await alice.reset_cross_signing()
    reply = await ask(alice, room, "start")
    assert "is not the one I first saw" in reply.body
    assert stack.cluster.asked("PATCH") == []
    row = (await audit(stack))[-1]
    assert (row["outcome"], row["device_id"], row["fingerprint"]) == ("refused", alice.device_id, alice.fingerprint)

    identity = reply.body.rsplit("accepted_identities: ", 1)[1].strip()
    assert identity.replace(" ", "") == await alice.identity()
    await stack.settings(accepted_identities={alice.user_id: identity})
    await told(alice, room, "start", "is running")
    await alice.reset_cross_signing()
    assert "is not the one that accepted_identities has for you" in (await ask(alice, room, "stop")).body


async def test_an_edit_does_not_run(stack: Stack, alice: ChatClient, room: str) -> None:
    said = await alice.send(room, "status")
    await alice.wait_reply(said)
    edit = await alice.send_edit(room, said, "start")
    await alice.settle(1.5)
    assert alice.timeline.replies(edit) == []
    assert stack.cluster.asked("PATCH") == []


@pytest.mark.parametrize("msgtype", ["m.notice", "m.emote"])
async def test_only_text_runs(stack: Stack, alice: ChatClient, room: str, msgtype: str) -> None:
    assert await hears_nothing(alice, await alice.send(room, "!toggle start", msgtype=msgtype))
    assert stack.cluster.asked("PATCH") == []


async def test_a_message_that_is_too_old_is_answered_and_not_run(stack: Stack, alice: ChatClient, room: str) -> None:
    await stack.settings(maximum_age="5s")
    await ask(alice, room, "status")
    stack.maubot.process.pause()
    try:
        event = await alice.send(room, "start")
        await asyncio.sleep(6)  # what is tested is that time passes
    finally:
        stack.maubot.process.resume()
    reply = await alice.wait_reply(event)
    assert "Not executed" in reply.body
    assert stack.cluster.asked("PATCH") == []


async def test_names_from_a_line_are_shown_and_not_rendered(stack: Stack, alice: ChatClient, room: str) -> None:
    reply = await ask(alice, room, "!toggle <b>*x*</b>[y](https://example.org)")
    assert "<b>" not in reply.formatted_body
    assert "<a " not in reply.formatted_body
    assert "<em>" not in reply.formatted_body


async def test_a_body_that_is_no_text_is_nobodys_line_and_no_traceback(
    stack: Stack, alice: ChatClient, mallory: ChatClient
) -> None:
    room = await room_of(stack, alice, mallory)
    before = len(stack.maubot.log_lines())
    for body in (7, ["!toggle"], {"a": 1}):
        await mallory.send_event(room, "m.room.message", {"msgtype": "m.text", "body": body})
    await ask(alice, room, "!toggle status")
    assert not [line for line in stack.maubot.log_lines()[before:] if "Failed to run handler" in line]
