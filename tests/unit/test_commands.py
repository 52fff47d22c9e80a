"""Which lines maubot's own parser takes."""

from __future__ import annotations

import pytest

from toggle_plugin.commands import _taken_by_maubot


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
