"""What goes out: in turn under limits, once where answers are lost, and never in plaintext into an encrypted room."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from mautrix.client import Client
from mautrix.types import EventType, MessageType, TextMessageEventContent

from toggle_plugin import outbox as outbox_module
from toggle_plugin.outbox import EDIT, FINAL, FIRST, Make, NotSent, Outbox

from .builders import ALICE, BOB, OTHER_ROOM, ROOM, reach_of, reached, tasks_of_the_plugin
from .homeserver import TOKEN, Answer, Homeserver, limited

LOG = logging.getLogger("test.outbox")
WAIT = 10.0


@pytest.fixture
async def homeserver() -> AsyncIterator[Homeserver]:
    async with Homeserver() as homeserver:
        yield homeserver


@pytest.fixture
async def client(homeserver: Homeserver) -> AsyncIterator[Client]:
    client = homeserver.client()
    yield client
    await client.api.session.close()


async def nowhere_encrypted(_: str) -> bool:
    return False


@pytest.fixture
async def outbox(client: Client) -> AsyncIterator[Outbox]:
    outbox = Outbox(client, nowhere_encrypted, reach_of(client), LOG)
    yield outbox
    await outbox.stop()
    assert not tasks_of_the_plugin()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that depend on nobody's word are short."""
    monkeypatch.setattr(outbox_module, "BACKOFF_MAX", 0.02)
    monkeypatch.setattr(outbox_module, "LIMIT_WITHOUT_A_NUMBER", 0.02)


def text(body: str) -> Make:
    async def make() -> TextMessageEventContent:
        return TextMessageEventContent(msgtype=MessageType.NOTICE, body=body)

    return make


def always(urgency: int) -> Callable[[], int]:
    return lambda: urgency


async def send(outbox: Outbox, body: str, urgency: int = FIRST, room: str = ROOM) -> str | None:
    return await asyncio.wait_for(outbox.send(room, text(body), always(urgency)), WAIT)


async def test_an_event_is_sent_with_our_token(homeserver: Homeserver, outbox: Outbox) -> None:
    assert await send(outbox, "hello", room="!a/b ü%:example.org") == "$0"
    (request,) = homeserver.requests
    assert (request.room, request.type) == ("!a/b ü%:example.org", "m.room.message")
    assert request.content == {"msgtype": "m.notice", "body": "hello"}
    assert request.authorization == f"Bearer {TOKEN}"


async def test_every_event_has_a_transaction_of_its_own(homeserver: Homeserver, outbox: Outbox) -> None:
    await asyncio.gather(*(send(outbox, "same words") for _ in range(5)))
    assert len({request.transaction for request in homeserver.requests}) == 5
    assert len(homeserver.sent) == 5


async def test_where_there_is_nothing_to_say_nothing_is_sent(homeserver: Homeserver, outbox: Outbox) -> None:
    async def nothing() -> None:
        return None

    assert await outbox.send(ROOM, nothing, always(EDIT)) is None
    assert homeserver.requests == []


# Limits


async def test_a_limit_is_waited_for_as_long_as_it_says(homeserver: Homeserver, outbox: Outbox) -> None:
    homeserver.spoilt.extend([limited(0.2), limited(0.1)])
    assert await send(outbox, "hello") == "$0"
    first, second, third = (request.time for request in homeserver.requests)
    assert second - first >= 0.2
    assert third - second >= 0.1


@pytest.mark.parametrize(
    "answer",
    [limited(), limited(-1), Answer(429, "busy"), Answer(400, '{"errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 20}')],
)
async def test_a_limit_that_does_not_say_how_long_is_waited_for_too(
    homeserver: Homeserver, outbox: Outbox, answer: Answer
) -> None:
    homeserver.spoilt.append(answer)
    assert await send(outbox, "hello") == "$0"
    assert homeserver.requests[1].time - homeserver.requests[0].time >= 0.02


async def test_what_is_said_after_a_limit_is_the_newest(homeserver: Homeserver, outbox: Outbox) -> None:
    newest = ["old"]

    async def make() -> TextMessageEventContent:
        return TextMessageEventContent(msgtype=MessageType.NOTICE, body=newest[0])

    homeserver.spoilt.append(limited(0.1))
    sending = asyncio.ensure_future(outbox.send(ROOM, make, always(FIRST)))
    await reached(lambda: len(homeserver.requests) == 1)
    newest[0] = "new"
    await asyncio.wait_for(sending, WAIT)
    assert homeserver.bodies == ["new"]


