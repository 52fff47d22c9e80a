"""Where a roll-out stands by kubectl's rules."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toggle_plugin.models import Condition, Phase, Pod, RolloutStatus, Workload
from toggle_plugin.rollout import observed, rollout_status, waiting_for

from .builders import DATABASE, container, event, pod, workload


def status(phase: Phase, reason: str = "", *, desired: int = 1, ready: int = 1, available: int = 1) -> RolloutStatus:
    return RolloutStatus(phase, desired, ready, available, reason)


def starting(**changes: Any) -> Workload:
    """Scaled from 0 to 1, and no pod is ready yet."""
    return workload(**{"replicas": 0, "updated": 0, "ready": 0, "available": 0, **changes})


def off(**changes: Any) -> Workload:
    return starting(**{"desired": 0, **changes})


def statefulset(**changes: Any) -> Workload:
    return workload(**{"ref": DATABASE, "available": 0, **changes})


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


# What is in the way


BROKEN = pod(container(waiting_reason="ErrImagePull"))
LATE = Condition("Progressing", "False", "ProgressDeadlineExceeded", "timed out progressing")


def test_what_does_not_pass_by_itself_is_stuck_with_its_reason() -> None:
    reason = "container app of pod web-1 cannot get its image (ErrImagePull)"
    assert rollout_status(starting(), (BROKEN,)) == status(Phase.STUCK, reason, ready=0, available=0)


def test_what_may_pass_is_starting_with_its_reason() -> None:
    probe = event("Unhealthy", "Readiness probe failed: dial tcp")
    reason = "pod web-1 runs but fails its readiness probe (1 time): dial tcp"
    assert rollout_status(starting(), (pod(),), (probe,)) == status(Phase.STARTING, reason, ready=0, available=0)


def test_what_is_complete_is_not_stuck_whatever_one_of_its_pods_says() -> None:
    assert rollout_status(workload(conditions=(LATE,)), (BROKEN,)).phase is Phase.RUNNING


def test_what_is_stopping_and_does_not_go_says_so() -> None:
    held = pod(terminating=True, delete_by=100.0, finalizers=("example.org/hold",))
    reason = "pod web-1 did not go within its grace period: it is kept by its finalizer example.org/hold"
    assert rollout_status(off(), (held,), now=111.0) == status(Phase.STOPPING, reason, desired=0, ready=0, available=0)
    assert rollout_status(off(), (held,), now=109.0).reason == ""
    assert rollout_status(off(), (held,)).reason == ""


COUNT = st.integers(0, 4)


@given(st.builds(workload, desired=COUNT, replicas=COUNT, updated=COUNT, ready=COUNT, available=COUNT))
def test_the_counts_are_the_workloads_own(found: Workload) -> None:
    told = rollout_status(found)
    assert (told.desired, told.ready, told.available) == (found.desired, found.ready, found.available)
    assert (told.phase in (Phase.OFF, Phase.STOPPING)) == (found.desired == 0)
