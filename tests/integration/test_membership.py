"""Rooms: invites that wait, rooms that are left, upgrades that are followed and those that are not."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from tests.integration.conversation import ask, room_of
from tests.stack.chat import ChatClient
from tests.stack.stack import Servers, Stack

CREATE = "/_matrix/client/v3/createRoom"

pytestmark = pytest.mark.own_sync


async def joined_rooms(stack: Stack) -> set[str]:
    """The rooms that the homeserver says the bot is in."""
    headers = {"Authorization": f"Bearer {stack.bot.access_token}"}
    url = f"{stack.synapse.url}/_matrix/client/v3/joined_rooms"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        return set((await response.json())["joined_rooms"])


async def wait_left(stack: Stack, person: ChatClient, room: str) -> None:
    for _ in range(100):
        if room not in await joined_rooms(stack):
            return
        await person.settle(0.1)
    raise AssertionError("the bot is still there")


async def wait_forgotten(stack: Stack, person: ChatClient) -> None:
    """Until no room is written down any more; that is done when the homeserver has answered that the bot left."""
    for _ in range(100):
        if not await stack.rows("SELECT * FROM joined_room"):
            return
        await person.settle(0.1)
    raise AssertionError("the room is still written down")


async def test_an_invite_that_came_while_we_were_down_is_accepted(stack: Stack, alice: ChatClient) -> None:
    await stack.maubot.stop()
    room = await alice.create_room(encrypted=True, invite=[stack.bot_id])
    await stack.maubot.run()
    await alice.wait_membership(room, stack.bot_id)
    assert "is off" in (await ask(alice, room, "status")).body


async def test_an_invite_that_came_while_we_were_down_is_accepted_where_maubot_syncs(servers: Servers) -> None:
    async with servers.stack(sync=True) as stack:
        alice = await stack.person("alice")
        await stack.maubot.stop()
        room = await alice.create_room(encrypted=True, invite=[stack.bot_id])
        await stack.maubot.run()
        await alice.wait_membership(room, stack.bot_id)


async def test_an_invite_waits_until_its_sender_may_invite(stack: Stack, alice: ChatClient) -> None:
    bob = await stack.person("bob")
    room = await bob.create_room(encrypted=True, invite=[stack.bot_id])
    await bob.settle(1.5)
    assert await joined_rooms(stack) == set()
    await stack.settings(allowed_users=[alice.user_id, bob.user_id])
    await bob.wait_membership(room, stack.bot_id)


async def test_strangers_invites_are_asked_nothing_about(stack: Stack, alice: ChatClient, room: str) -> None:
    mallory = await stack.person("mallory")
    for _ in range(5):
        await mallory.create_room(encrypted=False, invite=[stack.bot_id])
    assert "is off" in (await ask(alice, room, "status")).body
    assert await joined_rooms(stack) == {room}
    await stack.maubot.restart()
    await ask(alice, room, "status")
    assert await joined_rooms(stack) == {room}


async def test_a_room_without_anybody_whom_we_know_is_left(stack: Stack, alice: ChatClient) -> None:
    mallory = await stack.person("mallory")
    room = await room_of(stack, alice, mallory)
    await ask(alice, room, "!toggle status")
    await alice.leave(room)
    await wait_left(stack, mallory, room)
    await wait_forgotten(stack, mallory)


async def test_a_room_is_left_when_its_people_are_taken_out_of_the_settings(stack: Stack, alice: ChatClient) -> None:
    bob = await stack.person("bob")
    await stack.settings(allowed_users=[alice.user_id, bob.user_id])
    room, other = await stack.room_with_bot(bob), await stack.room_with_bot(alice)
    await stack.settings(allowed_users=[alice.user_id])
    await wait_left(stack, bob, room)
    assert await joined_rooms(stack) == {other}


async def test_a_room_that_somebody_else_joined_for_us_is_not_left(stack: Stack, alice: ChatClient) -> None:
    mallory = await stack.person("mallory")
    room = await mallory.create_room(encrypted=False, invite=[stack.bot_id])
    headers = {"Authorization": f"Bearer {stack.bot.access_token}"}
    async with aiohttp.ClientSession() as session:
        await session.post(f"{stack.synapse.url}/_matrix/client/v3/join/{room}", headers=headers, json={})
    await stack.settings(maximum_age="3m")
    await alice.settle(1.5)
    assert await joined_rooms(stack) == {room}


async def test_an_upgrade_by_somebody_whom_we_know_is_followed(stack: Stack, alice: ChatClient) -> None:
    room = await stack.room_with_bot(alice, public=True)
    await ask(alice, room, "status")
    replacement = await alice.upgrade_room(room)
    await alice.wait_membership(replacement, stack.bot_id)
    assert "is off" in (await ask(alice, replacement, "status")).body


async def test_an_upgrade_into_a_room_that_is_not_allowed_is_not_followed(
    stack: Stack, alice: ChatClient, room: str
) -> None:
    await stack.settings(allowed_rooms=[room])
    await ask(alice, room, "status")
    replacement = await alice.upgrade_room(room)
    await alice.settle(2.0)
    assert replacement not in await joined_rooms(stack)
    assert any("ignored=upgrade" in line and replacement in line for line in stack.instance_log())


async def test_a_strangers_upgrade_is_not_followed(stack: Stack, alice: ChatClient) -> None:
    mallory = await stack.person("mallory")
    room = await stack.room_with_bot(alice, public=True)
    await mallory.join(room)
    await ask(alice, room, "!toggle status")
    power: dict[str, Any] = {"users": {mallory.user_id: 100}}
    await alice.send_state(room, "m.room.power_levels", power)
    replacement = await mallory.upgrade_room(room)
    await alice.settle(2.0)
    assert replacement not in await joined_rooms(stack)


@pytest.mark.parametrize("creator", ["alice", "mallory"])
async def test_a_false_upgrade_is_left_again(stack: Stack, alice: ChatClient, room: str, creator: str) -> None:
    """A room of somebody whom we know that replaces nothing; and one that says it replaces ours, of somebody else."""
    person = await stack.person(creator)
    await ask(alice, room, "status")
    predecessor = {"predecessor": {"room_id": room, "event_id": "$any"}} if creator == "mallory" else {}
    body = {"preset": "public_chat", "creation_content": predecessor}
    trap = (await stack.synapse.request("POST", CREATE, body, token=person.access_token))["room_id"]
    await alice.send_state(room, "m.room.tombstone", {"body": "moved", "replacement_room": trap})
    left = f"left room={trap} why='it is not the upgrade that it claims to be'"
    for _ in range(100):
        if any(left in line for line in stack.instance_log()):
            break
        await alice.settle(0.1)
    assert any(left in line for line in stack.instance_log())
    assert await joined_rooms(stack) == {room}


async def test_autojoin_is_cautioned_of(servers: Servers) -> None:
    async with servers.stack(sync=False, autojoin=True) as stack:
        alice = await stack.person("alice")
        room = await stack.room_with_bot(alice)
        assert "switch Autojoin off for this client in maubot" in (await ask(alice, room, "check")).body
        _, answer = await stack.readyz()
        assert any("Autojoin" in caution for caution in answer["cautions"])


async def test_settings_that_cannot_be_read_make_us_leave_no_room(stack: Stack, alice: ChatClient, room: str) -> None:
    await ask(alice, room, "status")
    good = await stack.api.settings(stack.instance)
    await stack.api.change_instance(stack.instance, started=False)
    await stack.settings(allowed_users=alice.user_id)
    await stack.api.change_instance(stack.instance, started=True)
    await stack.maubot.restart()
    await alice.settle(1.5)
    assert any("settings=broken" in line for line in stack.instance_log())
    assert await joined_rooms(stack) == {room}
    await stack.api.save_settings(stack.instance, good)
    assert "is off" in (await ask(alice, room, "status")).body


async def test_an_upgrade_into_a_room_that_somebody_else_joined_for_us_changes_nothing(
    stack: Stack, alice: ChatClient, room: str
) -> None:
    mallory = await stack.person("mallory")
    other = await mallory.create_room(encrypted=False, public=True)
    path = f"/_matrix/client/v3/join/{quote(other)}"
    await stack.synapse.request("POST", path, {}, token=stack.bot.access_token)
    await ask(alice, room, "status")
    await alice.send_state(room, "m.room.tombstone", {"body": "moved", "replacement_room": other})
    await alice.settle(1.5)
    assert await joined_rooms(stack) == {room, other}
    assert await stack.rows("SELECT room_id FROM joined_room") == [{"room_id": room}]


async def test_an_upgrade_into_an_address_is_not_followed(stack: Stack, alice: ChatClient, room: str) -> None:
    mallory = await stack.person("mallory")
    trap = await mallory.create_room(encrypted=False, public=True)
    address = f"#{mallory.user_id[1:].replace(':', '-trap:', 1)}"
    path = f"/_matrix/client/v3/directory/room/{quote(address)}"
    await stack.synapse.request("PUT", path, {"room_id": trap}, token=mallory.access_token)
    await ask(alice, room, "status")
    await alice.send_state(room, "m.room.tombstone", {"body": "moved", "replacement_room": address})
    await alice.settle(1.5)
    assert await joined_rooms(stack) == {room}
