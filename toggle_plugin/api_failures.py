"""What went wrong with a request → the right `ClusterError`, with one sentence for people. Pure.

Sentences are made of what we asked for, never of what came back: a response body can hold anything.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp

from .errors import (
    ClusterError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    TimedOut,
    Unauthorized,
    Unavailable,
    Unreachable,
)
from .models import WorkloadRef

MESSAGE_LENGTH = 500
# OpenSSL's numbers for why a certificate was not accepted (openssl/x509_vfy.h).
_CERTIFICATE_EXPIRED = 10
_WRONG_NAMES = (62, 64)


@dataclass(frozen=True)
class Asked:
    """What a request wanted, in RBAC's words: ``patch``, ``deployments/scale``; `ref` is None for the server itself."""

    verb: str
    resource: str
    ref: WorkloadRef | None = None
    named: bool = True
    """Whether it is about `ref` by name, or only about things of its namespace."""


@dataclass(frozen=True)
class Server:
    """Where the API server is, and who we are there.

    Attributes:
        address: host:port.
        kubeconfig: the file, or empty for the pod's service account.
    """

    address: str
    kubeconfig: str = ""

    @property
    def whoever(self) -> str:
        """Whom rights are granted to."""
        return "the user of the kubeconfig" if self.kubeconfig else "the bot's service account"


@dataclass(frozen=True)
class Refusal:
    """What an answer said that was not a success: `reason` and `message` of its Status object, if it was one."""

    status: int
    reason: str = ""
    message: str = ""

    @property
    def detail(self) -> str:
        """For the log."""
        return f"status={self.status} reason={self.reason or '-'} message={self.message[:MESSAGE_LENGTH]!r}"


def read_refusal(status: int, body: bytes) -> Refusal:
    """Take the Status object from a body; anything else is left out."""
    try:
        parsed = json.loads(body)
    except ValueError:
        return Refusal(status)
    if not isinstance(parsed, dict) or parsed.get("kind") != "Status":
        return Refusal(status)
    return refusal_of({**parsed, "code": status})


def refusal_of(status: Mapping[str, Any]) -> Refusal:
    """What a Status object says."""
    code = int(status.get("code") or HTTPStatus.INTERNAL_SERVER_ERROR)
    return Refusal(code, str(status.get("reason", "")), str(status.get("message", "")))


def refused(refusal: Refusal, asked: Asked, server: Server) -> ClusterError:
    """The error for an answer that was not a success."""
    kind, sentence = _refused(refusal, asked, server)
    return kind(sentence, detail=refusal.detail)


def _refused(refusal: Refusal, asked: Asked, server: Server) -> tuple[type[ClusterError], str]:
    specific: dict[int, tuple[type[ClusterError], Callable[[], str]]] = {
        HTTPStatus.UNAUTHORIZED: (Unauthorized, lambda: _unauthorized(server)),
        HTTPStatus.FORBIDDEN: (Forbidden, lambda: _forbidden(refusal, asked, server)),
        HTTPStatus.NOT_FOUND: (NotFound, lambda: not_found(asked, server)),
        HTTPStatus.CONFLICT: (Conflict, lambda: _conflict(asked)),
        HTTPStatus.GONE: (Unavailable, lambda: _gone(server)),
        HTTPStatus.TOO_MANY_REQUESTS: (Unavailable, lambda: _busy(server)),
    }
    if refusal.status in specific:
        kind, sentence = specific[refusal.status]
        return kind, sentence()
    if _has_no_count(refusal, asked):
        return Invalid, f"{_subject(asked)} does not say how many replicas it wants; give it that field once."
    if refusal.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Unavailable, _broken(refusal.status, server)
    return Invalid, _not_taken(refusal.status, asked)


def _has_no_count(refusal: Refusal, asked: Asked) -> bool:
    # In these words a custom resource without that field is refused (apiextensions-apiserver, customresource/etcd.go).
    return asked.resource.endswith("/scale") and "the spec replicas field" in refusal.message


def _conflict(asked: Asked) -> str:
    return f"Somebody else changed {_subject(asked)} at the same moment; try again."


def _gone(server: Server) -> str:
    return f"The cluster at {server.address} has forgotten that state (HTTP 410); try again."


def _busy(server: Server) -> str:
    return f"The cluster at {server.address} is too busy right now (HTTP 429); try again in a minute."


def _broken(status: int, server: Server) -> str:
    return f"The cluster at {server.address} has a problem of its own (HTTP {status}); try again later."


def _not_taken(status: int, asked: Asked) -> str:
    problem = f"The cluster refused to {asked.verb} {_subject(asked)} (HTTP {status})"
    return f"{problem}: it does not take the request as it is; its reason is in the log."


