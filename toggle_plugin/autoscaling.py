"""What an autoscaler makes of a workload that is turned on or off by hand, in words. Pure.

A HorizontalPodAutoscaler leaves a workload alone that has 0 replicas, unless its own minimum is 0
(https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/#implicit-maintenance-mode-deactivation).
KEDA's ScaledObject does not, unless it is paused by an annotation (https://keda.sh/docs/latest/concepts/scaling-deployments/).
"""

from __future__ import annotations

from collections.abc import Iterable

from .models import SCALED_OBJECT, Autoscaler, Verb

PAUSED, PINNED = "autoscaling.keda.sh/paused", "autoscaling.keda.sh/paused-replicas"
"""KEDA's annotations: leave the workload alone; and that, at a count of its own."""


def remark(autoscaler: Autoscaler, desired: int) -> str:
    """What `autoscaler` means for a workload of which `desired` replicas are wanted, as one plain sentence part."""
    if autoscaler.paused:
        return f"{_named(autoscaler)} is paused{_pinned(autoscaler)}"
    if desired:
        return f"{_named(autoscaler)} keeps it between {autoscaler.minimum} and {autoscaler.maximum} replicas"
    if _starts_by_itself(autoscaler):
        return f"{_named(autoscaler)} can start it at any time"
    return f"{_named(autoscaler)} rests while it is off"


def warning(verb: Verb, autoscalers: Iterable[Autoscaler]) -> str:
    """How one of `autoscalers` will undo a start or stop, and what keeps it from that; nothing where none will."""
    undoing = _undoes_stop if verb is Verb.STOP else _undoes_start
    return next((text for autoscaler in autoscalers if (text := undoing(autoscaler))), "")


def _undoes_stop(autoscaler: Autoscaler) -> str:
    if autoscaler.paused:
        return f"{_named(autoscaler)} is paused{_pinned(autoscaler)} and sets that again" if autoscaler.pinned else ""
    if not _starts_by_itself(autoscaler):
        return ""
    cure = f"set its annotation {PAUSED} to true" if autoscaler.kind == SCALED_OBJECT else "raise its minimum above 0"
    when = "starts it again" if autoscaler.minimum else "can start it again at any time"
    return f"{_named(autoscaler)} {when}; {cure} to keep it off"


def _undoes_start(autoscaler: Autoscaler) -> str:
    if autoscaler.pinned == 0:
        return f"{_named(autoscaler)} is paused{_pinned(autoscaler)} and sets that again"
    if autoscaler.kind == SCALED_OBJECT and not autoscaler.paused and not autoscaler.minimum:
        return f"{_named(autoscaler)} stops it again when it has nothing to do"
    return ""


def _starts_by_itself(autoscaler: Autoscaler) -> bool:
    """Whether it scales a workload that has 0 replicas."""
    return autoscaler.kind == SCALED_OBJECT or not autoscaler.minimum


def _named(autoscaler: Autoscaler) -> str:
    return f"{autoscaler.kind} {autoscaler.name}"


def _pinned(autoscaler: Autoscaler) -> str:
    return (
        "" if autoscaler.pinned is None else f" at {autoscaler.pinned} replica{'' if autoscaler.pinned == 1 else 's'}"
    )
