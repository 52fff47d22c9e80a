"""Answers allowed people: what they say is written down, run or refused, told, and watched for a while after that."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial

from . import render
from .asked import Around, Asked
from .audit import Ending, ended, finish
from .grammar import Misunderstood
from .lasting import Lasting
from .lines import InForce, Line
from .models import CHANGING, AuditEntry, Outcome, Verb
from .progress import ProgressMessage
from .told import StepRecord, audited


class Answers:
    """Answers lines, drawing on what is `around`."""

    def __init__(self, around: Around) -> None:
        self._around = around
        self._ledger = around.ledger
        self._log = around.log
        self._lasting = Lasting(around.service, around.log)
        self._notes: set[asyncio.Future[None]] = set()

    async def admit(self, line: Line, in_force: InForce) -> Asked | None:
        """Write `line` down, if it is a command; None when it was written down before: nothing runs twice."""
        asked = Asked(self._around, line, in_force)
        if asked.entry is None:
            return asked
        try:
            return asked if await self._ledger.receive(asked.entry) else None
        except Exception:  # noqa: BLE001 - a boundary: whatever the database did, nothing may run that is not written down
            self._log.exception("event=%s command=not_stored", asked.entry.event)
            asked.stored = False
            return asked

    async def answer(self, asked: Asked, reply: ProgressMessage) -> None:
        """Answer what was admitted through `reply`. Cut off, it says so, and stays unfinished for the next start."""
        asked.reply = reply
        if isinstance(asked.line.parsed, Misunderstood):
            if asked.is_fresh:
                await reply.finish(asked.refusal(Verb.HELP) or asked.explain(asked.line.parsed))
        elif asked.entry is not None and not asked.stored:
            # It may be there all the same, if only the answer was lost, and must not be run by the next start.
            await self._end(replace(asked.entry, outcome="refused"))
            await reply.finish(render.not_written_down())
        elif asked.entry is not None:
            reply.replied = partial(self._note_reply, asked.entry)
            began = asked.began or time.monotonic()
            try:
                ending = await asked.run(asked.line.parsed)
            except Exception:
                # No boundary: `Commands` logs and answers it. But it has ended, else every start would try it again.
                await self._end(ended(asked.entry, Ending("interrupted"), time.monotonic() - began))
                raise
            await self._end(ended(asked.entry, ending, time.monotonic() - began))
            if asked.done is not None:
                self._lasting.begin(asked.done, reply, partial(self._did_not_last, asked.entry, began))

    async def _did_not_last(self, entry: AuditEntry, began: float, end: Outcome) -> None:
        ending = Ending(audited(end), before=end.before, after=end.after)
        if entry.target != end.target:  # it is one of a group's
            ending = Ending(audited(end))
            await StepRecord(self._ledger, entry.event, self._log).ended(end)
        await self._end(ended(entry, ending, time.monotonic() - began))

    async def resume(self, entry: AuditEntry, line: Line, reply: ProgressMessage, in_force: InForce) -> None:
        """Go on with a command that was written down by a process that died, or answer it, by the settings of now."""
        await self.answer(Asked(self._around, line, in_force, entry, await self._ledger.steps(entry.event)), reply)

    async def drain(self) -> None:
        """Wait for what is still being written down, and look no longer at what was done."""
        await self._lasting.close()
        await asyncio.gather(*self._notes, return_exceptions=True)

    def _note_reply(self, entry: AuditEntry, reply: str) -> None:
        if entry.verb not in CHANGING:
            return  # its reply is one event, which the homeserver keeps from being sent twice

        async def note() -> None:
            try:
                await self._ledger.replied(entry.event, reply)
            except Exception as error:  # noqa: BLE001 - a boundary: a restart finds the reply by its transaction too
                self._log.warning("event=%s reply=not_stored error=%r", entry.event, error)

        task = asyncio.ensure_future(note())
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)

    async def _end(self, entry: AuditEntry) -> None:
        await finish(self._ledger, entry, self._log)
