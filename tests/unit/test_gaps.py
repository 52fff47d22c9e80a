"""What was not meant for us in a new room's timeline, and what is fetched of a gap."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from mautrix.client import Client
from mautrix.errors import MatrixInvalidToken
from mautrix.types import UserID

from tests.stack.processes import LOOPBACK, free_port
from toggle_plugin import gaps as gaps_module
from toggle_plugin.gaps import Gaps, before_us, invited_at

from .builders import reach_of, reached

BOT, ALICE = "@bot:example.org", "@alice:example.org"
LOG = logging.getLogger("test.gaps")


def member(membership: str, previous: str = "", user: str = BOT) -> dict[str, Any]:
    unsigned = {"prev_content": {"membership": previous}} if previous else {}
    return {
        "type": "m.room.member",
        "state_key": user,
        "content": {"membership": membership},
        "unsigned": unsigned,
        "event_id": f"${membership}",
    }


def said(event_id: str, **unsigned: Any) -> dict[str, Any]:
    return {"type": "m.room.message", "event_id": event_id, "sender": ALICE, "unsigned": unsigned}


@pytest.mark.parametrize(
    ("events", "where"),
    [
        ([said("$1"), member("invite"), said("$2"), member("join", "invite")], 1),
        ([said("$1"), member("join", "invite")], None),
        ([said("$1"), member("join", "join")], None),
        ([said("$1"), member("invite", user=ALICE), member("join", user=ALICE)], None),
        ([member("invite")], None),
        ([], None),
        ([{"type": "m.room.member", "state_key": BOT, "content": 5}, "no event"], None),
    ],
)
def test_where_we_were_invited(events: list[Any], where: int | None) -> None:
    assert invited_at(events, BOT) == where


@pytest.mark.parametrize(
    ("event", "before"),
    [
        (said("$1", membership="leave"), True),
        (said("$1", membership="ban"), True),
        (said("$1", membership="join"), False),
        (said("$1", membership="invite"), False),
        (said("$1"), False),
        ({"unsigned": 5}, False),
        ("no event", False),
    ],
)
def test_what_was_said_before_we_were_there(event: Any, before: bool) -> None:
    assert before_us(event) is before


class History:
    """A homeserver's /messages: pages of two events, newest first."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        self.events = events[::-1]
        self.queries: list[dict[str, str]] = []
        self.failures = 0
        self.status = 200
        self.code = "M_FORBIDDEN"
        self.pages: list[web.Response] = []
        self.alive = True

    async def versions(self, _: web.Request) -> web.Response:
        return web.json_response({"versions": ["v1.11"]}, status=200 if self.alive else 502)

    async def messages(self, request: web.Request) -> web.Response:
        self.queries.append(dict(request.query))
        if self.pages:
            return self.pages.pop()
        if self.failures:
            self.failures -= 1
            return web.json_response({"errcode": "M_UNKNOWN", "error": "broken"}, status=500)
        if self.status != 200:
            return web.json_response({"errcode": self.code, "error": "no"}, status=self.status)
        begin = int(request.query["from"].removeprefix("t"))
        page: dict[str, Any] = {"chunk": self.events[begin : begin + 2], "start": request.query["from"]}
        if begin + 2 < len(self.events):
            page["end"] = f"t{begin + 2}"
        return web.json_response(page)


@pytest.fixture
async def history() -> History:
    return History([said(f"${number}") for number in range(5)])


@pytest.fixture
async def gaps(history: History, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gaps]:
    monkeypatch.setattr("toggle_plugin.gaps.AGAIN", 0.01)
    app = web.Application()
    app.router.add_get("/_matrix/client/v3/rooms/{room}/messages", history.messages)
    app.router.add_get("/_matrix/client/versions", history.versions)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, LOOPBACK, port).start()
    client = Client(mxid=UserID(BOT), base_url=f"http://{LOOPBACK}:{port}", token="token")
    yield Gaps(client, lambda: [ALICE], lambda: 120.0, reach_of(client), LOG)
    await client.api.session.close()
    await runner.cleanup()


def limited(*events: dict[str, Any]) -> dict[str, Any]:
    return {"events": list(events), "limited": True, "prev_batch": "t0"}


def ids(events: list[dict[str, Any]]) -> list[str]:
    return [str(event["event_id"]) for event in events]


async def test_a_gap_is_filled_from_the_oldest_on(gaps: Gaps, history: History) -> None:
    found = await gaps.filled("!room:example.org", limited(said("$5"), said("$6")), "since")
    assert ids(found) == ["$0", "$1", "$2", "$3", "$4", "$5", "$6"]
    assert len(history.queries) == 3
    assert {query["to"] for query in history.queries} == {"since"}


