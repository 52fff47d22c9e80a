"""The settings' way through maubot's editor: YAML onto the shipped file and back, whatever an administrator writes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mautrix.util.config import RecursiveDict
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from toggle_plugin.config import Config, plain, yaml_problem
from toggle_plugin.settings import KEYS, Settings, parse_settings

from .test_settings import FULL, VALID

SHIPPED = (Path(__file__).parents[2] / "base-config.yaml").read_text()
YAML_OF_MAUBOT = YAML()
YAML_OF_MAUBOT.indent(4)
YAML_OF_MAUBOT.width = 200


def dumped(data: Any) -> str:
    buffer = io.StringIO()
    YAML_OF_MAUBOT.dump(data, buffer)
    return buffer.getvalue()


class Editor:
    """What an instance of maubot 0.6.0 does with its configuration (maubot/instance.py), without the database."""

    def __init__(self, text: str) -> None:
        self.text = text
        base = RecursiveDict(YAML_OF_MAUBOT.load(SHIPPED), CommentedMap)
        self.config = Config(lambda: YAML_OF_MAUBOT.load(self.text), base.clone, self._save)

    def _save(self, data: Any) -> None:
        self.text = dumped(data)

    def update(self) -> str:
        self.config.load_and_update()
        return self.text


def loaded(text: str) -> Any:
    return plain(YAML_OF_MAUBOT.load(text))


def test_the_shipped_file_is_the_same_after_it_was_saved() -> None:
    editor = Editor("")
    first = editor.update()
    assert loaded(first) == loaded(SHIPPED)
    assert parse_settings(loaded(first)) == Settings()
    assert editor.update() == first, "a second save changes nothing"


def test_the_shipped_comments_are_there_after_a_save() -> None:
    comments = [line.strip() for line in SHIPPED.splitlines() if line.startswith("#")]
    saved = [line.strip() for line in Editor(SHIPPED).update().splitlines() if line.startswith("#")]
    assert saved == comments


def test_full_settings_are_the_same_after_they_were_saved() -> None:
    editor = Editor(dumped(FULL))
    for _ in range(3):
        assert parse_settings(loaded(editor.update())) == parse_settings(FULL)
    assert list(loaded(editor.text)) == list(KEYS)


@given(VALID)
def test_any_valid_settings_are_the_same_after_they_were_saved(raw: dict[str, Any]) -> None:
    editor = Editor(dumped(raw))
    assert loaded(editor.update()) == raw
    assert loaded(editor.update()) == raw


COMMENTED = """
# mine
command: games # also mine
targets:
    # before the first target
    web:
        # before its first key
        namespace: games
        name: web # behind
        allowed_users:
        # before the first of a nested list
        - '@bob:example.org'
allowed_users:
# before the first item
- '@alice:example.org' # behind the first
# between
- '@bob:example.org'
# after the last
"""


def test_comments_of_an_administrator_break_nothing() -> None:
    before = parse_settings(loaded(COMMENTED))
    editor = Editor(COMMENTED)
    for _ in range(3):
        assert parse_settings(loaded(editor.update())) == before
    assert "also mine" not in editor.text
    assert before.allowed_users == {"@alice:example.org", "@bob:example.org"}


def test_null_becomes_the_default() -> None:
    saved = loaded(Editor("command:\nallowed_users: ~\nmaximum_age: null\nbare_commands: never\n").update())
    assert saved == {**loaded(SHIPPED), "bare_commands": "never"}


def test_false_zero_and_empty_are_kept_for_they_are_values() -> None:
    saved = loaded(Editor("require_encryption: false\nkubeconfig: ''\nallowed_users: []\n").update())
    assert saved["require_encryption"] is False
    assert saved["allowed_users"] == []


ANCHORS = """
targets:
    web: &web
        namespace: games
        name: web
        allowed_users: &team
        - '@alice:example.org'
    db:
        <<: *web
        name: db
        replicas: &count 2
    ai: {namespace: &place agents, name: ai, replicas: *count}
