"""What a command does to a workload as it is now: the goal, and whether anything is to be written for it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from .models import Intent, Verb, Workload
from .restart import is_due


@dataclass(frozen=True)
class Plan:
    """What to do about the replica count: the goal, whether it must be written, and what to say about it."""

    goal: int
    write: bool
    note: str = ""


def resumed(intent: Intent, workload: Workload) -> Plan:
    """What is left to do of a command whose process died: the write, unless it, or one of somebody else's, was made."""
    return Plan(intent.after, not intent.written and workload.desired == intent.before != intent.after)


def plan(verb: Verb, workload: Workload, wanted: int | None, remembered: int | None) -> Plan:
    """What `verb` does to `workload`; a start never takes replicas away.

    Args:
        wanted: the target's replicas; None to restore what there was before the last stop.
        remembered: that count, if it is known.
    """
    if verb is Verb.STOP:
        return Plan(0, workload.desired != 0)
    if wanted is None and workload.desired:
        return Plan(workload.desired, False)
    if wanted is None:
        return Plan(remembered or 1, True, "" if remembered else "how many replicas it had is not known, so it gets 1")
    if workload.desired > wanted:
        return Plan(
            workload.desired, False, f"it has {workload.desired} replicas, more than the {wanted} set, and keeps them"
        )
    return Plan(wanted, workload.desired < wanted)


def restarting(workload: Workload, stamp: str, intent: Intent | None) -> Plan:
    """What a restart does to `workload`; `intent` is what was written down of it before the process died."""
    if intent is not None and intent.written:
        return Plan(intent.after, False)
    return Plan(workload.desired, is_due(workload, stamp, repeated=intent is not None))
