"""Who wrote a workload's replica count last, by its ``metadata.managedFields``, and what people call them. Pure.

The API server notes there which field manager owns which field: whoever sets a field to another value takes it from the
others (https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management). Its name is what a client
says of itself: good to tell people, and nothing to decide by who may do what.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

OURS = "maubot-k8s-toggle"
"""The field manager of our own writes."""
SHOWN_LENGTH = 60
"""Characters of a name that we do not know; the API server takes 128."""

_CONTROLLERS = "kube-controller-manager"
_FAMILIES = (
    ("kubectl", "kubectl"),
    ("argocd", "Argo CD"),
    ("kustomize-controller", "Flux"),
    ("helm-controller", "Flux"),
    ("helm", "Helm"),
    ("keda", "KEDA"),
    (OURS, "another bot like me"),
)
"""How a manager's name begins, and who that is; a name ends there, or goes on with ``-``."""


def last_scaled_by(managed_fields: Iterable[Mapping[str, Any]]) -> str:
    """The field manager that wrote the replica count last; empty where that is not known.

    Where several have written the same count, all of them own it: the last one of them counts.
    """
    return str(_last_scaling(managed_fields).get("manager") or "")


def last_scaled_at(managed_fields: Iterable[Mapping[str, Any]]) -> str:
    """When that was, as the API server writes times; empty where that is not known."""
    return str(_last_scaling(managed_fields).get("time") or "")


def _last_scaling(managed_fields: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    owners = [entry for entry in managed_fields if _owns_replicas(entry)]
    return max(owners, key=lambda entry: str(entry.get("time") or ""), default={})


def _owns_replicas(entry: Mapping[str, Any]) -> bool:
    # A custom resource may keep its count elsewhere than in spec.replicas; its scale subresource writes nothing else.
    if entry.get("subresource") == "scale":
        return True
    fields = entry.get("fieldsV1") or {}
    return not entry.get("subresource") and "f:replicas" in (fields.get("f:spec") or {})


def called(manager: str, kind: str) -> str:
    """What people call the field manager that scaled a workload of `kind`; empty for an unknown one."""
    if manager == _CONTROLLERS:
        return "its Deployment" if kind == "ReplicaSet" else "a HorizontalPodAutoscaler"
    for name, family in _FAMILIES:
        if manager == name or manager.startswith(f"{name}-"):
            return family
    return manager if len(manager) <= SHOWN_LENGTH else manager[: SHOWN_LENGTH - 1] + "…"
