"""What is asked of the API server: each request that the plugin makes, as a plain value. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .api_failures import Asked
from .managers import OURS
from .models import HPA, SCALED_OBJECT, WorkloadRef
from .restart import ANNOTATION as RESTARTED_AT

WATCH_SECONDS = 30
"""How long one stream lasts: short, so that a connection that died silently is noticed."""
POD_LIMIT = 200
PAGE = 500
"""Objects in one page of a list."""
_AS_US = {"fieldManager": OURS}
"""So that our writes are told from those of others."""


@dataclass(frozen=True)
class Resource:
    """How the API server serves a kind.

    Attributes:
        plural: of the URL and of RBAC: ``deployments``.
        custom: its spec is nobody's but its own, so its Scale alone tells how many replicas are wanted.
    """

    plural: str
    custom: bool = False


BUILT_IN = {kind: Resource(f"{kind.lower()}s") for kind in ("Deployment", "StatefulSet", "ReplicaSet")}
"""The kinds of apps/v1 that can be scaled."""


@dataclass(frozen=True)
class Access:
    """Something to be allowed to do, in RBAC's words; `name` is empty for what is about no object in particular."""

    verb: str
    resource: str
    namespace: str
    group: str = ""
    name: str = ""


@dataclass(frozen=True)
class Request:
    """One request, and how to speak of it when it fails."""

    method: str
    path: str
    asked: Asked
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    content_type: str = "application/json"


def get_version() -> Request:
    """Ask for the server's version."""
    return Request("GET", "/version", Asked("get", "/version"))


def get_resources(ref: WorkloadRef) -> Request:
    """Ask which kinds the API server has of the workload's apiVersion (its discovery document)."""
    return Request("GET", _api(ref), Asked("get", _api(ref)))


def get_workload(ref: WorkloadRef, resource: Resource) -> Request:
    """Ask for the object as it is."""
    return Request("GET", f"{_collection(ref, resource)}/{ref.name}", Asked("get", resource.plural, ref))


def get_scale(ref: WorkloadRef, resource: Resource) -> Request:
    """Ask for the object's scale subresource."""
    path = f"{_collection(ref, resource)}/{ref.name}/scale"
    return Request("GET", path, Asked("get", f"{resource.plural}/scale", ref))


def watch_workload(ref: WorkloadRef, resource: Resource) -> Request:
    """Ask for one stream of the object's states, of `WATCH_SECONDS`."""
    # Without a resourceVersion it begins with the object as it is; with this selector RBAC can narrow it to one name.
    query = {"watch": "true", "fieldSelector": f"metadata.name={ref.name}", "timeoutSeconds": str(WATCH_SECONDS)}
    return Request("GET", _collection(ref, resource), Asked("watch", resource.plural, ref), query)


def patch_scale(ref: WorkloadRef, resource: Resource, replicas: int) -> Request:
    """Set how many replicas are wanted, by the scale subresource."""
    return Request(
        "PATCH",
        f"{_collection(ref, resource)}/{ref.name}/scale",
        Asked("patch", f"{resource.plural}/scale", ref),
        _AS_US,
        {"spec": {"replicas": replicas}},
        # The client's own choice of a patch type has changed with its versions.
        content_type="application/merge-patch+json",
    )


def patch_restart(ref: WorkloadRef, resource: Resource, stamp: str) -> Request:
    """Set the annotation of the pod template that a restart sets; with the same `stamp` again that changes nothing."""
    template = {"metadata": {"annotations": {RESTARTED_AT: stamp}}}
    return Request(
        "PATCH",
        f"{_collection(ref, resource)}/{ref.name}",
        Asked("patch", resource.plural, ref),
        _AS_US,
        {"spec": {"template": template}},
        content_type="application/merge-patch+json",
    )


@dataclass(frozen=True)
class AutoscalerResource:
    """How the API server serves a kind of autoscaler."""

    group: str
    version: str
    plural: str


AUTOSCALERS = {
    HPA: AutoscalerResource("autoscaling", "v2", "horizontalpodautoscalers"),
    SCALED_OBJECT: AutoscalerResource("keda.sh", "v1alpha1", "scaledobjects"),
}


def list_autoscalers(kind: str, ref: WorkloadRef) -> Request:
    """Ask for the autoscalers of a kind in the workload's namespace."""
    resource = AUTOSCALERS[kind]
    path = f"/apis/{resource.group}/{resource.version}/namespaces/{ref.namespace}/{resource.plural}"
    return Request("GET", path, Asked("list", resource.plural, ref, named=False))


def list_pods(ref: WorkloadRef, selector: str) -> Request:
    """Ask for the pods of the workload's namespace that `selector` selects, at most `POD_LIMIT`."""
    return _list("pods", ref, {"labelSelector": selector, "limit": str(POD_LIMIT)})


def list_all_pods(ref: WorkloadRef, token: str = "") -> Request:
    """Ask for a page of the pods of the workload's namespace: the first, or the one that `token` continues with."""
    return _list("pods", ref, _page(token))


def list_events(ref: WorkloadRef, token: str = "") -> Request:
    """Ask for a page of the events of the workload's namespace."""
    return _list("events", ref, _page(token))


def list_workloads(ref: WorkloadRef, resource: Resource, token: str = "") -> Request:
    """Ask for a page of the objects of the workload's kind in its namespace."""
    return Request("GET", _collection(ref, resource), Asked("list", resource.plural, ref, named=False), _page(token))


def _page(token: str) -> Mapping[str, str]:
    return {"limit": str(PAGE), **({"continue": token} if token else {})}


def review(access: Access) -> Request:
    """Ask whether we may do `access` (a SelfSubjectAccessReview)."""
    plural, _, subresource = access.resource.partition("/")
    attributes = {"namespace": access.namespace, "verb": access.verb, "resource": plural, "subresource": subresource}
    attributes.update(group=access.group, name=access.name)
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    return Request("POST", path, Asked("create", "selfsubjectaccessreviews"), body=body)


def wanted_rights(resource: Resource) -> Sequence[tuple[str, str, bool]]:
    """What a target needs: the verb, the resource as RBAC writes it, and whether commands need it or only answers."""
    plural = resource.plural
    return (
        ("patch", f"{plural}/scale", True),
        *((("get", f"{plural}/scale", True),) if resource.custom else ()),
        ("get", plural, True),
        ("watch", plural, True),
        ("list", "pods", False),
        ("list", "events", False),
    )


def _api(ref: WorkloadRef) -> str:
    return f"/{'apis' if ref.group else 'api'}/{ref.api_version}"


def _collection(ref: WorkloadRef, resource: Resource) -> str:
    return f"{_api(ref)}/namespaces/{ref.namespace}/{resource.plural}"


def _list(plural: str, ref: WorkloadRef, query: Mapping[str, str]) -> Request:
    asked = Asked("list", plural, ref, named=False)
    return Request("GET", f"/api/v1/namespaces/{ref.namespace}/{plural}", asked, query)
