"""The roll-out restart: what stands in its way, and the stamp in the pod template that makes every pod a new one. Pure.

It is that of ``kubectl rollout restart`` (k8s.io/kubectl, pkg/polymorphichelpers/objectrestarter.go), but for the
time: the stamp is the time of the command itself, so that a repeat writes what is there already.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone

from .models import Workload

ANNOTATION = "kubectl.kubernetes.io/restartedAt"
"""Of the pod template; its value is a time as RFC 3339 has it."""
RESTARTABLE = ("Deployment", "StatefulSet")
"""The kinds of apps/v1 whose controllers replace the pods when the pod template changes."""


def stamp(seconds: float) -> str:
    """A time since the epoch as RFC 3339, in UTC and with milliseconds."""
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def hindrance(workload: Workload) -> str:
    """Why a restart would replace no pod of `workload`, as one plain sentence part, or nothing."""
    ref = workload.ref
    if ref.api_version != "apps/v1" or ref.kind not in RESTARTABLE:
        return f"only a Deployment or a StatefulSet can be restarted, not {ref}"
    if workload.deleting:
        return "it is being deleted"
    if workload.desired == 0:
        return "there is nothing to restart while it is off; a start makes new pods"
    if workload.paused:
        return "it is paused, which would hold the restart back; resume it first (kubectl rollout resume)"
    if workload.update_strategy == "OnDelete":
        return "its update strategy is OnDelete, so its pods stay until somebody deletes them"
    return ""


def is_due(workload: Workload, wanted: str, *, repeated: bool) -> bool:
    """Whether the stamp `wanted` is still to be written.

    Args:
        repeated: whether it may have been written before. Then a later restart, whoever asked for it, has done it too;
            else a later one only means that two clocks differ.
    """
    if workload.restarted_at == wanted:
        return False
    there, mine = _moment(workload.restarted_at), _moment(wanted)
    return not repeated or there is None or mine is None or there < mine


def _moment(text: str) -> datetime | None:
    # Python 3.10 reads neither the Z nor fractions of any length; kubectl writes an offset and no fraction.
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)", text)
    if found is None:
        return None
    clock, fraction, offset = found.groups()
    return datetime.fromisoformat(f"{clock}.{(fraction or '0')[:6]:0<6}{'+00:00' if offset == 'Z' else offset}")
