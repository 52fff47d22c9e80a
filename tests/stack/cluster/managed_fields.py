"""Which field manager owns which field of an object, as the API server keeps it in ``metadata.managedFields``.

Only the operation Update is here: whoever changes a field owns it from then on, and nobody else does. Where the real
server writes more (a "." for a map or an item that is owned as a whole), this leaves it out.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .resources import Json

Path = tuple[str, ...]
_KEYS = ("name", "type")
"""The fields by which the items of a list can be told apart: those of containers, and those of conditions."""


@dataclass(frozen=True)
class Writer:
    """Who writes: the name that a client gives itself, and through which subresource."""

    manager: str
    subresource: str = ""


def updated(managed: Iterable[Json], old: Json, new: Json, writer: Writer, time: str) -> list[Json]:
    """The entries after `writer` has put `new` in the place of `old`; of metadata, labels and annotations count."""
    before, after = _leaves(_owned(old)), _leaves(_owned(new))
    taken = {path for path, value in after.items() if path not in before or before[path] != value}
    changed = taken | (before.keys() - after.keys())
    by_scale = writer.subresource == "scale"
    if not changed or (by_scale and not _is_tracked(managed, changed)):
        return list(managed)
    entries = []
    # A Scale leaves a zero out, and who leaves a field out does not own it.
    fields = {path for path in taken if not (by_scale and after[path] == 0)}
    mine = _entry(writer, new["apiVersion"], time)
    for entry in managed:
        left = set(_paths(entry["fieldsV1"])) - changed
        if _is_of(entry, writer):
            fields |= left
        elif left:
            entries.append({**entry, "fieldsV1": _tree(left)})
    return [*entries, {**mine, "fieldsV1": _tree(fields)}] if fields else entries


def _is_tracked(managed: Iterable[Json], paths: set[Path]) -> bool:
    """Whether anybody owns one of them: a Scale without a manager gets none from an update, as any object."""
    return any(paths & set(_paths(entry["fieldsV1"])) for entry in managed)


def _owned(obj: Json) -> Json:
    metadata = {key: obj["metadata"][key] for key in ("labels", "annotations") if key in obj["metadata"]}
    return {"metadata": metadata, **{key: obj[key] for key in ("spec", "status") if key in obj}}


def _entry(writer: Writer, api_version: str, time: str) -> Json:
    entry = {"manager": writer.manager, "operation": "Update", "apiVersion": api_version, "fieldsType": "FieldsV1"}
    # The times are lost where a Scale's entries are put among those of its workload.
    when = {} if writer.subresource == "scale" else {"time": time}
    return {**entry, **when, **({"subresource": writer.subresource} if writer.subresource else {})}


def _is_of(entry: Json, writer: Writer) -> bool:
    return (entry["manager"], entry.get("subresource", "")) == (writer.manager, writer.subresource)


def _leaves(value: object) -> dict[Path, object]:
    """Every value that is no map and no list of items, by its path in FieldsV1's notation."""
    children = dict(_children(value))
    if not children:
        return {(): copy.deepcopy(value)}
    return {(key, *rest): leaf for key, child in children.items() for rest, leaf in _leaves(child).items()}


def _children(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        yield from ((f"f:{key}", child) for key, child in value.items())
    elif isinstance(value, list):
        for key in _KEYS:
            if value and all(isinstance(item, dict) and key in item for item in value):
                yield from ((f"k:{json.dumps({key: item[key]})}", item) for item in value)
                return


def _paths(tree: Json) -> Iterator[Path]:
    for key, child in tree.items():
        if child:
            yield from ((key, *rest) for rest in _paths(child))
        else:
            yield (key,)


def _tree(paths: Iterable[Path]) -> Json:
    tree: Json = {}
    for path in sorted(paths):
        branch = tree
        for key in path:
            branch = branch.setdefault(key, {})
    return tree