def _unauthorized(server: Server) -> str:
    cure = (
        f"renew the credentials in {server.kubeconfig}"
        if server.kubeconfig
        else "check the token of the pod's service account"
    )
    return f"The cluster at {server.address} does not know me (HTTP 401); {cure}."


def _forbidden(refusal: Refusal, asked: Asked, server: Server) -> str:
    # What RBAC refuses says "cannot VERB"; quotas, webhooks and admission policies answer 403 in words of their own.
    if refusal.message and " cannot " not in refusal.message:
        rule = f"A policy or quota of the cluster does not let me {asked.verb} {_subject(asked)}"
        return f"{rule}; its reason is in the log."
    return _missing(asked, server)


def missing_right(asked: Asked, server: Server) -> Forbidden:
    """The error for what is not even tried, because the API server says that it is not granted."""
    return Forbidden(_missing(asked, server), detail="reviewed")


def _missing(asked: Asked, server: Server) -> str:
    return f"I may not {_right(asked)}; grant that right to {server.whoever}."


def _right(asked: Asked) -> str:
    if asked.ref is None:
        return f"{asked.verb} {asked.resource}"
    of = f" of {asked.ref.name}" if asked.named else ""
    return f"{asked.verb} {asked.resource}{of} in namespace {asked.ref.namespace}"


def not_found(asked: Asked, server: Server) -> str:
    """The sentence for an object that is not there."""
    if asked.ref is None or not asked.named:
        return f"What answers at {server.address} is no Kubernetes API server; check its address."
    where = f"{asked.ref.kind} {asked.ref.name} in namespace {asked.ref.namespace}"
    return f"There is no {where}; check kind, namespace and name of the target."


def deleted(asked: Asked) -> NotFound:
    """The error for an object that was deleted while it was watched."""
    return NotFound(f"Somebody deleted {_subject(asked)} meanwhile.", detail="deleted")


def _subject(asked: Asked) -> str:
    if asked.ref is None:
        return asked.resource
    return str(asked.ref) if asked.named else f"{asked.resource} in namespace {asked.ref.namespace}"


def no_api_server(server: Server, what: str) -> Unavailable:
    """The error for an answer that no API server would give."""
    sentence = (
        f"What {server.address} answered is not from a Kubernetes API server; check the address and what is between."
    )
    return Unavailable(sentence, detail=what)


def timed_out(server: Server, seconds: float) -> TimedOut:
    """The error when there was no answer in time."""
    return TimedOut(f"The cluster at {server.address} did not answer within {seconds:.0f} s.", detail="timeout")


def connection_failed(error: Exception, server: Server, seconds: float) -> ClusterError:
    """The error for a request that got no (whole) answer."""
    if isinstance(error, asyncio.TimeoutError):
        return timed_out(server, seconds)
    return Unreachable(_connection_sentence(error, server), detail=_describe(error))


def _connection_sentence(error: Exception, server: Server) -> str:
    address = server.address
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _certificate_sentence(error.certificate_error, server)
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return (
            f"What listens at {address} does not speak TLS as an API server does; check scheme and port of its address."
        )
    if isinstance(error, (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError)):
        return f"The proxy before the cluster at {address} does not let me through; check the proxy settings of maubot."
    if isinstance(error, aiohttp.ClientConnectorError):
        return _socket_sentence(error.os_error, address)
    return f"The connection to the cluster at {address} broke off; try again."


def _socket_sentence(error: OSError, address: str) -> str:
    if isinstance(error, socket.gaierror):
        return f"The host name of the cluster at {address} is not known here; check the address and the DNS of maubot."
    if isinstance(error, ConnectionRefusedError):
        return f"The cluster at {address} refuses connections; is it running, and is the port right?"
    return (
        f"There is no way to the cluster at {address}; check the address, the network and firewalls or NetworkPolicies."
    )


def _certificate_sentence(error: Any, server: Server) -> str:
    code = getattr(error, "verify_code", 0) if isinstance(error, ssl.SSLCertVerificationError) else 0
    if code in _WRONG_NAMES:
        cure = "use a name that is in it, or set tls-server-name in the kubeconfig"
        return f"The certificate of the cluster at {server.address} is for other host names; {cure}."
    if code == _CERTIFICATE_EXPIRED:
        return f"The certificate of the cluster at {server.address} has expired; renew it there."
    where = (
        f"certificate-authority in {server.kubeconfig}" if server.kubeconfig else "ca.crt of the pod's service account"
    )
    return f"The certificate of the cluster at {server.address} is not trusted; check {where}."


def _describe(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return f"{type(error).__name__}: {text}"[:MESSAGE_LENGTH]
