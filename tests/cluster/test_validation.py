"""A real API server takes what each values file renders to: no field is unknown, and all pods are "restricted"."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.chart.chart import VALUES, Object, render

from .cluster import Cluster, Manifest, Namespace
from .node.command import CommandFailed

pytestmark = pytest.mark.timeout(120)

NOT_KUBERNETES = ("HTTPRoute",)
"""Kinds that no cluster has by itself."""


@pytest.fixture
async def important(cluster: Cluster) -> AsyncIterator[None]:
    """The priority class that a values file names."""
    await cluster.apply(
        {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "important"}, "value": 1}
    )
    yield
    await cluster.kubectl("delete", "priorityclass", "important")


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
async def test_the_api_server_takes_it(namespace: Namespace, important: None, values: str) -> None:
    objects = [each for each in render(values) if each["kind"] not in NOT_KUBERNETES]
    await warn(namespace)
    for pod in (each for each in objects if each["kind"] == "Pod"):  # no pod without its account, not even for a check
        await namespace.apply(service_account(pod))
    assert await refusal(namespace, objects) == ""


async def test_it_would_not_take_anything(namespace: Namespace) -> None:
    """What the tests above rely on: a field that there is not, and a container that is not restricted, are refused."""
    await warn(namespace)
    copies: list[Any] = json.loads(json.dumps(render("minimal")))
    service, maubot = (next(each for each in copies if each["kind"] == kind) for kind in ("Service", "StatefulSet"))
    service["spec"]["publishNotReadyAddress"] = True
    maubot["spec"]["template"]["spec"]["containers"][0]["securityContext"] = {}
    said = await refusal(namespace, [service, maubot])
    assert 'unknown field "spec.publishNotReadyAddress"' in said
    assert 'would violate PodSecurity "restricted' in said