require_encryption: &yes true
allowed_users: *team
"""


def test_anchors_and_merges_are_written_out() -> None:
    editor = Editor(ANCHORS)
    before = parse_settings(editor.config.read())
    saved = editor.update()
    assert "&" not in "".join(line for line in saved.splitlines() if not line.startswith("#"))
    assert parse_settings(loaded(saved)) == before
    assert before.targets["db"].ref.namespace == "games"
    assert before.targets["db"].replicas == before.targets["ai"].replicas == 2
    assert before.require_encryption is True


def test_unknown_keys_are_seen_before_a_save_drops_them() -> None:
    editor = Editor("allowed_user:\n- '@alice:example.org'\ncommand: games\n")
    assert editor.config.read() == {"allowed_user": ["@alice:example.org"], "command": "games"}
    assert "allowed_user:" not in editor.update()


def test_reading_takes_nothing_over() -> None:
    editor = Editor("command: games\n")
    editor.update()
    editor.text = "command: other\n"
    assert editor.config.read() == {"command": "other"}
    assert editor.config["command"] == "games"


@pytest.mark.parametrize("text", ["", "# nothing but this\n", "---\n"])
def test_an_empty_editor_is_the_defaults(text: str) -> None:
    assert parse_settings(Editor(text).config.read()) == Settings()


@pytest.mark.parametrize("text", ["just words", "- a\n- b\n", "42"])
def test_what_is_no_mapping_is_read_as_it_is(text: str) -> None:
    assert not isinstance(Editor(text).config.read(), dict)


def test_refused_settings_can_be_put_back_as_they_were() -> None:
    editor = Editor("command: games\n")
    saved = editor.update()
    editor.text = "command: '!'\nextra: 1\n"
    editor.config.save()
    assert editor.text == saved


def test_broken_settings_can_be_kept_as_they_are() -> None:
    editor = Editor("command: '!'\nextra: 1\n")
    editor.config.keep(editor.config.read())
    editor.text = "something: else\n"
    editor.config.save()
    assert loaded(editor.text) == {"command": "!", "extra": 1}


def test_plain_values_are_made_of_plain_containers() -> None:
    found = plain(YAML_OF_MAUBOT.load("a: {b: [1, &x c]}\nd: *x\n"))
    assert found == {"a": {"b": [1, "c"]}, "d": "c"}
    assert type(found) is dict
    assert type(found["a"]) is dict
    assert type(found["a"]["b"]) is list
    assert type(found["d"]) is str


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: b: c\n", "line 1, column 5: not valid YAML (mapping values are not allowed here)"),
        ("allowed_users:\n- @alice:example.org\n", "line 2, column 3: not valid YAML (found character '@' that cannot"),
        ("a: 'b\n", "line 2, column 1: not valid YAML (found unexpected end of stream)"),
        ("a: [1\n", "line 2, column 1: not valid YAML ("),
    ],
)
def test_what_is_no_yaml_is_told_with_its_place(text: str, problem: str) -> None:
    with pytest.raises(YAMLError) as raised:
        Editor(text).config.read()
    assert str(yaml_problem(raised.value)).startswith(problem)
    assert str(yaml_problem(raised.value)).endswith("; check the indentation and quotes there")


SECRET = "c2VjcmV0LWtleQ"


@pytest.mark.parametrize(
    "text",
    [
        f"token: {SECRET}\ntoken: {SECRET}2\n",
        f"token: *{SECRET}\n",
        f"token: !{SECRET} [\n",
        f"token: '{SECRET}\n",
        f"token: {SECRET}: {SECRET}\n",
        f"{SECRET}\n: {SECRET}: x\n",
        f"token: '{SECRET}\n\n  two'\ntoken: three\n",
        f"token: &{SECRET} 1\nlast: [*{SECRET}\n",
        f"%{SECRET} x\n",
        f"%TAG !{SECRET}! tag:x\na: [\n",
        f"a: !{SECRET}!x 1\n",
        f"a: |{SECRET}\n",
        f"a: !!int {SECRET}\n",
        f"a: !!bool {SECRET}\n",
    ],
)
def test_nothing_of_what_is_no_yaml_is_repeated(text: str) -> None:
    with pytest.raises(YAMLError) as raised:
        Editor(text).config.read()
    assert SECRET not in str(yaml_problem(raised.value))


@pytest.mark.parametrize(
    "text", ["a: 2026-99-99", "a: !!int x", "a: !!bool maybe", "a: !!omap x", "[" * 500, f"a: {'1' * 5000}"]
)
def test_what_ruamel_stumbles_over_is_no_yaml_either(text: str) -> None:
    with pytest.raises(YAMLError) as raised:
        Editor(text).config.read()
    assert (
        str(yaml_problem(raised.value)) == "not valid YAML (it cannot be read); check the indentation and quotes there"
    )


@given(st.text(alphabet="ab: -\n'\"&*!|>%@[]{}#,?~<=01", max_size=40))
def test_whatever_is_in_the_editor_is_read_or_no_yaml(text: str) -> None:
    try:
        read = Editor(text).config.read()
    except YAMLError as error:
        assert str(yaml_problem(error))  # noqa: PT017 - both ends are right
    else:
        assert plain(read) == read
