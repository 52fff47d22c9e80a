"""Who is at work on which workload: writes go one after the other, and the newest command has the last word."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from .follow import Claim
from .models import OVERTAKEN_BY, Verb, WorkloadRef


@dataclass
class Lane:
    """What happens to one workload: writes one after the other, and at most one follower, the newest."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    newest: Claim | None = None
    arrival: int = 0
    by: str = ""
    arrivals: dict[Verb, int] = field(default_factory=dict)
    """Of the newest command of each verb."""

    def enter(self, claim: Claim, by: str) -> None:
        if self.newest is not None:
            self.newest.give_way(by)
        self.newest, self.arrival, self.by = claim, claim.arrival, by

    def came(self, verb: Verb, arrival: int) -> None:
        self.arrivals[verb] = max(arrival, self.arrivals.get(verb, arrival))

    def is_needless(self, verb: Verb, arrival: int) -> bool:
        """Whether a newer command makes up for this one, as long as it is not done."""
        return any(self.arrivals.get(newer, arrival) > arrival for newer in OVERTAKEN_BY[verb])

    def leave(self, claim: Claim) -> None:
        if self.newest is claim:
            self.newest = None


class Lanes:
    """The lane of each workload."""

    def __init__(self) -> None:
        self._lanes: dict[WorkloadRef, Lane] = {}

    def __getitem__(self, ref: WorkloadRef) -> Lane:
        return self._lanes.setdefault(ref, Lane())

    @contextmanager
    def claimed(self, refs: Sequence[WorkloadRef], verb: Verb, by: str, arrival: int | None = None) -> Iterator[Claim]:
        """Hold `refs` for a `verb` of `by`, taken over from whoever held one of them.

        The claim gives way at once where somebody who said later what is to be of one of them was quicker to get here.
        """
        lanes = {ref: self._lanes.setdefault(ref, Lane()) for ref in refs}.values()
        newest = max(lanes, key=lambda lane: lane.arrival)
        claim = Claim(newest.arrival + 1 if arrival is None else arrival, several=len(lanes) > 1)
        for lane in lanes:
            lane.came(verb, claim.arrival)
        if claim.arrival < newest.arrival:
            claim.give_way(newest.by)
        else:
            for lane in lanes:
                lane.enter(claim, by)
        try:
            yield claim
        finally:
            for lane in lanes:
                lane.leave(claim)
