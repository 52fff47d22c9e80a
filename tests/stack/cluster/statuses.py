"""The status of the kinds that are neither Deployment nor StatefulSet, as their controllers write it."""

from __future__ import annotations

from .resources import GAMESERVERS, REPLICASETS, Json, Resource
from .workload_objects import Counts, deployment_status, selector_of


def other_status(resource: Resource, workload: Json, counts: Counts, failure: str, deadline_passed: bool) -> Json:
    """Status of a ReplicaSet or a custom resource whose newest spec was observed."""
    status = deployment_status(workload, counts, failure, deadline_passed)
    if resource == REPLICASETS:
        return _replicaset_status(status, counts)
    if resource == GAMESERVERS:
        return {"replicas": counts.replicas, "selector": selector_of(workload)}
    return _rollout_status(status, workload)


def _replicaset_status(status: Json, counts: Counts) -> Json:
    # replicas is written at zero too; a condition there is only while no pod can be created.
    kept = ("readyReplicas", "availableReplicas", "observedGeneration")
    conditions = [condition for condition in status["conditions"] if condition["type"] == "ReplicaFailure"]
    labelled = {"fullyLabeledReplicas": counts.replicas} if counts.replicas else {}
    told = {key: value for key, value in status.items() if key in kept}
    return {"replicas": counts.replicas, **labelled, **told, **({"conditions": conditions} if conditions else {})}


def _rollout_status(status: Json, workload: Json) -> Json:
    """As Argo's: its observed generation is a text, and it has a selector for its Scale."""
    told = {key: value for key, value in status.items() if key != "unavailableReplicas"}
    return {**told, "observedGeneration": str(status["observedGeneration"]), "selector": selector_of(workload)}
