"""Groups in the settings: taken over in their order, or refused with the path and what to write instead."""

from __future__ import annotations

from typing import Any

import pytest

from toggle_plugin.groups import Group
from toggle_plugin.settings import parse_settings, read_settings

TARGETS = {name: {"namespace": "games", "name": name} for name in ("db", "api", "web")}


def found(groups: Any) -> list[tuple[str, str]]:
    _, problems = read_settings({"targets": TARGETS, "groups": groups})
    return [(problem.path, problem.text) for problem in problems]


def test_a_group_is_its_targets_in_their_order() -> None:
    settings = parse_settings({"targets": TARGETS, "groups": {"stack": ["db", "web"], "back": ["web", "api"]}})
    assert settings.groups == {"stack": Group("stack", ("db", "web")), "back": Group("back", ("web", "api"))}


@pytest.mark.parametrize("nothing", [None, {}])
def test_without_groups_there_are_none(nothing: Any) -> None:
    assert parse_settings({"targets": TARGETS, "groups": nothing}).groups == {}


@pytest.mark.parametrize(
    ("groups", "path", "words"),
    [
        (["db"], "groups", "write a mapping: a name for each, and the list of its targets indented below"),
        ("db", "groups", "write a mapping"),
        ({"Stack": ["db"]}, "groups.Stack", "write the name with lower-case letters"),
        ({True: ["db"]}, "groups.True", "put the name in quotes"),
        ({"all": ["db"]}, "groups.all", "take another name: all is a word of the commands"),
        ({"history": ["db"]}, "groups.history", "take another name: history is a word of the commands"),
        ({"web": ["db"]}, "groups.web", "take another name: there is a target of this name"),
        ({"stack": []}, "groups.stack", "write a list of targets in the order of a start"),
        ({"stack": None}, "groups.stack", "write a list of targets"),
        ({"stack": "db"}, "groups.stack", "write a list of targets"),
        ({"stack": {"db": 1}}, "groups.stack", "write a list of targets"),
        ({"stack": ["db", 7]}, "groups.stack[1]", "write the name of a target, in quotes"),
        ({"stack": ["db", ["api"]]}, "groups.stack[1]", "write the name of a target, in quotes"),
        ({"stack": ["wbe"]}, "groups.stack[0]", "there is no target of this name; did you mean web?"),
        ({"stack": ["db", "valheim"]}, "groups.stack[1]", "there is no target of this name"),
        ({"stack": ["db", "web", "db"]}, "groups.stack[2]", "is in this list already; a group has each target once"),
    ],
)
def test_a_mistake_is_refused_with_its_path(groups: Any, path: str, words: str) -> None:
    ((told, text),) = found(groups)
    assert told == path
    assert text.startswith(words)


def test_every_mistake_is_told_and_the_other_groups_hold() -> None:
    raw = {"targets": TARGETS, "groups": {"web": ["x", "y"], "stack": ["db"]}}
    settings, problems = read_settings(raw)
    assert [problem.path for problem in problems] == ["groups.web", "groups.web[0]", "groups.web[1]"]
    assert list(settings.groups) == ["stack"]


def test_a_target_that_is_refused_itself_is_reported_once_and_its_group_does_not_hold() -> None:
    raw = {"targets": {**TARGETS, "db": {"namespace": "games"}}, "groups": {"stack": ["db", "web"], "front": ["web"]}}
    settings, problems = read_settings(raw)
    assert [problem.path for problem in problems] == ["targets.db.name"]
    assert list(settings.groups) == ["front"]
