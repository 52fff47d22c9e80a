"""Rights in a real cluster, in the form of tests/chart: what an account has, and what it made use of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import yaml

from tests.chart.chart import Object
from tests.chart.rights import BOT, Right, granted, rights_of

from .cluster import Cluster
from .release import NAME, Release

OF_EVERYBODY: frozenset[Right] = frozenset(
    {
        ("", "", "/version", "*", "get"),
        ("", "authorization.k8s.io", "selfsubjectaccessreviews", "*", "create"),
    }
)
"""What the bot asks for and Kubernetes lets every account do, by ClusterRoles of its own."""
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
TEST = "a-test"
"""The User-Agent of requests that a test makes with a pod's token: they are not the pod's own."""

Event = Mapping[str, Any]


def account(namespace: str, name: str) -> str:
    return f"system:serviceaccount:{namespace}:{name}"


async def rendered(release: Release) -> list[Object]:
    """The objects of the installed release, as helm rendered them."""
    return [each for each in yaml.safe_load_all(await release.helm("get", "manifest", NAME)) if each]


async def granted_by(release: Release, component: str = BOT) -> set[Right]:
    """What the Roles of the release grant."""
    return granted(await rendered(release), component)


def requests(cluster: Cluster, user: str) -> list[Event]:
    """What an account asked the API server for, as the audit log has it."""
    namespace = user.split(":")[2]
    events = [event for event in cluster.audit(namespace) if event["user"]["username"] == user]
    return [event for event in events if event.get("userAgent") != TEST]


def allowed(events: Iterable[Event]) -> Iterator[Event]:
    return (event for event in events if event["annotations"]["authorization.k8s.io/decision"] == "allow")


def forbidden(events: Iterable[Event]) -> Iterator[Event]:
    return (event for event in events if event["annotations"]["authorization.k8s.io/decision"] == "forbid")


def needed(events: Iterable[Event]) -> set[Right]:
    """The rights that requests need."""
    return {_needed(event) for event in events}


def _needed(event: Event) -> Right:
    asked = event.get("objectRef") or {"resource": urlsplit(event["requestURI"]).path}
    resource = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
    return asked.get("namespace", ""), asked.get("apiGroup", ""), resource, asked.get("name", "*"), event["verb"]


async def rights(cluster: Cluster, user: str, namespace: str) -> set[Right]:
    """All that the API server lets an account do with a namespace's objects, whatever grants it."""
    spec = {"namespace": namespace}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": spec}
    words = ("create", f"--raw={REVIEWS}", "--filename=-", f"--as={user}")
    status = json.loads(await cluster.kubectl(*words, content=json.dumps(review)))["status"]
    assert not status["incomplete"], f"the API server does not know all rights of {user}: {status}"
    return {right for rule in status["resourceRules"] for right in rights_of(namespace, rule)}


async def rights_of_its_own(cluster: Cluster, user: str, namespace: str) -> set[Right]:
    """As `rights`, without those that every account has."""
    nobody = account("kube-public", "nobody")
    return await rights(cluster, user, namespace) - await rights(cluster, nobody, namespace)
