"""Who invited us, as a raw invite says: a remote server can put a false inviter before the real one."""

from __future__ import annotations

from typing import Any

import pytest

from toggle_plugin.membership import AUTOJOIN_ON, autojoin_caution, inviters

BOT, ALICE, MALLORY = "@bot:example.org", "@alice:example.org", "@mallory:evil.example"


def member(sender: str, state_key: str = BOT) -> dict[str, Any]:
    return {"type": "m.room.member", "sender": sender, "state_key": state_key, "content": {"membership": "invite"}}


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ([member(ALICE)], [ALICE]),
        ([member(ALICE), member(MALLORY)], [ALICE, MALLORY]),
        ([member(ALICE), member(MALLORY, "@somebody:else.example")], [ALICE]),
        ([{"type": "m.room.name", "sender": ALICE, "state_key": BOT}], []),
        (["no event", 5, {}], []),
        ([], []),
    ],
)
def test_everybody_who_is_said_to_have_invited_us_counts(state: list[Any], expected: list[str]) -> None:
    assert inviters(state, BOT) == expected


def test_autojoin_is_cautioned_of_only_where_it_is_on() -> None:
    assert [autojoin_caution(True), autojoin_caution(False)] == [AUTOJOIN_ON, ""]
