"""Plain HTTP to an API server as one account: what was asked goes out as it is, what came back is not judged."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
SECONDS = 60


@dataclass(frozen=True)
class Answer:
    """An HTTP answer.

    Attributes:
        body: parsed where it is JSON, else its text.
        retry_after: the header of that name.
    """

    status: int
    body: Any
    retry_after: str = ""


@dataclass(frozen=True)
class Access:
    """Where an API server is, and as whom to speak with it."""

    url: str
    authority: Path
    token: str


class Client:
    """One account at one API server; made by `open`."""

    def __init__(self, access: Access, session: aiohttp.ClientSession) -> None:
        self.access = access
        self._session = session

    @classmethod
    @asynccontextmanager
    async def open(cls, access: Access) -> AsyncIterator[Client]:
        context = ssl.create_default_context(cafile=str(access.authority))
        headers = {"Authorization": f"Bearer {access.token}"} if access.token else {}
        timeout = aiohttp.ClientTimeout(total=SECONDS)
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:
            yield cls(access, session)

    async def __call__(self, method: str, path: str, body: Any = None, content_type: str = JSON) -> Answer:
        """One request; a `body` that is text goes out as it is."""
        data = body if body is None or isinstance(body, str) else json.dumps(body)
        headers = {"Accept": JSON, "Content-Type": content_type}
        async with self._session.request(method, self.access.url + path, data=data, headers=headers) as response:
            text = await response.text()
            parsed = json.loads(text) if response.content_type == JSON else text
            return Answer(response.status, parsed, response.headers.get("Retry-After", ""))

    async def get(self, path: str) -> Any:
        """The body of what is there."""
        answer = await self("GET", path)
        assert answer.status == 200, answer
        return answer.body

    async def patch(self, path: str, body: Any) -> Any:
        """The body that answers a merge patch."""
        answer = await self("PATCH", path, body, MERGE_PATCH)
        assert answer.status == 200, answer
        return answer.body

    async def may(self, **attributes: str) -> bool:
        """What a SelfSubjectAccessReview of these attributes answers."""
        kind = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
        answer = await self("POST", REVIEWS, {**kind, "spec": {"resourceAttributes": attributes}})
        assert answer.status == 201, answer
        return bool(answer.body["status"]["allowed"])

    @asynccontextmanager
    async def watch(self, path: str, **query: str) -> AsyncIterator[AsyncIterator[tuple[str, Any]]]:
        """The events of a watch, (type, object), from the moment when the server has begun to answer."""
        wanted = {"watch": "true", **query}
        async with self._session.get(self.access.url + path, params=wanted) as response:
            assert response.status == 200, await response.text()
            yield _events(response)


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, Any]]:
    async for line in response.content:
        event = json.loads(line)
        yield event["type"], event["object"]
