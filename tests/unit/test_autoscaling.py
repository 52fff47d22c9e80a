"""Autoscalers: read as the API server and KEDA write them, and what they make of a start or stop."""

from __future__ import annotations

from typing import Any

import pytest

from toggle_plugin.api_autoscalers import parse_hpa, parse_scaled_object, those_of
from toggle_plugin.autoscaling import remark, warning
from toggle_plugin.models import HPA, SCALED_OBJECT, Autoscaler, Verb, WorkloadRef

from .builders import DATABASE, WEB

WEB_TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}


def hpa(target: dict[str, Any] = WEB_TARGET, metadata: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "web", **(metadata or {})},
        "spec": {"scaleTargetRef": target, "maxReplicas": 5, **spec},
    }


def scaled_object(annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    metadata = {"name": "queue", **({"annotations": annotations} if annotations else {})}
    return {"metadata": metadata, "spec": {"scaleTargetRef": {"name": "web"}, **spec}}


# Read


@pytest.mark.parametrize(
    ("obj", "minimum", "maximum"),
    [(hpa(), 1, 5), (hpa(minReplicas=2), 2, 5), (hpa(minReplicas=0), 0, 5), (hpa(minReplicas=None), 1, 5)],
)
def test_a_horizontal_pod_autoscaler_has_its_bounds(obj: dict[str, Any], minimum: int, maximum: int) -> None:
    found = parse_hpa(obj)
    assert found.autoscaler == Autoscaler(HPA, "web", minimum, maximum)
    assert found.target == ("apps", "Deployment", "web")


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (scaled_object(), Autoscaler(SCALED_OBJECT, "queue", 0, 100)),
        (scaled_object(minReplicaCount=1, maxReplicaCount=3), Autoscaler(SCALED_OBJECT, "queue", 1, 3)),
        (scaled_object(idleReplicaCount=0, minReplicaCount=2), Autoscaler(SCALED_OBJECT, "queue", 0, 100)),
        (
            scaled_object({"autoscaling.keda.sh/paused": "true"}),
            Autoscaler(SCALED_OBJECT, "queue", 0, 100, paused=True),
        ),
        (scaled_object({"autoscaling.keda.sh/paused": "false"}), Autoscaler(SCALED_OBJECT, "queue", 0, 100)),
        (
            scaled_object({"autoscaling.keda.sh/paused-replicas": "0"}),
            Autoscaler(SCALED_OBJECT, "queue", 0, 100, paused=True, pinned=0),
        ),
    ],
)
def test_a_scaled_object_has_its_bounds_and_is_paused_or_not(obj: dict[str, Any], expected: Autoscaler) -> None:
    found = parse_scaled_object(obj)
    assert found.autoscaler == expected
    assert found.target == ("apps", "Deployment", "web")


def test_only_what_targets_the_workload_counts() -> None:
    other = {**WEB_TARGET, "name": "other"}
    old = {**WEB_TARGET, "apiVersion": "extensions/v1beta1"}
    stateful = {**WEB_TARGET, "kind": "StatefulSet"}
    found = [parse_hpa(hpa(target)) for target in (other, old, stateful)]
    assert those_of(WEB, found) == ()
    assert len(those_of(WorkloadRef("StatefulSet", "games", "web"), found)) == 1
    assert those_of(DATABASE, found) == ()
    assert len(those_of(WEB, [parse_hpa(hpa({**WEB_TARGET, "apiVersion": "apps/v1beta2"}))])) == 1


def test_what_keda_makes_for_itself_is_not_named_beside_it() -> None:
    owner = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "queue", "controller": True}
    made = parse_hpa(hpa(metadata={"name": "keda-hpa-queue", "ownerReferences": [owner]}))
    assert [each.name for each in those_of(WEB, [made, parse_scaled_object(scaled_object())])] == ["queue"]
    assert [each.name for each in those_of(WEB, [made])] == ["keda-hpa-queue"], "where ScaledObjects may not be listed"


# Told

KEEPS = Autoscaler(HPA, "web", 1, 5)
FROM_ZERO = Autoscaler(HPA, "web", 0, 5)
QUEUE = Autoscaler(SCALED_OBJECT, "queue", 0, 10)
ALWAYS = Autoscaler(SCALED_OBJECT, "queue", 1, 10)
PAUSED = Autoscaler(SCALED_OBJECT, "queue", 0, 10, paused=True)
AT_ZERO = Autoscaler(SCALED_OBJECT, "queue", 0, 10, paused=True, pinned=0)
AT_ONE = Autoscaler(SCALED_OBJECT, "queue", 0, 10, paused=True, pinned=1)


@pytest.mark.parametrize(
    ("autoscaler", "desired", "text"),
    [
        (KEEPS, 2, "HorizontalPodAutoscaler web keeps it between 1 and 5 replicas"),
        (KEEPS, 0, "HorizontalPodAutoscaler web rests while it is off"),
        (FROM_ZERO, 0, "HorizontalPodAutoscaler web can start it at any time"),
        (QUEUE, 3, "ScaledObject queue keeps it between 0 and 10 replicas"),
        (QUEUE, 0, "ScaledObject queue can start it at any time"),
        (PAUSED, 0, "ScaledObject queue is paused"),
        (AT_ONE, 1, "ScaledObject queue is paused at 1 replica"),
        (AT_ZERO, 1, "ScaledObject queue is paused at 0 replicas"),
    ],
)
def test_a_status_says_what_an_autoscaler_means(autoscaler: Autoscaler, desired: int, text: str) -> None:
    assert remark(autoscaler, desired) == text


KEEP_OFF = "set its annotation autoscaling.keda.sh/paused to true to keep it off"


@pytest.mark.parametrize(
    ("autoscaler", "stop", "start"),
    [
        (KEEPS, "", ""),
        (
            FROM_ZERO,
            "HorizontalPodAutoscaler web can start it again at any time; raise its minimum above 0 to keep it off",
            "",
        ),
        (
            QUEUE,
            f"ScaledObject queue can start it again at any time; {KEEP_OFF}",
            "ScaledObject queue stops it again when it has nothing to do",
        ),
        (ALWAYS, f"ScaledObject queue starts it again; {KEEP_OFF}", ""),
        (PAUSED, "", ""),
        (AT_ZERO, "", "ScaledObject queue is paused at 0 replicas and sets that again"),
        (AT_ONE, "ScaledObject queue is paused at 1 replica and sets that again", ""),
    ],
)
def test_a_start_or_stop_that_would_be_undone_says_so(autoscaler: Autoscaler, stop: str, start: str) -> None:
    assert warning(Verb.STOP, [autoscaler]) == stop
    assert warning(Verb.START, [autoscaler]) == start
    assert warning(Verb.STOP, [KEEPS, autoscaler]) == stop, "one that rests keeps no other from being told of"
