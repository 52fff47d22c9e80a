"""Which labels a label selector in query form selects, by Kubernetes' rules. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

Matches = Callable[[Mapping[str, str]], bool]

_BETWEEN_TERMS = re.compile(r",(?![^(]*\))")
_IN_SET = re.compile(r"(?P<key>\S+)\s+(?P<operator>in|notin)\s+\((?P<values>[^)]*)\)")
_EQUAL = re.compile(r"(?P<key>[^=!\s]+)\s*(?P<operator>==|=|!=)\s*(?P<value>\S*)")


def matcher(selector: str) -> Matches:
    """Whether labels are selected by `selector`, such as ``app=web,tier in (a,b),!old``; none are by an empty one.

    An empty selector means everything to the API server; of a workload it means that its pods are not known.
    """
    terms = [_term(term.strip()) for term in _BETWEEN_TERMS.split(selector) if term.strip()]
    return lambda labels: bool(terms) and all(term(labels) for term in terms)


def _term(term: str) -> Matches:
    if in_set := _IN_SET.fullmatch(term):
        return _one_of(in_set["key"], in_set["values"], wanted=in_set["operator"] == "in")
    if equal := _EQUAL.fullmatch(term):
        return _equal(equal["key"], equal["value"], wanted=equal["operator"] != "!=")
    if term.startswith("!"):
        key = term[1:].strip()
        return lambda labels: key not in labels
    return lambda labels: term in labels


def _one_of(key: str, values: str, *, wanted: bool) -> Matches:
    # A label that is not there is in no set, so that "notin" selects it.
    found = {value.strip() for value in values.split(",")}
    return lambda labels: (labels.get(key) in found) is wanted


def _equal(key: str, value: str, *, wanted: bool) -> Matches:
    return lambda labels: (labels.get(key) == value) is wanted
