"""The API server's error answers: ``Status`` objects in the real server's words."""

from __future__ import annotations

from typing import Any

from .resources import Json, Resource


class ApiError(Exception):
    """A request that failed; `code` is the HTTP status, `reason` the machine-readable word of the API."""

    def __init__(self, code: int, reason: str, message: str, details: Json | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details

    def status(self) -> Json:
        """The ``Status`` object."""
        body: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        }
        if self.details is not None:
            body["details"] = self.details
        body["code"] = self.code
        return body


def _details(resource: Resource, name: str) -> Json:
    details = {"name": name, "group": resource.group, "kind": resource.plural}
    return {key: value for key, value in details.items() if value}


def unauthorized() -> ApiError:
    """401: the token is not known."""
    return ApiError(401, "Unauthorized", "Unauthorized")


def not_found(resource: Resource, name: str) -> ApiError:
    """404: there is no such object."""
    return ApiError(404, "NotFound", f'{resource.qualified} "{name}" not found', _details(resource, name))


def no_such_resource() -> ApiError:
    """404: the group is there, the resource is not."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def method_not_allowed() -> ApiError:
    """405."""
    message = "the server does not allow this method on the requested resource"
    return ApiError(405, "MethodNotAllowed", message, {})


def already_exists(resource: Resource, name: str) -> ApiError:
    """409 to a create."""
    message = f'{resource.qualified} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, _details(resource, name))


def conflict(resource: Resource, name: str) -> ApiError:
    """409: the resourceVersion that the request was based on is not the newest."""
    message = (
        f'Operation cannot be fulfilled on {resource.qualified} "{name}": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    return ApiError(409, "Conflict", message, _details(resource, name))


def expired(asked: int, oldest: int) -> ApiError:
    """410: the history does not reach back that far."""
    return ApiError(410, "Expired", f"too old resource version: {asked} ({oldest})")


def continue_expired() -> ApiError:
    """410: the state that a list began with is gone."""
    message = (
        "The provided continue parameter is too old to display a consistent list result. You can start a new list "
        "without the continue parameter, or use the continue token in this response to retrieve the remainder of the "
        "results."
    )
    return ApiError(410, "Expired", message)


def no_replicas(resource: Resource) -> ApiError:
    """500: a custom resource without the field that its Scale shows."""
    path = ".".join(("", *resource.replicas_path))
    message = f'Internal error occurred: the spec replicas field "{path}" does not exist'
    return ApiError(500, "InternalError", message, {"causes": [{"message": message.partition(": ")[2]}]})


def unsupported_media_type(accepted: tuple[str, ...]) -> ApiError:
    """415."""
    types = ", ".join(accepted)
    message = f"the body of the request was in an unknown format - accepted media types include: {types}"
    return ApiError(415, "UnsupportedMediaType", message)


def invalid(kind: str, group: str, name: str, field: str, problem: str) -> ApiError:
    """422: the object was understood and refused."""
    message = f'{f"{kind}.{group}" if group else kind} "{name}" is invalid: {field}: {problem}'
    causes = [{"reason": "FieldValueInvalid", "message": problem, "field": field}]
    return ApiError(422, "Invalid", message, {"name": name, "group": group, "kind": kind, "causes": causes})


def bad_request(message: str) -> ApiError:
    """400: the request itself was not understood."""
    return ApiError(400, "BadRequest", message)