async def closed(homeserver: Homeserver, outbox: Outbox, seconds: float = 0.3) -> asyncio.Task[str | None]:
    """Run into a limit; the event that did is returned on its way."""
    homeserver.spoilt.append(limited(seconds))
    sending = asyncio.ensure_future(send(outbox, "limited", EDIT))
    await reached(lambda: len(homeserver.requests) == 1)
    await reached(lambda: not outbox._gate.open)
    return sending


async def test_the_limit_is_the_accounts_and_holds_in_every_room(homeserver: Homeserver, outbox: Outbox) -> None:
    waiting = await closed(homeserver, outbox)
    await asyncio.gather(waiting, send(outbox, "elsewhere", room=OTHER_ROOM))
    first, *others = homeserver.requests
    assert len(others) == 2
    assert all(request.time - first.time >= 0.3 for request in others)


async def test_after_a_limit_the_last_words_come_first_then_the_first_then_edits(
    homeserver: Homeserver, outbox: Outbox
) -> None:
    waiting = [await closed(homeserver, outbox)]
    for body, urgency in [("edit", EDIT), ("first", FIRST), ("last", FINAL), ("second", FIRST), ("very last", FINAL)]:
        waiting.append(asyncio.ensure_future(send(outbox, body, urgency)))
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert homeserver.bodies == ["last", "very last", "first", "second", "limited", "edit"]


async def test_after_a_limit_people_take_turns_so_that_nobody_waits_for_somebody_elses_flood(
    homeserver: Homeserver, outbox: Outbox
) -> None:
    waiting = [await closed(homeserver, outbox)]
    flood = [(f"alice {number}", FINAL, ALICE) for number in range(6)]
    for body, urgency, user in [*flood, ("bob's edit", EDIT, BOB), ("bob first", FIRST, BOB), ("bob last", FINAL, BOB)]:
        waiting.append(asyncio.ensure_future(outbox.send(ROOM, text(body), always(urgency), user=user)))
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert homeserver.bodies[:5] == ["alice 0", "bob last", "alice 1", "bob first", "alice 2"]
    assert set(homeserver.bodies[-2:]) == {"limited", "bob's edit"}
    assert outbox._gate._served == {}, "nobody is remembered once nobody waits"


async def test_whoever_came_first_stays_first_when_limited_again(homeserver: Homeserver, outbox: Outbox) -> None:
    homeserver.spoilt.extend([limited(0.1)] * 3)
    waiting = [asyncio.ensure_future(send(outbox, "0"))]
    await reached(lambda: len(homeserver.requests) == 1)
    await reached(lambda: not outbox._gate.open)
    for number in range(1, 4):
        waiting.append(asyncio.ensure_future(send(outbox, str(number))))
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert homeserver.bodies == ["0", "1", "2", "3"]


async def test_what_becomes_urgent_while_it_waits_is_urgent(homeserver: Homeserver, outbox: Outbox) -> None:
    urgency = [EDIT]
    waiting = [await closed(homeserver, outbox)]
    waiting.append(asyncio.ensure_future(outbox.send(ROOM, text("mine"), lambda: urgency[0])))
    waiting.append(asyncio.ensure_future(send(outbox, "first", FIRST)))
    await asyncio.sleep(0)
    urgency[0] = FINAL
    await asyncio.gather(*waiting)
    assert homeserver.bodies[0] == "mine"


async def test_after_a_limit_events_go_out_one_by_one(homeserver: Homeserver, outbox: Outbox) -> None:
    waiting = [await closed(homeserver, outbox, 0.1)]
    waiting += [asyncio.ensure_future(send(outbox, str(number))) for number in range(3)]
    homeserver.held = asyncio.Event()
    await reached(lambda: len(homeserver.requests) == 2)
    await asyncio.sleep(0.05)
    assert len(homeserver.requests) == 2, "the next one may be limited again"
    homeserver.held.set()
    await asyncio.gather(*waiting)
    assert len(homeserver.sent) == 4


async def test_under_one_limit_after_the_other_nothing_is_lost_or_sent_twice(
    homeserver: Homeserver, outbox: Outbox
) -> None:
    homeserver.spoilt.extend([limited(0.01)] * 30)
    await asyncio.gather(*(send(outbox, str(number)) for number in range(20)))
    assert sorted(homeserver.bodies, key=int) == [str(number) for number in range(20)]


async def test_somebody_who_gives_up_waiting_keeps_nobody_else_waiting(homeserver: Homeserver, outbox: Outbox) -> None:
    waiting = await closed(homeserver, outbox)
    urgent = asyncio.ensure_future(send(outbox, "never mind", FINAL))
    await asyncio.sleep(0.01)
    urgent.cancel()
    await waiting
    assert homeserver.bodies == ["limited"]
    assert urgent.cancelled()


