"""Who syncs: our loop, maubot's, one after the other, a second instance; and what is told when nobody can."""

from __future__ import annotations

import time

import aiohttp
import pytest

from tests.integration.conversation import ask, told
from tests.stack.chat import ChatClient
from tests.stack.stack import PLUGIN, Servers, Stack

SWITCH = "switch Sync off for this client in maubot"

pytestmark = pytest.mark.own_sync


async def cautions(stack: Stack) -> str:
    _, answer = await stack.readyz()
    return " ".join(answer["cautions"])


async def reasons(stack: Stack) -> str:
    _, answer = await stack.readyz()
    return " ".join(answer["reasons"])


async def wait_reason(stack: Stack, person: ChatClient, text: str, seconds: float = 20.0) -> float:
    """Wait until /readyz gives a reason with `text`; after how many seconds it did."""
    began = time.monotonic()
    while text not in (found := await reasons(stack)):
        assert time.monotonic() - began < seconds, found
        await person.settle(0.2)
    return time.monotonic() - began


async def test_with_our_own_loop_there_is_nothing_to_caution(stack: Stack, alice: ChatClient, room: str) -> None:
    await stack.wait_ready()
    assert "maubot syncs" not in (await ask(alice, room, "status")).body
    assert await cautions(stack) == ""
    assert (await stack.api.client(stack.bot_id))["sync_ok"]


async def test_sync_in_maubot_is_cautioned_of_everywhere(servers: Servers) -> None:
    async with servers.stack() as stack:
        alice = await stack.person("alice")
        room = await stack.room_with_bot(alice)
        assert SWITCH in (await ask(alice, room, "status")).body
        assert SWITCH in (await ask(alice, room, "check")).body
        assert SWITCH in await cautions(stack)
        assert any("WARNING" in line and SWITCH in line for line in stack.instance_log())
        assert (await stack.readyz())[0] == 200, "it works"


async def test_sync_can_be_switched_on_and_off_while_we_run(stack: Stack, alice: ChatClient, room: str) -> None:
    for on in (True, False, True, False):
        await stack.api.change_client(stack.bot_id, sync=on)
        event = await alice.send(room, "status")
        assert (SWITCH in (await alice.wait_reply(event)).body) is on
        await alice.settle(0.3)
        assert len(alice.timeline.replies(event)) == 1


async def test_a_cleared_cache_repeats_and_loses_nothing(stack: Stack, alice: ChatClient, room: str) -> None:
    await told(alice, room, "start", "is running")
    event = await alice.send(room, "status")
    await alice.wait_reply(event)
    await stack.api.call("POST", f"/client/{stack.bot_id}/clearcache")
    await ask(alice, room, "status")
    await alice.settle(1.0)
    assert len(alice.timeline.replies(event)) == 1
    assert len(stack.cluster.asked("PATCH")) == 1


async def test_a_bad_event_takes_no_other_with_it(stack: Stack, alice: ChatClient, room: str) -> None:
    mallory = await stack.person("mallory")
    await alice.invite(room, mallory.user_id)
    await mallory.wait_invite(room)
    await mallory.join(room)
    await ask(alice, room, "!toggle status")
    stack.maubot.process.pause()
    bad = {
        "msgtype": "m.text",
        "body": "5",
        "format": "org.matrix.custom.html",
        "formatted_body": 5,
        "m.relates_to": {"m.in_reply_to": {"event_id": "$x"}},
    }
    await mallory.send_event(room, "m.room.message", bad, plaintext=True)
    event = await alice.send(room, "!toggle status")
    stack.maubot.process.resume()
    assert "is off" in (await alice.wait_reply(event)).body


async def test_a_second_instance_on_the_account_says_so_and_does_nothing(
    stack: Stack, alice: ChatClient, room: str
) -> None:
    second = f"{stack.instance}-second"
    await stack.api.create_instance(second, PLUGIN, stack.bot_id, stack.default_settings())
    try:
        url = f"{stack.maubot.url}/_matrix/maubot/plugin/{second}/readyz"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            assert response.status == 503
            (reason,) = (await response.json())["reasons"]
        assert f"the instance {stack.instance} uses this bot's account already" in reason
        assert "put all targets into one instance, or give this one an account of its own" in reason
        event = await alice.send(room, "status")
        await alice.wait_reply(event)
        await alice.settle(1.0)
        assert len(alice.timeline.replies(event)) == 1
    finally:
        await stack.api.delete_instance(second)
    assert "is off" in (await ask(alice, room, "status")).body
    await stack.wait_ready()


async def test_a_token_that_is_not_known_any_more_is_told(stack: Stack, alice: ChatClient, room: str) -> None:
    await ask(alice, room, "status")
    headers = {"Authorization": f"Bearer {stack.bot.access_token}"}
    async with aiohttp.ClientSession() as session:
        await session.post(f"{stack.synapse.url}/_matrix/client/v3/logout", headers=headers)
    await wait_reason(stack, alice, "does not know this client's access token: log in again in maubot", 45)
    assert stack.bot.access_token not in "\n".join(stack.instance_log())
    assert not (await stack.api.client(stack.bot_id))["sync_ok"]


async def test_an_outage_is_over_for_us_when_it_is_over(stack: Stack, alice: ChatClient, room: str) -> None:
    await ask(alice, room, "status")
    stack.synapse.process.pause()
    try:
        await wait_reason(stack, alice, "sync: the homeserver does not answer", 45)
    finally:
        stack.synapse.process.resume()
    began = time.monotonic()
    assert "is off" in (await ask(alice, room, "status")).body
    assert time.monotonic() - began < 10
    assert await reasons(stack) == ""


NOT_OURS = {
    "a page of somebody else's": ("<html>Back soon</html>", "text/html", "sync: the homeserver does not answer"),
    "an answer that is cut off": ('{"next_batch": "s1', "application/json", "sync: the homeserver does not answer"),
    "an answer that breaks us": (
        '{"versions": ["v1.11"], "next_batch": "s1", "rooms": {"join": []}}',  # as a sign of life, it is in order
        "application/json",
        "sync: what the homeserver sends breaks the sync loop: maubot's log says why",
    ),
}


async def test_a_loop_that_broke_goes_on_and_has_lost_nothing(servers: Servers) -> None:
    async with servers.stack(sync=False, proxied=True) as stack:
        assert stack.homeserver_proxy is not None
        alice = await stack.person("alice")
        room = await stack.room_with_bot(alice)
        await ask(alice, room, "status")
        for page, content_type, reason in NOT_OURS.values():
            await stack.homeserver_proxy.answer(page, content_type)
            await wait_reason(stack, alice, reason)
            event = await alice.send(room, "status")
            await stack.homeserver_proxy.pass_on()
            began = time.monotonic()
            assert "is off" in (await alice.wait_reply(event)).body
            assert time.monotonic() - began < 10
            assert "sync:" not in await reasons(stack)
            assert len(alice.timeline.replies(event)) == 1
