"""Rights: what the plugin and the provisioner ask for is what their Roles grant, and nothing else can be touched."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

import pytest

from tests.chart.rights import BOT, PROVISIONER
from tests.integration.conversation import told
from tests.stack.chat import ChatClient
from tests.stack.synapse import Synapse

from .cluster import Cluster, Manifest, Namespace
from .release import FULLNAME, PackageIndex, Release, workload
from .rights import (
    OF_EVERYBODY,
    TEST,
    account,
    allowed,
    forbidden,
    granted_by,
    needed,
    requests,
    rights_of_its_own,
)

pytestmark = pytest.mark.timeout(600)

POD = f"{FULLNAME}-0"
TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"
NO_IMAGE = "localhost/nothing:there"
SLOW_START = 6
"""Seconds until it can be ready: long enough for the bot to look at its pods and events."""

ASK = f"""
import json, ssl, sys, urllib.error, urllib.request

account = "/var/run/secrets/kubernetes.io/serviceaccount/"
token, trusted = open(account + "token").read(), ssl.create_default_context(cafile=account + "ca.crt")

def status(method, path, body):
    kind = "application/json" if method == "POST" else "application/merge-patch+json"
    headers = {{"Authorization": "Bearer " + token, "Content-Type": kind, "User-Agent": "{TEST}"}}
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request("https://kubernetes.default.svc" + path, data, headers, method=method)
    try:
        return urllib.request.urlopen(request, context=trusted, timeout=30).status
    except urllib.error.HTTPError as error:
        return error.code

