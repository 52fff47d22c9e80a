"""The nouns of a group's command: what it does to each target, what is written down of that, and how it all stands."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .models import Intent, Outcome, Progress, Result, Verb


@dataclass(frozen=True)
class Step:
    """What is written down of a group's command about one of its targets, from just before the cluster is asked for it.

    Attributes:
        event: of the command.
        replicas_before, replicas_after: ``spec.replicas``, as the step meant to write it.
        written: whether the cluster took that.
        outcome: empty until the step ended.
    """

    event: str
    target: str
    workload: str
    replicas_before: int
    replicas_after: int
    written: bool = False
    outcome: str = ""

    @property
    def intent(self) -> Intent:
        return Intent(self.replicas_before, self.replicas_after, self.written)


@dataclass(frozen=True)
class Standing:
    """How a group's command stands.

    Attributes:
        targets: in the order in which they have their turn.
        ended: how the first of them ended; only the last of these can be one that is not as asked.
        now: the one after those, while it is under way.
        seconds: since the command began.
        put_back: what was done, but did not last.
    """

    group: str
    verb: Verb
    targets: tuple[str, ...]
    ended: tuple[Outcome, ...] = ()
    now: Progress | None = None
    seconds: float = 0.0
    put_back: tuple[Outcome, ...] = ()

    @property
    def failed(self) -> Outcome | None:
        """What ended it early."""
        last = self.ended[-1] if self.ended else None
        return None if last is None or last.as_asked else last

    @property
    def complete(self) -> bool:
        return len(self.ended) == len(self.targets) and self.failed is None

    @property
    def whole(self) -> Outcome:
        """How it ended as one: as the last of its targets did, but for the time that all of them took."""
        results = {outcome.result for outcome in self.ended}
        last = replace(self.ended[-1], seconds=self.seconds)
        return replace(last, result=Result.DONE) if self.complete and results != {Result.UNCHANGED} else last

    @property
    def waiting(self) -> tuple[str, ...]:
        """The targets whose turn has not come."""
        return self.targets[len(self.ended) + (self.now is not None) :]
