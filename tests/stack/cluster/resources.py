"""Which resources the simulated cluster serves, and the discovery documents that say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

READ = ("get", "list", "watch")
WRITE = ("delete", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True)
class Resource:
    """A resource of one API group (empty = core)."""

    group: str
    plural: str
    kind: str
    short_names: tuple[str, ...]
    verbs: tuple[str, ...] = WRITE
    scalable: bool = False
    namespaced: bool = True
    fields: tuple[str, ...] = ()
    """Field selectors that the real server knows beside metadata.name and metadata.namespace."""
    version: str = "v1"
    custom: bool = False
    """Whether a CustomResourceDefinition brought it."""
    replicas_path: tuple[str, ...] = ("spec", "replicas")
    """Where the wanted count is, of one that is scalable."""

    @property
    def api_version(self) -> str:
        """As in ``apiVersion``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def full_kind(self) -> str:
        """As the settings name it: with its apiVersion, unless it is of apps/v1."""
        return self.kind if self.api_version == "apps/v1" else f"{self.api_version}/{self.kind}"

    @property
    def qualified(self) -> str:
        """As error messages name it: ``deployments.apps``, ``pods``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


INVOLVED = tuple(f"involvedObject.{field}" for field in ("kind", "namespace", "name", "uid", "apiVersion", "fieldPath"))

DEPLOYMENTS = Resource("apps", "deployments", "Deployment", ("deploy",), scalable=True)
STATEFULSETS = Resource("apps", "statefulsets", "StatefulSet", ("sts",), scalable=True)
REPLICASETS = Resource("apps", "replicasets", "ReplicaSet", ("rs",), scalable=True)
ROLLOUTS = Resource("argoproj.io", "rollouts", "Rollout", ("ro",), scalable=True, version="v1alpha1", custom=True)
"""Argo's: its status tells all that a Deployment's does, with the observed generation as a text."""
GAMESERVERS = Resource(
    *("games.example", "gameservers", "GameServer", ()),
    scalable=True,
    custom=True,
    replicas_path=("spec", "fleet", "size"),
)
"""One whose status tells how many pods there are, and nothing of their state."""
HPAS = Resource("autoscaling", "horizontalpodautoscalers", "HorizontalPodAutoscaler", ("hpa",), version="v2")
SCALED_OBJECTS = Resource("keda.sh", "scaledobjects", "ScaledObject", ("so",), version="v1alpha1", custom=True)
"""KEDA's."""
PODS = Resource("", "pods", "Pod", ("po",), ("delete", *READ), fields=("spec.nodeName", "status.phase"))
EVENTS = Resource("", "events", "Event", ("ev",), READ, fields=(*INVOLVED, "reason", "type", "reportingComponent"))
SECRETS = Resource("", "secrets", "Secret", (), fields=("type",))
NAMESPACES = Resource("", "namespaces", "Namespace", ("ns",), READ, namespaced=False)

SCALABLE = (DEPLOYMENTS, STATEFULSETS, REPLICASETS, ROLLOUTS, GAMESERVERS)
SERVED = (*SCALABLE, HPAS, SCALED_OBJECTS, PODS, EVENTS, SECRETS, NAMESPACES)
RESOURCES = {(resource.group, resource.plural): resource for resource in SERVED}
WORKLOADS = {resource.full_kind: resource for resource in SCALABLE}
GROUPS = {"authorization.k8s.io": "v1", **{resource.group: resource.version for resource in SERVED if resource.group}}
"""The one version of each API group that is served."""

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
    for name, served in GROUPS.items():
        documents[f"/apis/{name}"] = {"kind": "APIGroup", "apiVersion": "v1", **_group(name)}
        documents[f"/apis/{name}/{served}"] = _resource_list(name, f"{name}/{served}")
    return documents.get(path.rstrip("/"))


def _group(name: str) -> Json:
    version = {"groupVersion": f"{name}/{GROUPS[name]}", "version": GROUPS[name]}
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
