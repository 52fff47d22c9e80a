"""Watch streams: from a version or from the objects as they are now, until the client's timeout, a cut, or the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping

from aiohttp import web

from .errors import ApiError
from .requests import ResourceRequest
from .resources import Json, Resource
from .selectors import Matches, matcher
from .store import Change, ObjectStore
from .tables import EventTables, asked_form

DEFAULT_TIMEOUT = 1800.0


class Watches:
    """The streams that are open."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._open: dict[int, web.BaseRequest] = {}

    def __len__(self) -> int:
        return len(self._open)

    def cut(self) -> None:
        """Break the connection of every stream, in the middle."""
        for request in self._open.values():
            if request.transport is not None:
                request.transport.abort()

    async def serve(self, request: web.BaseRequest, wanted: ResourceRequest) -> web.StreamResponse:
        """Answer a watch request until it ends."""
        changes: asyncio.Queue[Change] = asyncio.Queue()
        unsubscribe = self._store.subscribe(changes.put_nowait)
        self._open[id(request)] = request
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        try:
            await self._stream(request, response, wanted, changes)
        except ConnectionResetError:
            pass  # the client has seen enough
        finally:
            del self._open[id(request)]
            unsubscribe()
        return response

    async def _stream(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        wanted: ResourceRequest,
        changes: asyncio.Queue[Change],
    ) -> None:
        matches = matcher(wanted.resource, request.query)
        tables = EventTables(asked_form(request.headers.get("Accept", ""), request.query), wanted.resource)
        first = list(self._begin(wanted, matches, request.query))
        await response.prepare(request)
        for event in first:
            await _write(response, tables.render(event))
        loop = asyncio.get_running_loop()
        end = loop.time() + float(request.query.get("timeoutSeconds") or DEFAULT_TIMEOUT)
        while (left := end - loop.time()) > 0 and not any(event["type"] == "ERROR" for event in first):
            try:
                change = await asyncio.wait_for(changes.get(), left)
            except asyncio.TimeoutError:
                break
            if request.transport is None:
                break  # before Python 3.12, wait_for forgets that it was cancelled when a change comes at that moment
            for event in _events(change, wanted, matches):
                await _write(response, tables.render(event))
        await response.write_eof()

    def _begin(self, wanted: ResourceRequest, matches: Matches, query: Mapping[str, str]) -> Iterator[Json]:
        version = query.get("resourceVersion", "")
        if query.get("sendInitialEvents") == "true" or version in ("", "0"):
            for obj in self._store.list(wanted.resource, wanted.namespace or None):
                if matches(obj):
                    yield {"type": "ADDED", "object": obj}
            if query.get("sendInitialEvents") == "true":
                yield self._bookmark(wanted.resource)
            return
        try:
            for change in self._store.since(int(version)):
                yield from _events(change, wanted, matches)
        except ApiError as error:
            yield {"type": "ERROR", "object": error.status()}

    def _bookmark(self, resource: Resource) -> Json:
        annotations = {"k8s.io/initial-events-end": "true"}
        metadata = {"resourceVersion": str(self._store.version), "annotations": annotations}
        obj = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
        return {"type": "BOOKMARK", "object": obj}


async def _write(response: web.StreamResponse, event: Json) -> None:
    await response.write(json.dumps(event).encode() + b"\n")


def _events(change: Change, wanted: ResourceRequest, matches: Matches) -> Iterator[Json]:
    """What a stream tells of a change: an object that begins to match was ADDED for it, one that ends to, DELETED."""
    if change.resource != wanted.resource or wanted.namespace not in ("", change.object["metadata"].get("namespace")):
        return
    before = change.previous is not None and matches(change.previous)
    after = change.type != "DELETED" and matches(change.object)
    if before or after:
        kind = "MODIFIED" if before and after else ("ADDED" if after else "DELETED")
        yield {"type": kind, "object": change.object}
