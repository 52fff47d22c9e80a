"""Custom kinds that can be scaled, for tests of what the plugin and the API server make of them."""

from __future__ import annotations

from .cluster import Manifest

API_VERSION = "games.example/v1"
_ANYTHING: Manifest = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def scalable_kind(kind: str, plural: str) -> Manifest:
    """The CustomResourceDefinition of a kind of `API_VERSION`, whose count is in ``spec.fleet.size``."""
    scale = {
        "specReplicasPath": ".spec.fleet.size",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    return custom_kind(API_VERSION, kind, plural, {"status": {}, "scale": scale})


def custom_kind(api_version: str, kind: str, plural: str, subresources: Manifest) -> Manifest:
    """The CustomResourceDefinition of a kind with any spec and status."""
    group, _, version = api_version.partition("/")
    served = {
        "name": version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": _ANYTHING, "status": _ANYTHING}}},
        "subresources": subresources,
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [served],
        },
    }
