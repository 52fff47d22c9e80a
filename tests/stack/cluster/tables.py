"""Answers as Tables, for clients whose Accept header prefers them: which form was asked for, and its documents."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from . import errors
from .printers import PRINTERS
from .resources import Json, Resource

GROUP = "meta.k8s.io"
VERSIONS = ("v1", "v1beta1")
POLICIES = ("None", "Metadata", "Object")


@dataclass(frozen=True)
class TableForm:
    """A Table that was asked for: its API version, and how much of each object goes with its row."""

    version: str
    include_object: str

    @property
    def api_version(self) -> str:
        """As in ``apiVersion``."""
        return f"{GROUP}/{self.version}"


def asked_form(accept: str, query: Mapping[str, str]) -> TableForm | None:
    """What an Accept header prefers of what is served, None for plain JSON; q values do not count.

    Raises:
        ApiError: 400, for a Table with an unknown ``includeObject``.
    """
    for clause in accept.split(","):
        media_type, _, rest = clause.partition(";")
        parameters = dict(_parameter(part) for part in rest.split(";") if part.strip())
        if media_type.strip() in ("*/*", "application/*", "application/json"):
            if "as" not in parameters:
                return None
            if _is_table(parameters):
                return TableForm(parameters["v"], _policy(query))
    return None


def table(form: TableForm, resource: Resource, objects: Sequence[Json], version: str, *, header: bool = True) -> Json:
    """A Table of objects of one resource, as of now; `version` is the resourceVersion of the whole."""
    printer, now = PRINTERS[resource], dt.datetime.now(dt.timezone.utc)
    return {
        "kind": "Table",
        "apiVersion": form.api_version,
        "metadata": {"resourceVersion": version},
        "columnDefinitions": list(printer.columns) if header else None,
        "rows": [{"cells": printer.cells(obj, now), "object": _included(form, obj)} for obj in objects],
    }


class EventTables:
    """The events of one watch in the form that was asked for; as the real server, only the first names the columns."""

    def __init__(self, form: TableForm | None, resource: Resource) -> None:
        self._form = form
        self._resource = resource
        self._header = True

    def render(self, event: Json) -> Json:
        """The event with a Table of one row for its object; an error stays a Status."""
        if self._form is None or event["type"] == "ERROR":
            return event
        obj = event["object"]
        if event["type"] == "BOOKMARK":
            return {**event, "object": self._bookmark(self._form, obj)}
        version = obj["metadata"]["resourceVersion"]
        document = table(self._form, self._resource, [obj], version, header=self._header)
        self._header = False
        return {**event, "object": document}

    def _bookmark(self, form: TableForm, obj: Json) -> Json:
        """It has no more than metadata, so nothing that a cell could show."""
        document = table(form, self._resource, [], obj["metadata"]["resourceVersion"], header=False)
        document["rows"] = [{"cells": [], "object": _included(form, obj)}]
        return document


def _parameter(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip(), value.strip()


def _is_table(parameters: Mapping[str, str]) -> bool:
    return (parameters["as"], parameters.get("g")) == ("Table", GROUP) and parameters.get("v") in VERSIONS


def _policy(query: Mapping[str, str]) -> str:
    policy = query.get("includeObject") or "Metadata"
    if policy not in POLICIES:
        raise errors.bad_request(f'unknown includeObject value "{policy}"')
    return policy


def _included(form: TableForm, obj: Json) -> Json | None:
    if form.include_object == "None":
        return None
    if form.include_object == "Object":
        return obj
    return {"kind": "PartialObjectMetadata", "apiVersion": form.api_version, "metadata": obj["metadata"]}
