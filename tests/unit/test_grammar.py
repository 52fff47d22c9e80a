"""Which lines are commands, and what is said of those that are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toggle_plugin.grammar import WORDS, Fault, Misunderstood, completed, nearest, parse, strip_prefix
from toggle_plugin.models import Command, Verb
from toggle_plugin.settings import RESERVED_TARGETS

NAMES = ("web", "minecraft", "db-1")
SPACE = st.text(alphabet=" \t\n\r\x0b\x0c\u00a0\u2003\u3000", min_size=1, max_size=4)
PADDING = st.just("") | SPACE


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("start", Command(Verb.START)),
        ("on", Command(Verb.START)),
        ("stop", Command(Verb.STOP)),
        ("off", Command(Verb.STOP)),
        ("status", Command(Verb.STATUS)),
        ("help", Command(Verb.HELP)),
        ("check", Command(Verb.CHECK)),
        ("START Web", Command(Verb.START, "web")),
        (" On\tMINECRAFT\n", Command(Verb.START, "minecraft")),
        ("off db-1", Command(Verb.STOP, "db-1")),
        ("status all", Command(Verb.STATUS, "all")),
        ("Status ALL", Command(Verb.STATUS, "all")),
    ],
)
def test_a_line_is_a_verb_and_at_most_one_target(line: str, command: Command) -> None:
    assert parse(line, NAMES) == command


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("", Misunderstood(Fault.EMPTY)),
        (" \t\n", Misunderstood(Fault.EMPTY)),
        ("strat", Misunderstood(Fault.UNKNOWN_WORD, "strat", ("start",))),
        ("Stpo web", Misunderstood(Fault.UNKNOWN_WORD, "stpo", ("stop",))),
        ("good morning", Misunderstood(Fault.UNKNOWN_WORD, "good")),
        ("start we", Misunderstood(Fault.UNKNOWN_TARGET, "we", ("web",), Verb.START)),
        ("stop it,", Misunderstood(Fault.UNKNOWN_TARGET, "it,", (), Verb.STOP)),
        ("stop it, bob", Misunderstood(Fault.TOO_MANY_WORDS, "it, bob", verb=Verb.STOP)),
        ("start web minecraft", Misunderstood(Fault.TOO_MANY_WORDS, "web minecraft", verb=Verb.START)),
        ("help me", Misunderstood(Fault.TOO_MANY_WORDS, "me", verb=Verb.HELP)),
        ("check web", Misunderstood(Fault.TOO_MANY_WORDS, "web", verb=Verb.CHECK)),
        ("start all", Misunderstood(Fault.UNKNOWN_TARGET, "all", (), Verb.START)),
        ("stop all", Misunderstood(Fault.UNKNOWN_TARGET, "all", (), Verb.STOP)),
        ("start-web", Misunderstood(Fault.UNKNOWN_WORD, "start-web", ("start",))),
        ("start.", Misunderstood(Fault.UNKNOWN_WORD, "start.", ("start",))),
        ("!start", Misunderstood(Fault.UNKNOWN_WORD, "!start", ("start",))),
    ],
)
def test_a_line_that_is_no_command_says_what_is_wrong_with_it(line: str, fault: Misunderstood) -> None:
    assert parse(line, NAMES) == fault


def test_only_the_names_given_are_suggested() -> None:
    fault = parse("start minecarft", NAMES)
    assert isinstance(fault, Misunderstood)
    assert fault.near == ("minecraft",)
    assert fault.suggesting(["web", "db-1"]).near == ()
    assert fault.suggesting(["minecart"]).near == ("minecart",)


FAMILY = ("web", "web-api", "webcam", "valheim", "val")


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("start valh", Command(Verb.START, "valheim")),
        ("STOP WEB-", Command(Verb.STOP, "web-api")),
        ("status v", None),
        ("start val", Command(Verb.START, "val")),
        ("start web", Command(Verb.START, "web")),
        ("history webc", Command(Verb.HISTORY, "webcam")),
        ("start heim", None),
        ("start", Command(Verb.START)),
        ("sta valheim", None),
    ],
)
def test_the_beginning_of_only_one_name_stands_for_it(line: str, command: Command | None) -> None:
    parsed = completed(parse(line, FAMILY), FAMILY)
    assert parsed == command or (command is None and isinstance(parsed, Misunderstood))


def test_a_group_is_a_name_where_a_verb_can_be_about_one() -> None:
    for word in ("start", "stop", "status", "history"):
        assert parse(f"{word} stack", ["web"], ["stack"]) == Command(WORDS[word], "stack")
    fault = parse("restart stack", ["web"], ["stack"])
    assert isinstance(fault, Misunderstood)
    assert (fault.fault, fault.near) == (Fault.UNKNOWN_TARGET, ())


def test_a_beginning_is_completed_to_what_the_person_may_use_only() -> None:
    parsed = parse("start we", FAMILY)
    assert isinstance(parsed, Misunderstood)
    assert completed(parsed, ["webcam", "valheim"]) == Command(Verb.START, "webcam")
    assert completed(parsed, ["valheim"]) == parsed


def test_the_beginning_of_several_names_suggests_all_of_them() -> None:
    parsed = parse("start we", FAMILY)
    assert isinstance(parsed, Misunderstood)
    assert parsed.near == ("web", "web-api", "webcam")


@given(st.text(min_size=1), st.lists(st.text()))
def test_a_completed_name_begins_with_what_was_said_and_is_alone(word: str, names: list[str]) -> None:
    said = completed(Misunderstood(Fault.UNKNOWN_TARGET, word, verb=Verb.STOP), names)
    if isinstance(said, Command):
        assert [said.target] == [name for name in names if name.startswith(word)]
    else:
        assert sum(name.startswith(word) for name in names) != 1


def test_a_target_is_understood_whatever_the_verb_is_called() -> None:
    assert {parse(f"{word} web", NAMES) for word in ("start", "on")} == {Command(Verb.START, "web")}


def test_every_word_of_the_grammar_is_a_reserved_name() -> None:
    assert set(WORDS) < RESERVED_TARGETS


def mixed_case(word: str) -> st.SearchStrategy[str]:
    return st.tuples(*(st.sampled_from([letter.lower(), letter.upper()]) for letter in word)).map("".join)


COMMANDS = st.sampled_from(
    [(word, verb, None) for word, verb in WORDS.items()]
    + [
        (word, verb, name)
        for word, verb in WORDS.items()
        for name in NAMES
        if verb in (Verb.START, Verb.STOP, Verb.STATUS)
    ]
)


@given(COMMANDS, st.data())
def test_case_and_white_space_do_not_matter(command: tuple[str, Verb, str | None], data: st.DataObject) -> None:
    word, verb, name = command
    line = data.draw(PADDING) + data.draw(mixed_case(word))
    if name is not None:
        line += data.draw(SPACE) + data.draw(mixed_case(name))
    assert parse(line + data.draw(PADDING), NAMES) == Command(verb, name)


@given(COMMANDS, st.text(min_size=1).filter(lambda text: text.strip() != ""), st.booleans())
def test_a_command_with_more_words_is_talk(command: tuple[str, Verb, str | None], more: str, first: bool) -> None:
    word, _, name = command
    line = f"{word} {name or 'web'}"
    assert isinstance(parse(f"{more} {line}" if first else f"{line} {more}", NAMES), Misunderstood)


@given(st.text(), st.lists(st.text()))
def test_any_line_is_a_command_or_misunderstood(line: str, names: list[str]) -> None:
    found = parse(line, names)
    if isinstance(found, Command):
        words = line.casefold().split()
        assert WORDS[words[0]] is found.verb
        assert [word for word in (found.target,) if word is not None] == words[1:]
        assert found.target is None or found.target in {*names, "all"}
    else:
        assert set(found.near) <= {*WORDS, *names}


@given(st.text(), st.lists(st.text()), st.floats(0.1, 1), st.integers(1, 5))
def test_the_nearest_names_are_some_of_the_names(word: str, names: list[str], likeness: float, most: int) -> None:
    found = nearest(word, names, likeness, most)
    assert set(found) <= set(names)
    assert len(found) <= most


@pytest.mark.parametrize(
    ("word", "suggested"),
    [("strat", "start"), ("stauts", "status"), ("halp", "help"), ("chek", "check"), ("hello", ""), ("thanks", "")],
)
def test_a_slip_of_a_verb_is_seen_and_a_greeting_is_none(word: str, suggested: str) -> None:
    fault = parse(word, NAMES)
    assert isinstance(fault, Misunderstood)
    assert fault.near == ((suggested,) if suggested else ())


def test_a_line_of_many_thousand_characters_is_read_as_any_other() -> None:
    assert isinstance(parse("start " + "x" * 60_000, NAMES), Misunderstood)
    assert isinstance(parse("x" * 60_000, NAMES), Misunderstood)


@pytest.mark.parametrize(
    ("body", "rest"),
    [
        ("!toggle", ""),
        ("!toggle start", "start"),
        ("!TOGGLE  start\tweb ", "start\tweb "),
        ("  !toggle\nstart", "start"),
        ("!toggles start", None),
        ("!toggle: start", None),
        ("toggle start", None),
        ("please !toggle start", None),
        ("! toggle start", None),
        ("", None),
        ("   ", None),
    ],
)
def test_the_prefix_is_a_word_of_its_own_at_the_beginning(body: str, rest: str | None) -> None:
    assert strip_prefix(body, "toggle") == rest


@given(st.text(), st.from_regex(r"[a-z0-9][a-z0-9_-]{0,31}", fullmatch=True))
def test_what_follows_the_prefix_is_the_line(line: str, command: str) -> None:
    rest = strip_prefix(f"!{command} {line}", command)
    assert rest is not None
    assert rest.split() == line.split()
