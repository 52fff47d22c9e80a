"""The nouns of this plugin: plain frozen values that every other module may know, and that know only the errors."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .errors import ClusterError


class Verb(str, Enum):
    """What a person can ask for."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    STATUS = "status"
    HISTORY = "history"
    HELP = "help"
    CHECK = "check"


CHANGING = (Verb.START, Verb.STOP, Verb.RESTART)
"""The verbs that write to the cluster."""
OVERTAKEN_BY = {
    Verb.START: frozenset({Verb.START, Verb.STOP}),
    Verb.STOP: frozenset({Verb.START, Verb.STOP}),
    Verb.RESTART: frozenset({Verb.RESTART, Verb.STOP}),
}
"""Which newer commands make it needless to do what was not done yet: a restart does not make up for a start."""


class Trust(str, Enum):
    """How far the device that sent a message is known; the names are those of mautrix' ``TrustState``, but for one."""

    NONE = "none"
    """The message was not encrypted, so no device is known."""
    BLACKLISTED = "blacklisted"
    UNVERIFIED = "unverified"
    """The device is not signed by its owner's cross-signing key, or the owner has none."""
    UNKNOWN_DEVICE = "unknown-device"
    FORWARDED = "forwarded"
    """The key came from somebody else than the sender."""
    CROSS_SIGNED_UNTRUSTED = "cross-signed-untrusted"
    """Signed, but the owner's cross-signing identity is not the first one that was seen."""
    CROSS_SIGNED_TOFU = "cross-signed-tofu"
    CROSS_SIGNED_TRUSTED = "cross-signed-trusted"
    VERIFIED = "verified"
    OUTDATED = "outdated"
    """Not of mautrix: the owner's devices may be others by now, and their keys could not be asked for."""


@dataclass(frozen=True)
class Requester:
    """Who asks, from where, and how the message came."""

    user: str
    room: str
    room_encrypted: bool
    encrypted: bool
    trust: Trust
    known: bool = True
    """Whether it could be found out how the message came; if not, it counts as not encrypted."""
    device: str = ""
    """Device ID by the session's identity key, never the one that the message claims."""
    fingerprint: str = ""
    """The device's ed25519 key, base64 without padding."""
    identity: str = ""
    """The person's cross-signing master key, as it is now; ed25519, base64 without padding."""


@dataclass(frozen=True)
class Command:
    """A line that was understood. `target` is None where it was left out."""

    verb: Verb
    target: str | None = None


@dataclass(frozen=True)
class WorkloadRef:
    """Which object of the cluster; `api_version` is ``group/version``, or a version alone (the core group's)."""

    kind: str
    namespace: str
    name: str
    api_version: str = "apps/v1"

    @property
    def group(self) -> str:
        """The API group, as RBAC has it: empty for the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def full_kind(self) -> str:
        """``Deployment`` for what is of apps/v1, else with its apiVersion: ``argoproj.io/v1alpha1/Rollout``."""
        return self.kind if self.api_version == "apps/v1" else f"{self.api_version}/{self.kind}"

    def __str__(self) -> str:
        return f"{self.full_kind} {self.namespace}/{self.name}"


@dataclass(frozen=True)
class Condition:
    """One entry of ``status.conditions``."""

    type: str
    status: str
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class Workload:
    """A workload as the API server told it; counts that the API leaves out (at zero) are 0 here.

    Attributes:
        generation: ``metadata.generation``; status is about this spec once `observed_generation` has reached it.
        desired: ``spec.replicas``; 1 where the spec has none, as the API server assumes.
        replicas: ``status.replicas``: pods that are not terminating.
        updated: pods of the newest template; ready, available: of any template.
        selector: the pods' label selector in query form (``app=web,tier in (a,b)``).
        scaled_at: when ``spec.replicas`` was last written, in seconds since the epoch; 0 where that is not told.
        scaled_by: the field manager that wrote `desired` last; empty where that is not known.
        counted: whether the API server told how many are ready; else the pods themselves have to be counted.
        owner: kind and name of the controller that made it, and may put it back (``Deployment web``).
        restarted_at: when a restart was asked for last, as the pod template's annotation has it.
    """

    ref: WorkloadRef
    uid: str
    resource_version: str
    generation: int
    observed_generation: int
    desired: int
    replicas: int
    updated: int
    ready: int
    available: int
    selector: str = ""
    conditions: tuple[Condition, ...] = ()
    paused: bool = False
    deleting: bool = False
    min_ready_seconds: int = 0
    update_strategy: str = "RollingUpdate"
    partition: int = 0
    scaled_at: float = 0.0
    scaled_by: str = ""
    counted: bool = True
    owner: str = ""
    restarted_at: str = ""


@dataclass(frozen=True)
class Container:
    """A container's state: exactly one of waiting, running and terminated, as in ``containerStatuses``.

    Attributes:
        waiting_reason: for example ``ImagePullBackOff``; empty when it is not waiting.
        exit_code, exit_reason: of the current or, failing that, the last termination; None and empty without one.
        start_message: why its process could not be started; empty for one that ran.
        memory_limit: as its spec says it (``64Mi``), or nothing.
    """

    name: str
    ready: bool
    restarts: int
    waiting_reason: str = ""
    waiting_message: str = ""
    exit_code: int | None = None
    exit_reason: str = ""
    init: bool = False
    image: str = ""
    start_message: str = ""
    memory_limit: str = ""


@dataclass(frozen=True)
class Pod:
    """A pod of a workload.

    Attributes:
        created, delete_by: seconds since the epoch by the cluster's clock; the latter is the end of its grace period,
            None for a pod that nobody deleted.
        revision: tells pods of one template from those of another; empty where that is not told by a label.
        reason, message: of a pod that failed as a whole, for example ``Evicted``.
        claims: names of the PersistentVolumeClaims that it uses.
    """

    name: str
    phase: str
    terminating: bool
    ready: bool
    containers: tuple[Container, ...] = ()
    conditions: tuple[Condition, ...] = ()
    uid: str = ""
    created: float = 0.0
    delete_by: float | None = None
    finalizers: tuple[str, ...] = ()
    revision: str = ""
    reason: str = ""
    message: str = ""
    claims: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClusterEvent:
    """A core/v1 event about a workload, its ReplicaSet, one of its pods or a claim of one."""

    object_kind: str
    object_name: str
    type: str
    reason: str
    message: str
    count: int
    last_seen: float
    """Seconds since the epoch, by the cluster's clock."""
    object_uid: str = ""


