"""Life of a release: upgraded, rolled back, uninstalled, installed again; and the same without helm in the cluster."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conversation import told
from tests.stack.maubot import MaubotAPI
from tests.stack.processes import LOOPBACK, ChildProcess, free_port
from tests.stack.stack import PLUGIN

from .base_image import REPOSITORY
from .cluster import Cluster, Namespace, NotInTime
from .node.command import CommandFailed, run
from .release import CLAIM, FULLNAME, NAME, Release, workload

pytestmark = pytest.mark.timeout(900)

NEWER = "0.99.0"
SOURCES = ("build.sh", "maubot.yaml", "base-config.yaml", "requirements", "toggle_plugin", "chart")
"""What ./build.sh chart makes the package of."""
KEPT = ("admin-password", "unshared-secret", "device-id", "access-token", "recovery-key")


@pytest.fixture
async def elsewhere(cluster: Cluster) -> AsyncIterator[Namespace]:
    """A second namespace of workloads, with one at 0."""
    async with cluster.namespace() as namespace:
        await namespace.apply(workload(await cluster.probe(), "api"))
        yield namespace


@pytest.fixture(scope="module")
async def newer_chart(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The package that ./build.sh chart makes of a checkout with another version."""
    checkout = tmp_path_factory.mktemp("newer")
    for name in SOURCES:
        source = REPOSITORY / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, checkout / name)
    for name in ("maubot.yaml", "chart/Chart.yaml"):
        file = checkout / name
        file.write_text(re.sub(r"(?m)^(version|appVersion): .*$", rf"\1: {NEWER}", file.read_text()))
    environments = os.environ.get("TOGGLE_VENVS") or str(REPOSITORY / ".venv")
    made = await run(("env", f"TOGGLE_VENVS={environments}", str(checkout / "build.sh"), "chart"))
    return str(checkout / made.split()[-1])


# What a release is, to be compared


async def running(namespace: Namespace) -> dict[str, tuple[object, ...]]:
    """What would be another, or more, after a restart or a roll-out; by kind and name."""
    items = (await namespace.get("statefulsets,deployments,replicasets,controllerrevisions,pods"))["items"]
    return {f"{item['kind']}/{item['metadata']['name']}": identity(item) for item in items}


def identity(item: Mapping[str, Any]) -> tuple[object, ...]:
    """Which object it is, and how often it was asked for something else or its containers restarted."""
    meta, status = item["metadata"], item.get("status", {})
    restarts = [container["restartCount"] for container in status.get("containerStatuses", ())]
    return meta["uid"], meta.get("generation"), item.get("revision"), restarts, status.get("updateRevision")


async def of_maubot(namespace: Namespace) -> dict[str, tuple[object, ...]]:
    return {name: found for name, found in (await running(namespace)).items() if "provisioner" not in name}


async def objects(namespace: Namespace) -> set[str]:
    """All that lies in a namespace, but for what happened there."""
    kinds = (await namespace.kubectl("api-resources", "--namespaced", "--verbs=list", "--output=name")).split()
    lasting = ",".join(kind for kind in kinds if not kind.startswith("events"))
    return set((await namespace.kubectl("get", lasting, "--output=name")).split())


async def roles(namespace: Namespace) -> list[str]:
    return (await namespace.kubectl("get", "roles,rolebindings", "--output=name")).split()


async def scalable(release: Release, workloads: Mapping[str, Namespace]) -> set[str]:
    """Which of these Deployments the bot has the right to scale, as the API server decides it."""
    return {name for name, namespace in workloads.items() if await may_scale(release, namespace, name)}


async def may_scale(release: Release, namespace: Namespace, name: str) -> bool:
    who = f"--as=system:serviceaccount:{release.namespace.name}:{FULLNAME}"
    try:
        answer = await namespace.kubectl("auth", "can-i", "patch", f"deployments/{name}", "--subresource=scale", who)
    except CommandFailed:  # the answer no is an exit status
        return False
    return answer.strip() == "yes"


@contextlib.asynccontextmanager
async def maubot_api(release: Release) -> AsyncIterator[MaubotAPI]:
    """maubot's API as the release's notes say it: by port-forward, with the password of the Secret."""
    port, log = free_port(), release.synapse.directory / "port-forward.log"
    place = ("--kubeconfig", str(release.cluster.kubeconfig), "--namespace", release.namespace.name)
    command = ("kubectl", *place, "port-forward", f"service/{FULLNAME}", f"{port}:29316")
    forward = await ChildProcess.start("kubectl port-forward", command, directory=Path("/"), log=log)
    try:
        url = f"http://{LOOPBACK}:{port}"
        await forward.wait_until_ready(f"{url}/_matrix/maubot/v1/features")
        async with MaubotAPI.open(url, "admin", (await release.secret())["admin-password"]) as api:
            yield api
    finally:
        await forward.kill()


async def plugin_version(release: Release) -> str:
    async with maubot_api(release) as api:
        return str((await api.call("GET", f"/plugin/{PLUGIN}"))["version"])


async def devices(release: Release) -> list[str]:
    """The bot's logged-in devices, by the token of the Secret."""
    token = (await release.secret())["access-token"]
    answer = await release.synapse.request("GET", "/_matrix/client/v3/devices", token=token)
    return [device["device_id"] for device in answer["devices"]]


