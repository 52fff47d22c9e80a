"""What real API servers write in ways that the simulated cluster does not, read as plain objects."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from toggle_plugin.api_objects import events_about, newer, parse_event, parse_pod, parse_workload, selector
from toggle_plugin.models import ClusterEvent, Container, Pod, Workload, WorkloadRef

REF = WorkloadRef("Deployment", "demo", "web")


def workload(selects: str = "app=web") -> Workload:
    return Workload(REF, "uid", "1", 1, 1, 1, 1, 1, 1, 1, selects)


def event(kind: str, name: str, last_seen: float = 0.0) -> ClusterEvent:
    return ClusterEvent(kind, name, "Warning", "Failed", "message", 1, last_seen)


def stored_event(**fields: Any) -> dict[str, Any]:
    created = {"metadata": {"creationTimestamp": "2026-11-23T10:00:00Z"}}
    return {**created, "involvedObject": {"kind": "Pod", "name": "web-1"}, **fields}


def test_a_workload_of_which_nearly_everything_is_left_out() -> None:
    parsed = parse_workload(REF, {"metadata": {"resourceVersion": "7"}, "spec": {}})
    assert (parsed.desired, parsed.replicas, parsed.observed_generation) == (1, 0, 0)
    assert (parsed.selector, parsed.conditions, parsed.paused, parsed.deleting) == ("", (), False, False)


def test_a_workload_that_is_being_deleted_with_a_partition() -> None:
    metadata = {"resourceVersion": "7", "deletionTimestamp": "2026-11-23T10:00:00Z"}
    spec = {"replicas": 0, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}}
    parsed = parse_workload(WorkloadRef("StatefulSet", "demo", "db"), {"metadata": metadata, "spec": spec})
    assert (parsed.deleting, parsed.desired, parsed.partition) == (True, 0, 2)


@pytest.mark.parametrize("obj", [{}, {"metadata": {}, "spec": {}}, {"metadata": None, "spec": None}])
def test_what_is_no_workload_is_refused(obj: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, AttributeError)):
        parse_workload(REF, obj)


def test_selectors_in_query_form() -> None:
    expressions = [
        {"key": "tier", "operator": "In", "values": ["a", "b"]},
        {"key": "stage", "operator": "NotIn", "values": ["old"]},
        {"key": "live", "operator": "Exists"},
        {"key": "dead", "operator": "DoesNotExist"},
    ]
    query = selector({"matchLabels": {"app": "web"}, "matchExpressions": expressions})
    assert query == "app=web,tier in (a,b),stage notin (old),live,!dead"
    assert selector({}) == ""


def test_containers_tell_their_last_end_and_which_are_for_the_start() -> None:
    ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    status = {
        "phase": "Pending",
        "initContainerStatuses": [{"name": "init", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}],
        "containerStatuses": [
            {
                "name": "app",
                "restartCount": 2,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": ended,
            }
        ],
    }
    pod = parse_pod({"metadata": {"name": "web-1"}, "status": status})
    assert pod.containers == (
        Container("init", ready=False, restarts=0, exit_code=0, exit_reason="Completed", init=True),
        Container("app", False, 2, waiting_reason="CrashLoopBackOff", exit_code=137, exit_reason="OOMKilled"),
    )


def test_a_termination_message_is_taken_only_of_a_process_that_never_ran() -> None:
    """Of one that ran it can be the end of its log."""

    def ended(reason: str) -> dict[str, Any]:
        return {"name": reason, "state": {"terminated": {"exitCode": 1, "reason": reason, "message": "a line"}}}

    status = {"containerStatuses": [ended("Error"), ended("StartError")]}
    ran, never_ran = parse_pod({"metadata": {"name": "web-1"}, "status": status}).containers
    assert "a line" not in repr(ran)
    assert never_ran.start_message == "a line"


def test_what_is_in_the_way_of_a_pods_end_and_of_its_start() -> None:
    metadata = {
        "name": "web-1",
        "creationTimestamp": "2026-11-23T10:00:00Z",
        "deletionTimestamp": "2026-11-23T10:00:30Z",
        "finalizers": ["example.org/hold"],
        "labels": {"pod-template-hash": "5d8f"},
    }
    volumes = [{"name": "a", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "b", "emptyDir": {}}]
    limited = {"name": "app", "resources": {"limits": {"memory": "64Mi"}}}
    status = {"phase": "Failed", "reason": "Evicted", "message": "no memory", "containerStatuses": [{"name": "app"}]}
    pod = parse_pod(
        {"metadata": metadata, "spec": {"volumes": volumes, "containers": [limited]}, "status": status},
    )
    assert (pod.created, pod.delete_by, pod.finalizers) == (1795428000.0, 1795428030.0, ("example.org/hold",))
    assert (pod.revision, pod.reason, pod.message, pod.claims) == ("5d8f", "Evicted", "no memory", ("data",))
    assert pod.containers[0].memory_limit == "64Mi"


def test_a_pod_that_nobody_has_looked_at() -> None:
    assert parse_pod({"metadata": {"name": "web-1"}}) == Pod("web-1", "", terminating=False, ready=False)


@pytest.mark.parametrize(
    ("fields", "count", "last_seen"),
    [
        ({}, 1, 1795428000.0),
        ({"count": 4, "lastTimestamp": "2026-11-23T10:00:05Z"}, 4, 1795428005.0),
        ({"count": None, "lastTimestamp": None, "eventTime": "2026-11-23T10:00:01.250000Z"}, 1, 1795428001.25),
        ({"series": {"count": 9, "lastObservedTime": "2026-11-23T10:00:07.5Z"}}, 9, 1795428007.5),
    ],
)
def test_events_old_and_new(fields: dict[str, Any], count: int, last_seen: float) -> None:
    parsed = parse_event(stored_event(**fields))
    assert (parsed.object_name, parsed.count, parsed.last_seen) == ("web-1", count, last_seen)


def test_only_events_about_the_workload_are_taken() -> None:
    pods = [Pod("web-5d8f-x", "Running", terminating=False, ready=True)]
    mine = [event("Deployment", "web", 1), event("ReplicaSet", "web-5d8f", 3), event("Pod", "web-5d8f-x", 2)]
    others = [
        event("Pod", "web-5d8f-y", 9),
        event("Pod", "web", 9),
        event("Deployment", "web-api", 9),
        event("ReplicaSet", "web-api-5d8f", 9),
        event("StatefulSet", "web", 9),
        event("Node", "web", 9),
    ]
    assert [found.last_seen for found in events_about(mine + others, workload(), pods, 10)] == [3, 2, 1]
    assert [found.last_seen for found in events_about(mine + others, workload(), pods, 1)] == [3]


def test_events_of_an_earlier_pod_by_the_same_name_are_left_out() -> None:
    pods = [Pod("db-0", "Running", terminating=False, ready=True, uid="new")]
    old, new, unknown = (replace(event("Pod", "db-0"), object_uid=uid) for uid in ("old", "new", ""))
    assert set(events_about([old, new, unknown], workload(), pods, 10)) == {new, unknown}


def test_events_about_the_claims_of_the_pods_are_taken() -> None:
    pods = [Pod("web-5d8f-x", "Pending", terminating=False, ready=False, claims=("data",))]
    mine, other = event("PersistentVolumeClaim", "data"), event("PersistentVolumeClaim", "other")
    assert events_about([mine, other], workload(), pods, 10) == (mine,)


def test_events_that_were_put_together_say_what_they_said_before() -> None:
    message = "(combined from similar events): Readiness probe failed: no"
    assert parse_event(stored_event(message=message)).message == "Readiness probe failed: no"


def test_the_last_scaling_is_the_newest_of_those_who_own_the_count() -> None:
    def owner(second: int, fields: dict[str, Any]) -> dict[str, Any]:
        return {"manager": "m", "time": f"2026-11-23T10:00:0{second}Z", "fieldsV1": {"f:spec": fields}}

    fields = [owner(1, {"f:replicas": {}}), owner(3, {"f:replicas": {}}), owner(9, {"f:template": {}})]
    metadata = {"resourceVersion": "7", "managedFields": fields}
    assert parse_workload(REF, {"metadata": metadata, "spec": {}}).scaled_at == 1795428003.0
    assert parse_workload(REF, {"metadata": {"resourceVersion": "7"}, "spec": {}}).scaled_at == 0.0


@pytest.mark.parametrize(
    ("version", "than", "expected"),
    [("10", "9", True), ("9", "10", False), ("9", "9", False), ("b", "a", True), ("a", "a", False)],
)
def test_newer_versions(version: str, than: str, expected: bool) -> None:
    assert newer(version, than) is expected
