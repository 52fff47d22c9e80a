"""What the log says of those who get no answer, and how much of it at most."""

from __future__ import annotations

import logging

import pytest

from toggle_plugin.strangers import AGAIN, MINUTE, PER_MINUTE, REMEMBERED, Strangers

from .builders import MALLORY, OTHER_ROOM, ROOM

LOG = logging.getLogger("test.strangers")


class Clock:
    """Seconds that go on only when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def strangers(clock: Clock, caplog: pytest.LogCaptureFixture) -> Strangers:
    caplog.set_level(logging.INFO, LOG.name)
    return Strangers(LOG, clock)


def test_a_stranger_is_named_with_the_room_and_the_setting_that_would_let_them_in(
    strangers: Strangers, caplog: pytest.LogCaptureFixture
) -> None:
    strangers.ignored("command", MALLORY, ROOM, "allowed_users")
    strangers.ignored("invite", MALLORY, OTHER_ROOM, "allowed_rooms")
    hints = ("to let them in, add them to allowed_users", "to allow the room, add its ID to allowed_rooms")
    assert caplog.messages == [
        f"ignored=command user='{MALLORY}' room='{ROOM}' setting=allowed_users hint='{hints[0]}'",
        f"ignored=invite user='{MALLORY}' room='{OTHER_ROOM}' setting=allowed_rooms hint='{hints[1]}'",
    ]


def test_a_name_with_line_breaks_stays_on_one_line(strangers: Strangers, caplog: pytest.LogCaptureFixture) -> None:
    strangers.ignored("command", "@a\nroot=yes:b", "!r\r\n:b", "allowed_users")
    (line,) = caplog.messages
    assert "\n" not in line
    assert "\r" not in line


def test_the_same_stranger_is_named_once_an_hour(
    strangers: Strangers, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        strangers.ignored("command", MALLORY, ROOM, "allowed_users")
        clock.now += AGAIN / 2
    assert len(caplog.messages) == 2


def test_another_room_is_news(strangers: Strangers, caplog: pytest.LogCaptureFixture) -> None:
    for room in (ROOM, OTHER_ROOM, ROOM):
        strangers.ignored("command", MALLORY, room, "allowed_users")
    assert len(caplog.messages) == 2


def test_a_crowd_gets_a_few_lines_a_minute_and_is_counted(
    strangers: Strangers, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(1000):
        strangers.ignored("command", f"@user{number}:example.org", ROOM, "allowed_users")
    assert len(caplog.messages) == PER_MINUTE
    clock.now += MINUTE
    strangers.ignored("command", MALLORY, ROOM, "allowed_users")
    assert caplog.messages[PER_MINUTE] == f"ignored_more={1000 - PER_MINUTE}"
    assert MALLORY in caplog.messages[-1]
    assert len(caplog.messages) == PER_MINUTE + 2


def test_who_was_not_named_for_the_crowd_is_named_later(
    strangers: Strangers, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(PER_MINUTE + 1):
        strangers.ignored("command", f"@user{number}:example.org", ROOM, "allowed_users")
    clock.now += MINUTE
    strangers.ignored("command", f"@user{PER_MINUTE}:example.org", ROOM, "allowed_users")
    assert f"@user{PER_MINUTE}:" in caplog.messages[-1]


def test_the_memory_of_strangers_is_bounded(strangers: Strangers, clock: Clock) -> None:
    for number in range(2 * REMEMBERED):
        strangers.ignored("command", f"@user{number}:example.org", ROOM, "allowed_users")
        clock.now += MINUTE
    assert len(strangers._named) == REMEMBERED
