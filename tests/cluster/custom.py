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
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": _ANYTHING, "status": _ANYTHING}}},
        "subresources": {"status": {}, "scale": scale},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.games.example"},
        "spec": {
            "group": "games.example",
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [version],
        },
    }
