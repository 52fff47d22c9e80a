"""Workloads of a Kubernetes cluster: get, scale, watch, and what explains their state.

The only module that imports ``kubernetes``, and it does so late: a missing package is a state to report. That package
does what is hard to do right (credentials, TLS, proxies); objects are read as plain JSON, because its models refuse
what real servers send. Nothing global is set, so a plugin that is replaced leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar

import aiohttp

from .api_failures import (
    Asked,
    Server,
    connection_failed,
    no_api_server,
    not_found,
    read_refusal,
    refusal_of,
    refused,
    timed_out,
)
from .api_objects import events_about, newer, parse_event, parse_pod, parse_workload
from .credentials import Credentials, Package
from .errors import ClusterError, NotConfigured, NotFound, TimedOut, Unauthorized, Unavailable, Unreachable
from .models import ClusterEvent, Pod, Right, Workload, WorkloadRef

T = TypeVar("T")

OLDEST_PACKAGE = 37
PLURALS = {"Deployment": "deployments", "StatefulSet": "statefulsets"}

RETRIES = 3
CONFLICT_RETRIES = 2
TIMEOUT_RETRIES = 1
"""The server had its time; but a connection that died in the pool deserves a new one."""
BACKOFF = 0.5
LONGEST_RETRY_AFTER = 10.0
MORE_TRIES = {409: CONFLICT_RETRIES, **dict.fromkeys((429, 500, 502, 503, 504), RETRIES)}
"""How many more tries an HTTP status deserves."""

WATCH_SECONDS = 30
"""How long one stream lasts: short, so that a connection that died silently is noticed."""
WATCH_GRACE = 10
SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
SETTLED_WATCH = 5.0
"""A stream that lasted this long was a good one."""

POD_LIMIT = 200
EVENT_PAGE, EVENT_PAGES, EVENT_LIMIT = 500, 4, 50


@dataclass(frozen=True)
class _Request:
    """One request, and how to speak of it when it fails."""

    method: str
    path: str
    asked: Asked
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    content_type: str = "application/json"


class KubernetesWorkloads:
    """The API server of one cluster; every method raises children of `ClusterError` only.

    Attributes:
        server: host:port, for messages and the log.
    """

    def __init__(self, api: Any, credentials: Credentials, log: logging.Logger, timeout: float) -> None:
        self.server = credentials.server.address
        self._api = api
        self._credentials = credentials
        self._log = log
        self._timeout = timeout

    @classmethod
    async def connect(cls, kubeconfig: str = "", *, log: logging.Logger, timeout: float = 10.0) -> KubernetesWorkloads:
        """Load the package and the credentials; no request is made.

        Args:
            kubeconfig: a file, used with its current context; empty for the service account of the pod that we are in.
            timeout: seconds for each try of a request.

        Raises:
            NotConfigured: package, credentials or CA are not usable.
        """
        # Half a second of imports: in a thread, so that the event loop goes on.
        package = await asyncio.to_thread(_load_package)
        credentials = Credentials(package, kubeconfig)
        await credentials.load()
        return cls(credentials.open_client(), credentials, log, timeout)

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def version(self) -> str:
        """The server's version, as ``v1.37.0``."""
        request = _Request("GET", "/version", Asked("get", "/version"))
        return await self._parsed(request, lambda body: str(body["gitVersion"]))

    async def get(self, ref: WorkloadRef) -> Workload:
        """The workload as it is now."""
        return await self._parsed(_get(ref), lambda body: parse_workload(ref, body))

    async def scale(self, ref: WorkloadRef, replicas: int) -> None:
        """Set ``spec.replicas``; setting what is set already changes nothing, so this may be repeated."""
        await self._json(
            _Request(
                "PATCH",
                f"{_path(ref)}/scale",
                Asked("patch", f"{PLURALS[ref.kind]}/scale", ref),
                body={"spec": {"replicas": replicas}},
                # The client's own choice of a patch type has changed with its versions.
                content_type="application/merge-patch+json",
            )
        )

    async def pods(self, workload: Workload) -> tuple[Pod, ...]:
        """The pods that the workload's selector selects, at most 200; none for an empty selector."""
        if not workload.selector:
            return ()
        request = _list("pods", workload.ref, {"labelSelector": workload.selector, "limit": str(POD_LIMIT)})
        return await self._parsed(request, lambda body: tuple(parse_pod(item) for item in body["items"]))

    async def events(self, workload: Workload, pods: Sequence[Pod]) -> tuple[ClusterEvent, ...]:
        """Events about the workload, its ReplicaSets and `pods`, newest first, at most 50."""
        found: list[ClusterEvent] = []
        query = {"limit": str(EVENT_PAGE)}
        for _ in range(EVENT_PAGES):
            page, token = await self._parsed(_list("events", workload.ref, query), _event_page)
            found += page
            if not token:
                break
            query = {**query, "continue": token}
        return events_about(found, workload, pods, EVENT_LIMIT)

    async def rights(self, ref: WorkloadRef) -> tuple[Right, ...]:
        """Which rights a target needs, and which of them are there."""
        return tuple([await self._right(ref, *right) for right in _wanted_rights(ref)])

    async def _right(self, ref: WorkloadRef, verb: str, resource: str, needed: bool) -> Right:
        request = _Request(
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            Asked("create", "selfsubjectaccessreviews"),
            body=_review(ref, verb, resource, named=needed),
        )
        granted = await self._parsed(request, lambda body: bool(body["status"]["allowed"]))
        return Right(verb, resource, granted, needed)

    # Watching

    async def watch(self, ref: WorkloadRef) -> AsyncGenerator[Workload, None]:
        """The workload as it is now, then each newer state, for as long as the caller iterates.

        What passes by itself (cuts, 410, 429, 5xx, no connection) is waited out; the deadline is the caller's. Wrap it
        in ``contextlib.aclosing``: a generator that is merely dropped keeps its connection until it is collected.

        Raises:
            NotFound: it is not there, or was deleted.
            Forbidden, Unauthorized, Invalid, NotConfigured: what waiting does not mend.
        """
        seen = ""
        failures = 0
        while True:
            began, asked_for = _now(), 0.0
            try:
                async with aclosing(self._watch_once(ref)) as states:
                    async for workload in states:
                        if not seen or newer(workload.resource_version, seen):
                            seen = workload.resource_version
                            yield workload
            except _Again as again:
                asked_for = again.asked_for
                self._log.info("watch interrupted %s", _failure(_watch(ref), again.error))
            except (TimedOut, Unavailable, Unreachable) as error:
                self._log.info("watch interrupted %s", _failure(_watch(ref), error))
            except ClusterError as error:
                self._log.warning("watch ended %s", _failure(_watch(ref), error))
                raise
            failures = 0 if _now() - began >= SETTLED_WATCH else failures + 1
            await asyncio.sleep(max(_pause(failures), asked_for))

    async def _watch_once(self, ref: WorkloadRef) -> AsyncGenerator[Workload, None]:
        """The object, then one stream of its changes until that ends; raises whatever else happens."""
        request = _watch(ref)
        response = await self._open_stream(request)
        try:
            # A stream alone is silent about an object that is not there; asked for before it, one deleted in between.
            yield self._parse(_get(ref), await self._once(_get(ref)), lambda body: parse_workload(ref, body))
            async with aclosing(self._lines(response)) as lines:
                async for line in lines:
                    obj = self._parse(request, line, lambda line: self._changed(request, line))
                    if obj is not None:
                        yield self._parse(request, obj, lambda obj: parse_workload(ref, obj))
        finally:
            # Not released: what the server has still to say on it is not wanted.
            response.close()

    def _changed(self, request: _Request, line: bytes) -> Any:
        """The object of a watch event, None where it has none to tell; raises what an ERROR or a deletion means."""
        event = _json_object(line) if line.strip() else {}
        kind = event.get("type")
        if kind == "DELETED":
            raise NotFound(not_found(request.asked, self._server), detail="deleted")
        if kind == "ERROR":
            raise refused(refusal_of(event["object"]), request.asked, self._server)
        return event["object"] if kind in ("ADDED", "MODIFIED") else None

    async def _open_stream(self, request: _Request) -> aiohttp.ClientResponse:
        timeout = aiohttp.ClientTimeout(
            total=None, connect=self._timeout, sock_connect=self._timeout, sock_read=WATCH_SECONDS + WATCH_GRACE
        )
        response = await self._send(request, timeout)
        if response.status == HTTPStatus.OK:
            return response
        try:
            body = await asyncio.wait_for(self._read(response), self._timeout)
        except asyncio.TimeoutError as error:
            raise timed_out(self._server, self._timeout) from error
        finally:
            response.close()
        raise refused(read_refusal(response.status, body), request.asked, self._server)

    async def _lines(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
        try:
            async for line in response.content:
                yield line
        except ValueError as error:
            raise no_api_server(self._server, "a line of a watch is too long") from error
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            raise connection_failed(error, self._server, WATCH_SECONDS + WATCH_GRACE) from error

    # Requests

    @property
    def _server(self) -> Server:
        return self._credentials.server

    async def _parsed(self, request: _Request, parse: Callable[[Any], T]) -> T:
        return self._parse(request, await self._json(request), parse)

    def _parse(self, request: _Request, content: Any, parse: Callable[[Any], T]) -> T:
        try:
            return parse(content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            failure = no_api_server(self._server, f"unexpected content: {type(error).__name__}")
            self._log.warning("request failed %s", _failure(request, failure))
            raise failure from error

    async def _json(self, request: _Request) -> Mapping[str, Any]:
        """The answer, after as many more tries as the failure deserves."""
        began = _now()
        tries = 0
        while True:
            tries += 1
            try:
                return await self._once(request)
            except _Again as again:
                if tries > again.retries:
                    error = self._final(again.error, _now() - began)
                    self._log.warning("request failed tries=%d %s", tries, _failure(request, error))
                    raise error from again.error.__cause__
                self._log.info("request retried tries=%d %s", tries, _failure(request, again.error))
                await asyncio.sleep(again.pause(tries))
            except ClusterError as error:
                self._log.warning("request failed tries=%d %s", tries, _failure(request, error))
                raise

    def _final(self, error: ClusterError, seconds: float) -> ClusterError:
        """What to tell when that was all: a person waited for every try of a request that timed out."""
        return timed_out(self._server, seconds) if isinstance(error, TimedOut) else error

    async def _once(self, request: _Request) -> Mapping[str, Any]:
        """One try, and a second one where the credentials may have been renewed since we read them."""
        try:
            return await self._try(request)
        except Unauthorized:
            await self._credentials.load()
            return await self._try(request)

    async def _try(self, request: _Request) -> Mapping[str, Any]:
        """Raises `_Again` where another try may help, else a `ClusterError`."""
        try:
            response = await self._send(request, aiohttp.ClientTimeout(total=self._timeout))
            body = await self._read(response)
        except (TimedOut, Unreachable) as error:
            raise _Again(error, _retries(error)) from error
        status = response.status
        if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            failure = refused(read_refusal(status, body), request.asked, self._server)
            raise _Again(failure, MORE_TRIES[status], _retry_after(response)) if status in MORE_TRIES else failure
        try:
            return _json_object(body)
        except (TypeError, ValueError) as error:
            what = f"status={status} content_type={response.content_type} bytes={len(body)}"
            raise _Again(no_api_server(self._server, what), RETRIES) from error

    async def _send(self, request: _Request, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        parameters = await self._serialized(request)
        try:
            answer = await self._api.call_api(*parameters, _request_timeout=timeout)
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            raise connection_failed(error, self._server, self._timeout) from error
        except (ValueError, TypeError, AttributeError):
            # A token with a line break, a server name that is no text; the message would quote it.
            raise self._credentials.unusable() from None
        response: aiohttp.ClientResponse = answer.response
        return response

    async def _serialized(self, request: _Request) -> Sequence[Any]:
        """The client's form of a request, with the token of this moment."""
        try:
            parameters: Sequence[Any] = await self._api.param_serialize(
                request.method,
                request.path,
                query_params=list(request.query.items()),
                header_params={"Accept": "application/json", "Content-Type": request.content_type},
                body=request.body,
                auth_settings=["BearerToken"],
            )
        except (OSError, self._credentials.broken) as error:
            raise self._credentials.unreadable() from error
        return parameters

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        try:
            return await response.read()
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            raise connection_failed(error, self._server, self._timeout) from error


class _Again(Exception):
    """A try failed with `error` in a way that another one may mend.

    Args:
        retries: how many more tries this failure deserves in all.
        after: seconds that the server asked us to wait, None if it did not.
    """

    def __init__(self, error: ClusterError, retries: int, after: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.retries = retries
        self._after = after

    @property
    def asked_for(self) -> float:
        """Seconds that the server asked us to wait, as far as we do."""
        return min(self._after or 0.0, LONGEST_RETRY_AFTER)

    def pause(self, tries: int) -> float:
        """Seconds until the next try: what the server asked for, or an exponential back-off with full jitter."""
        jitter = random.uniform(0, BACKOFF * 2 ** (tries - 1))  # noqa: S311 - spreads load, guards nothing
        return jitter if self._after is None else self.asked_for + jitter / 4


def _load_package() -> Package:
    """Import ``kubernetes.aio``; raises NotConfigured where it is missing or too old."""
    cure = f"install kubernetes {OLDEST_PACKAGE} or newer there and restart maubot"
    try:
        # A directory without code, left over from an installation, is a package without a version.
        version = str(getattr(importlib.import_module("kubernetes"), "__version__", "0"))
        if int(version.split(".", maxsplit=1)[0]) < OLDEST_PACKAGE:
            sentence = f"The Python package kubernetes beside maubot is too old ({version}); {cure}."
            raise NotConfigured(sentence, detail=f"kubernetes {version}")
        names = ("kubernetes.aio.client", "kubernetes.aio.config", "kubernetes.aio.config.incluster_config", "yaml")
        return Package(*(importlib.import_module(name) for name in names))
    except ModuleNotFoundError as error:
        missing = (error.name or "kubernetes").split(".", maxsplit=1)[0]
        which = "kubernetes" if missing == "kubernetes" else f"{missing}, which kubernetes needs,"
        sentence = f"The Python package {which} is missing beside maubot; {cure}."
        raise NotConfigured(sentence, detail=str(error)) from error
    except NotConfigured:
        raise
    # Among packages that do not fit together anything can happen, and maubot must start nevertheless.
    except Exception as error:
        sentence = f"The Python package kubernetes does not fit to the others beside maubot; {cure}."
        raise NotConfigured(sentence, detail=f"{type(error).__name__}: {error}"[:500]) from error


def _path(ref: WorkloadRef) -> str:
    return f"/apis/apps/v1/namespaces/{ref.namespace}/{PLURALS[ref.kind]}/{ref.name}"


def _get(ref: WorkloadRef) -> _Request:
    return _Request("GET", _path(ref), Asked("get", PLURALS[ref.kind], ref))


def _watch(ref: WorkloadRef) -> _Request:
    # Without a resourceVersion it begins with the object as it is; with this selector RBAC can narrow it to one name.
    query = {"watch": "true", "fieldSelector": f"metadata.name={ref.name}", "timeoutSeconds": str(WATCH_SECONDS)}
    path = f"/apis/apps/v1/namespaces/{ref.namespace}/{PLURALS[ref.kind]}"
    return _Request("GET", path, Asked("watch", PLURALS[ref.kind], ref), query)


def _list(plural: str, ref: WorkloadRef, query: Mapping[str, str]) -> _Request:
    asked = Asked("list", plural, ref, named=False)
    return _Request("GET", f"/api/v1/namespaces/{ref.namespace}/{plural}", asked, query)


def _wanted_rights(ref: WorkloadRef) -> Sequence[tuple[str, str, bool]]:
    plural = PLURALS[ref.kind]
    return (
        ("patch", f"{plural}/scale", True),
        ("get", plural, True),
        ("watch", plural, True),
        ("list", "pods", False),
        ("list", "events", False),
    )


def _review(ref: WorkloadRef, verb: str, resource: str, *, named: bool) -> Mapping[str, Any]:
    plural, _, subresource = resource.partition("/")
    attributes = {"namespace": ref.namespace, "verb": verb, "resource": plural, "subresource": subresource}
    if named:
        attributes.update(group="apps", name=ref.name)
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
    }


def _event_page(body: Mapping[str, Any]) -> tuple[list[ClusterEvent], str]:
    return [parse_event(item) for item in body["items"]], (body.get("metadata") or {}).get("continue", "")


def _json_object(body: bytes) -> Mapping[str, Any]:
    parsed = json.loads(body)
    if not isinstance(parsed, dict):
        raise TypeError("not an object")
    return parsed


def _retries(error: ClusterError) -> int:
    """How many more tries a request without an answer deserves; a certificate does not mend itself."""
    if isinstance(error.__cause__, aiohttp.ClientSSLError):
        return 0
    return TIMEOUT_RETRIES if isinstance(error, TimedOut) else RETRIES


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    """The Retry-After header in seconds; as a date, which no API server writes, it counts for nothing."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None


def _pause(failures: int) -> float:
    """Seconds between two streams: half a second at least, growing to five, partly by chance."""
    longest = min(LONGEST_PAUSE, SHORTEST_PAUSE * 2 ** min(failures, 8))
    return max(SHORTEST_PAUSE, random.uniform(longest / 2, longest))  # noqa: S311 - spreads load, guards nothing


def _failure(request: _Request, error: ClusterError) -> str:
    """For the log: what was asked, and what became of it."""
    asked = request.asked
    of = f"{asked.ref.kind}:{asked.ref.namespace}/{asked.ref.name}" if asked.ref else "-"
    return f"verb={asked.verb} resource={asked.resource} of={of} error={type(error).__name__} {error.detail}"


def _now() -> float:
    return asyncio.get_running_loop().time()
