"""Requests to one API server and their answers: tries and retries, credentials renewed, streams of lines.

What comes out is plain JSON or a child of `ClusterError`. The ``kubernetes`` package's client, which does what is hard
to do right (credentials, TLS, proxies), is given, not imported; its models are not used, because they refuse what real
servers send.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

import aiohttp

from .api_failures import Server, connection_failed, no_api_server, read_refusal, refused, timed_out
from .api_requests import WATCH_SECONDS, Request
from .credentials import Credentials
from .errors import ClusterError, Forbidden, Invalid, TimedOut, Unauthorized, Unreachable

T = TypeVar("T")

RETRIES = 3
CONFLICT_RETRIES = 2
TIMEOUT_RETRIES = 1
"""The server had its time; but a connection that died in the pool deserves a new one."""
BACKOFF = 0.5
LONGEST_RETRY_AFTER = 10.0
MORE_TRIES = {409: CONFLICT_RETRIES, **dict.fromkeys((429, 500, 502, 503, 504), RETRIES)}
"""How many more tries an HTTP status deserves."""
NO_ROLES_YET = 30.0
"""Seconds after an API server was away in which its 403 proves little: one that has just begun has no roles yet."""
WATCH_GRACE = 10


class Transport:
    """The connections to one API server.

    Args:
        api: an ``ApiClient`` of the kubernetes package.
        timeout: seconds for each try of a request.
    """

    def __init__(self, api: Any, credentials: Credentials, log: logging.Logger, timeout: float) -> None:
        self._api = api
        self._credentials = credentials
        self._log = log
        self._timeout = timeout
        self._unreached = float("-inf")
        """When the server was out of reach last."""

    @property
    def server(self) -> Server:
        """Where the API server is."""
        return self._credentials.server

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def parsed(self, request: Request, parse: Callable[[Any], T]) -> T:
        """The answer's JSON, as `parse` reads it."""
        return self.parse(request, await self.json(request), parse)

    def parse(self, request: Request, content: Any, parse: Callable[[Any], T]) -> T:
        """What `parse` reads in `content`; raises Unavailable where no API server would have sent that."""
        try:
            return parse(content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            failure = no_api_server(self.server, f"unexpected content: {type(error).__name__}")
            self._log.warning("request failed %s", failure_text(request, failure))
            raise failure from error

    async def json(self, request: Request) -> Mapping[str, Any]:
        """The answer, after as many more tries as the failure deserves."""
        began = _now()
        tries = 0
        while True:
            tries += 1
            try:
                return await self.once(request)
            except Again as again:
                if tries > again.retries:
                    error = self._final(again.error, _now() - began)
                    self._log.warning("request failed tries=%d %s", tries, failure_text(request, error))
                    raise error from again.error.__cause__
                self._log.info("request retried tries=%d %s", tries, failure_text(request, again.error))
                await asyncio.sleep(again.pause(tries))
            except ClusterError as error:
                self._log.warning("request failed tries=%d %s", tries, failure_text(request, error))
                raise

    def _final(self, error: ClusterError, seconds: float) -> ClusterError:
        """What to tell when that was all: a person waited for every try of a request that timed out."""
        return timed_out(self.server, seconds) if isinstance(error, TimedOut) else error

    async def once(self, request: Request) -> Mapping[str, Any]:
        """One try, and a second one where the credentials may have been renewed since we read them.

        Raises:
            Again: another try may help.
            ClusterError: it would not.
        """
        try:
            return await self._try(request)
        except Unauthorized:
            await self._credentials.load()
            return await self._try(request)

    async def _try(self, request: Request) -> Mapping[str, Any]:
        try:
            response = await self._send(request, aiohttp.ClientTimeout(total=self._timeout))
            body = await self._read(response)
        except (TimedOut, Unreachable) as error:
            raise Again(error, _retries(error)) from error
        status = response.status
        if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            failure = refused(read_refusal(status, body), request.asked, self.server)
            raise self._again(failure, response) or failure
        try:
            return json_object(body)
        except (TypeError, ValueError) as error:
            what = f"status={status} content_type={response.content_type} bytes={len(body)}"
            raise Again(no_api_server(self.server, what), RETRIES) from error

    def _again(self, failure: ClusterError, response: aiohttp.ClientResponse) -> Again | None:
        """What was refused, if another try may help."""
        if isinstance(failure, Forbidden):
            return Again(failure, RETRIES) if _now() - self._unreached < NO_ROLES_YET else None
        # A 500 can also be the server's word for an object that is not as it should be.
        if isinstance(failure, Invalid) or response.status not in MORE_TRIES:
            return None
        return Again(failure, MORE_TRIES[response.status], _retry_after(response))

    def _cut_off(self, error: Exception, seconds: float) -> ClusterError:
        """What a connection that was not made, or ended, means; remembers when that was."""
        self._unreached = _now()
        return connection_failed(error, self.server, seconds)

    async def _send(self, request: Request, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        parameters = await self._serialized(request)
        try:
            answer = await self._api.call_api(*parameters, _request_timeout=timeout)
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            raise self._cut_off(error, self._timeout) from error
        except (ValueError, TypeError, AttributeError):
            # A token with a line break, a server name that is no text; the message would quote it.
            raise self._credentials.unusable() from None
        response: aiohttp.ClientResponse = answer.response
        return response

    async def _serialized(self, request: Request) -> Sequence[Any]:
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
            raise self._cut_off(error, self._timeout) from error

    # Streams

    async def open_stream(self, request: Request) -> aiohttp.ClientResponse:
        """An answer of status 200 whose content is still to come; whoever asks for it closes it."""
        timeout = aiohttp.ClientTimeout(
            total=None, connect=self._timeout, sock_connect=self._timeout, sock_read=WATCH_SECONDS + WATCH_GRACE
        )
        response = await self._send(request, timeout)
        if response.status == HTTPStatus.OK:
            return response
        try:
            body = await asyncio.wait_for(self._read(response), self._timeout)
        except asyncio.TimeoutError as error:
            raise timed_out(self.server, self._timeout) from error
        finally:
            response.close()
        raise refused(read_refusal(response.status, body), request.asked, self.server)

    async def lines(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
        """The lines of a stream, as they come, until the server ends it."""
        try:
            async for line in response.content:
                yield line
        except ValueError as error:
            raise no_api_server(self.server, "a line of a watch is too long") from error
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            raise self._cut_off(error, WATCH_SECONDS + WATCH_GRACE) from error


class Again(Exception):
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


def json_object(body: bytes) -> Mapping[str, Any]:
    """The JSON object in `body`; raises TypeError or ValueError where it holds none."""
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


def failure_text(request: Request, error: ClusterError) -> str:
    """For the log: what was asked, and what became of it."""
    asked = request.asked
    of = f"{asked.ref.kind}:{asked.ref.namespace}/{asked.ref.name}" if asked.ref else "-"
    return f"verb={asked.verb} resource={asked.resource} of={of} error={type(error).__name__} {error.detail}"


def _now() -> float:
    return asyncio.get_running_loop().time()
