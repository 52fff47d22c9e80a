"""A real API server takes what each values file renders to: no field is unknown, and all pods are "restricted"."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.chart.chart import VALUES, Object, render

from .cluster import Cluster, Manifest, Namespace
from .node.build import programs
from .node.command import CommandFailed

pytestmark = pytest.mark.timeout(120)

HTTP_ROUTES = "customresourcedefinition/httproutes.gateway.networking.k8s.io"


@pytest.fixture
async def important(cluster: Cluster) -> AsyncIterator[None]:
    """The priority class that a values file names."""
    await cluster.apply(
        {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "important"}, "value": 1}
    )
    yield
    await cluster.kubectl("delete", "priorityclass", "important")


@pytest.fixture(scope="module")
async def http_routes(cluster: Cluster) -> AsyncIterator[None]:
    """The Gateway API's own definition of HTTPRoutes, which no cluster has by itself; one that is there stays."""
    if await cluster.kubectl("get", HTTP_ROUTES, "--ignore-not-found"):
        yield
        return
    await cluster.kubectl("create", "--filename", str(programs().http_routes))
    await cluster.kubectl("wait", "--for=condition=Established", HTTP_ROUTES, "--timeout=30s")
    yield
    await cluster.kubectl("delete", HTTP_ROUTES)


async def warn(namespace: Namespace) -> None:
    """Have workloads looked at too, not only pods."""
    await namespace.kubectl("label", "namespace", namespace.name, "pod-security.kubernetes.io/warn=restricted")


def here(thing: Object, namespace: Namespace) -> dict[str, Any]:
    """The object in a namespace that is there."""
    return {**thing, "metadata": {**thing["metadata"], "namespace": namespace.name}}


def service_account(pod: Object) -> Manifest:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": pod["spec"]["serviceAccountName"]}}


async def refusal(namespace: Namespace, objects: list[Object]) -> str:
    """What the API server says of objects that it would not take; warnings are refusals."""
    # One document each: kubectl would look through a List itself.
    content = "\n---\n".join(json.dumps(here(each, namespace)) for each in objects)
    strict = ("--dry-run=server", "--validate=strict", "--warnings-as-errors")
    try:
        await namespace.kubectl("apply", *strict, "--filename=-", content=content)
    except CommandFailed as failure:
        return str(failure)
    return ""


@pytest.mark.parametrize("values", VALUES)
async def test_the_api_server_takes_it(namespace: Namespace, important: None, http_routes: None, values: str) -> None:
    objects = render(values)
    await warn(namespace)
    for pod in (each for each in objects if each["kind"] == "Pod"):  # no pod without its account, not even for a check
        await namespace.apply(service_account(pod))
    assert await refusal(namespace, objects) == ""


def copy_of(values: str, kind: str) -> Any:
    """The first object of that kind, to be spoilt."""
    return json.loads(json.dumps(next(each for each in render(values) if each["kind"] == kind)))


async def test_it_would_not_take_anything(namespace: Namespace) -> None:
    """What the tests above rely on: a field that there is not, and a container that is not restricted, are refused."""
    await warn(namespace)
    service, maubot = copy_of("minimal", "Service"), copy_of("minimal", "StatefulSet")
    service["spec"]["publishNotReadyAddress"] = True
    maubot["spec"]["template"]["spec"]["containers"][0]["securityContext"] = {}
    said = await refusal(namespace, [service, maubot])
    assert 'unknown field "spec.publishNotReadyAddress"' in said
    assert 'would violate PodSecurity "restricted' in said


async def test_nor_any_route(namespace: Namespace, http_routes: None) -> None:
    """A field that there is not, and a word of the Ingress' for a path."""
    unknown, wrong = copy_of("everything", "HTTPRoute"), copy_of("everything", "HTTPRoute")
    unknown["spec"]["rules"][0]["backends"] = unknown["spec"]["rules"][0].pop("backendRefs")
    wrong["spec"]["rules"][0]["matches"][0]["path"]["type"] = "Prefix"
    assert 'unknown field "spec.rules[0].backends"' in await refusal(namespace, [unknown])
    assert 'Unsupported value: "Prefix"' in await refusal(namespace, [wrong])
