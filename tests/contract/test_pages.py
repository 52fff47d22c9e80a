"""Lists in pages: as many objects as are asked for, a token for the rest, and none left out or told twice."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from .server import Server

pytestmark = pytest.mark.first


async def page(server: Server, **query: str) -> Any:
    """A page of the namespace's StatefulSets."""
    text = "&".join(f"{key}={quote(value)}" for key, value in query.items())
    return await server.client.get(f"{server.path('StatefulSet')}?{text}")


def names(found: Any) -> list[str]:
    return [item["metadata"]["name"] for item in found["items"]]


async def test_every_object_is_on_one_of_the_pages(server: Server) -> None:
    for _ in range(3):
        await server.workload("StatefulSet")
    whole = await page(server)
    assert set(whole["metadata"]) == {"resourceVersion"}
    first = await page(server, limit="2")
    assert len(first["items"]) == 2
    assert first["metadata"]["remainingItemCount"] == len(whole["items"]) - 2
    token = first["metadata"]["continue"]
    rest = await page(server, limit="500", **{"continue": token})
    assert names(first) + names(rest) == names(whole)
    assert set(rest["metadata"]) == {"resourceVersion"}
    assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_how_many_remain_is_not_told_of_a_selection(server: Server) -> None:
    for _ in range(2):
        await server.workload("StatefulSet")
    first = await page(server, limit="1", labelSelector="app")
    assert len(first["items"]) == 1
    assert set(first["metadata"]) == {"resourceVersion", "continue"}


async def test_a_page_that_holds_everything_has_no_token(server: Server) -> None:
    name = await server.workload("StatefulSet")
    found = await page(server, limit="1", labelSelector=f"app={name}")
    assert names(found) == [name]
    assert set(found["metadata"]) == {"resourceVersion"}


@pytest.mark.parametrize("query", ["limit=many", "limit=1&continue=nonsense"])
async def test_what_is_no_limit_or_token_is_refused(server: Server, query: str) -> None:
    answer = await server.client("GET", f"{server.path('StatefulSet')}?{query}")
    assert (answer.status, answer.body["reason"]) == (400, "BadRequest")
