"""What Kubernetes' own components say when something goes wrong, in the words of a real cluster."""

from __future__ import annotations

import copy

from .behaviour import Outcome
from .resources import Json

NO_NODE = (
    "0/3 nodes are available: 3 Insufficient memory. preemption: 0/3 nodes are available: "
    "3 No preemption victims found for incoming pod."
)
UNBOUND = "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found"
NOT_PROVISIONED = "no persistent volumes available for this claim and no storage class is set"
NOT_MOUNTED = 'MountVolume.SetUp failed for volume "settings" : configmap "absent" not found'
NO_SECRET = 'secret "absent" not found'
UNHEALTHY = "{} probe failed: HTTP probe failed with statuscode: 503"
KILLED = "Container {} failed {} probe, will be restarted"
EVICTED = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 51040Ki."
QUOTA = "exceeded quota: compute, requested: pods=1, used: pods=4, limited: pods=4"
SECURITY = (
    'violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "{0}" must set '
    'securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "{0}" must set '
    'securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container "{0}" must set '
    'securityContext.runAsNonRoot=true), seccompProfile (pod or container "{0}" must set '
    'securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")'
)
CLAIM = "data"
MEMORY_LIMIT = "64Mi"
_INIT_CONTAINER = {"name": "prepare", "image": "registry.example/prepare:1", "imagePullPolicy": "IfNotPresent"}
_SPECS: dict[Outcome, Json] = {
    Outcome.UNBOUND_CLAIM: {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": CLAIM}}]},
    Outcome.NOT_MOUNTED: {"volumes": [{"name": "settings", "configMap": {"name": "absent"}}]},
    Outcome.INIT_FAILS: {"initContainers": [_INIT_CONTAINER]},
}


def spec_for(outcome: Outcome, spec: Json) -> Json:
    """A pod's spec with what there has to be for that to go wrong."""
    new = {**copy.deepcopy(spec), **copy.deepcopy(_SPECS.get(outcome, {}))}
    if outcome is Outcome.OUT_OF_MEMORY:
        new["containers"][0]["resources"] = {"limits": {"memory": MEMORY_LIMIT}}
    return new


def pull_error(image: str) -> str:
    """containerd's, for an image that its registry does not have."""
    return f'failed to pull and unpack image "{image}": failed to resolve image: {image}: not found'


def back_off(container: str, pod: Json) -> str:
    """What the kubelet writes into the state of a container that it restarts later."""
    return f"back-off 10s restarting failed container={container} pod={_full_name(pod)}"


def backing_off(container: str, pod: Json) -> str:
    """The event beside it."""
    return f"Back-off restarting failed container {container} in pod {_full_name(pod)}"


def _full_name(pod: Json) -> str:
    metadata = pod["metadata"]
    return f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})"


def forbidden(pod: str, why: str) -> str:
    """What an admission plugin answers to the controller that wants to create a pod."""
    return f'pods "{pod}" is forbidden: {why}'


def not_created(kind: str, name: str, pod: str, refusal: str) -> str:
    """The event of the controller that was refused; `kind` is of the object that it is about."""
    if kind == "StatefulSet":
        return f"Create Pod {pod} in StatefulSet {name} failed error: {refusal}"
    return f"Error creating: {refusal}"


def created(kind: str, name: str, pod: str) -> str:
    """The event of the controller that created a pod."""
    return f"Create Pod {pod} in StatefulSet {name} successful" if kind == "StatefulSet" else f"Created pod: {pod}"
