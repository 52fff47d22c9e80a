"""Where a roll-out stands by kubectl's rules, and in which words a person is told why it is stuck."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toggle_plugin.models import ClusterEvent, Condition, Phase, Pod, RolloutStatus, Workload
from toggle_plugin.rollout import REASON_LENGTH, observed, rollout_status, shorten, stuck_reason, waiting_for

from .builders import DATABASE, container, pod, workload


def status(phase: Phase, reason: str = "", *, desired: int = 1, ready: int = 1, available: int = 1) -> RolloutStatus:
    return RolloutStatus(phase, desired, ready, available, reason)


def starting(**changes: Any) -> Workload:
    """Scaled from 0 to 1, and no pod is ready yet."""
    return workload(**{"replicas": 0, "updated": 0, "ready": 0, "available": 0, **changes})


def off(**changes: Any) -> Workload:
    return starting(**{"desired": 0, **changes})


def statefulset(**changes: Any) -> Workload:
    return workload(**{"ref": DATABASE, "available": 0, **changes})


def event(reason: str, message: str, **changes: Any) -> ClusterEvent:
    values = {"object_kind": "Pod", "object_name": "web-1", "type": "Warning", "count": 1, "last_seen": 0.0}
    return ClusterEvent(reason=reason, message=message, **{**values, **changes})


# Complete or not: the rules of kubectl rollout status


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"generation": 3}, "the cluster has not taken up the change yet"),
        ({"observed_generation": 3}, ""),
        ({"desired": 3}, "1 of 3 updated"),
        ({"desired": 3, "updated": 2, "replicas": 4}, "2 of 3 updated"),
        ({"desired": 2, "updated": 2, "replicas": 3}, "1 old pod is still there"),
        ({"desired": 2, "updated": 2, "replicas": 4}, "2 old pods are still there"),
        ({"desired": 2, "updated": 2, "replicas": 2, "ready": 2}, "1 of 2 available"),
        ({"desired": 2, "updated": 2, "replicas": 2, "ready": 2, "available": 2}, ""),
        ({"desired": 2, "updated": 3, "replicas": 3, "available": 3}, ""),
        ({"ready": 0}, ""),
        ({"deleting": True}, "it is being deleted"),
    ],
)
def test_a_deployment_is_complete_when_every_replica_is_updated_and_available(
    changes: dict[str, Any], reason: str
) -> None:
    assert waiting_for(workload(**changes)) == reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"generation": 3}, "the cluster has not taken up the change yet"),
        ({"desired": 3}, "1 of 3 ready"),
        ({"desired": 2, "ready": 2, "updated": 1}, "1 of 2 updated"),
        ({"desired": 2, "ready": 2, "updated": 2}, ""),
        ({"desired": 3, "ready": 3, "updated": 0, "partition": 2}, "0 of 1 updated"),
        ({"desired": 3, "ready": 3, "updated": 1, "partition": 2}, ""),
        ({"desired": 3, "ready": 2, "updated": 1, "partition": 2}, "2 of 3 ready"),
        ({"desired": 1, "updated": 0, "partition": 5}, ""),
        ({"updated": 0, "update_strategy": "OnDelete"}, ""),
        ({"desired": 2, "update_strategy": "OnDelete"}, "1 of 2 ready"),
        ({"deleting": True}, "it is being deleted"),
    ],
)
def test_a_statefulset_is_complete_when_every_replica_is_ready_and_updated_down_to_its_partition(
    changes: dict[str, Any], reason: str
) -> None:
    assert waiting_for(statefulset(**changes)) == reason


def test_a_rolled_back_statefulset_is_not_complete_while_a_pod_of_the_other_revision_is_there() -> None:
    rolled_back = statefulset(desired=2, replicas=2, ready=2, updated=1)
    assert waiting_for(rolled_back) == "1 of 2 updated"


def kubectl_says_done(found: Workload) -> bool:
    """``kubectl rollout status``, rule by rule, for workloads as an API server stores them."""
    if found.generation > found.observed_generation:
        return False
    if found.ref.kind == "Deployment":
        return found.updated >= found.desired and found.replicas <= found.updated and found.available >= found.updated
    return found.ready >= found.desired and found.updated >= found.desired - found.partition


COUNT = st.integers(0, 4)


def test_complete_is_what_kubectl_calls_complete_in_all_small_worlds() -> None:
    few = range(3)
    for ref in (workload().ref, DATABASE):
        for generation, desired, replicas, updated, ready, available, partition in itertools.product(few, repeat=7):
            found = workload(
                ref=ref,
                generation=generation + 1,
                desired=desired,
                replicas=replicas,
                updated=updated,
                ready=ready,
                available=available,
                partition=partition,
            )
            assert (waiting_for(found) == "") == kubectl_says_done(found)
            if desired:
                assert (rollout_status(found).phase is Phase.RUNNING) == kubectl_says_done(found)


# The words


def test_what_is_complete_is_running() -> None:
    assert rollout_status(workload()) == status(Phase.RUNNING)


def test_what_is_not_complete_is_starting_and_says_what_is_missing() -> None:
    assert rollout_status(starting()) == status(Phase.STARTING, "0 of 1 updated", ready=0, available=0)


def test_a_change_that_the_cluster_has_not_seen_is_not_running_whatever_the_counts_say() -> None:
    assert not observed(workload(generation=3))
    assert rollout_status(workload(generation=3)) == status(
        Phase.STARTING, "the cluster has not taken up the change yet"
    )


@pytest.mark.parametrize("pods", [None, (), (pod(phase="Succeeded"), pod(phase="Failed"))])
def test_what_wants_no_replicas_and_has_no_living_pods_is_off(pods: tuple[Pod, ...] | None) -> None:
    assert rollout_status(off(), pods) == status(Phase.OFF, desired=0, ready=0, available=0)


@pytest.mark.parametrize(
    ("found", "pods"),
    [
        (off(generation=3), ()),
        (off(replicas=1), None),
        (off(replicas=1, ready=1, available=1), ()),
        (off(), (pod(terminating=True),)),
        (off(), (pod(phase="Succeeded", terminating=True),)),
        (off(), (pod(phase="Pending"),)),
    ],
)
def test_what_wants_no_replicas_is_stopping_until_the_last_pod_is_gone(
    found: Workload, pods: tuple[Pod, ...] | None
) -> None:
    assert rollout_status(found, pods).phase is Phase.STOPPING


def test_what_is_stopping_is_never_stuck() -> None:
    crashing = pod(container(waiting_reason="CrashLoopBackOff"))
    assert rollout_status(off(replicas=1), (crashing,)).phase is Phase.STOPPING


# Why it is stuck


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (
            container(waiting_reason="ErrImagePull", waiting_message="not found"),
            "container app of pod web-1 cannot get its image (ErrImagePull): not found",
        ),
        (
            container(waiting_reason="ImagePullBackOff", waiting_message='Back-off pulling image "x:1".'),
            'container app of pod web-1 cannot get its image (ImagePullBackOff): Back-off pulling image "x:1"',
        ),
        (
            container(waiting_reason="InvalidImageName"),
            "container app of pod web-1 cannot get its image (InvalidImageName)",
        ),
        (
            container(waiting_reason="ErrImageNeverPull", init=True),
            "init container app of pod web-1 cannot get its image (ErrImageNeverPull)",
        ),
        (
            container(waiting_reason="CreateContainerConfigError", waiting_message='secret "s" not found'),
            'container app of pod web-1 cannot be created (CreateContainerConfigError): secret "s" not found',
        ),
        (
            container(waiting_reason="RunContainerError", waiting_message="no such file"),
            "container app of pod web-1 cannot be created (RunContainerError): no such file",
        ),
        (
            container(waiting_reason="CrashLoopBackOff", exit_code=3, restarts=1),
            "container app of pod web-1 keeps ending with exit code 3 (1 restart)",
        ),
        (
            container(waiting_reason="CrashLoopBackOff", exit_code=0, restarts=7, init=True),
            "init container app of pod web-1 keeps ending with exit code 0 (7 restarts)",
        ),
        (
            container(waiting_reason="CrashLoopBackOff"),
            "container app of pod web-1 keeps ending with an error (0 restarts)",
        ),
        (
            container(waiting_reason="CrashLoopBackOff", exit_code=137, exit_reason="OOMKilled", restarts=2),
            "container app of pod web-1 ran out of memory (2 restarts)",
        ),
        (container(exit_code=137, exit_reason="OOMKilled"), ""),
        (container(exit_code=137, exit_reason="OOMKilled", restarts=1, ready=True), ""),
        (container(waiting_reason="ContainerCreating"), ""),
        (container(waiting_reason="PodInitializing"), ""),
        (container(), ""),
    ],
)
def test_a_container_that_will_not_run_says_why(found: Any, reason: str) -> None:
    expected = (
        status(Phase.STUCK, reason, ready=0, available=0)
        if reason
        else status(Phase.STARTING, "0 of 1 updated", ready=0, available=0)
    )
    assert rollout_status(starting(), (pod(found),)) == expected


def test_the_container_that_is_at_fault_is_named_not_the_first_one() -> None:
    bad = container(name="sidecar", waiting_reason="ErrImagePull", waiting_message="gone")
    assert "container sidecar of pod" in stuck_reason(starting(), (pod(container(ready=True), bad),), ())


def test_a_pod_without_a_node_says_what_the_scheduler_says() -> None:
    unscheduled = pod(
        phase="Pending",
        conditions=(Condition("PodScheduled", "False", "Unschedulable", "0/3 nodes are available: memory."),),
    )
    assert stuck_reason(starting(), (unscheduled,), ()) == "pod web-1 has no node: 0/3 nodes are available: memory"


def test_a_pod_that_the_scheduler_has_not_looked_at_is_not_stuck() -> None:
    fresh = pod(phase="Pending", conditions=(Condition("PodScheduled", "False"),))
    assert stuck_reason(starting(), (fresh,), ()) == ""


@pytest.mark.parametrize("reason", ["FailedMount", "FailedAttachVolume"])
def test_a_pod_that_waits_for_a_volume_says_so(reason: str) -> None:
    events = (event(reason, 'secret "s" not found'),)
    assert (
        stuck_reason(starting(), (pod(phase="Pending"),), events)
        == 'pod web-1 waits for a volume: secret "s" not found'
    )


def test_a_volume_that_was_mounted_in_the_end_is_no_reason_any_more() -> None:
    assert stuck_reason(starting(), (pod(phase="Running"),), (event("FailedMount", "timed out"),)) == ""


def test_a_probe_that_fails_again_and_again_is_the_reason() -> None:
    probe = event("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503", count=3)
    assert stuck_reason(starting(), (pod(),), (probe,)) == (
        "pod web-1 runs but fails its probe (3 times): Readiness probe failed: HTTP probe failed with statuscode: 503"
    )


@pytest.mark.parametrize(
    ("seen", "about"),
    [
        (pod(), event("Unhealthy", "x", count=2)),
        (pod(), event("Unhealthy", "x", count=9, object_name="web-2")),
        (pod(), event("Unhealthy", "x", count=9, type="Normal")),
        (pod(ready=True), event("Unhealthy", "x", count=9)),
        (pod(phase="Pending"), event("Unhealthy", "x", count=9)),
        (pod(phase="Pending"), event("Pulling", "x", count=9)),
        (pod(terminating=True), event("FailedMount", "x")),
    ],
)
def test_what_passes_by_itself_is_no_reason(seen: Pod, about: ClusterEvent) -> None:
    assert stuck_reason(starting(), (seen,), (about,)) == ""


def test_a_pod_that_goes_away_says_nothing_about_those_to_come() -> None:
    old = pod(container(waiting_reason="CrashLoopBackOff"), terminating=True)
    assert rollout_status(starting(), (old,)).phase is Phase.STARTING


QUOTA = Condition("ReplicaFailure", "True", "FailedCreate", 'pods "web-" is forbidden: exceeded quota: compute')
LATE = Condition("Progressing", "False", "ProgressDeadlineExceeded", "timed out progressing")


def test_pods_that_cannot_be_created_are_the_reason() -> None:
    assert stuck_reason(starting(conditions=(LATE, QUOTA)), (), ()) == (
        'its pods cannot be created: pods "web-" is forbidden: exceeded quota: compute'
    )


def test_no_progress_within_its_deadline_is_the_reason_where_nothing_says_more() -> None:
    assert stuck_reason(starting(conditions=(LATE,)), (), ()) == "it made no progress within its progress deadline"
    assert "image" in stuck_reason(starting(conditions=(LATE,)), (pod(container(waiting_reason="ErrImagePull")),), ())


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
    assert stuck_reason(starting(conditions=(condition,)), (), ()) == ""


def test_conditions_of_an_older_spec_are_no_reason() -> None:
    assert stuck_reason(starting(generation=3, conditions=(QUOTA, LATE)), (), ()) == ""


def test_what_is_complete_is_not_stuck_whatever_one_of_its_pods_says() -> None:
    surge = pod(container(waiting_reason="ErrImagePull"))
    assert rollout_status(workload(conditions=(LATE,)), (surge,)).phase is Phase.RUNNING


# Messages from outside


def test_the_query_of_a_url_is_not_shown() -> None:
    message = 'Get "https://registry.example/v2?service=x&token=s3cret": denied, see http://a.example/b?c=s3cret now'
    assert shorten(message) == 'Get "https://registry.example/v2": denied, see http://a.example/b now'


def test_a_message_is_one_line_without_its_last_point() -> None:
    assert shorten(" one\n\ttwo  three.\n") == "one two three"


def test_a_long_message_is_cut() -> None:
    assert shorten("x" * REASON_LENGTH) == "x" * REASON_LENGTH
    cut = shorten("word " * 100)
    assert len(cut) <= REASON_LENGTH
    assert cut.endswith("…")


@given(st.text())
def test_any_message_becomes_one_short_line(message: str) -> None:
    found = shorten(message)
    assert len(found) <= REASON_LENGTH
    assert len(found.splitlines()) <= 1


@given(
    st.text(alphabet="abc/.:-"),
    st.from_regex(r"https?://[a-z./]+", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9=&%+/-]{1,20}", fullmatch=True),
)
def test_whatever_stands_in_a_query_is_not_shown(before: str, url: str, query: str) -> None:
    assert f"?{query}" not in shorten(f"{before} {url}?{query} after")


COUNT = st.integers(0, 4)


@given(st.builds(workload, desired=COUNT, replicas=COUNT, updated=COUNT, ready=COUNT, available=COUNT))
def test_the_counts_are_the_workloads_own(found: Workload) -> None:
    told = rollout_status(found)
    assert (told.desired, told.ready, told.available) == (found.desired, found.ready, found.available)
    assert (told.phase in (Phase.OFF, Phase.STOPPING)) == (found.desired == 0)