HPA, SCALED_OBJECT = "HorizontalPodAutoscaler", "ScaledObject"


@dataclass(frozen=True)
class Autoscaler:
    """What scales a workload by itself: a HorizontalPodAutoscaler, or a ScaledObject of KEDA, which can be paused.

    Attributes:
        minimum, maximum: the replicas between which it keeps it.
        paused: whether it was told to leave the workload alone.
        pinned: the count that it keeps while it is paused; None where it leaves that alone too.
    """

    kind: str
    name: str
    minimum: int
    maximum: int
    paused: bool = False
    pinned: int | None = None


@dataclass(frozen=True)
class Right:
    """A right that a target needs: `needed` ones for the commands, the others for better answers."""

    verb: str
    resource: str
    """As RBAC writes it: ``deployments/scale``, ``pods``."""
    granted: bool
    needed: bool


class Phase(str, Enum):
    """Where a workload stands, in the words that people see."""

    OFF = "off"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STUCK = "stuck"


@dataclass(frozen=True)
class RolloutStatus:
    """What to tell about a workload now; `reason` is one plain sentence part, `remark` some, or they are empty."""

    phase: Phase
    desired: int
    ready: int
    available: int
    reason: str = ""
    remark: str = ""


BETWEEN = ", "
"""What stands between the workloads of a group's command in its audit entry."""


@dataclass(frozen=True)
class AuditEntry:
    """What one command did: who, where, by which event, what was asked of what, from, to, how it ended, how long.

    Attributes:
        received_at: milliseconds since the epoch, by our clock.
        workload: of a group's command, all of its workloads in the order of a start, with BETWEEN between them.
        outcome: empty until it ended.
        replicas_before, replicas_after: ``spec.replicas``; None where it is not known or was not asked. While the
            command is under way they are what it means to write.
        arrival: its place in the order of arrival, also over restarts; nanoseconds since the epoch, or a little more.
        sent_at: milliseconds since the epoch, by the event's own clock.
        thread: the event that its thread began with, or nothing.
        prefix: what this person puts before a command there.
        reply: the event that answers it, once there is one.
        trust: how far its device was known when it came, a `Trust`; empty where that could not be found out.
        identity: the person's cross-signing master key at that moment, or nothing.
        written: whether the cluster has taken what it had to write.
    """

    event: str
    room: str
    user: str
    device: str
    fingerprint: str
    verb: str
    target: str
    received_at: int
    workload: str = ""
    outcome: str = ""
    replicas_before: int | None = None
    replicas_after: int | None = None
    duration_ms: int | None = None
    arrival: int = 0
    sent_at: int = 0
    thread: str = ""
    prefix: str = ""
    reply: str = ""
    trust: str = ""
    identity: str = ""
    written: bool = False


@dataclass(frozen=True)
class Intent:
    """What a command was about to write when its process died: ``spec.replicas`` before and after.

    Attributes:
        written: whether the cluster had taken it; if not, it may have all the same.
    """

    before: int
    after: int
    written: bool = False


@dataclass(frozen=True)
class Progress:
    """A roll-out under way. `alarm` is set when it has been stuck for so long that somebody should know."""

    target: str
    status: RolloutStatus
    seconds: float
    note: str = ""
    alarm: bool = False


class Result(str, Enum):
    """How a command ended."""

    DONE = "done"
    UNCHANGED = "unchanged"
    """It was so already."""
    TIMED_OUT = "timed out"
    SUPERSEDED = "superseded"
    CHANGED = "changed by others"
    NOT_RESTARTED = "not restarted"
    """A restart would have replaced nothing."""
    FAILED = "failed"


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and after how many seconds.

    Attributes:
        before, after: ``spec.replicas``; None where it is not known.
        by: who superseded it (a Matrix ID), or who set another count, as far as that is known.
        error: set when `result` is FAILED.
        written: whether the cluster took what it had to write.
    """

    result: Result
    target: str
    verb: Verb
    seconds: float = 0.0
    status: RolloutStatus | None = None
    before: int | None = None
    after: int | None = None
    note: str = ""
    by: str = ""
    error: ClusterError | None = None
    written: bool = False

    @property
    def as_asked(self) -> bool:
        """Whether the workload is as the person wanted it."""
        return self.result in (Result.DONE, Result.UNCHANGED)