async def test_only_people_whom_we_know_are_asked_for(gaps: Gaps, history: History) -> None:
    await gaps.filled("!room:example.org", limited(), "since")
    assert json.loads(history.queries[0]["filter"]) == {"senders": [ALICE]}


async def test_nothing_is_asked_for_where_nothing_is_missing(gaps: Gaps, history: History) -> None:
    timeline = {"events": [said("$5")], "limited": False, "prev_batch": "t0"}
    assert ids(await gaps.filled("!room:example.org", timeline, "since")) == ["$5"]
    assert history.queries == []


async def test_an_event_of_the_timeline_is_not_there_twice(gaps: Gaps) -> None:
    found = await gaps.filled("!room:example.org", limited(said("$4"), said("$5")), "since")
    assert ids(found) == ["$0", "$1", "$2", "$3", "$4", "$5"]


async def test_a_homeserver_that_fails_is_asked_again(gaps: Gaps, history: History) -> None:
    history.failures = 2
    assert len(await gaps.filled("!room:example.org", limited(), "since")) == 5


async def test_a_homeserver_that_refuses_is_not_asked_again(gaps: Gaps, history: History) -> None:
    history.status = 403
    assert ids(await gaps.filled("!room:example.org", limited(said("$5")), "since")) == ["$5"]
    assert len(history.queries) == 1


async def test_a_token_that_is_not_known_any_more_gives_up_no_gap(gaps: Gaps, history: History) -> None:
    history.status, history.code = 401, "M_UNKNOWN_TOKEN"
    with pytest.raises(MatrixInvalidToken):
        await gaps.filled("!room:example.org", limited(said("$5")), "since")


@pytest.mark.parametrize("status", [404, 408])
async def test_a_proxy_that_answers_instead_of_the_homeserver_is_asked_again(
    gaps: Gaps, history: History, status: int
) -> None:
    history.pages = [web.Response(status=status, text="<html>", content_type="text/html")]
    assert ids(await gaps.filled("!room:example.org", limited(said("$5")), "since")) == [f"${n}" for n in range(6)]


async def test_a_proxy_that_refuses_is_not_asked_again(gaps: Gaps, history: History) -> None:
    history.pages = [web.Response(status=414, text="<html>", content_type="text/html")]
    assert ids(await gaps.filled("!room:example.org", limited(said("$5")), "since")) == ["$5"]


async def test_a_page_that_leads_to_itself_is_the_last(gaps: Gaps, history: History) -> None:
    history.pages = [web.json_response({"chunk": [said("$4")], "end": "t0"})]
    assert ids(await gaps.filled("!room:example.org", limited(said("$5")), "since")) == ["$4", "$5"]


async def test_state_of_a_gap_does_not_undo_the_newer_state_of_the_response(gaps: Gaps, history: History) -> None:
    history.events.insert(1, {**member("invite", user="@mallory:example.org"), "sender": ALICE})
    found = await gaps.filled("!room:example.org", limited(said("$5")), "since")
    assert ids(found) == ["$0", "$1", "$2", "$3", "$4", "$5"]


async def test_without_knowing_since_when_only_what_is_fresh_is_fetched(gaps: Gaps, history: History) -> None:
    assert ids(await gaps.filled("!room:example.org", limited(said("$5")), None)) == ["$3", "$4", "$5"]
    assert len(history.queries) == 1, "the first page had only events that are too old"


async def test_in_a_room_that_we_have_just_joined_nothing_before_it_is_ours(gaps: Gaps, history: History) -> None:
    timeline = limited(said("$before"), member("invite"), said("$between"), member("join", "invite"), said("$after"))
    assert ids(await gaps.filled("!room:example.org", timeline, "since")) == ["$invite", "$between", "$join", "$after"]
    assert history.queries == []


async def test_a_page_that_never_comes_is_given_up_where_the_homeserver_answers_otherwise(
    gaps: Gaps, history: History, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """All rooms wait for this one."""
    monkeypatch.setattr(gaps_module, "GIVE_UP", 0.1)
    history.failures, history.status = 10_000, 500
    asked = asyncio.create_task(gaps.filled("!room:example.org", limited(said("$9")), "since"))
    await reached(lambda: gaps.trouble == gaps_module.WAITING)
    assert ids(await asked) == ["$9"]
    assert "gap=not_filled" in caplog.text
    assert gaps.trouble == ""


async def test_a_page_is_not_given_up_while_the_homeserver_answers_nothing(
    gaps: Gaps, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gaps_module, "GIVE_UP", 0.1)
    history.failures, history.alive = 10_000, False
    asked = asyncio.create_task(gaps.filled("!room:example.org", limited(said("$5")), "since"))
    await asyncio.sleep(0.5)
    assert not asked.done()
    history.failures = 0
    assert len(await asked) == 6
