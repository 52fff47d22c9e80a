"""What else has a say in a workload: told beside its state, and beside a start or stop that will not last. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .autoscaling import remark, warning
from .models import Autoscaler, Verb, Workload

BETWEEN = "; "


def remarks(workload: Workload, autoscalers: Iterable[Autoscaler]) -> str:
    """What is worth knowing beside the state of `workload`, as sentence parts, or nothing."""
    found = [remark(autoscaler, workload.desired) for autoscaler in autoscalers]
    if workload.paused and workload.replicas <= workload.updated:
        found.append("it is paused")  # else that is why it is stuck
    if workload.deleting and not workload.desired:
        found.append("it is being deleted")  # with replicas wanted, that is what it waits for
    return BETWEEN.join(found)


def warnings(verb: Verb, workload: Workload, autoscalers: Sequence[Autoscaler]) -> str:
    """What a start or stop of `workload` runs into, as sentence parts, or nothing."""
    found = [warning(verb, autoscalers)]
    if workload.owner and verb is not Verb.RESTART:
        found.append(f"it belongs to {workload.owner}, which may set its replicas back; better make that the target")
    if workload.paused and verb is Verb.START:
        found.append("it is paused, so a change of its template waits until it is resumed")
    if workload.deleting:
        found.append("it is being deleted")
    return BETWEEN.join(filter(None, found))


def suspects(autoscalers: Iterable[Autoscaler], desired: int) -> str:
    """Who can have set `desired` replicas where the cluster does not tell who did, as sentence parts, or nothing."""
    at_work = (autoscaler for autoscaler in autoscalers if not autoscaler.paused or autoscaler.pinned == desired)
    return BETWEEN.join(remark(autoscaler, desired) for autoscaler in at_work)


def undone(verb: Verb, workload: Workload) -> bool:
    """Whether somebody has turned `workload` back since it was as `verb` wanted it."""
    return (workload.desired == 0) is (verb is not Verb.STOP)
