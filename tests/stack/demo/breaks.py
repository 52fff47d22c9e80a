"""What can be broken on purpose in the demo's simulated cluster, by the name that a person gives it."""

from __future__ import annotations

from dataclasses import dataclass

from tests.stack.cluster import Outcome


@dataclass(frozen=True)
class Break:
    """What becomes of the target's pods, and words that the bot has to say of it."""

    outcome: Outcome
    words: str


BREAKS = {
    "image": Break(Outcome.IMAGE_PULL, "cannot get its image"),
    "crash": Break(Outcome.CRASH_LOOP, "keeps ending with exit code 3"),
    "memory": Break(Outcome.OUT_OF_MEMORY, "ran out of memory"),
    "node": Break(Outcome.UNSCHEDULABLE, "has no node"),
    "probe": Break(Outcome.NEVER_READY, "fails its readiness probe"),
    "liveness": Break(Outcome.NEVER_LIVE, "fails its liveness probe each time"),
    "startup": Break(Outcome.NEVER_STARTED, "fails its startup probe each time"),
    "init": Break(Outcome.INIT_FAILS, "init container prepare"),
    "config": Break(Outcome.NO_CONFIG, "cannot be created"),
    "volume": Break(Outcome.NOT_MOUNTED, "waits for its volume"),
    "claim": Break(Outcome.UNBOUND_CLAIM, "waits for its claim"),
    "quota": Break(Outcome.QUOTA, "exceed the quota"),
    "security": Break(Outcome.POD_SECURITY, "Pod Security"),
    "eviction": Break(Outcome.EVICTED, "was evicted"),
}