async def test_an_error_while_words_are_made_keeps_nobody_else_waiting(
    homeserver: Homeserver, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toggle_plugin.outbox.ODD_PATIENCE", 0.0)

    async def broken() -> TextMessageEventContent:
        raise RuntimeError("no words")

    waiting = await closed(homeserver, outbox, 0.05)
    speechless = asyncio.ensure_future(outbox.send(ROOM, broken, always(FINAL)))
    with pytest.raises(NotSent, match="no words"):
        await asyncio.wait_for(speechless, WAIT)
    await waiting
    assert homeserver.bodies == ["limited"]


async def test_a_passing_error_while_words_are_made_is_tried_again(homeserver: Homeserver, outbox: Outbox) -> None:
    errors = [RuntimeError("database is locked")]

    async def at_second_try() -> TextMessageEventContent:
        if errors:
            raise errors.pop()
        return TextMessageEventContent(msgtype=MessageType.NOTICE, body="at last")

    await asyncio.wait_for(outbox.send(ROOM, at_second_try, always(FINAL)), WAIT)
    assert homeserver.bodies == ["at last"]


async def test_after_the_limit_is_over_nobody_waits(homeserver: Homeserver, outbox: Outbox) -> None:
    await (await closed(homeserver, outbox, 0.05))
    await reached(lambda: outbox._gate.open)
    homeserver.held = asyncio.Event()
    both = [asyncio.ensure_future(send(outbox, body)) for body in ("a", "b")]
    await reached(lambda: len(homeserver.requests) == 4)
    homeserver.held.set()
    await asyncio.gather(*both)


# Lost answers


@pytest.mark.parametrize(
    "answer",
    [
        Answer(500),
        Answer(502, "<html>bad gateway</html>"),
        Answer(503, taken=True),
        Answer(200, "<html>hello</html>"),
        Answer(200, "[]"),
        Answer(200, taken=True, cut=True),
        Answer(200, cut=True),
    ],
)
async def test_without_an_answer_the_same_event_is_sent_again(
    homeserver: Homeserver, outbox: Outbox, answer: Answer
) -> None:
    newest = iter(range(100))

    async def make() -> TextMessageEventContent:
        return TextMessageEventContent(msgtype=MessageType.NOTICE, body=str(next(newest)))

    homeserver.spoilt.extend([answer] * 2)
    assert await asyncio.wait_for(outbox.send(ROOM, make, always(FIRST)), WAIT) == "$0"
    assert len(homeserver.requests) == 3
    assert len({request.transaction for request in homeserver.requests}) == 1
    assert homeserver.bodies == ["0"], "it may have arrived, so it must not say anything else now"


async def test_a_limit_after_a_lost_answer_changes_no_words_either(homeserver: Homeserver, outbox: Outbox) -> None:
    newest = iter(range(100))

    async def make() -> TextMessageEventContent:
        return TextMessageEventContent(msgtype=MessageType.NOTICE, body=str(next(newest)))

    homeserver.spoilt.extend([Answer(502, taken=True), limited(0.05)])
    assert await asyncio.wait_for(outbox.send(ROOM, make, always(FIRST)), WAIT) == "$0"
    assert [request.content["body"] for request in homeserver.requests] == ["0", "0", "0"]


async def test_a_homeserver_that_does_not_answer_is_given_up_in_the_end(
    homeserver: Homeserver, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "GIVE_UP", 0.1)
    homeserver.spoilt.extend([Answer(502)] * 1000)
    with pytest.raises(NotSent, match=r"^given up after 0 s: status 502$"):
        await send(outbox, "hello")
    assert len(homeserver.requests) > 1


async def test_time_under_a_limit_is_no_time_without_an_answer(
    homeserver: Homeserver, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "GIVE_UP", 0.2)
    homeserver.spoilt.extend([limited(0.4), Answer(502), limited(0.4), Answer(502)])
    assert await send(outbox, "hello") == "$0"


async def test_a_homeserver_that_is_slow_to_answer_is_asked_again(
    homeserver: Homeserver, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "TIMEOUT", 0.1)
    homeserver.held = asyncio.Event()
    sending = asyncio.ensure_future(send(outbox, "hello"))
    await reached(lambda: len(homeserver.requests) >= 2)
    homeserver.held.set()
    assert await sending == "$0"
    assert len(homeserver.sent) == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(403, '{"errcode": "M_FORBIDDEN", "error": "not in room"}'), "403 M_FORBIDDEN not in room"),
        (Answer(401, '{"errcode": "M_UNKNOWN_TOKEN", "error": "?"}'), "401 M_UNKNOWN_TOKEN"),
        (Answer(413, "too large"), "413"),
    ],
)
async def test_a_refusal_is_not_repeated(homeserver: Homeserver, outbox: Outbox, answer: Answer, reason: str) -> None:
    homeserver.spoilt.append(answer)
    with pytest.raises(NotSent) as raised:
        await send(outbox, "hello")
    assert str(raised.value).startswith(f"the homeserver refused it: {reason}")
    assert TOKEN not in str(raised.value)
    assert len(homeserver.requests) == 1
    assert await send(outbox, "again") == "$0"


