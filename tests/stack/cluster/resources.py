"""Which resources the simulated cluster serves, and the discovery documents that say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

READ = ("get", "list", "watch")
WRITE = ("delete", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True)
class Resource:
    """A resource of one API group (empty = core), always version v1."""

    group: str
    plural: str
    kind: str
    short_names: tuple[str, ...]
    verbs: tuple[str, ...] = WRITE
    scalable: bool = False
    namespaced: bool = True
    fields: tuple[str, ...] = ()
    """Field selectors that the real server knows beside metadata.name and metadata.namespace."""

    @property
    def api_version(self) -> str:
        """As in ``apiVersion``."""
        return f"{self.group}/v1" if self.group else "v1"

    @property
    def qualified(self) -> str:
        """As error messages name it: ``deployments.apps``, ``pods``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


INVOLVED = tuple(f"involvedObject.{field}" for field in ("kind", "namespace", "name", "uid", "apiVersion", "fieldPath"))

DEPLOYMENTS = Resource("apps", "deployments", "Deployment", ("deploy",), scalable=True)
STATEFULSETS = Resource("apps", "statefulsets", "StatefulSet", ("sts",), scalable=True)
PODS = Resource("", "pods", "Pod", ("po",), ("delete", *READ), fields=("spec.nodeName", "status.phase"))
EVENTS = Resource("", "events", "Event", ("ev",), READ, fields=(*INVOLVED, "reason", "type", "reportingComponent"))
SECRETS = Resource("", "secrets", "Secret", (), fields=("type",))
NAMESPACES = Resource("", "namespaces", "Namespace", ("ns",), READ, namespaced=False)

SERVED = (DEPLOYMENTS, STATEFULSETS, PODS, EVENTS, SECRETS, NAMESPACES)
RESOURCES = {(resource.group, resource.plural): resource for resource in SERVED}
WORKLOADS = {resource.kind: resource for resource in (DEPLOYMENTS, STATEFULSETS)}
GROUPS = ("apps", "authorization.k8s.io")

VERSION: Json = {
    "major": "1",
    "minor": "37",
    "gitVersion": "v1.37.0",
    "gitCommit": "0000000000000000000000000000000000000000",
    "gitTreeState": "clean",
    "buildDate": "2026-08-26T00:00:00Z",
    "goVersion": "go1.26.0",
    "compiler": "gc",
    "platform": "linux/amd64",
}


def discovery(path: str, address: str) -> Json | None:
    """The discovery document at `path`, or None where there is none; `address` is the server's host:port."""
    documents: dict[str, Json] = {
        "/version": VERSION,
        "/api": {
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
        },
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(name) for name in GROUPS]},
        "/api/v1": _resource_list("", "v1"),
    }
    for name in GROUPS:
        documents[f"/apis/{name}"] = {"kind": "APIGroup", "apiVersion": "v1", **_group(name)}
        documents[f"/apis/{name}/v1"] = _resource_list(name, f"{name}/v1")
    return documents.get(path.rstrip("/"))


def _group(name: str) -> Json:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _resource_list(group: str, group_version: str) -> Json:
    entries = [entry for resource in RESOURCES.values() if resource.group == group for entry in _entries(resource)]
    if group == "authorization.k8s.io":
        entries.append(_entry("selfsubjectaccessreviews", "SelfSubjectAccessReview", ("create",), namespaced=False))
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": entries}


def _entries(resource: Resource) -> list[Json]:
    entry = _entry(resource.plural, resource.kind, resource.verbs, namespaced=resource.namespaced)
    entry["shortNames"] = list(resource.short_names)
    if not resource.scalable:
        return [entry]
    entry["categories"] = ["all"]
    scale = _entry(f"{resource.plural}/scale", "Scale", ("get", "patch", "update"))
    scale.update(group="autoscaling", version="v1")
    return [entry, scale]


def _entry(name: str, kind: str, verbs: tuple[str, ...], *, namespaced: bool = True) -> Json:
    singular = "" if "/" in name else kind.lower()
    return {"name": name, "singularName": singular, "namespaced": namespaced, "kind": kind, "verbs": list(verbs)}
