"""Who may do what: refusals, what a right on one name lets through, and reviews that tell before anything is asked."""

from __future__ import annotations

import asyncio

import pytest

from tests.stack.cluster import PolicyRule

from .client import REVIEWS, Access, Answer, Client
from .refusals import refusal
from .server import Server

pytestmark = pytest.mark.first


def of_one(server: Server, name: str) -> list[PolicyRule]:
    """What the chart grants for a target that is a Deployment."""
    return [
        PolicyRule(("get", "watch"), ("deployments",), ("apps",), (name,), server.namespace),
        PolicyRule(("patch",), ("deployments/scale",), ("apps",), (name,), server.namespace),
    ]


def forbidden(user: str, what: str, verb: str, resource: str, namespace: str, name: str = "") -> Answer:
    """RBAC's refusal of something in apps."""
    plural = resource.split("/", maxsplit=1)[0]
    where = f'in API group "apps" in the namespace "{namespace}"'
    message = f'{what} is forbidden: User "{user}" cannot {verb} resource "{resource}" {where}'
    details = {"name": name} if name else {}
    return refusal(403, "Forbidden", message, **details, group="apps", kind=plural)


async def test_a_token_that_nobody_knows(server: Server) -> None:
    known = server.client.access
    expected = refusal(401, "Unauthorized", "Unauthorized")
    del expected.body["details"]
    async with Client.open(Access(known.url, known.authority, "nonsense")) as stranger:
        for path in (server.path("Deployment", "web"), "/version", "/apis/apps/v1"):
            assert await stranger("GET", path) == expected


async def test_a_right_on_one_name_lets_that_name_through(server: Server) -> None:
    name = await server.workload()
    async with server.limited_to(of_one(server, name)) as client:
        path = server.path("Deployment", name)
        assert (await client.get(path))["metadata"]["name"] == name
        assert (await client.patch(f"{path}/scale", {"spec": {"replicas": 0}}))["kind"] == "Scale"
        query = {"fieldSelector": f"metadata.name={name}", "timeoutSeconds": "1"}
        async with client.watch(server.path("Deployment"), **query) as events:
            assert [kind async for kind, _ in events] == ["ADDED"]


async def test_a_right_on_one_name_lets_nothing_else_through(server: Server, running: str) -> None:
    name = await server.workload()
    async with server.limited_to(of_one(server, name)) as client:
        user = await _user(client, server)
        everything, other = server.path("Deployment"), server.path("Deployment", running)
        refused = forbidden(user, "deployments.apps", "list", "deployments", server.namespace)
        assert await client("GET", everything) == refused
        refused = forbidden(user, "deployments.apps", "watch", "deployments", server.namespace)
        assert await client("GET", f"{everything}?watch=true") == refused
        what = f'deployments.apps "{running}"'
        refused = forbidden(user, what, "patch", "deployments/scale", server.namespace, running)
        merge = "application/merge-patch+json"
        assert await client("PATCH", f"{other}/scale", {"spec": {"replicas": 0}}, merge) == refused
        refused = forbidden(user, what, "get", "deployments", server.namespace, running)
        assert await client("GET", other) == refused
        assert (await client("GET", server.core("pods"))).status == 403


async def _user(client: Client, server: Server) -> str:
    """Whose client it is: a refusal says so."""
    answer = await client("GET", server.path("StatefulSet", "any"))
    return str(answer.body["message"].split('User "')[1].split('"')[0])


async def test_who_has_no_right_is_not_told_what_is_there(server: Server) -> None:
    async with server.limited_to(of_one(server, "web")) as client:
        for path in (server.path("Deployment", "nope"), server.path("Deployment", "nope", "scale")):
            assert (await client("GET", path)).status == 403


async def test_a_review_answers_as_the_request_would_be(server: Server) -> None:
    apps = {"namespace": server.namespace, "group": "apps", "resource": "deployments"}
    async with server.limited_to(of_one(server, "web")) as client:
        assert await client.may(**apps, verb="get", name="web")
        assert await client.may(**apps, verb="patch", subresource="scale", name="web")
        assert not await client.may(**apps, verb="patch", name="web")
        assert not await client.may(**apps, verb="get", name="other")
        assert not await client.may(**apps, verb="list")
        assert not await client.may(namespace=server.namespace, verb="list", resource="pods")


async def test_a_review_asks_about_something(server: Server) -> None:
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {}}
    answer = await server.client("POST", REVIEWS, review)
    assert (answer.status, answer.body["reason"]) == (422, "Invalid")


async def test_a_busy_server_says_when_to_come_again(server: Server) -> None:
    path = server.path("Deployment", await server.workload())
    async with server.busy():
        answers: list[Answer] = []
        while all(answer.status == 200 for answer in answers):  # a real server needs a moment to hear of it
            answers = await asyncio.gather(*(server.client("GET", path) for _ in range(50)))
    turned_away = [answer for answer in answers if answer.status != 200]
    assert turned_away == [Answer(429, "Too many requests, please try again later.\n", "1")] * len(turned_away)
