"""One reply that moves: merged while it moves fast, its last state always sent, and one message that wakes somebody."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from mautrix.types import EventID, MessageEvent

from toggle_plugin import outbox as outbox_module
from toggle_plugin import progress as progress_module
from toggle_plugin.outbox import Outbox
from toggle_plugin.progress import Anchor, ProgressMessage, mention, notice, shortened, words

from .builders import ALICE, ROOM, reach_of, reached, tasks_of_the_plugin
from .homeserver import Answer, Homeserver, limited

LOG = logging.getLogger("test.progress")
ANCHOR = Anchor(ROOM, EventID("$command"), ALICE)
WAIT = 20.0
NEVER = 3600.0
Reply = Callable[[], ProgressMessage]


@pytest.fixture
async def homeserver() -> AsyncIterator[Homeserver]:
    async with Homeserver() as homeserver:
        yield homeserver


@pytest.fixture(autouse=True)
def pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """No reaction, unless a test is about it, and waits that are short."""
    monkeypatch.setattr(progress_module, "REACT_AFTER", NEVER)
    monkeypatch.setattr(progress_module, "PACE", 0.02)
    monkeypatch.setattr(outbox_module, "BACKOFF_MAX", 0.02)


async def nowhere_encrypted(_: str) -> bool:
    return False


@pytest.fixture
async def outbox(homeserver: Homeserver) -> AsyncIterator[Outbox]:
    client = homeserver.client()
    outbox = Outbox(client, nowhere_encrypted, reach_of(client), LOG)
    yield outbox
    await outbox.stop()
    await client.api.session.close()


@pytest.fixture
async def reply(outbox: Outbox) -> AsyncIterator[ProgressMessage]:
    reply = ProgressMessage(outbox, ANCHOR, LOG)
    yield reply
    await asyncio.wait_for(reply.close(), WAIT)
    assert not tasks_of_the_plugin()


async def finish(reply: ProgressMessage, markdown: str, call: str = "") -> None:
    await asyncio.wait_for(reply.finish(markdown, call), WAIT)


# What fits


LONG = ", ".join(f"a-target-whose-name-has-more-{number:03}" for number in range(500))
"""500 names of 32 letters."""


def bytes_when_sent(content: Any) -> int:
    """How large the event is once it is encrypted: its JSON, base64 of that, and 2,500 bytes for what is around it."""
    return len(json.dumps({"type": "m.room.message", "room_id": ROOM, "content": content})) * 4 // 3 + 2500


async def test_500_names_fit_into_one_event_whole(reply: ProgressMessage, homeserver: Homeserver) -> None:
    await finish(reply, f"* 🟢 **500 running**: {LONG}")
    (content,) = homeserver.contents
    assert content["body"].endswith("more-499")
    assert bytes_when_sent(content) < 65_535


@pytest.mark.parametrize("text", [LONG * 5, "\n".join(["* 🔴 " + "ü" * 200] * 500), "x" * 200_000, "🟢" * 30_000])
async def test_what_does_not_fit_is_cut_and_says_so_also_in_an_edit(
    reply: ProgressMessage, homeserver: Homeserver, text: str
) -> None:
    reply.show(text)
    await reached(lambda: len(homeserver.sent) == 1)
    await finish(reply, f"then {text}")
    first, edit = homeserver.contents
    assert first["body"].endswith("\n(The rest is too long for one message.)")
    assert edit["m.new_content"]["body"].endswith("\n(The rest is too long for one message.)")
    for content in (first, edit):
        assert 25_000 < bytes_when_sent(content) < 65_535
        assert "long message cut off" not in content["body"], "as maubot does, which leaves 100 letters"


def test_a_cut_is_at_the_end_of_a_line_or_an_item() -> None:
    assert shortened("one, two, three", 12) == "one, two"
    assert shortened("one, two\nthree, four", 11) == "one, two"
    assert shortened("unbroken", 3) == "unb"


# What is said


async def test_the_first_words_are_a_notice_that_replies(homeserver: Homeserver, reply: ProgressMessage) -> None:
    await finish(reply, "**web** is <b>up</b>")
    (content,) = homeserver.contents
    assert content == {
        "msgtype": "m.notice",
        "body": "**web** is <b>up</b>",
        "format": "org.matrix.custom.html",
        "formatted_body": "<p><strong>web</strong> is &lt;b&gt;up&lt;/b&gt;</p>",
        "m.relates_to": {"m.in_reply_to": {"event_id": "$command"}},
    }


async def test_in_a_thread_the_words_stay_in_the_thread(homeserver: Homeserver, outbox: Outbox) -> None:
    reply = ProgressMessage(outbox, Anchor(ROOM, EventID("$command"), ALICE, EventID("$thread")), LOG)
    await finish(reply, "hello")
    await reply.close()
    (content,) = homeserver.contents
    relation = {"rel_type": "m.thread", "event_id": "$thread", "m.in_reply_to": {"event_id": "$command"}}
    assert content["m.relates_to"] == {**relation, "is_falling_back": False}


@pytest.mark.parametrize(
    ("relation", "thread"),
    [
        ({}, None),
        ({"m.in_reply_to": {"event_id": "$0"}}, None),
        ({"rel_type": "m.thread", "event_id": "$t"}, "$t"),
    ],
)
def test_an_anchor_is_where_the_command_was_written(relation: dict[str, Any], thread: str | None) -> None:
    raw: Any = {
        "type": "m.room.message",
        "event_id": "$command",
        "room_id": ROOM,
        "sender": ALICE,
        "origin_server_ts": 1,
        "content": {"msgtype": "m.text", "body": "start", "m.relates_to": relation},
    }
    assert Anchor.of(MessageEvent.deserialize(raw)) == Anchor(
        ROOM, EventID("$command"), ALICE, EventID(thread) if thread else None
    )


async def test_news_edit_the_first_words(homeserver: Homeserver, reply: ProgressMessage) -> None:
    reply.show("one")
    await reached(lambda: len(homeserver.sent) == 1)
    await finish(reply, "two")
    first, edit = homeserver.contents
    assert first["body"] == "one"
    assert edit["m.relates_to"] == {"rel_type": "m.replace", "event_id": "$0"}
    assert edit["m.new_content"]["body"] == "two"
    assert edit["m.new_content"]["msgtype"] == edit["msgtype"] == "m.notice"
    assert "m.relates_to" not in edit["m.new_content"]


async def test_the_same_words_are_not_sent_again(homeserver: Homeserver, reply: ProgressMessage) -> None:
    reply.show("same")
    await reached(lambda: len(homeserver.sent) == 1)
    await finish(reply, "same")
    assert homeserver.bodies == ["same"]


# What is merged


async def test_what_changes_fast_is_merged_and_the_last_state_goes_out(
    homeserver: Homeserver, reply: ProgressMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "PACE", NEVER)
    for number in range(100):
        reply.show(str(number))
        await asyncio.sleep(0)
    await reached(lambda: len(homeserver.sent) == 1)
    for number in range(100, 200):
        reply.show(str(number))
        await asyncio.sleep(0)
    await finish(reply, "last")
    assert len(homeserver.sent) == 2, "the last state waits for no pace"
    assert homeserver.bodies[-1] == "last"


async def test_at_the_pace_every_state_is_shown(homeserver: Homeserver, reply: ProgressMessage) -> None:
    for number in range(5):
        reply.show(str(number))
        await reached(lambda: homeserver.bodies[-1:] == [str(number)])  # noqa: B023 - it is awaited here
    assert homeserver.bodies == ["0", "1", "2", "3", "4"]


async def test_under_a_limit_all_but_the_last_state_is_left_out(homeserver: Homeserver, reply: ProgressMessage) -> None:
    homeserver.spoilt.append(limited(0.3))
    for number in range(20):
        reply.show(str(number))
        await asyncio.sleep(0.005)
    await finish(reply, "last")
    assert homeserver.bodies == ["last"]


async def test_under_the_stock_limits_ten_commands_at_once_all_end_with_their_last_state(
    homeserver: Homeserver, outbox: Outbox
) -> None:
    homeserver.spoilt.extend([limited(0.02)] * 40)

    async def command(number: int) -> None:
        reply = ProgressMessage(outbox, replace(ANCHOR, event=EventID(f"$command{number}")), LOG)
        for step in range(5):
            reply.show(f"{number} step {step}")
            await asyncio.sleep(0.01)
        await finish(reply, f"{number} done")
        await reply.close()

    await asyncio.gather(*(command(number) for number in range(10)))
    last = {body.split()[0]: body for body in homeserver.bodies}
    assert last == {str(number): f"{number} done" for number in range(10)}


async def test_a_state_that_could_not_be_sent_does_not_stop_the_next(
    homeserver: Homeserver, reply: ProgressMessage, caplog: pytest.LogCaptureFixture
) -> None:
    homeserver.spoilt.append(Answer(403, '{"errcode": "M_FORBIDDEN", "error": "not in room"}'))
    reply.show("one")
    await reached(lambda: "reply=not_sent" in caplog.text)
    await finish(reply, "two")
    assert homeserver.bodies == ["two"]
    assert "M_FORBIDDEN" in caplog.text


async def test_where_nothing_can_be_sent_the_command_ends_nevertheless(
    homeserver: Homeserver, reply: ProgressMessage, caplog: pytest.LogCaptureFixture
) -> None:
    homeserver.spoilt.extend([Answer(403)] * 10)
    reply.show("one")
    await finish(reply, "two", "wake up")
    assert homeserver.contents == []
    assert "call=not_sent" in caplog.text


# What wakes somebody


async def test_an_end_that_somebody_waits_for_is_a_message_that_mentions_them(
    homeserver: Homeserver, reply: ProgressMessage
) -> None:
    reply.show("starting")
    await reached(lambda: len(homeserver.sent) == 1)
    await finish(reply, "running", "**web** is running")
    first, edit, call = homeserver.contents
    assert (first["body"], edit["m.new_content"]["body"]) == ("starting", "running")
    assert call == {
        "msgtype": "m.text",
        "body": f"{ALICE}: **web** is running",
        "format": "org.matrix.custom.html",
        "formatted_body": f'<a href="https://matrix.to/#/{ALICE}">{ALICE}</a>: <strong>web</strong> is running',
        "m.mentions": {"user_ids": [ALICE]},
        "m.relates_to": {"m.in_reply_to": {"event_id": "$command"}},
    }


async def test_where_nothing_was_said_yet_the_end_is_one_message(
    homeserver: Homeserver, reply: ProgressMessage
) -> None:
    await finish(reply, "failed", "it failed")
    (call,) = homeserver.contents
    assert call["msgtype"] == "m.text"
    assert call["body"] == f"{ALICE}: it failed"
    assert call["m.relates_to"] == {"m.in_reply_to": {"event_id": "$command"}}


async def test_where_the_first_words_were_limited_the_end_is_one_message(
    homeserver: Homeserver, reply: ProgressMessage
) -> None:
    homeserver.spoilt.append(limited(0.2))
    reply.show("starting")
    await reached(lambda: len(homeserver.requests) == 1)
    await finish(reply, "failed", "it failed")
    assert homeserver.bodies == [f"{ALICE}: it failed"]


async def test_where_the_answer_to_the_first_words_was_lost_the_end_is_still_told(
    homeserver: Homeserver, reply: ProgressMessage
) -> None:
    homeserver.spoilt.append(Answer(502, taken=True))
    reply.show("starting")
    await reached(lambda: len(homeserver.requests) == 1)
    await finish(reply, "failed", "it failed")
    assert homeserver.bodies == ["starting", "failed", f"{ALICE}: it failed"]


async def test_somebody_is_called_while_the_reply_goes_on(homeserver: Homeserver, reply: ProgressMessage) -> None:
    reply.show("stuck")
    reply.call("it is stuck")
    await reached(lambda: len(homeserver.sent) == 2)
    await finish(reply, "running")
    assert sorted(homeserver.bodies[:2]) == sorted(["stuck", f"{ALICE}: it is stuck"])
    assert homeserver.bodies[2:] == ["running"]


async def test_finishing_waits_until_the_call_is_out(homeserver: Homeserver, reply: ProgressMessage) -> None:
    reply.show("starting")
    await reached(lambda: len(homeserver.sent) == 1)
    homeserver.held = asyncio.Event()
    finishing = asyncio.ensure_future(reply.finish("running", "it runs"))
    await reached(lambda: len(homeserver.requests) == 2)
    assert not finishing.done()
    homeserver.held.set()
    await asyncio.wait_for(finishing, WAIT)
    assert homeserver.bodies == ["starting", "running", f"{ALICE}: it runs"]


async def test_a_name_is_escaped_where_it_is_a_link() -> None:
    content = mention(await words("hello"), '@"><b>:example.org')
    assert content.formatted_body is not None
    assert "<b>" not in content.formatted_body
    assert content["m.mentions"] == {"user_ids": ['@"><b>:example.org']}


async def test_a_list_keeps_its_form_in_a_message_that_mentions() -> None:
    content = mention(await words("* one\n* two"), ALICE)
    assert content.formatted_body is not None
    assert content.formatted_body.endswith("</a>: <ul>\n<li>one</li>\n<li>two</li>\n</ul>")
    assert notice(await words("one\n\ntwo")).formatted_body == "<p>one</p>\n<p>two</p>"


# Reactions


async def test_a_command_without_words_for_a_while_gets_a_reaction(
    homeserver: Homeserver, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "REACT_AFTER", 0.05)
    reply = ProgressMessage(outbox, ANCHOR, LOG)
    began = asyncio.get_running_loop().time()
    await reached(lambda: len(homeserver.sent) == 1)
    (reaction,) = homeserver.requests
    assert reaction.time - began >= 0.05
    assert reaction.content["m.relates_to"] == {"rel_type": "m.annotation", "event_id": "$command", "key": "⏳"}
    await finish(reply, "done")
    await reply.close()
    assert len(homeserver.sent) == 2


async def test_a_command_that_was_answered_gets_no_reaction(
    homeserver: Homeserver, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "REACT_AFTER", 0.05)
    reply = ProgressMessage(outbox, ANCHOR, LOG)
    reply.show("at once")
    await asyncio.sleep(0.1)
    await reply.close()
    assert [request.type for request in homeserver.requests] == ["m.room.message"]


async def test_under_a_limit_there_is_no_reaction(
    homeserver: Homeserver, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "REACT_AFTER", 0.05)
    homeserver.spoilt.append(limited(0.4))
    first = ProgressMessage(outbox, ANCHOR, LOG)
    first.show("limited")
    await reached(lambda: len(homeserver.requests) == 1)
    second = ProgressMessage(outbox, replace(ANCHOR, event=EventID("$other")), LOG)
    await asyncio.sleep(0.1)
    assert len(homeserver.requests) == 1
    await asyncio.gather(finish(first, "one"), finish(second, "two"))
    await asyncio.gather(first.close(), second.close())
    assert sorted(homeserver.bodies) == ["one", "two"]


# The end


async def test_a_closed_reply_says_nothing_more(homeserver: Homeserver, outbox: Outbox) -> None:
    homeserver.spoilt.extend([limited(60)] * 5)
    reply = ProgressMessage(outbox, ANCHOR, LOG)
    reply.show("one")
    reply.call("two")
    await reached(lambda: len(homeserver.requests) >= 1)
    await asyncio.wait_for(reply.close(), WAIT)
    await asyncio.wait_for(outbox.stop(), WAIT)
    assert homeserver.contents == []
    assert not tasks_of_the_plugin()
