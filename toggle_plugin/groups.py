"""Groups of targets: a name that people type, and its targets in the order in which they are started. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from .errors import SettingsProblem


@dataclass(frozen=True)
class Group:
    """A name for several targets.

    Attributes:
        targets: their names in the order of a start, each once; a stop goes the other way.
    """

    name: str
    targets: tuple[str, ...]


NO_GROUPS: Mapping[str, Group] = MappingProxyType({})


def read_groups(
    raw: object, targets: Collection[str], parse_name: Callable[[Any], str]
) -> tuple[Mapping[str, Group], tuple[SettingsProblem, ...]]:
    """The groups that are right, and what is wrong with the others.

    Args:
        raw: the value of the setting; None for no groups.
        targets: the names of all targets, also of those that have mistakes of their own.
        parse_name: gives a name that a target could have; raises ValueError for another one.
    """
    if raw is None:
        return NO_GROUPS, ()
    if not isinstance(raw, Mapping):
        what = "write a mapping: a name for each, and the list of its targets indented below"
        return NO_GROUPS, (SettingsProblem("groups", what),)
    found: dict[str, Group] = {}
    problems: list[SettingsProblem] = []
    for name, members in raw.items():
        wrong = [*_name_problems(name, targets, parse_name), *_member_problems(name, members, targets)]
        problems += wrong
        if not wrong:
            found[name] = Group(name, tuple(members))
    return MappingProxyType(found), tuple(problems)


def _name_problems(
    name: object, targets: Collection[str], parse_name: Callable[[Any], str]
) -> Iterator[SettingsProblem]:
    path = f"groups.{name}"
    try:
        parse_name(name)
    except ValueError as error:
        yield SettingsProblem(path, str(error))
    if name in targets:
        yield SettingsProblem(path, "take another name: there is a target of this name")


def _member_problems(name: object, members: object, targets: Collection[str]) -> Iterator[SettingsProblem]:
    path = f"groups.{name}"
    if isinstance(members, (str, Mapping)) or not isinstance(members, Sequence) or not members:
        yield SettingsProblem(path, "write a list of targets in the order of a start, each beginning with a dash")
        return
    for index, member in enumerate(members):
        if not isinstance(member, str):
            yield SettingsProblem(f"{path}[{index}]", "write the name of a target, in quotes")
        elif member not in targets:
            yield SettingsProblem(f"{path}[{index}]", f"there is no target of this name{_meant(member, targets)}")
        elif member in members[:index]:
            yield SettingsProblem(f"{path}[{index}]", "is in this list already; a group has each target once")


def _meant(name: str, targets: Collection[str]) -> str:
    near = difflib.get_close_matches(name, targets, n=1)
    return f"; did you mean {near[0]}?" if near else ""
