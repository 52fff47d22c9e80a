"""What can go wrong, as types.

    ToggleError
    ├── SettingsError           the instance's settings cannot be used; carries every problem
    └── ClusterError            the cluster did not do what was asked
        ├── NotConfigured       there is no cluster to talk to: package, kubeconfig, service account, CA
        ├── Unreachable         no connection: refused, name not found, TLS
        ├── TimedOut            no answer in time
        ├── Unauthorized        401: who we are is not known
        ├── Forbidden           403: a right is missing; says which, on what
        ├── NotFound            404
        ├── Conflict            409
        ├── Invalid             400, 422: the API server refused the request itself
        └── Unavailable         429, 5xx, after the retries

``str(error)`` is always one sentence for the person in the chat, made from fields that we know (kind, namespace,
name, verb), never from a response body: a body can hold anything. What an operator needs besides goes to the log
through ``detail`` and the chained cause.
"""

from __future__ import annotations

from collections.abc import Sequence


class ToggleError(Exception):
    """The root of every error that this plugin raises on purpose."""


class SettingsProblem:
    """One thing that is wrong: where (`path`, as ``targets.web.replicas``), and what to write instead."""

    __slots__ = ("path", "text")

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text

    def __str__(self) -> str:
        return f"{self.path}: {self.text}" if self.path else self.text

    def __repr__(self) -> str:
        return f"SettingsProblem({self.path!r}, {self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SettingsProblem) and (self.path, self.text) == (other.path, other.text)

    def __hash__(self) -> int:
        return hash((self.path, self.text))


class SettingsError(ToggleError):
    """The settings cannot be used.

    Attributes:
        problems: every problem found, in the order of the settings; never empty.
    """

    def __init__(self, problems: Sequence[SettingsProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__(summary(self.problems))


def summary(problems: Sequence[SettingsProblem]) -> str:
    """The first problem and how many there are: maubot's web UI shows 128 characters of an error."""
    first = str(problems[0])
    return first if len(problems) == 1 else f"{len(problems)} problems. First: {first}"


class ClusterError(ToggleError):
    """The cluster did not do what was asked.

    Args:
        sentence: one sentence for the person who asked.
        detail: for the log only (status, reason, what the server wrote); may be long, holds no secrets.
    """

    def __init__(self, sentence: str, *, detail: str = "") -> None:
        super().__init__(sentence)
        self.detail = detail


class NotConfigured(ClusterError):
    """There is no cluster to talk to: no or too old a package, no kubeconfig, no service account, no usable CA."""


class Unreachable(ClusterError):
    """No connection came about: refused, host name not found, TLS."""


class TimedOut(ClusterError):
    """The API server did not answer in time."""


class Unauthorized(ClusterError):
    """The API server does not know who we are (401)."""


class Forbidden(ClusterError):
    """A right is missing (403); the sentence says which, on what."""


class NotFound(ClusterError):
    """The workload is not there (404)."""


class Conflict(ClusterError):
    """Somebody changed it at the same moment (409)."""


class Invalid(ClusterError):
    """The API server refused the request itself (400, 422)."""


class Unavailable(ClusterError):
    """The API server had no time or broke (429, 5xx), also after the retries."""
