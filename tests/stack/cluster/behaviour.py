"""How a workload of the simulated cluster fares: how fast, and what goes wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Outcome(str, Enum):
    """What becomes of its pods."""

    NORMAL = "normal"
    IMAGE_PULL = "image-pull"
    """ErrImagePull, then ImagePullBackOff."""
    CRASH_LOOP = "crash-loop"
    """The container exits with `exit_code`, again and again."""
    UNSCHEDULABLE = "unschedulable"
    NEVER_READY = "never-ready"
    """It runs; the readiness probe fails."""
    QUOTA = "quota"
    """No pod can be created."""


@dataclass(frozen=True)
class Behaviour:
    """All times in seconds.

    Attributes:
        observe: how long the controller takes to see a change of the spec.
        step: how long each step of a pod's start takes (scheduled, created, running, ready).
        terminate: how long a deleted pod lives on.
        retry: how long until what failed is tried again; a changed behaviour is looked at then.
        frozen: the controller sees nothing any more: observedGeneration stays behind.
        progress_deadline: when a Deployment that is not complete says ProgressDeadlineExceeded; None means never.
        exit_code: of a container in a crash loop.
    """

    outcome: Outcome = Outcome.NORMAL
    observe: float = 0.02
    step: float = 0.03
    terminate: float = 0.1
    retry: float = 0.1
    frozen: bool = False
    progress_deadline: float | None = None
    exit_code: int = 3


SLOW = Behaviour(observe=0.3, step=1.0, terminate=2.0, retry=1.0)
"""About as slow as a person would see it; for the demo."""
