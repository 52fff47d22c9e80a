"""What was asked of the simulated cluster, and what goes wrong on purpose while it answers; decides nothing itself."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum


class When(str, Enum):
    """Whether a fault strikes before the request changed anything, or after it did."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True)
class RequestRecord:
    """One request as it arrived; `time` is the event loop's clock in seconds."""

    method: str
    path: str
    query: dict[str, str]
    content_type: str
    user_agent: str
    body: str
    time: float

    @property
    def watch(self) -> bool:
        """Whether it asked for a stream of changes."""
        return self.query.get("watch", "") in ("true", "1")


@dataclass
class Fault:
    """What goes wrong with requests that match.

    Attributes:
        path: a regular expression, searched in the path with its query.
        times: how many requests it strikes; None means all.
        every: of those, only each so-many-th: 2 spares every other one, beginning with the first.
        delay: seconds before the request is looked at.
        status: answer this instead; `body` then replaces the Status object.
        retry_after: the Retry-After header, in seconds.
        cut: close the connection without an answer.
    """

    method: str = ""
    path: str = ""
    times: int | None = 1
    every: int = 1
    delay: float = 0.0
    status: int = 0
    retry_after: float | None = None
    cut: bool = False
    body: str | None = None
    content_type: str = "application/json"
    when: When = When.BEFORE
    struck: int = field(default=0, init=False)
    _matched: int = field(default=0, init=False)

    def strikes(self, method: str, path: str) -> bool:
        """Whether this request is hit; counts it."""
        if self.times is not None and self.struck >= self.times:
            return False
        if self.method not in ("", method) or not re.search(self.path, path):
            return False
        self._matched += 1
        if self._matched % self.every:
            return False
        self.struck += 1
        return True

    @property
    def answers(self) -> bool:
        """Whether it replaces the answer (a mere delay does not)."""
        return bool(self.cut or self.status or self.body is not None)


class Faults:
    """The faults in force, in the order in which they were set."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Put a fault in force."""
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        self._faults.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """The first fault that strikes this request."""
        return next((fault for fault in self._faults if fault.strikes(method, path)), None)
