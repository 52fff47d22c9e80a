"""The HTTP side of the simulated cluster: each request in, one answer (or fault) out; keeps no objects itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping

from aiohttp import web

from . import changes, errors
from .authorization import Authorization, review
from .faults import Fault, Faults, RequestRecord, When
from .pages import page
from .requests import ResourceRequest, is_watch, resource_request
from .resources import SECRETS, Json, discovery
from .selectors import matcher
from .store import ObjectStore
from .tables import asked_form, table
from .watches import Watches

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
HEALTH = ("/healthz", "/livez", "/readyz")


class ApiServer:
    """Answers requests from the store; `token` gives the bearer token that is valid now."""

    def __init__(
        self, store: ObjectStore, authorization: Authorization, faults: Faults, token: Callable[[], str]
    ) -> None:
        self.watches = Watches(store)
        self.requests: list[RequestRecord] = []
        self._store = store
        self._authorization = authorization
        self._faults = faults
        self._token = token

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Record the request, let faults strike, answer."""
        body = (await request.read()).decode("utf-8", "replace")
        self.requests.append(_record(request, body))
        fault = self._faults.take(request.method, request.path_qs)
        if fault is None:
            return await self._answer(request, body)
        await asyncio.sleep(fault.delay)
        if not fault.answers:
            return await self._answer(request, body)
        if fault.when is When.AFTER and not is_watch(request.query):
            await self._answer(request, body)
        return _strike(request, fault)

    async def _answer(self, request: web.BaseRequest, body: str) -> web.StreamResponse:
        try:
            if request.headers.get("Authorization", "").lower() != f"bearer {self._token()}".lower():
                raise errors.unauthorized()
            if request.path in HEALTH:
                return web.Response(text="ok")
            document = self._document(request, body)
            if document is not None:
                return _json(document, 201 if request.path == REVIEWS else 200)
            wanted = resource_request(request.method, request.path, request.query)
            if wanted is None:
                return web.Response(status=404, text="404 page not found\n")
            self._authorization.check(wanted.attributes)
            if wanted.verb == "watch":
                return await self.watches.serve(request, wanted)
            return _json(self._resource(request, wanted, body))
        except errors.ApiError as error:
            return _json(error.status(), error.code)

    def _document(self, request: web.BaseRequest, body: str) -> Json | None:
        if request.path == REVIEWS and request.method == "POST":
            if request.content_type != "application/json":
                raise errors.unsupported_media_type(("application/json",))
            return review(self._authorization, changes.parse_object(body))
        return discovery(request.path, request.host) if request.method == "GET" else None

    def _resource(self, request: web.BaseRequest, wanted: ResourceRequest, body: str) -> Json:
        if wanted.subresource:
            return self._scale(request, wanted, body)
        if wanted.verb not in wanted.resource.verbs:
            raise errors.method_not_allowed()
        if wanted.verb == "list":
            return self._list(request, wanted)
        key = (wanted.resource, wanted.namespace, wanted.name)
        if wanted.verb == "get":
            return self._get(request, wanted)
        if wanted.verb == "delete":
            return self._store.delete(*key)
        if wanted.verb == "patch":
            patch = changes.parse_patch(wanted.resource, request.content_type, body)
            return self._write(request, wanted, changes.merge(self._store.get(*key), patch))
        return self._write(request, wanted, changes.parse_object(body))

    def _write(self, request: web.BaseRequest, wanted: ResourceRequest, new: Json) -> Json:
        key = (wanted.resource, wanted.namespace, wanted.name)
        if wanted.resource == SECRETS:
            return changes.write_secret(self._store, *key, new, dry_run=_is_dry_run(request.query))
        return changes.write_workload(self._store, *key, new, _manager(request))

    def _get(self, request: web.BaseRequest, wanted: ResourceRequest) -> Json:
        form = asked_form(request.headers.get("Accept", ""), request.query)
        obj = self._store.get(wanted.resource, wanted.namespace, wanted.name)
        if form is not None:
            return table(form, wanted.resource, [obj], obj["metadata"]["resourceVersion"])
        return obj

    def _list(self, request: web.BaseRequest, wanted: ResourceRequest) -> Json:
        form = asked_form(request.headers.get("Accept", ""), request.query)
        matches = matcher(wanted.resource, request.query)
        items = self._store.list(wanted.resource, wanted.namespace or None, matches)
        items, metadata = page(items, request.query, self._store.version, self._store.oldest)
        if form is not None:
            return {**table(form, wanted.resource, items, metadata["resourceVersion"]), "metadata": metadata}
        return {
            "kind": f"{wanted.resource.kind}List",
            "apiVersion": wanted.resource.api_version,
            "metadata": metadata,
            "items": items if wanted.resource.custom else [_without_kind(obj) for obj in items],
        }

    def _scale(self, request: web.BaseRequest, wanted: ResourceRequest, body: str) -> Json:
        if wanted.subresource != "scale" or not wanted.resource.scalable:
            raise errors.no_such_resource()
        key = (wanted.resource, wanted.namespace, wanted.name)
        workload = self._store.get(*key)
        if wanted.verb == "get":
            return changes.read_scale(wanted.resource, workload)
        if wanted.verb == "patch":
            patch = changes.parse_patch(wanted.resource, request.content_type, body)
            # A merge patch is applied to the newest object: only a version that it names itself can conflict.
            scale = changes.merge(changes.scale_of(wanted.resource, workload), patch)
            return changes.write_scale(self._store, *key, scale, _manager(request))
        if wanted.verb == "update":
            return changes.write_scale(self._store, *key, changes.parse_object(body), _manager(request))
        raise errors.method_not_allowed()


def _without_kind(obj: Json) -> Json:
    """As in a list, which says it for all; those of custom resources say it too."""
    return {key: value for key, value in obj.items() if key not in ("kind", "apiVersion")}


def _is_dry_run(query: Mapping[str, str]) -> bool:
    """Raises ApiError 422."""
    if query.get("dryRun", "All") != "All":
        problem = f'Unsupported value: "{query["dryRun"]}": supported values: "All"'
        raise errors.invalid("PatchOptions", "meta.k8s.io", "", "dryRun", problem)
    return "dryRun" in query


def _manager(request: web.BaseRequest) -> str:
    """The name of whoever writes: as they say, or what their User-Agent begins with."""
    return request.query.get("fieldManager") or request.headers.get("User-Agent", "").split("/")[0]


def _json(document: Json, status: int = 200) -> web.Response:
    return web.Response(body=json.dumps(document).encode(), status=status, content_type="application/json")


def _record(request: web.BaseRequest, body: str) -> RequestRecord:
    return RequestRecord(
        request.method,
        request.path,
        dict(request.query),
        request.headers.get("Content-Type", ""),
        request.headers.get("User-Agent", ""),
        body,
        asyncio.get_running_loop().time(),
    )


def _strike(request: web.BaseRequest, fault: Fault) -> web.Response:
    if fault.cut:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()
    status = fault.status or 200
    headers = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
    body = fault.body
    if body is None and status == 429:
        # Turned away by priority and fairness, before anything knows how to word a Status.
        return web.Response(text="Too many requests, please try again later.\n", status=status, headers=headers)
    if body is None:
        error = errors.ApiError(status, _REASONS.get(status, "InternalError"), f"a fault of the test: {status}")
        body = json.dumps(error.status())
    return web.Response(text=body, status=status, headers=headers, content_type=fault.content_type)


_REASONS = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    422: "Invalid",
    429: "TooManyRequests",
    503: "ServiceUnavailable",
    504: "Timeout",
}
