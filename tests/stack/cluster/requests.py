"""What a URL means: the API server's request info, from method, path and query; no answers here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from . import errors
from .authorization import Attributes
from .resources import GROUPS, RESOURCES, Resource
from .selectors import selected_name

_PATH = re.compile(
    r"^/(?:api/v1|apis/(?P<group>[^/]+)/(?P<version>[^/]+))(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<subresource>[^/]+))?$"
)
_BUILT_IN = re.compile(r"^/apis/apps/")
"""A group of the server itself answers for all below it."""
_VERBS = {"GET": "get", "PUT": "update", "PATCH": "patch", "POST": "create", "DELETE": "delete"}


@dataclass(frozen=True)
class ResourceRequest:
    """A request for objects; `name` is empty for a list or watch, `namespace` for one of all namespaces."""

    verb: str
    resource: Resource
    namespace: str
    name: str
    subresource: str
    attributes: Attributes


def resource_request(method: str, path: str, query: Mapping[str, str]) -> ResourceRequest | None:
    """Understand a request; None where the path is none of a resource, ApiError 404 where it is an unknown one's."""
    match = _PATH.match(path)
    if _BUILT_IN.match(path) and (match is None or match["version"] != GROUPS["apps"]):
        raise errors.no_such_resource()
    if match is None or (match["group"] and GROUPS.get(match["group"]) != match["version"]):
        return None
    group, plural = match["group"] or "", match["plural"]
    resource = RESOURCES.get((group, plural))
    if resource is None:
        raise errors.no_such_resource()
    namespace, name, subresource = match["namespace"] or "", match["name"] or "", match["subresource"] or ""
    verb = _verb(method, name, query)
    # As the real server: a list narrowed to one name counts as a request for that name, also for resourceNames.
    asked = name or (selected_name(query.get("fieldSelector", "")) if verb in ("list", "watch") else "")
    path_of = f"{plural}/{subresource}" if subresource else plural
    return ResourceRequest(
        verb, resource, namespace, name, subresource, Attributes(verb, group, path_of, namespace, asked)
    )


def is_watch(query: Mapping[str, str]) -> bool:
    """Whether a query asks for a stream."""
    return query.get("watch", "") in ("true", "1")


def _verb(method: str, name: str, query: Mapping[str, str]) -> str:
    verb = _VERBS.get(method, method.lower())
    if verb != "get" or name:
        return verb
    return "watch" if is_watch(query) else "list"
