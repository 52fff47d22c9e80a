"""Why a roll-out does not come up: objects that a real cluster wrote, and the words for them; then rule by rule."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from toggle_plugin.api_objects import events_about, parse_event, parse_pod, parse_workload
from toggle_plugin.models import ClusterEvent, Condition, Pod, Workload, WorkloadRef
from toggle_plugin.rollout import rollout_status
from toggle_plugin.stuck import OVERDUE, obstacle

from .builders import DATABASE, container, event, pod, workload

REAL = json.loads(Path(__file__).with_name("stuck_objects.json").read_text())
"""Written by a real cluster of one node (Kubernetes 1.37, containerd 2), shorn of what nobody reads here.

By name: a workload, its pods and the events in its namespace about any of them, 30 to 60 s after it was made.
"""


def starting(**changes: Any) -> Workload:
    """Scaled from 0 to 1, and no pod is ready yet."""
    return workload(**{"replicas": 0, "updated": 0, "ready": 0, "available": 0, **changes})


def why(found: Workload, pods: tuple[Pod, ...] = (), events: tuple[ClusterEvent, ...] = ()) -> str:
    """The reason of what does not pass by itself, or nothing."""
    seen = obstacle(found, pods, events)
    return seen.reason if seen is not None and seen.lasting else ""


CRASHING = pod(container(waiting_reason="CrashLoopBackOff", exit_code=3, restarts=4))
UNREADY = event("Unhealthy", "Readiness probe failed: dial tcp")


# What real clusters write


def real(name: str) -> tuple[Workload, tuple[Pod, ...], tuple[ClusterEvent, ...]]:
    found = REAL[name]
    ref = WorkloadRef(found["workload"]["kind"], "games", found["workload"]["metadata"]["name"])
    parsed, pods = parse_workload(ref, found["workload"]), tuple(map(parse_pod, found["pods"]))
    return parsed, pods, events_about(map(parse_event, found["events"]), parsed, pods, 50)


SECURITY = (
    'its pods cannot be created, for Pod Security "restricted" forbids them: allowPrivilegeEscalation != false, '
    "unrestricted capabilities, runAsNonRoot != true, seccompProfile"
)
QUOTA = "its pods cannot be created, for they exceed the quota compute: requested pods=1, used pods=0, limited pods=0"
NO_IMAGE = "127.0.0.1:1/none:1 (ErrImagePull): dial tcp 127.0.0.1:1: connect: connection refused"
REFUSED = 'Get "http://{0}:8081/": dial tcp {0}:8081: connect: connection refused'
REASONS = {
    "account": 'its pods cannot be created: error looking up service account cap/absent: serviceaccount "absent" not '
    "found",
    "claim": "pod {} waits for its claim data: no persistent volumes available for this claim and no storage class is "
    "set",
    "claim-class": 'pod {} waits for its claim data2: storageclass.storage.k8s.io "nope" not found',
    "claim-missing": 'pod {} waits for its claim absent: persistentvolumeclaim "absent" not found',
    "command": 'container web of pod {} cannot be started (RunContainerError): exec: "/nope": stat /nope: no such file '
    "or directory",
    "config": 'container web of pod {} cannot be created (CreateContainerConfigError): secret "absent" not found',
    "cpu": "pod {} has no node: the only one does not fit: Insufficient cpu",
    "exit3": "container web of pod {} keeps ending with exit code 3 (3 restarts)",
    "gated": "pod {} has no node: Scheduling is blocked due to non-empty scheduling gates",
    "image": "container web of pod {} cannot get its image " + NO_IMAGE.replace("ErrImagePull", "ImagePullBackOff"),
    "imagename": "container web of pod {} cannot get its image UPPER:bad:x (InvalidImageName): Failed to apply default "
    'image tag "UPPER:bad:x": couldn\'t parse image name "UPPER:bad:x": invalid reference format: repository name '
    "(library/UPPER) must be lowercase",
    "init-fail": "init container prepare of pod {} keeps ending with exit code 1 (3 restarts)",
    "init-image": "init container prepare of pod {} cannot get its image " + NO_IMAGE,
    "liveness": "container web of pod {} fails its liveness probe each time (4 restarts): "
    + REFUSED.format("10.88.0.9"),
    "memory": "container web of pod {} ran out of memory (limit 32Mi, 3 restarts)",
    "mount": 'pod {} waits for its volume c: configmap "absent" not found',
    "quota": QUOTA,
    "quota-limits": "its pods cannot be created, for the quota compute asks more of them: must specify limits.cpu for: "
    "web",
    "quota-sts": QUOTA,
    "readiness": "pod {} runs but fails its readiness probe (25 times): " + REFUSED.format("10.88.0.7"),
    "readiness-exec": 'pod {} runs but fails its readiness probe (25 times): exec: "/nope": stat /nope: no such file '
    "or directory",
    "security": SECURITY,
    "security-sts": SECURITY,
    "startup": "container web of pod {} fails its startup probe each time (4 restarts): "
    + REFUSED.format("10.88.0.10"),
}


@pytest.mark.parametrize("name", sorted(REAL))
def test_what_a_real_cluster_writes_becomes_one_sentence(name: str) -> None:
    found, pods, events = real(name)
    pod_name = pods[0].name if pods else ""
    assert why(found, pods, events) == REASONS[name].format(pod_name)


@pytest.mark.parametrize("name", ["exit3", "image", "memory", "config", "init-fail", "cpu", "gated", "command"])
def test_without_events_the_pods_say_the_same(name: str) -> None:
    found, pods, events = real(name)
    assert why(found, pods) == why(found, pods, events)


@pytest.mark.parametrize("name", ["quota", "security", "account"])
def test_without_pods_and_events_the_conditions_of_a_deployment_say_the_same(name: str) -> None:
    found, pods, events = real(name)
    assert rollout_status(found).reason == why(found, pods, events)


@pytest.mark.parametrize("name", ["claim", "mount", "readiness", "security-sts", "exit3"])
def test_where_pods_and_events_may_not_be_seen_less_is_said(name: str) -> None:
    found, _, _ = real(name)
    assert rollout_status(found).reason in ("0 of 1 available", "0 of 1 ready")


# Which pod is asked


def test_a_pod_that_goes_away_says_nothing_about_those_to_come() -> None:
    assert why(starting(), (pod(*CRASHING.containers, terminating=True),)) == ""


def test_pods_of_an_older_template_say_nothing_about_the_newest() -> None:
    old = pod(*CRASHING.containers, revision="a", created=1.0)
    new = pod(name="web-2", revision="b", created=2.0)
    assert why(starting(), (old, new)) == ""
    assert "web-1" in why(starting(), (old, pod(name="web-2", revision="a", created=2.0)))


def test_what_does_not_pass_is_told_before_what_may() -> None:
    broken = pod(container(waiting_reason="ErrImagePull"), name="web-2")
    assert "web-2" in why(starting(), (pod(), broken), (UNREADY,))


# Pods that are not created


def refused(last_seen: float) -> ClusterEvent:
    """What the StatefulSet controller writes."""
    message = (
        'create Pod db-0 in StatefulSet db failed error: pods "db-0" is forbidden: exceeded quota: q, requested: x'
    )
    return event("FailedCreate", message, object_kind="StatefulSet", object_name="db", last_seen=last_seen)


def test_a_refusal_holds_until_a_pod_was_created() -> None:
    found = starting(ref=DATABASE)
    created = replace(refused(20.0), reason="SuccessfulCreate", type="Normal")
    assert why(found, (), (refused(10.0),)).startswith("its pods cannot be created, for they exceed the quota q")
    assert why(found, (), (created, refused(10.0))) == ""
    assert why(found, (), (refused(20.0), created)) == "", "in one second, the pod came after it"
    assert why(found, (), (refused(30.0), created)) != ""


def test_a_refusal_from_before_the_last_scaling_is_no_news() -> None:
    assert why(starting(ref=DATABASE, scaled_at=11.0), (), (refused(10.0),)) == ""
    assert why(starting(ref=DATABASE, scaled_at=10.0), (), (refused(10.0),)) != ""


FORBIDDEN = Condition("ReplicaFailure", "True", "FailedCreate", 'pods "web-" is forbidden: no')
LATE = Condition("Progressing", "False", "ProgressDeadlineExceeded", "timed out progressing")


def test_conditions_of_an_older_spec_are_no_reason() -> None:
    assert why(starting(conditions=(FORBIDDEN, LATE))) == "its pods cannot be created: no"
    assert why(starting(generation=3, conditions=(FORBIDDEN, LATE))) == ""


@pytest.mark.parametrize(
    "condition",
    [
        Condition("Progressing", "True", "NewReplicaSetAvailable"),
        Condition("Progressing", "False", "Other"),
        Condition("ReplicaFailure", "False", "", "old"),
        Condition("Available", "False", "MinimumReplicasUnavailable"),
    ],
)
def test_conditions_that_say_something_else_are_no_reason(condition: Condition) -> None:
    assert why(starting(conditions=(condition,))) == ""


# Its time is over


def test_no_progress_within_its_deadline_is_the_reason_where_nothing_says_more() -> None:
    late = starting(conditions=(LATE,))
    assert why(late) == "it made no progress within its progress deadline"
    assert "keeps ending" in why(late, (CRASHING,))


def test_what_may_pass_does_not_when_the_deadline_is_over() -> None:
    assert why(starting(), (pod(),), (UNREADY,)) == ""
    assert "readiness probe" in why(starting(conditions=(LATE,)), (pod(),), (UNREADY,))


# Pods that failed as a whole


def failed(number: int, **changes: Any) -> Pod:
    message = "The node was low on resource: memory."
    values = {"phase": "Failed", "reason": "Evicted", "message": message, "created": float(number), **changes}
    return pod(name=f"web-{number}", **values)


def test_pods_that_are_evicted_one_after_the_other_are_the_reason() -> None:
    reason = "pod web-1 was evicted, as others after it: The node was low on resource: memory"
    assert why(starting(), (failed(2), failed(1), pod(name="web-3", created=3.0))) == reason


def test_a_pod_that_its_nodes_refuse_again_and_again_is_the_reason() -> None:
    refused_by_node = [failed(number, reason="OutOfcpu", message="") for number in (1, 2)]
    assert why(starting(), tuple(refused_by_node)) == "pod web-1 failed (OutOfcpu), as others after it"


def test_one_failed_pod_is_replaced_and_those_of_last_week_are_no_news() -> None:
    assert why(starting(), (failed(1), pod(name="web-2"))) == ""
    assert why(starting(scaled_at=5.0), (failed(1), failed(2), pod(name="web-6", created=6.0))) == ""


# Pods that do not go


def test_a_pod_that_should_be_gone_is_the_reason_once_there_was_time_enough() -> None:
    held = pod(terminating=True, delete_by=100.0)
    assert obstacle(starting(), (held,), (), now=100.0 + OVERDUE) is None
    overdue = obstacle(starting(), (held,), (), now=100.5 + OVERDUE)
    assert overdue is not None
    assert overdue.reason == (
        "pod web-1 did not go within its grace period: its node does not answer, or cannot end it"
    )
