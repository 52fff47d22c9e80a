"""Each way to be stuck that a kubelet can produce is told in the chat, in time and once; so is its end, once mended."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.integration.conversation import told
from tests.stack.chat import ChatClient
from tests.stack.synapse import Synapse
from tests.stack.timeline import Message

from .base_image import OWN
from .cluster import Cluster, Manifest, Namespace
from .release import FULLNAME, RESTRICTED_CONTAINER, PackageIndex, Release, workload
from .rights import account, forbidden, needed, requests

pytestmark = pytest.mark.timeout(600)

NAMED_SECONDS = 20.0
CALLED_SECONDS = 20.0
"""Until the person is called: the plugin waits for 10 s in which it stays stuck."""
QUIET_SECONDS = 12.0
"""How long nothing more is said: a container that crashes is started again in that time."""
MENDED_SECONDS = 180.0
"""Controllers try what was refused again and again, but ever more rarely."""
NO_IMAGE = "127.0.0.1:1/nothing:there"
CLAIM = "data"

Mend = Callable[[Namespace, str], Awaitable[None]]


def python(code: str, **more: Any) -> Manifest:
    return {"image": OWN, "command": ["python3", "-c", code], "args": [], **more}


def probe(**changes: Any) -> Manifest:
    """Of a port on which nobody listens."""
    return {"httpGet": {"path": "/", "port": 8081}, "periodSeconds": 1, **changes}


def without_replicas(manifest: Manifest) -> Manifest:
    spec = {key: value for key, value in manifest["spec"].items() if key != "replicas"}
    return {**manifest, "spec": spec}


def changed(manifest: Manifest, container: Manifest, pod: Manifest) -> Manifest:
    """A workload with other fields in its only container and in its pods."""
    template = manifest["spec"]["template"]
    [only] = template["spec"]["containers"]
    spec = {**template["spec"], "containers": [{**only, **container}], **pod}
    return {**manifest, "spec": {**manifest["spec"], "template": {**template, "spec": spec}}}


async def sound_template(namespace: Namespace, name: str) -> None:
    await namespace.apply(without_replicas(workload(await namespace.cluster.probe(), name)))


async def larger_quota(namespace: Namespace, _: str) -> None:
    await make_room(namespace, 5)


async def make_room(namespace: Namespace, pods: int) -> None:
    """Let a quota take so many pods from now on."""
    await namespace.apply(quota(pods))

    async def is_in_force() -> bool:
        status = (await namespace.get("resourcequota", "room")).get("status", {})
        return bool(status.get("hard") == {"pods": str(pods)})

    await namespace.until(f"a quota of {pods} pods", is_in_force)


async def a_volume(namespace: Namespace, _: str) -> None:
    await namespace.volume(CLAIM)


@dataclass(frozen=True)
class Failure:
    """What is wrong with a workload, in which words that is told (a regular expression), and what mends it."""

    words: str
    container: Manifest = field(default_factory=dict)
    pod: Manifest = field(default_factory=dict)
    mend: Mend = sound_template
    kind: str = "Deployment"
    crowded: bool = False
    """Whether it is in the namespace whose quota leaves no room."""


INIT: Manifest = {
    "name": "prepare",
    "image": OWN,
    "command": ["python3", "-c", "raise SystemExit(4)"],
    "securityContext": RESTRICTED_CONTAINER,
}
FAILURES = {
    "image": Failure(rf"container web of pod \S+ cannot get its image {NO_IMAGE} \(\w+\): ", {"image": NO_IMAGE}),
    "exit": Failure(r"container web of pod \S+ keeps ending with exit code 3 \(\d", python("raise SystemExit(3)")),
    "memory": Failure(
        r"container web of pod \S+ ran out of memory \(limit 32Mi, \d",
        python("bytearray(1 << 30)", resources={"limits": {"memory": "32Mi"}}),
    ),
    "cpu": Failure(
        r"pod \S+ has no node: the only one does not fit: Insufficient cpu", {"resources": {"requests": {"cpu": "999"}}}
    ),
    "readiness": Failure(r"pod \S+ runs but fails its readiness probe \(\d", {"readinessProbe": probe()}),
    "liveness": Failure(
        r"container web of pod \S+ fails its liveness probe each time \(\d",
        {"livenessProbe": probe(failureThreshold=1), "readinessProbe": probe()},
    ),
    "init": Failure(
        r"init container prepare of pod \S+ keeps ending with exit code 4 \(\d", pod={"initContainers": [INIT]}
    ),
    "claim": Failure(
        rf"pod \S+ waits for its claim {CLAIM}: no persistent volumes available for this claim",
        pod={"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": CLAIM}}]},
        mend=a_volume,
    ),
    "volume": Failure(
        r'pod \S+ waits for its volume settings: configmap "absent" not found',
        {"volumeMounts": [{"name": "settings", "mountPath": "/settings"}]},
        {"volumes": [{"name": "settings", "configMap": {"name": "absent"}}]},
    ),
    "config": Failure(
        r'container web of pod \S+ cannot be created \(CreateContainerConfigError\): secret "absent" not found',
        {"envFrom": [{"secretRef": {"name": "absent"}}]},
    ),
    "security": Failure(
        r'its pods cannot be created, for Pod Security "restricted" forbids them: allowPrivilegeEscalation',
        {"securityContext": {}},
        {"securityContext": {}},
    ),
    "quota": Failure(
        r"its pods cannot be created, for they exceed the quota room: requested pods=1", mend=larger_quota, crowded=True
    ),
    "quota-set": Failure(
        r"its pods cannot be created, for they exceed the quota room: requested pods=1",
        mend=larger_quota,
        kind="StatefulSet",
        crowded=True,
    ),
}


def quota(pods: int) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "room"},
        "spec": {"hard": {"pods": str(pods)}},
    }


def claim() -> Manifest:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": CLAIM}, "spec": spec}


def manifest_of(name: str, image: str) -> Manifest:
    failure = FAILURES[name]
    broken = changed(workload(image, name), failure.container, failure.pod)
    if failure.kind == "Deployment":
        return broken
    return {**broken, "kind": failure.kind, "spec": {**broken["spec"], "serviceName": name}}


@dataclass(frozen=True)
class Place:
    """A release with a target for each failure, and a room with its bot."""

    release: Release
    crowded: Namespace
    alice: ChatClient
    room: str

    def namespace_of(self, name: str) -> Namespace:
        return self.crowded if FAILURES[name].crowded else self.release.workloads


@pytest.fixture(scope="module")
async def place(own: None, cluster: Cluster, synapse: Synapse, index: PackageIndex) -> AsyncIterator[Place]:
    async with Release.open(cluster, synapse, index) as release, cluster.namespace() as crowded:
        image = await cluster.probe()
        await release.workloads.apply(claim())
        targets: dict[str, Mapping[str, Any]] = {}
        for name, failure in FAILURES.items():
            namespace = crowded if failure.crowded else release.workloads
            await namespace.apply(manifest_of(name, image))
            targets[name] = {"kind": failure.kind, "namespace": namespace.name, "name": name, "replicas": 1}
        values = release.own_values()
        values["instance"]["settings"]["targets"].update(targets)
        values["instance"]["settings"]["rollout_timeout"] = "5m"
        await release.install(values)
        await release.ready()
        alice = await release.person("alice")
        yield Place(release, crowded, alice, await release.room(alice))


def calls(alice: ChatClient, asked: str) -> list[Message]:
    """The messages of their own that notify the person, without the reply that is edited."""
    return [reply for reply in alice.timeline.replies(asked) if alice.user_id in reply.body]


@pytest.mark.parametrize("name", FAILURES)
async def test_it_is_told_in_time_and_once_and_so_is_its_end(place: Place, name: str) -> None:
    alice, failure, loop = place.alice, FAILURES[name], asyncio.get_running_loop()
    if failure.crowded:
        await make_room(place.crowded, 0)
    began = loop.time()
    asked = await alice.send(place.room, f"start {name}")
    reply = await alice.wait_reply(asked, NAMED_SECONDS)

    def is_named() -> bool:
        return bool(re.search(rf"{name} is stuck \(.*\): {failure.words}", plain(reply.body)))

    await alice.wait_for(is_named, began + NAMED_SECONDS - loop.time(), f"{failure.words}, not {reply.body}")
    named = loop.time() - began
    await alice.wait_for(lambda: calls(alice, asked), CALLED_SECONDS, "a call")
    await alice.settle(QUIET_SECONDS)
    assert is_named(), reply.history
    stuck = [f"{name} is stuck" in plain(text) for text in reply.history]
    assert stuck == sorted(stuck), f"once it was stuck, it must not be said to be starting: {reply.history}"
    [call] = calls(alice, asked)
    assert "I keep following it" in call.body

    began = loop.time()
    await failure.mend(place.namespace_of(name), name)
    await alice.wait_for(lambda: len(calls(alice, asked)) == 2, MENDED_SECONDS, "the end")
    print(f"\n{name}: named after {named:.1f} s, up {loop.time() - began:.1f} s after it was mended")  # noqa: T201 - figures
    assert f"{name} is running" in plain(reply.body)
    assert f"{name} is running" in plain(calls(alice, asked)[1].body)
    await told(alice, place.room, f"stop {name}", "is off", 90)


def plain(text: str) -> str:
    return text.replace("**", "").replace("\\", "")


async def test_a_pod_that_does_not_go_is_named_until_it_does(place: Place) -> None:
    alice, namespace = place.alice, place.release.workloads
    await told(alice, place.room, "start web", "is running", 90)
    [pod] = [f"pod/{each['metadata']['name']}" for each in await namespace.pods("app=web")]
    await namespace.kubectl("patch", pod, "--patch", json.dumps({"metadata": {"finalizers": ["example.org/hold"]}}))

    asked = await alice.send(place.room, "stop web")
    reply = await alice.wait_reply(asked)
    await alice.wait_text(reply, "it is kept by its finalizer example.org/hold", 60)
    assert "web is stopping" in plain(reply.body)
    await namespace.kubectl("patch", pod, "--patch", json.dumps({"metadata": {"finalizers": None}}))
    await alice.wait_text(reply, "is off", 60)


async def test_all_that_was_asked_for_is_granted(cluster: Cluster, place: Place) -> None:
    user = account(place.release.namespace.name, FULLNAME)
    assert needed(forbidden(requests(cluster, user))) == set()
