"""Events about an object, written and counted as Kubernetes' event recorder does."""

from __future__ import annotations

from .pod_objects import random_name
from .resources import EVENTS, Json
from .store import ObjectStore, timestamp


def record_event(store: ObjectStore, about: Json, reason: str, message: str, *, warning: bool, source: str) -> None:
    """Write an event about `about` (an object with kind, apiVersion and metadata), or count it once more."""
    namespace = about["metadata"]["namespace"]
    involved = _reference(about)
    said = {"reason": reason, "message": message, "type": "Warning" if warning else "Normal"}
    for event in store.list(EVENTS, namespace):
        if event["involvedObject"] == involved and all(event[key] == value for key, value in said.items()):
            event.update(count=event["count"] + 1, lastTimestamp=timestamp())
            store.replace(EVENTS, event)
            return
    store.add(EVENTS, _event(namespace, involved, said, source))


def _reference(about: Json) -> Json:
    reference = {"kind": about["kind"], "apiVersion": about["apiVersion"]}
    reference.update({key: about["metadata"][key] for key in ("namespace", "name", "uid") if key in about["metadata"]})
    return reference


def _event(namespace: str, involved: Json, said: Json, source: str) -> Json:
    now = timestamp()
    return {
        "metadata": {"name": random_name(f"{involved['name']}.18"), "namespace": namespace},
        "involvedObject": involved,
        **said,
        "source": {"component": source},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
        "eventTime": None,
        "reportingComponent": source,
        "reportingInstance": "",
    }
