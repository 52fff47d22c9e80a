"""What keeps one pod from being ready, rule by rule; what real clusters write is in test_stuck.py."""

from __future__ import annotations

from typing import Any

import pytest

from toggle_plugin.models import ClusterEvent, Condition, Pod
from toggle_plugin.stuck_pod import Obstacle, pod_obstacle

from .builders import container, event, pod


def why(found: Pod, *events: ClusterEvent) -> str:
    """The reason of what does not pass by itself, or nothing."""
    seen = pod_obstacle(found, events)
    return seen.reason if seen is not None and seen.lasting else ""


def unscheduled(message: str, **changes: Any) -> Pod:
    condition = Condition("PodScheduled", "False", "Unschedulable", message)
    return pod(phase="Pending", conditions=(condition,), **changes)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (
            container(waiting_reason="ErrImagePull", waiting_message="not found", image="app:2"),
            "container app of pod web-1 cannot get its image app:2 (ErrImagePull): not found",
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
            "container app of pod web-1 cannot be started (RunContainerError): no such file",
        ),
        (
            container(
                *(),
                waiting_reason="CrashLoopBackOff",
                exit_code=128,
                exit_reason="StartError",
                restarts=1,
                start_message="no such file",
            ),
            "container app of pod web-1 cannot be started (StartError): no such file",
        ),
        (
            container(waiting_reason="CrashLoopBackOff", exit_code=3, restarts=1),
            "container app of pod web-1 keeps ending with exit code 3 (1 restart)",
        ),
        (
            container(exit_code=3, restarts=2),
            "container app of pod web-1 keeps ending with exit code 3 (2 restarts)",
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
        (
            container(exit_code=137, exit_reason="OOMKilled", restarts=1, memory_limit="64Mi"),
            "container app of pod web-1 ran out of memory (limit 64Mi, 1 restart)",
        ),
        (container(exit_code=137, exit_reason="OOMKilled"), ""),
        (container(exit_code=137, exit_reason="OOMKilled", restarts=1, ready=True), ""),
        (container(exit_code=3, restarts=1), ""),
        (container(exit_code=3, restarts=9, ready=True), ""),
        (container(waiting_reason="ContainerCreating"), ""),
        (container(waiting_reason="PodInitializing"), ""),
        (container(), ""),
    ],
)
def test_a_container_that_will_not_run_says_why(found: Any, reason: str) -> None:
    assert why(pod(found)) == reason


def test_the_container_that_is_at_fault_is_named_not_the_first_one() -> None:
    bad = container(name="sidecar", waiting_reason="ErrImagePull", waiting_message="gone")
    assert "container sidecar of pod" in why(pod(container(ready=True), bad))


@pytest.mark.parametrize("changes", [{"ready": True}, {"terminating": True}, {"phase": "Failed"}])
def test_a_pod_that_is_ready_or_over_is_in_nobodys_way(changes: dict[str, Any]) -> None:
    bad = container(waiting_reason="ErrImagePull")
    assert pod_obstacle(pod(bad, **changes), ()) is None


# Before the containers


def test_a_pod_without_a_node_says_what_the_scheduler_says() -> None:
    assert why(unscheduled("0/3 nodes are available: 3 Insufficient memory.")) == (
        "pod web-1 has no node: none of 3 fits: 3 Insufficient memory"
    )


def test_a_pod_that_the_scheduler_has_not_looked_at_is_not_stuck() -> None:
    assert why(unscheduled("")) == ""


UNBOUND = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found"


def test_the_claim_that_does_not_bind_is_named_and_what_is_wrong_with_it() -> None:
    about = event("ProvisioningFailed", "no space", object_kind="PersistentVolumeClaim", object_name="data")
    waiting = unscheduled(UNBOUND, claims=("cache", "data"))
    assert why(waiting, about) == "pod web-1 waits for its claim data: no space"
    assert why(waiting) == (
        "pod web-1 waits for its claims cache, data: pod has unbound immediate PersistentVolumeClaims"
    )


def test_a_claim_is_no_matter_where_the_scheduler_says_something_else() -> None:
    about = event("ProvisioningFailed", "old", object_kind="PersistentVolumeClaim", object_name="data")
    assert "Insufficient cpu" in why(
        unscheduled("0/2 nodes are available: 2 Insufficient cpu.", claims=("data",)), about
    )


