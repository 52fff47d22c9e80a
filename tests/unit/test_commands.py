"""Who invited us, and which lines maubot takes: of an invite mautrix shows what a remote server may have put first."""

from __future__ import annotations

from typing import Any

import pytest
from mautrix.types import StateEvent, StrippedStateEvent

from toggle_plugin.commands import _inviters, _taken_by_maubot

BOT, ALICE, MALLORY = "@bot:example.org", "@alice:example.org", "@mallory:evil.example"


def member(sender: str, state_key: str = BOT) -> Any:
    return {
        "type": "m.room.member",
        "sender": sender,
        "state_key": state_key,
        "content": {"membership": "invite"},
        "room_id": "!room:evil.example",
        "event_id": "$invite",
        "origin_server_ts": 0,
    }


def invite(first: Any, *others: Any) -> StateEvent:
    """As mautrix hands it over: the first event for us, the others beside it."""
    event = StateEvent.deserialize(first)
    assert event.unsigned is not None
    event.unsigned.invite_room_state = [StrippedStateEvent.deserialize(other) for other in others]
    return event


def test_a_forged_invite_before_the_real_one_names_both() -> None:
    assert _inviters(invite(member(ALICE), member(MALLORY))) == [ALICE, MALLORY]


def test_members_other_than_us_are_no_inviters() -> None:
    assert _inviters(invite(member(ALICE), member(MALLORY, "@somebody:else.example"))) == [ALICE]


def test_an_invite_without_further_state_has_one_inviter() -> None:
    assert _inviters(StateEvent.deserialize(member(ALICE))) == [ALICE]


@pytest.mark.parametrize(
    ("body", "taken"),
    [
        ("!toggle", True),
        ("!toggle start", True),
        ("!TOGGLE start", True),
        (" !toggle start", False),
        ("!toggle\tstart", False),
        ("!toggles", False),
        ("toggle", False),
        ("", False),
    ],
)
def test_what_maubots_own_parser_takes(body: str, taken: bool) -> None:
    assert _taken_by_maubot(body, "toggle") is taken
