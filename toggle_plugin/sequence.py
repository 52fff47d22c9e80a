"""A group's command: one target after the other, each once the one before it is as asked, and no further than that.

A newer command for any of its workloads ends the whole of it: it holds all of them from the beginning.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from .models import Intent, Outcome, Progress, Verb
from .settings import Target
from .steps import Standing
from .toggle import ToggleService


class Record(Protocol):
    """Writes down what becomes of each target."""

    async def written(self, target: Target, before: int, after: int, done: bool) -> None: ...
    async def ended(self, outcome: Outcome) -> None: ...


Report = Callable[[Standing], None]
"""Takes the newest state; must not block, and may forget all but the last."""


def turns(verb: Verb, targets: Sequence[Target]) -> tuple[Target, ...]:
    """`targets`, which are in the order of a start, in the order in which `verb` comes to them."""
    return tuple(reversed(targets)) if verb is Verb.STOP else tuple(targets)


async def in_turn(
    service: ToggleService,
    start: Standing,
    targets: Sequence[Target],
    by: str,
    report: Report,
    record: Record,
    *,
    arrival: int,
    intents: Mapping[str, Intent],
    began: float | None = None,
) -> Standing:
    """Do what `start` says to `targets`, in the order in which they are given, and give how that ended.

    Args:
        intents: by the target's name, what a process that died was about to write.
        began: when the command began, as `time.monotonic` counts.
    """
    standing = start
    began = time.monotonic() if began is None else began

    def news(progress: Progress) -> None:
        report(replace(standing, now=progress, seconds=time.monotonic() - began))

    with service.lanes.claimed([target.ref for target in targets], start.verb, by, arrival) as claim:
        for target in targets:
            # What was done before a restart is looked at again and not written again: it may not be so any more.
            written: Callable[[int, int, bool], Awaitable[None]] = partial(record.written, target)
            outcome = await service.step(start.verb, target, claim, news, written, intent=intents.get(target.name))
            await record.ended(outcome)
            standing = replace(standing, ended=(*standing.ended, outcome), seconds=time.monotonic() - began)
            if standing.failed or standing.complete:
                break
            report(standing)
    return standing
