"""What is written down of a command: before it is run, meanwhile, and how it ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from .groups import Group
from .lines import Line
from .models import AuditEntry, Command
from .settings import Target
from .steps import Step


class Ledger(Protocol):
    """Where commands are written down before, meanwhile and after."""

    async def receive(self, entry: AuditEntry) -> bool: ...
    async def intend(self, event: str, before: int, after: int) -> None: ...
    async def wrote(self, event: str) -> None: ...
    async def replied(self, event: str, reply: str) -> None: ...
    async def overtaken_by(self, entry: AuditEntry) -> str: ...
    async def finish(self, entry: AuditEntry) -> None: ...
    async def begin_step(self, step: Step) -> None: ...
    async def wrote_step(self, event: str, target: str) -> None: ...
    async def end_step(self, event: str, target: str, outcome: str) -> None: ...
    async def steps(self, event: str) -> Sequence[Step]: ...
    async def history(self, names: Sequence[str], limit: int) -> Sequence[AuditEntry]: ...


@dataclass(frozen=True)
class Ending:
    """How a command ended, for the audit."""

    outcome: str
    target: Target | None = None
    before: int | None = None
    after: int | None = None


def received(line: Line, command: Command, subject: Target | Group | None, workload: str) -> AuditEntry:
    """What is written down of the `command` in `line` before it is run; `workload` is what `subject` stands for."""
    who = line.requester
    return AuditEntry(
        event=line.anchor.event,
        room=who.room,
        user=who.user,
        device=who.device,
        fingerprint=who.fingerprint,
        verb=command.verb.value,
        target=subject.name if subject else command.target or "",
        workload=workload,
        received_at=round(time.time() * 1000),
        arrival=line.arrival,
        sent_at=line.sent_ms,
        thread=line.anchor.thread or "",
        prefix=line.prefix,
        trust=who.trust.value if who.known else "",
        identity=who.identity,
    )


def ended(entry: AuditEntry, ending: Ending, seconds: float) -> AuditEntry:
    """What is written down in the place of `entry` once it has ended, `seconds` after it began."""
    return replace(
        entry,
        outcome=ending.outcome,
        target=ending.target.name if ending.target else entry.target,
        workload=str(ending.target.ref) if ending.target else entry.workload,
        replicas_before=ending.before,
        replicas_after=ending.after,
        duration_ms=round(seconds * 1000),
    )


async def finish(ledger: Ledger, entry: AuditEntry, log: logging.Logger) -> None:
    """Log how the command in `entry` ended, and write that down."""
    log.info(
        "command=%s target=%s workload=%r user=%s room=%s event=%s outcome=%r before=%s after=%s ms=%s",
        *(entry.verb, entry.target or "-", entry.workload or "-", entry.user, entry.room, entry.event),
        *(entry.outcome, entry.replicas_before, entry.replicas_after, entry.duration_ms),
    )
    try:
        await ledger.finish(entry)
    except Exception:  # a boundary: the person has the answer; what is missing is the administrator's
        log.exception("event=%s audit=failed", entry.event)
