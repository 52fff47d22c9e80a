"""Objects of custom kinds with their Scale, as operators write them; and when what they tell is a complete roll-out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toggle_plugin.api_objects import events_about, parse_custom, parse_workload
from toggle_plugin.models import ClusterEvent, Condition, Phase, Pod, Workload, WorkloadRef
from toggle_plugin.rollout import rollout_status

ROLLOUT = WorkloadRef("Rollout", "demo", "shop", "argoproj.io/v1alpha1")
REPLICASET = WorkloadRef("ReplicaSet", "demo", "rs")


def custom(status: Any = None, scale: Any = None, spec: Any = None, generation: int = 3) -> Workload:
    """A Rollout as it is read; its Scale wants and has two replicas, but for `scale`."""
    obj = {"metadata": {"resourceVersion": "7", "generation": generation}, "spec": spec, "status": status}
    default = {"spec": {"replicas": 2}, "status": {"replicas": 2, "selector": "app=shop"}}
    return parse_custom(ROLLOUT, obj, default if scale is None else scale)


def pods(*ready: bool, terminating: bool = False) -> tuple[Pod, ...]:
    return tuple(Pod(f"shop-{n}", "Running", terminating=terminating, ready=each) for n, each in enumerate(ready))


# What is read


def test_all_that_a_status_tells_is_taken() -> None:
    status = {
        "observedGeneration": "3",
        "updatedReplicas": 1,
        "readyReplicas": 2,
        "availableReplicas": 1,
        "conditions": [{"type": "Progressing", "status": "True"}, {"type": "Paused"}, "free text"],
    }
    found = custom(status, spec={"paused": True, "minReadySeconds": 5})
    assert (found.desired, found.replicas, found.updated, found.ready, found.available) == (2, 2, 1, 2, 1)
    assert (found.observed_generation, found.selector, found.counted) == (3, "app=shop", True)
    assert found.conditions == (Condition("Progressing", "True"),)
    assert (found.paused, found.min_ready_seconds) == (True, 5)


@pytest.mark.parametrize(("told", "observed"), [("2", 2), (2, 2), (None, 3), ("5d8f7c", 3), (True, 3)])
def test_a_generation_that_is_no_number_tells_nothing(told: Any, observed: int) -> None:
    assert custom({"observedGeneration": told}).observed_generation == observed


@pytest.mark.parametrize(
    ("status", "ready", "available"),
    [
        ({"readyReplicas": 1}, 1, 1),
        ({"availableReplicas": 1}, 1, 1),
        ({"readyReplicas": 0}, 0, 0),
        ({"readyReplicas": "1/2", "availableReplicas": 1}, 1, 1),
    ],
)
def test_one_count_stands_for_the_other(status: dict[str, Any], ready: int, available: int) -> None:
    found = custom(status)
    assert (found.ready, found.available, found.updated, found.counted) == (ready, available, 2, True)


@pytest.mark.parametrize("status", [None, {}, {"phase": "Healthy"}, {"readyReplicas": "1/2"}, "free text"])
def test_what_tells_no_readiness_is_to_be_counted_where_it_has_a_selector(status: Any) -> None:
    assert not custom(status).counted
    unselected = custom(status, {"spec": {"replicas": 2}, "status": {"replicas": 2}})
    assert (unselected.counted, unselected.ready) == (True, 2)


def test_a_scale_leaves_its_zeros_out() -> None:
    assert custom(scale={"spec": {}, "status": {}}).desired == 0


KEYS = ("observedGeneration", "readyReplicas", "updatedReplicas", "conditions", "type", "status", "message", "paused")
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner),
)


@given(ANYTHING, ANYTHING)
def test_whatever_an_operator_writes_is_read(spec: Any, status: Any) -> None:
    found = custom(status, spec=spec)
    assert found.desired == 2
    assert all(isinstance(condition.message, str) for condition in found.conditions)
    assert rollout_status(found).phase in (Phase.RUNNING, Phase.STARTING, Phase.STUCK)


def test_the_controller_that_owns_it_is_known() -> None:
    owners = [{"kind": "ConfigMap", "name": "x"}, {"kind": "Deployment", "name": "web", "controller": True}]
    metadata = {"resourceVersion": "7", "ownerReferences": owners}
    assert parse_workload(REPLICASET, {"metadata": metadata, "spec": {}}).owner == "Deployment web"
    assert custom().owner == ""


def test_events_about_a_replicaset_are_its_own_and_those_about_a_rollout_its_replicasets() -> None:
    own, other, hashed = (
        ClusterEvent("ReplicaSet", name, "Warning", "FailedCreate", "", 1, 0.0) for name in ("rs", "rs-2", "shop-5d8f")
    )
    found = replace(custom({"readyReplicas": 1}), ref=REPLICASET)
    assert events_about([own, other, hashed], found, (), 9) == (own,)
    assert events_about([own, other, hashed], custom(), (), 9) == (hashed,)


# When it is complete


FULL = {"readyReplicas": 2, "updatedReplicas": 2}


@pytest.mark.parametrize(
    ("found", "phase", "reason"),
    [
        (custom(FULL), Phase.RUNNING, ""),
        (custom({**FULL, "readyReplicas": 1}), Phase.STARTING, "1 of 2 available"),
        (custom({**FULL, "updatedReplicas": 1}), Phase.STARTING, "1 of 2 updated"),
        (replace(custom(FULL), replicas=1), Phase.STARTING, "1 of 2 there"),
        (replace(custom(FULL), replicas=3), Phase.STARTING, "1 pod too many is still there"),
        (replace(custom(FULL), replicas=4), Phase.STARTING, "2 pods too many are still there"),
        (custom({**FULL, "observedGeneration": "2"}), Phase.STARTING, "the cluster has not taken up the change yet"),
        (replace(custom({}), desired=0, replicas=1), Phase.STOPPING, ""),
        (replace(custom({}), desired=0, replicas=0), Phase.OFF, ""),
        (replace(custom(FULL), ref=REPLICASET, updated=0), Phase.RUNNING, ""),
        (replace(custom(FULL), ref=REPLICASET, available=0), Phase.STARTING, "0 of 2 available"),
    ],
)
def test_it_is_complete_when_all_of_it_is_there_new_and_available(found: Workload, phase: Phase, reason: str) -> None:
    status = rollout_status(found)
    assert (status.phase, status.reason) == (phase, reason)


@pytest.mark.parametrize(
    ("there", "ready"),
    [
        (None, 0),
        ((), 0),
        (pods(True, False), 1),
        (pods(True, True), 2),
        (pods(True, True, True), 2),
        ((*pods(True), *pods(True, terminating=True)), 1),
    ],
)
def test_ready_pods_are_counted_where_nobody_tells(there: tuple[Pod, ...] | None, ready: int) -> None:
    status = rollout_status(custom({}), there)
    assert (status.ready, status.available) == (ready, ready)
    assert (status.phase is Phase.RUNNING) == (ready == 2)