print(json.dumps([status(*request) for request in json.load(sys.stdin)]))
"""
"""Makes requests as the pod that it runs in, and prints their HTTP statuses."""


class Request(NamedTuple):
    method: str
    path: str
    body: Mapping[str, Any] | None = None


ONE: Mapping[str, Any] = {"spec": {"replicas": 1}}
NONE: Mapping[str, Any] = {"spec": {"replicas": 0}}


def stateful(image: str, name: str) -> Manifest:
    """A StatefulSet at 0 that takes a while to be ready."""
    deployment = workload(image, name)
    template = deployment["spec"]["template"]
    [container] = template["spec"]["containers"]
    probe = {**container["readinessProbe"], "initialDelaySeconds": SLOW_START}
    pod = {**template["spec"], "containers": [{**container, "readinessProbe": probe}]}
    spec = {**deployment["spec"], "serviceName": name, "template": {**template, "spec": pod}}
    return {**deployment, "kind": "StatefulSet", "spec": spec}


def target(kind: str, namespace: Namespace, name: str) -> Mapping[str, Any]:
    return {"kind": kind, "namespace": namespace.name, "name": name, "replicas": 1}


def with_targets(release: Release, targets: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """The values of a release with more targets than one."""
    values = release.own_values()
    values["instance"]["settings"]["targets"].update(targets)
    return {**values, **more}


@pytest.fixture(scope="module")
async def games(cluster: Cluster) -> AsyncIterator[Namespace]:
    """A second namespace with a target, and with a workload that is none."""
    async with cluster.namespace() as namespace:
        image = await cluster.probe()
        await namespace.apply(stateful(image, "valheim"), stateful(image, "other"))
        yield namespace


@pytest.fixture(scope="module")
async def ready(
    own: None, cluster: Cluster, synapse: Synapse, index: PackageIndex, games: Namespace
) -> AsyncIterator[Release]:
    """A release that is ready: targets of both kinds in two namespaces, one of which cannot come up."""
    async with Release.open(cluster, synapse, index) as release:
        await release.workloads.apply(workload(NO_IMAGE, "broken"), workload(await cluster.probe(), "other"))
        targets = {
            "broken": target("Deployment", release.workloads, "broken"),
            "valheim": target("StatefulSet", games, "valheim"),
        }
        await release.install(with_targets(release, targets))
        await release.ready()
        yield release


def bot(release: Release) -> str:
    return account(release.namespace.name, FULLNAME)


def provisioner(release: Release) -> str:
    return account(release.namespace.name, f"{FULLNAME}-provisioner")


async def provisioner_pod(release: Release) -> str:
    [pod] = await release.namespace.pods("app.kubernetes.io/component=provisioner")
    return str(pod["metadata"]["name"])


async def statuses(release: Release, pod: str, asked: list[Request]) -> list[str]:
    """The requests, made from inside a pod, each with the HTTP status that answered it."""
    answer = await release.namespace.kubectl(
        *("exec", "--stdin", pod, "--", "python3", "-c", ASK), content=json.dumps(asked)
    )
    return [f"{status} {each.method} {each.path}" for each, status in zip(asked, json.loads(answer), strict=True)]


async def use_everything(alice: ChatClient, room: str) -> None:
    """All that a person can make the plugin do with these targets."""
    reply = await told(alice, room, "check", "all there")
    assert reply.body.count("all there") == 3, reply.body
    await told(alice, room, "start web", "is running", 90)
    await told(alice, room, "start valheim", "is running", 90)
    await told(alice, room, "start broken", "cannot get its image", 90)
    await told(alice, room, "status", "cannot get its image", 30)
    await told(alice, room, "stop broken", "is off", 90)
    await told(alice, room, "stop valheim", "is off", 90)
    await told(alice, room, "stop web", "is off", 90)


async def test_the_bot_uses_each_right_that_it_has_and_asks_for_no_other(cluster: Cluster, ready: Release) -> None:
    alice = await ready.person("alice")
    await use_everything(alice, await ready.room(alice))

    asked = requests(cluster, bot(ready))
    assert needed(forbidden(asked)) == set()
    assert needed(asked) - OF_EVERYBODY == await granted_by(ready)


async def test_what_the_bot_may_do_comes_from_the_charts_roles(cluster: Cluster, ready: Release) -> None:
    """The API server says which binding let a request pass."""
    alice = await ready.person("alice")
    await told(alice, await ready.room(alice), "status", "3 off")
    asked = [event for event in requests(cluster, bot(ready)) if needed([event]) - OF_EVERYBODY]
    assert asked
    for event in asked:
        binding = f'RoleBinding "{FULLNAME}/{event["objectRef"]["namespace"]}"'
        assert binding in event["annotations"]["authorization.k8s.io/reason"], event


async def test_the_provisioner_uses_each_right_that_it_has_and_asks_for_no_other(
    cluster: Cluster, ready: Release
) -> None:
    asked = requests(cluster, provisioner(ready))
    assert needed(forbidden(asked)) == set()
    assert needed(asked) == await granted_by(ready, PROVISIONER)


async def test_no_account_has_more_rights_than_its_role(cluster: Cluster, ready: Release, games: Namespace) -> None:
    """Asked of the API server, in the namespaces of the targets, of the release, and in others."""
    there = [ready.namespace.name, ready.workloads.name, games.name, "default", "kube-system"]
    for user, component in ((bot(ready), BOT), (provisioner(ready), PROVISIONER)):
        found = [await rights_of_its_own(cluster, user, namespace) for namespace in there]
        assert set().union(*found) == await granted_by(ready, component), user


async def test_the_pods_token_changes_nothing_but_the_scale_of_the_targets(ready: Release, games: Namespace) -> None:
    apps, games_apps = (f"/apis/apps/v1/namespaces/{each.name}" for each in (ready.workloads, games))
    may = [
        Request("GET", f"{apps}/deployments/web"),
        Request("PATCH", f"{apps}/deployments/web/scale", NONE),
        Request("PATCH", f"{games_apps}/statefulsets/valheim/scale", NONE),
    ]
    assert await statuses(ready, POD, may) == [f"200 {each.method} {each.path}" for each in may]
    may_not = [
        Request("GET", f"{apps}/deployments/other"),
        Request("PATCH", f"{apps}/deployments/other", ONE),
        Request("PATCH", f"{apps}/deployments/other/scale", ONE),
        Request("PATCH", f"{games_apps}/statefulsets/other/scale", ONE),
        Request("PATCH", f"{apps}/statefulsets/web/scale", ONE),
        Request("PATCH", f"{apps}/deployments/web", {"spec": {"paused": True}}),
        Request("PUT", f"{apps}/deployments/web/scale", ONE),
        Request("DELETE", f"{apps}/deployments/web"),
        Request("GET", f"{apps}/deployments"),
        Request("GET", f"{apps}/deployments?watch=true"),
        Request("POST", f"{apps}/deployments", workload("any", "another")),
    ]
    assert await statuses(ready, POD, may_not) == [f"403 {each.method} {each.path}" for each in may_not]

    counts = [each["spec"]["replicas"] for each in (await ready.workloads.get("deployments"))["items"]]
    assert counts == [0, 0, 0]


async def test_the_pods_token_reads_no_secret_and_gets_no_further(ready: Release) -> None:
    home, workloads = (f"/api/v1/namespaces/{each.name}" for each in (ready.namespace, ready.workloads))
    binding = {"metadata": {"name": "mine"}, "roleRef": {}, "subjects": []}
    may = [Request("GET", f"{workloads}/pods"), Request("GET", f"{workloads}/events")]
    assert await statuses(ready, POD, may) == [f"200 {each.method} {each.path}" for each in may]
    may_not = [
        Request("GET", f"{home}/secrets"),
        Request("GET", f"{home}/secrets/{FULLNAME}"),
        Request("GET", f"{home}/secrets/{FULLNAME}-credentials"),
        Request("PATCH", f"{home}/secrets/{FULLNAME}", {"data": {}}),
        Request("GET", f"{home}/configmaps"),
        Request("GET", f"{home}/pods"),
        Request("GET", f"{home}/events"),
        Request("POST", f"{home}/serviceaccounts/{FULLNAME}-provisioner/token", {}),
        Request("GET", f"{workloads}/secrets"),
        Request("POST", f"{workloads}/pods", {}),
        Request("DELETE", f"{workloads}/pods/any"),
        Request("GET", f"{workloads}/pods/any/log"),
        Request("POST", f"{workloads}/pods/any/exec?command=id", {}),
        Request("POST", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{ready.workloads.name}/rolebindings", binding),
        Request("GET", "/api/v1/namespaces/kube-system/secrets"),
        Request("GET", "/api/v1/namespaces/default/pods"),
        Request("GET", "/api/v1/pods"),
        Request("GET", "/api/v1/namespaces"),
        Request("GET", "/api/v1/nodes"),
    ]
    assert await statuses(ready, POD, may_not) == [f"403 {each.method} {each.path}" for each in may_not]


async def test_the_provisioners_token_is_good_for_one_secret(ready: Release) -> None:
    home, pod = f"/api/v1/namespaces/{ready.namespace.name}", await provisioner_pod(ready)
    may = [Request("GET", f"{home}/secrets/{FULLNAME}"), Request("PATCH", f"{home}/secrets/{FULLNAME}", {"data": {}})]
    assert await statuses(ready, pod, may) == [f"200 {each.method} {each.path}" for each in may]
    may_not = [
        Request("GET", f"{home}/secrets"),
        Request("GET", f"{home}/secrets/{FULLNAME}-credentials"),
        Request("DELETE", f"{home}/secrets/{FULLNAME}"),
        Request("POST", f"{home}/secrets", {"metadata": {"name": "another"}}),
        Request("GET", f"{home}/pods"),
        Request("PATCH", f"/apis/apps/v1/namespaces/{ready.workloads.name}/deployments/web/scale", ONE),
    ]
    assert await statuses(ready, pod, may_not) == [f"403 {each.method} {each.path}" for each in may_not]


async def test_each_pod_has_only_its_own_token_and_that_is_soon_over(ready: Release) -> None:
    for pod, user in ((POD, bot(ready)), (await provisioner_pod(ready), provisioner(ready))):
        claims = _claims(await ready.namespace.exec(pod, "cat", TOKEN))
        assert claims["sub"] == user
        assert claims["exp"] - claims["iat"] == 3600
        assert claims["kubernetes.io"]["pod"]["name"] == pod
        mounts = (await ready.namespace.exec(pod, "cat", "/proc/mounts")).splitlines()
        mounted = [line for line in mounts if "serviceaccount" in line]
        assert len(mounted) == 1, f"{pod} has more of service accounts than its token: {mounted}"


def _claims(token: str) -> Mapping[str, Any]:
    body = token.split(".")[1]
    found: Mapping[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return found


async def test_without_diagnosis_the_bot_works_and_says_less(
    own: None, cluster: Cluster, synapse: Synapse, index: PackageIndex
) -> None:
    async with Release.open(cluster, synapse, index) as release:
        await release.workloads.apply(workload(NO_IMAGE, "broken"))
        targets = {"broken": target("Deployment", release.workloads, "broken")}
        values = with_targets(release, targets, rbac={"diagnosis": False})
        values["instance"]["settings"]["rollout_timeout"] = "20s"
        await release.install(values)
        await release.ready()
        alice = await release.person("alice")
        room = await release.room(alice)

        await told(alice, room, "check", "I cannot say why it is stuck")
        await told(alice, room, "start web", "is running", 90)
        reply = await told(alice, room, "start broken", "I followed it for", 90)
        assert "image" not in reply.body
        await told(alice, room, "stop broken", "is off", 90)
        await told(alice, room, "stop web", "is off", 90)

        asked = requests(cluster, bot(release))
        assert needed(forbidden(asked)) == {(release.workloads.name, "", "pods", "*", "list")}
        assert needed(allowed(asked)) - OF_EVERYBODY == await granted_by(release)
