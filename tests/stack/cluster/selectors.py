"""Label and field selectors in query form, decided on plain objects."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from . import errors
from .resources import Json, Resource

Matches = Callable[[Json], bool]

_SPLIT = re.compile(r",(?![^(]*\))")
_SET = re.compile(r"^(?P<key>\S+)\s+(?P<operator>in|notin)\s+\((?P<values>[^)]*)\)$")
_EQUAL = re.compile(r"^(?P<key>[^=!\s]+)\s*(?P<operator>==|=|!=)\s*(?P<value>.*)$")
_LABEL_VALUE = re.compile(r"[-._a-zA-Z0-9]*")


def matcher(resource: Resource, query: Mapping[str, str]) -> Matches:
    """Both selectors of a query as one predicate; raises ApiError 400 for what the real server does not know."""
    labels = [_label(term) for term in _terms(query.get("labelSelector", ""))]
    fields = [_field(resource, term) for term in _terms(query.get("fieldSelector", ""))]
    return lambda obj: all(test(obj) for test in (*labels, *fields))


def selected_name(field_selector: str) -> str:
    """The name that a field selector narrows to, empty if none: authorization treats it as the request's name."""
    for term in _terms(field_selector):
        match = _EQUAL.match(term)
        if match and match["key"] == "metadata.name" and match["operator"] != "!=":
            return match["value"]
    return ""


def _terms(selector: str) -> list[str]:
    return [term.strip() for term in _SPLIT.split(selector) if term.strip()]


def _label(term: str) -> Matches:
    in_set = _SET.match(term)
    if in_set:
        values = {value.strip() for value in in_set["values"].split(",")}
        wanted = in_set["operator"] == "in"
        return lambda obj: (_labels(obj).get(in_set["key"]) in values) is wanted
    equal = _EQUAL.match(term)
    if equal:
        if not _LABEL_VALUE.fullmatch(equal["value"]):
            raise errors.bad_request(f"unable to parse requirement: found '{equal['value']}', expected: identifier")
        wanted = equal["operator"] != "!="
        return lambda obj: (_labels(obj).get(equal["key"]) == equal["value"]) is wanted
    return lambda obj: (term.lstrip("!") in _labels(obj)) is not term.startswith("!")


def _labels(obj: Json) -> Mapping[str, str]:
    labels: Mapping[str, str] = obj["metadata"].get("labels", {})
    return labels


def _field(resource: Resource, term: str) -> Matches:
    equal = _EQUAL.match(term)
    if equal is None:
        raise errors.bad_request(f"invalid field selector: {term}")
    key = equal["key"]
    if key not in ("metadata.name", "metadata.namespace", *resource.fields):
        raise errors.bad_request(f"field label not supported: {key}")
    wanted = equal["operator"] != "!="
    return lambda obj: (str(_lookup(obj, key)) == equal["value"]) is wanted


def _lookup(obj: Json, path: str) -> object:
    value: object = obj
    for part in path.split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    return value