async def test_whoever_is_cancelled_while_sending_keeps_nobody_waiting(homeserver: Homeserver, outbox: Outbox) -> None:
    homeserver.held = asyncio.Event()
    sending = asyncio.ensure_future(send(outbox, "gone"))
    await reached(lambda: len(homeserver.requests) == 1)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    homeserver.held.set()
    homeserver.held = None
    assert await send(outbox, "next") is not None


# Encryption


async def everywhere_encrypted(_: str) -> bool:
    return True


async def test_what_maubot_has_closed_sends_nothing_and_breaks_nothing(client: Client, outbox: Outbox) -> None:
    await client.api.session.close()
    with pytest.raises(NotSent, match="closed"):
        await send(outbox, "too late")


async def test_nothing_goes_out_in_plaintext_when_the_encryption_is_gone(
    homeserver: Homeserver, client: Client
) -> None:
    assert client.crypto is None
    outbox = Outbox(client, everywhere_encrypted, reach_of(client), LOG)
    with pytest.raises(NotSent, match="encryption is gone: restart the instance"):
        await send(outbox, "secret")
    assert homeserver.requests == []
    await outbox.stop()


async def test_each_room_is_asked_whether_it_is_encrypted(homeserver: Homeserver, client: Client) -> None:
    async def encrypted(room: str) -> bool:
        return room == ROOM

    outbox = Outbox(client, encrypted, reach_of(client), LOG)
    with pytest.raises(NotSent):
        await send(outbox, "secret", room=ROOM)
    assert await send(outbox, "open", room=OTHER_ROOM) == "$0"
    assert [request.room for request in homeserver.requests] == [OTHER_ROOM]
    await outbox.stop()


# Reactions


async def test_a_reaction_is_an_annotation(homeserver: Homeserver, outbox: Outbox) -> None:
    await outbox.react(ROOM, "$event", "⏳")
    (request,) = homeserver.requests
    assert request.type == str(EventType.REACTION)
    assert request.content == {"m.relates_to": {"rel_type": "m.annotation", "event_id": "$event", "key": "⏳"}}


async def test_a_reaction_waits_for_nothing(homeserver: Homeserver, outbox: Outbox) -> None:
    waiting = await closed(homeserver, outbox, 0.2)
    await outbox.react(ROOM, "$event", "⏳")
    assert len(homeserver.requests) == 1
    await waiting
    assert homeserver.bodies == ["limited"]


@pytest.mark.parametrize("answer", [Answer(403, '{"errcode": "M_FORBIDDEN"}'), Answer(502), Answer(200, cut=True)])
async def test_a_reaction_that_fails_is_not_repeated(homeserver: Homeserver, outbox: Outbox, answer: Answer) -> None:
    homeserver.spoilt.extend([answer] * 2)  # aiohttp itself repeats what got no answer on an old connection
    await outbox.react(ROOM, "$event", "⏳")
    assert len({request.transaction for request in homeserver.requests}) == 1
    assert homeserver.bodies == []


async def test_a_limit_that_a_reaction_runs_into_holds_for_all(homeserver: Homeserver, outbox: Outbox) -> None:
    homeserver.spoilt.append(limited(0.2))
    await outbox.react(ROOM, "$event", "⏳")
    await send(outbox, "hello")
    reaction, message = homeserver.requests
    assert message.time - reaction.time >= 0.2


# The end


async def test_stopping_lets_nobody_wait_any_longer(homeserver: Homeserver, client: Client) -> None:
    outbox = Outbox(client, nowhere_encrypted, reach_of(client), LOG)
    waiting: Awaitable[str | None] = await closed(homeserver, outbox, 60)
    await asyncio.wait_for(outbox.stop(), WAIT)
    waiting.cancel()  # type: ignore[attr-defined]
    await asyncio.gather(waiting, return_exceptions=True)
    assert len(homeserver.requests) == 1


async def test_a_homeserver_below_a_path_is_reached() -> None:
    async with Homeserver(prefix="/behind/a/proxy") as served:
        caller = served.client()
        outbox = Outbox(caller, nowhere_encrypted, reach_of(caller), logging.getLogger())
        try:
            assert await send(outbox, "hello") == "$0"
        finally:
            await caller.api.session.close()
            await outbox.stop()
