"""Ways in which a Deployment cannot come up: for the simulated cluster, for a real one, and in the plugin's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.stack.cluster import Outcome

Manifest = Mapping[str, Any]


def _probe(**changes: Any) -> Manifest:
    """Of a port on which nobody listens."""
    return {"httpGet": {"path": "/", "port": 8081}, "periodSeconds": 1, **changes}


@dataclass(frozen=True)
class Failure:
    """What goes wrong.

    Attributes:
        outcome: what the simulated cluster is told.
        words: what the plugin makes of either, a regular expression.
        container, pod: what is wrong in the only container, and in the pods, of a real workload.
    """

    outcome: Outcome
    words: str
    container: Manifest = field(default_factory=dict)
    pod: Manifest = field(default_factory=dict)


FAILURES = {
    "image": Failure(
        Outcome.IMAGE_PULL,
        r"container \S+ of pod \S+ cannot get its image \S+ \((ErrImagePull|ImagePullBackOff)\)",
        {"image": "127.0.0.1:1/nothing:there"},
    ),
    "exit": Failure(
        Outcome.CRASH_LOOP, r"container \S+ of pod \S+ keeps ending with exit code \d+ \(\d+", {"args": ["nonsense"]}
    ),
    "cpu": Failure(
        Outcome.UNSCHEDULABLE, r"pod \S+ has no node: .*Insufficient", {"resources": {"requests": {"cpu": "999"}}}
    ),
    "readiness": Failure(
        Outcome.NEVER_READY, r"pod \S+ runs but fails its readiness probe \(\d+ times\)", {"readinessProbe": _probe()}
    ),
    "liveness": Failure(
        Outcome.NEVER_LIVE,
        r"container \S+ of pod \S+ fails its liveness probe each time \(\d+",
        {"livenessProbe": _probe(failureThreshold=1), "readinessProbe": _probe()},
    ),
    "volume": Failure(
        Outcome.NOT_MOUNTED,
        r'pod \S+ waits for its volume \S+: configmap "\S+" not found',
        {"volumeMounts": [{"name": "settings", "mountPath": "/settings"}]},
        {"volumes": [{"name": "settings", "configMap": {"name": "absent"}}]},
    ),
    "config": Failure(
        Outcome.NO_CONFIG,
        r'container \S+ of pod \S+ cannot be created \(CreateContainerConfigError\): secret "\S+" not found',
        {"envFrom": [{"secretRef": {"name": "absent"}}]},
    ),
    "claim": Failure(
        Outcome.UNBOUND_CLAIM,
        r"pod \S+ waits for its claim \S+: ",
        pod={"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]},
    ),
    "security": Failure(
        Outcome.POD_SECURITY,
        r'its pods cannot be created, for Pod Security "restricted" forbids them: ',
        {"securityContext": {}},
        {"securityContext": {}},
    ),
}