def target(namespace: Namespace, name: str) -> dict[str, Any]:
    return {name: {"kind": "Deployment", "namespace": namespace.name, "name": name, "replicas": 1}}


# Upgrades


async def test_an_upgrade_restarts_what_it_changes_and_nothing_if_it_changes_nothing(
    release: Release, own: None
) -> None:
    values = release.own_values()
    await release.install(values)
    alice = await release.person("alice")
    room = await release.room(alice)
    await told(alice, room, "status", "is off", 90)
    before, secret = await running(release.namespace), await release.secret()
    await release.install(values)
    assert await running(release.namespace) == before
    assert "REVISION: 2" in await release.helm("status", NAME)

    values["maubot"]["logLevel"] = "WARNING"
    await release.install(values)
    after = await running(release.namespace)
    assert {name for name in before if "provisioner" in name and before[name] != after.get(name)} == set()
    assert before[f"Pod/{FULLNAME}-0"] != after[f"Pod/{FULLNAME}-0"]
    await told(alice, room, "start", "is running", 90)
    assert await release.secret() == secret


async def test_other_targets_and_another_plugin_and_back_again(
    release: Release, own: None, elsewhere: Namespace, newer_chart: str
) -> None:
    """maubot's pod goes on all the while: it is told of both by its API."""
    values, places = release.own_values(), {"web": release.workloads, "api": elsewhere}
    await release.install(values)
    before, version = await of_maubot(release.namespace), await plugin_version(release)
    assert await scalable(release, places) == {"web"}
    assert len(await roles(release.workloads)) == 2
    alice = await release.person("alice")
    room = await release.room(alice)
    await told(alice, room, "start web", "is running", 90)

    values["instance"]["settings"]["targets"] = target(elsewhere, "api")
    await release.install(values, chart=newer_chart)
    assert await plugin_version(release) == NEWER != version
    await told(alice, room, "start api", "is running", 90)
    assert "web" not in (await told(alice, room, "status", "api", 90)).body
    assert await roles(release.workloads) == []
    assert await scalable(release, places) == {"api"}
    assert await of_maubot(release.namespace) == before

    await release.roll_back(1)
    assert await plugin_version(release) == version
    await told(alice, room, "stop web", "is off", 90)
    assert "api" not in (await told(alice, room, "status", "web", 90)).body
    assert await scalable(release, places) == {"web"}
    assert await of_maubot(release.namespace) == before
    assert await devices(release) == [(await release.secret())["device-id"]]


# Uninstalled


async def test_what_is_dear_outlives_the_release_and_the_next_one_takes_it_up(release: Release, own: None) -> None:
    values, namespace, workloads = release.own_values(), release.namespace, release.workloads
    empty, of_workloads = await objects(namespace), await objects(workloads)
    await release.install(values)
    alice = await release.person("alice")
    room = await release.room(alice)
    await told(alice, room, "status", "is off", 90)
    secret, claim = await release.secret(), (await namespace.get("pvc", CLAIM))["metadata"]["uid"]

    await release.uninstall()
    dear = {f"persistentvolumeclaim/{CLAIM}", f"secret/{FULLNAME}"}

    async def gone() -> bool:
        return await objects(namespace) - empty == dear

    with contextlib.suppress(NotInTime):  # the comparison says what else is left, or is not
        await namespace.until(f"{dear} to be all that is left of the release", gone)
    assert await objects(namespace) - empty == dear
    assert await objects(workloads) == of_workloads

    await release.install(values)
    again = await release.secret()
    assert [again[key] for key in KEPT] == [secret[key] for key in KEPT]
    assert (await namespace.get("pvc", CLAIM))["metadata"]["uid"] == claim
    assert await devices(release) == [secret["device-id"]]
    await told(alice, room, "start", "is running", 90)


# Without helm in the cluster, as GitOps does it


async def rendered(release: Release) -> str:
    return await release.helm("template", NAME, os.environ["TOGGLE_CHART"], "--skip-tests", values=release.own_values())


async def apply(release: Release, manifest: str) -> None:
    await release.cluster.kubectl("apply", "--server-side", "--filename=-", content=manifest)
    await release.ready()


async def versions(release: Release, manifest: str) -> dict[str, tuple[str, object]]:
    """The version and the generation of each object of a manifest, by kind, namespace and name."""
    found = json.loads(await release.cluster.kubectl("get", "--filename=-", "--output=json", content=manifest))
    metas = [(item["kind"], item["metadata"]) for item in found["items"]]
    return {
        f"{kind} {meta['namespace']}/{meta['name']}": (meta["resourceVersion"], meta.get("generation"))
        for kind, meta in metas
    }


async def test_what_helm_renders_is_applied_without_it_and_a_second_time_changes_nothing(
    release: Release, own: None
) -> None:
    manifest = await rendered(release)
    await apply(release, manifest)
    alice = await release.person("alice")
    room = await release.room(alice)
    await told(alice, room, "start", "is running", 90)
    before, pods = await versions(release, manifest), await running(release.namespace)
    assert {"StatefulSet", "Deployment", "Secret", "Role", "NetworkPolicy"} <= {name.split()[0] for name in before}

    await apply(release, await rendered(release))
    assert await versions(release, manifest) == before
    assert await running(release.namespace) == pods
    await told(alice, room, "stop", "is off", 90)
