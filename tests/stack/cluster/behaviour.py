"""How a workload of the simulated cluster fares: how fast, and what goes wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Outcome(str, Enum):
    """What becomes of its pods."""

    NORMAL = "normal"
    UNSCHEDULABLE = "unschedulable"
    UNBOUND_CLAIM = "unbound-claim"
    """Its PersistentVolumeClaim finds no volume."""
    NOT_MOUNTED = "not-mounted"
    """The ConfigMap that it mounts is not there."""
    INIT_FAILS = "init-fails"
    """Its init container exits with `exit_code`, again and again."""
    IMAGE_PULL = "image-pull"
    """ErrImagePull, then ImagePullBackOff."""
    NO_CONFIG = "no-config"
    """The Secret that its environment comes from is not there."""
    CRASH_LOOP = "crash-loop"
    """The container exits with `exit_code`, again and again."""
    OUT_OF_MEMORY = "out-of-memory"
    """The container takes more memory than its limit, again and again."""
    NEVER_READY = "never-ready"
    """It runs; the readiness probe fails."""
    NEVER_LIVE = "never-live"
    """It runs; the liveness probe fails, and it is restarted again and again."""
    NEVER_STARTED = "never-started"
    """The same with the startup probe."""
    EVICTED = "evicted"
    """It runs for a while; then the node takes the pod away, and the next one fares no better."""
    QUOTA = "quota"
    """No pod can be created."""
    POD_SECURITY = "pod-security"
    """No pod may be created."""
    STAYS = "stays"
    """It runs, but does not end when it is deleted."""


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
        exit_code: of a container that ends again and again.
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
