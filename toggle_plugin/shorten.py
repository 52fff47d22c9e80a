"""What the cluster says, shortened to what a person on a phone needs. Pure; a text of another form is only cut.

The forms are those of Kubernetes' own components: scheduler, kubelet, admission plugins and controllers.
"""

from __future__ import annotations

import re

LENGTH = 200
"""Characters of a message that are shown."""

_QUERY = re.compile(r"(https?://[^\s?\"]+)\?[^\s\"]*")
_GRPC = re.compile(r"rpc error: code = \w+ desc = ")
_IMAGE_STEPS = re.compile(
    rf'{_GRPC.pattern}|ErrImagePull: |(?:Back-off pulling|failed to pull and unpack) image "[^"]*": '
    r'|failed to resolve (?:image|reference "[^"]*"): |failed to do request: Head "[^"]*": '
)
_NODES = re.compile(r"^0/(\d+) nodes are available: ")
_PREEMPTION = re.compile(r"\.? preemption: .*|\. not found$|[.,]? no new claims to deallocate.*")
_VOLUME = re.compile(r'[\w.]+ failed for volume "([^"]*)" ?: ')
_CREATION_STEPS = re.compile(
    r'^(?:Error creating: )?(?:create (?:Pod|Claim) .*? failed error: )?(?:\w+ "[^"]*" is forbidden: )?', re.IGNORECASE
)
_EXCEEDED = re.compile(r"exceeded quota: (\S+), requested: ")
_INCOMPLETE = re.compile(r"failed quota: (\S+): ")
_POD_SECURITY = re.compile(r'violates PodSecurity "([^":]+)[^"]*": ')
_RUNTIME_STEPS = re.compile(r".*unable to start container process: (?:error during container init: )?")
_MOUNT_COMMAND = re.compile(r" Mounting command: .*? Output:")
"""The command can hold what nobody else should read."""
_PROBE_STEPS = re.compile(r"^\w+ probe (?:failed|errored)(?: and resulted in \w+ state)?: ")
_OF_KUBELET = re.compile(
    r'HTTP probe failed|Get "|dial tcp|exec: |command timed out|command "[^"]*" timed out|service unhealthy|timeout: '
)


def shorten(message: str) -> str:
    """`message` on one line, its end cut where it is long, without URLs' queries (they can hold tokens)."""
    text = _QUERY.sub(r"\1", " ".join(message.split())).rstrip(".")
    return text if len(text) <= LENGTH else text[: LENGTH - 1].rstrip() + "…"


def image_failure(message: str) -> str:
    """Why an image does not come, in the registry's words: without the steps there, which all name the image."""
    return shorten(_IMAGE_STEPS.sub("", message))


def scheduling(message: str) -> str:
    """Why no node takes a pod; that making room would not help either is left out."""
    nodes, why = _of_nodes(message)
    if nodes == 1:
        return shorten(f"the only one does not fit: {why.removeprefix('1 ')}")
    return shorten(f"none of {nodes} fits: {why}" if nodes else why)


def claim_failure(message: str) -> str:
    """What the scheduler says of a pod's claims, without the nodes: none of them can do anything about it."""
    return shorten(_of_nodes(message)[1])


def _of_nodes(message: str) -> tuple[int, str]:
    """How many nodes the scheduler looked at, 0 where it does not say so; and what is wrong with them."""
    text = _PREEMPTION.sub("", " ".join(message.split()))
    nodes = _NODES.match(text)
    return (int(nodes[1]), text[nodes.end() :].replace("node(s) ", "")) if nodes else (0, text)


def volume_failure(message: str) -> str:
    """Which volume is not there, and why."""
    text = _MOUNT_COMMAND.sub(":", _GRPC.sub("", " ".join(message.split())))
    volume = _VOLUME.match(text)
    return shorten(f"its volume {volume[1]}: {text[volume.end() :]}" if volume else f"a volume: {text}")


def creation_failure(message: str) -> str:
    """Why a controller cannot create pods, as a sentence part of its own: what refuses them comes first."""
    text = _CREATION_STEPS.sub("", " ".join(message.split()))
    if quota := _EXCEEDED.match(text):
        counts = re.sub(r"(used|limited): ", r"\1 ", text[quota.end() :])
        return _not_created(f"they exceed the quota {quota[1]}", f"requested {counts}")
    if quota := _INCOMPLETE.match(text):
        return _not_created(f"the quota {quota[1]} asks more of them", text[quota.end() :])
    if security := _POD_SECURITY.match(text):
        violations = re.sub(r" \([^()]*\)", "", text[security.end() :])
        return _not_created(f'Pod Security "{security[1]}" forbids them', violations)
    return shorten(f"its pods cannot be created: {text}" if text else "its pods cannot be created")


def _not_created(why: str, how: str) -> str:
    return shorten(f"its pods cannot be created, for {why}: {how}")


def start_failure(message: str) -> str:
    """Why a container's process does not start, without the path of the error through the runtime."""
    return shorten(_RUNTIME_STEPS.sub("", " ".join(message.split())).removesuffix(": unknown"))


def probe_failure(message: str) -> str:
    """What the kubelet says of a probe; nothing where the message is what a command wrote."""
    text = start_failure(_PROBE_STEPS.sub("", message))
    return text if _OF_KUBELET.match(text) else ""