@pytest.mark.parametrize("reason", ["FailedMount", "FailedAttachVolume", "FailedMapVolume"])
def test_a_pod_that_waits_for_a_volume_says_so(reason: str) -> None:
    assert why(pod(phase="Pending"), event(reason, 'secret "s" not found')) == (
        'pod web-1 waits for a volume: secret "s" not found'
    )


def test_a_pod_that_gets_no_network_says_so() -> None:
    assert why(pod(phase="Pending"), event("FailedCreatePodSandBox", "no address is free")) == (
        "pod web-1 cannot be set up on its node: no address is free"
    )


def test_a_volume_that_was_mounted_in_the_end_is_no_reason_any_more() -> None:
    mounted = Condition("PodReadyToStartContainers", "True")
    assert why(pod(phase="Running"), event("FailedMount", "timed out")) == ""
    assert why(pod(phase="Pending", conditions=(mounted,)), event("FailedMount", "timed out")) == ""


# Probes


def test_a_readiness_probe_that_fails_again_and_again_is_the_reason() -> None:
    probe = event("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503", count=3)
    assert why(pod(), probe) == (
        "pod web-1 runs but fails its readiness probe (3 times): HTTP probe failed with statuscode: 503"
    )


def test_of_two_failing_probes_always_the_same_one_is_told() -> None:
    probes = [event("Unhealthy", f"{kind} probe failed: dial tcp", count=5) for kind in ("Liveness", "Readiness")]
    assert why(pod(), *probes) == why(pod(), *reversed(probes)) != ""


def test_a_hook_that_fails_is_told_without_what_it_wrote() -> None:
    found = pod(container(waiting_reason="PostStartHookError", waiting_message="s3cret"))
    assert why(found) == "container app of pod web-1 fails in its hook after the start"


def test_failures_of_one_probe_count_together_whatever_they_say() -> None:
    probes = [event("Unhealthy", f"Readiness probe failed: dial tcp {number}") for number in range(3)]
    assert "(3 times): dial tcp 0" in why(pod(), *probes)


@pytest.mark.parametrize(("probe", "count"), [("Readiness", 1), ("Readiness", 2), ("Startup", 20), ("Liveness", 2)])
def test_a_probe_that_may_still_pass_is_told_and_nobody_is_stuck(probe: str, count: int) -> None:
    found = pod_obstacle(pod(), (event("Unhealthy", f"{probe} probe failed: dial tcp", count=count),))
    times = "1 time" if count == 1 else f"{count} times"
    assert found == Obstacle(f"pod web-1 runs but fails its {probe.lower()} probe ({times}): dial tcp", lasting=False)


def killed(probe: str, times: int) -> ClusterEvent:
    return event("Killing", f"Container app failed {probe} probe, will be restarted", type="Normal", count=times)


@pytest.mark.parametrize("probe", ["startup", "liveness"])
def test_a_container_that_is_restarted_for_its_probe_says_so(probe: str) -> None:
    failing = event("Unhealthy", f"{probe.title()} probe failed: dial tcp", count=9)
    restarted = pod(container(waiting_reason="CrashLoopBackOff", exit_code=143, restarts=3))
    assert why(restarted, killed(probe, 3), failing) == (
        f"container app of pod web-1 fails its {probe} probe each time (3 restarts): dial tcp"
    )


def test_a_container_that_mostly_ends_by_itself_is_not_said_to_fail_its_probe() -> None:
    restarted = pod(container(waiting_reason="CrashLoopBackOff", exit_code=1, restarts=9))
    assert "keeps ending with exit code 1" in why(restarted, killed("liveness", 2))
    assert "keeps ending" in why(restarted, event("Killing", "Container other failed liveness probe", count=9))


@pytest.mark.parametrize(
    ("seen", "about"),
    [
        (pod(), event("Unhealthy", "Readiness probe failed: x", count=9, object_name="web-2")),
        (pod(), event("Unhealthy", "Readiness probe failed: x", count=9, type="Normal")),
        (pod(ready=True), event("Unhealthy", "Readiness probe failed: x", count=9)),
        (pod(phase="Pending"), event("Unhealthy", "Readiness probe failed: x", count=9)),
        (pod(phase="Pending"), event("Pulling", "x", count=9)),
    ],
)
def test_what_is_about_something_else_is_no_reason(seen: Pod, about: ClusterEvent) -> None:
    assert pod_obstacle(seen, (about,)) is None
