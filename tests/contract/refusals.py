"""Refusals as the API server words them: ``Status`` objects."""

from __future__ import annotations

from typing import Any

from .client import Answer


def refusal(code: int, reason: str, message: str, **details: Any) -> Answer:
    """The answer with a Status of these fields."""
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "details": details,
        "code": code,
    }
    return Answer(code, body)


def not_found(name: str, kind: str = "deployments") -> Answer:
    """Nothing is there by that name."""
    return refusal(404, "NotFound", f'{kind}.apps "{name}" not found', name=name, group="apps", kind=kind)


def no_such_resource() -> Answer:
    """The group is there, and does not have that."""
    return refusal(404, "NotFound", "the server could not find the requested resource")


def conflict(name: str) -> Answer:
    """It is no longer what it was when the request was thought of."""
    message = (
        f'Operation cannot be fulfilled on deployments.apps "{name}": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    return refusal(409, "Conflict", message, name=name, group="apps", kind="deployments")
