"""Which events count: a person's own, new, fresh text, once."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mautrix.types import MessageEvent

from toggle_plugin.inbox import FUTURE, SEEN, Age, Inbox, age

from .builders import ALICE, ROOM

BOT = "@bot:example.org"
NOW = 1_800_000_000.0


def message(content: dict[str, Any], sender: str = ALICE) -> MessageEvent:
    """An event as a homeserver sends it."""
    event: Any = {"type": "m.room.message", "event_id": "$1", "room_id": ROOM, "origin_server_ts": 1}
    event.update(sender=sender, content=content)
    return MessageEvent.deserialize(copy.deepcopy(event))  # a copy, for mautrix takes apart what it reads


TEXT = {"msgtype": "m.text", "body": "start"}
EDIT = {
    **TEXT,
    "body": "* start",
    "m.new_content": TEXT,
    "m.relates_to": {"rel_type": "m.replace", "event_id": "$0"},
}


def test_a_text_of_somebody_else_counts() -> None:
    assert Inbox(BOT).counts(message(TEXT))


@pytest.mark.parametrize(
    "relation",
    [
        {"m.in_reply_to": {"event_id": "$0"}},
        {"rel_type": "m.thread", "event_id": "$0", "is_falling_back": True, "m.in_reply_to": {"event_id": "$0"}},
    ],
)
def test_a_reply_counts_and_so_does_what_is_said_in_a_thread(relation: dict[str, Any]) -> None:
    assert Inbox(BOT).counts(message({**TEXT, "m.relates_to": relation}))


def test_what_we_said_ourselves_does_not_count() -> None:
    assert not Inbox(BOT).counts(message(TEXT, sender=BOT))


def test_an_edit_does_not_count_whichever_text_stands_in_it() -> None:
    assert not Inbox(BOT).counts(message(EDIT))


@pytest.mark.parametrize("kind", ["m.notice", "m.emote", "m.file", "m.image", "org.example.own"])
def test_only_plain_text_counts(kind: str) -> None:
    assert not Inbox(BOT).counts(message({**TEXT, "msgtype": kind, "url": "mxc://example.org/a"}))


@pytest.mark.parametrize("content", [{}, {"body": "start"}, {"msgtype": "m.location", "geo_uri": "geo:0,0"}])
def test_what_has_no_text_does_not_count(content: dict[str, Any]) -> None:
    assert not Inbox(BOT).counts(message(content))


def test_an_event_is_new_once() -> None:
    inbox = Inbox(BOT)
    assert [inbox.first_time(event) for event in ("$1", "$2", "$1", "$2", "$3")] == [True, True, False, False, True]


def test_no_more_events_are_remembered_than_said() -> None:
    inbox = Inbox(BOT)
    for number in range(SEEN + 1):
        assert inbox.first_time(f"${number}")
    assert not inbox.first_time(f"${SEEN}")
    assert not inbox.first_time("$1")
    assert inbox.first_time("$0"), "the oldest makes room"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, Age.FRESH),
        (120, Age.FRESH),
        (120.1, Age.OLD),
        (1e9, Age.OLD),
        (-FUTURE, Age.FRESH),
        (-FUTURE - 0.1, Age.FUTURE),
        (-1e9, Age.FUTURE),
    ],
)
def test_an_event_is_fresh_up_to_its_maximum_age(seconds: float, expected: Age) -> None:
    assert age(round((NOW - seconds) * 1000), NOW, 120) is expected


@given(st.integers(), st.floats(5, 86400))
def test_every_time_has_an_age(sent_ms: int, maximum: float) -> None:
    found = age(sent_ms, NOW, maximum)
    assert (found is Age.FRESH) == (-FUTURE <= NOW - sent_ms / 1000 <= maximum)
