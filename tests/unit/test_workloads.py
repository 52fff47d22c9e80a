"""The real Kubernetes client against the simulated cluster, over real HTTP and TLS."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import logging
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.stack.cluster import Outcome, PolicyRule, SimulatedCluster, When, in_pod
from toggle_plugin import api_transport, api_watch, credentials
from toggle_plugin.errors import (
    ClusterError,
    Conflict,
    Forbidden,
    Invalid,
    NotConfigured,
    NotFound,
    TimedOut,
    Unauthorized,
    Unavailable,
    Unreachable,
)
from toggle_plugin.models import Workload, WorkloadRef
from toggle_plugin.workloads import KubernetesWorkloads

WEB = WorkloadRef("Deployment", "demo", "web")
DB = WorkloadRef("StatefulSet", "demo", "db")
LOG = logging.getLogger("test.workloads")
SOON = 20.0

SCALE = "/apis/apps/v1/namespaces/demo/deployments/web/scale"


# Where a peer cuts a TLS connection, Python 3.10 complains about a transport that nobody holds any more.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed transport <asyncio.sslproto:ResourceWarning")


@pytest.fixture
async def cluster() -> AsyncIterator[SimulatedCluster]:
    async with SimulatedCluster() as cluster:
        cluster.add_deployment("demo", "web")
        cluster.add_statefulset("demo", "db", 2)
        yield cluster
    gc.collect()


@pytest.fixture
async def api(cluster: SimulatedCluster) -> AsyncIterator[KubernetesWorkloads]:
    connected = await connect(cluster)
    yield connected
    await connected.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off in milliseconds; its bounds have tests of their own."""
    monkeypatch.setattr(api_transport, "BACKOFF", 0.001)
    monkeypatch.setattr(api_watch, "SHORTEST_PAUSE", 0.01)
    monkeypatch.setattr(api_watch, "LONGEST_PAUSE", 0.05)


async def connect(cluster: SimulatedCluster, *, timeout: float = 10.0) -> KubernetesWorkloads:
    return await KubernetesWorkloads.connect(str(cluster.kubeconfig), log=LOG, timeout=timeout)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(int(SOON / 0.02)):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never became true")


async def first(states: AsyncIterator[Workload], wanted: Callable[[Workload], bool]) -> Workload:
    async def look() -> Workload:
        async for workload in states:
            if wanted(workload):
                return workload
        raise AssertionError("the watch ended")

    return await asyncio.wait_for(look(), SOON)


def anything(_: Workload) -> bool:
    return True


def nothing(_: Workload) -> bool:
    return False


# Reading and writing


async def test_version_is_the_servers(api: KubernetesWorkloads, cluster: SimulatedCluster) -> None:
    assert await api.version() == "v1.37.0"
    assert api.server == f"127.0.0.1:{cluster.port}"


async def test_a_deployment_at_zero_has_counts_although_the_api_leaves_them_out(
    api: KubernetesWorkloads, cluster: SimulatedCluster
) -> None:
    assert "replicas" not in cluster.workload("Deployment", "demo", "web")["status"]
    web = await api.get(WEB)
    assert (web.desired, web.replicas, web.updated, web.ready, web.available) == (0, 0, 0, 0, 0)
    assert web.observed_generation == web.generation == 1
    assert web.selector == "app=web"


async def test_a_statefulset_has_its_revisions(api: KubernetesWorkloads) -> None:
    database = await api.get(DB)
    assert (database.desired, database.ready, database.available) == (2, 2, 2)
    assert database.update_strategy == "RollingUpdate"


async def test_what_the_spec_says_is_read(api: KubernetesWorkloads, cluster: SimulatedCluster) -> None:
    spec = {"minReadySeconds": 7, "paused": True, "strategy": {"type": "Recreate"}}
    cluster.change("demo", "web", spec)
    web = await api.get(WEB)
    assert (web.min_ready_seconds, web.paused, web.update_strategy) == (7, True, "Recreate")


async def test_scaling_is_a_merge_patch_of_the_scale_subresource(
    api: KubernetesWorkloads, cluster: SimulatedCluster
) -> None:
    await api.scale(WEB, 3)
    (patch,) = cluster.asked("PATCH")
    assert patch.path == SCALE
    assert patch.content_type == "application/merge-patch+json"
    assert json.loads(patch.body) == {"spec": {"replicas": 3}}
    assert patch.query == {"fieldManager": "maubot-k8s-toggle"}
    assert patch.user_agent == "maubot-k8s-toggle"
    assert cluster.replicas("Deployment", "demo", "web") == 3


async def test_scaling_to_zero_and_from_zero(api: KubernetesWorkloads, cluster: SimulatedCluster) -> None:
    for replicas in (0, 1, 0):
        await api.scale(DB, replicas)
        assert cluster.replicas("StatefulSet", "demo", "db") == replicas


async def test_scaling_to_what_it_is_changes_nothing(api: KubernetesWorkloads, cluster: SimulatedCluster) -> None:
    before = cluster.workload("StatefulSet", "demo", "db")
    await api.scale(DB, 2)
    assert cluster.workload("StatefulSet", "demo", "db") == before


async def test_who_scaled_last_is_known(api: KubernetesWorkloads, cluster: SimulatedCluster) -> None:
    await api.scale(WEB, 3)
    assert (await api.get(WEB)).scaled_by == "maubot-k8s-toggle"
    cluster.scale("demo", "web", 2)
    assert (await api.get(WEB)).scaled_by == "kubectl"


# Explaining


async def test_pods_that_cannot_pull_their_image(api: KubernetesWorkloads, cluster: SimulatedCluster) -> None:
    cluster.behave("demo", "web", outcome=Outcome.IMAGE_PULL)
    await api.scale(WEB, 1)
    await until(lambda: any(event["reason"] == "BackOff" for event in cluster.events("demo")))
    web = await api.get(WEB)
    (pod,) = await api.pods(web)
    assert pod.name.startswith("web-")
    assert (pod.phase, pod.ready) == ("Pending", False)
    assert pod.containers[0].waiting_reason in ("ErrImagePull", "ImagePullBackOff")
    assert "registry.example/app:1" in pod.containers[0].waiting_message
    events = await api.events(web, [pod])
    assert {event.object_name for event in events if event.object_kind == "Pod"} == {pod.name}
    assert "BackOff" in {event.reason for event in events}
    assert list(events) == sorted(events, key=lambda event: -event.last_seen)


async def test_pods_that_crash_tell_exit_code_and_restarts(api: KubernetesWorkloads, cluster: SimulatedCluster) -> None:
    cluster.behave("demo", "web", outcome=Outcome.CRASH_LOOP, retry=0.02)
    await api.scale(WEB, 1)

    def restarted() -> bool:
        statuses = [pod["status"].get("containerStatuses", []) for pod in cluster.pods("demo")]
        return any(status[0]["restartCount"] >= 2 for status in statuses if status)

    await until(restarted)
    (pod,) = await api.pods(await api.get(WEB))
    assert pod.containers[0].restarts >= 2
    assert (pod.containers[0].exit_code, pod.containers[0].exit_reason) == (3, "Error")


async def test_pods_without_a_node_have_the_schedulers_words(
    api: KubernetesWorkloads, cluster: SimulatedCluster
) -> None:
    cluster.behave("demo", "web", outcome=Outcome.UNSCHEDULABLE)
    await api.scale(WEB, 1)
    await until(lambda: any(event["reason"] == "FailedScheduling" for event in cluster.events("demo")))
    (pod,) = await api.pods(await api.get(WEB))
    assert pod.containers == ()
    (condition,) = pod.conditions
    assert (condition.type, condition.status, condition.reason) == ("PodScheduled", "False", "Unschedulable")
    assert "Insufficient memory" in condition.message


async def test_a_quota_is_told_by_events_of_the_replicaset(api: KubernetesWorkloads, cluster: SimulatedCluster) -> None:
    cluster.add_deployment("demo", "web-api", outcome=Outcome.QUOTA)
    cluster.behave("demo", "web", outcome=Outcome.QUOTA)
    cluster.scale("demo", "web-api", 1)
    await api.scale(WEB, 1)
    await until(lambda: len({event["involvedObject"]["name"] for event in cluster.events("demo")}) == 2)
    web = await api.get(WEB)
    assert await api.pods(web) == ()
    (event,) = await api.events(web, [])
    assert (event.object_kind, event.reason, event.type) == ("ReplicaSet", "FailedCreate", "Warning")
    assert event.object_name.startswith("web-")
    assert not event.object_name.startswith("web-api-")
    failures = [condition for condition in web.conditions if condition.type == "ReplicaFailure"]
    assert [condition.status for condition in failures] == ["True"]


async def test_only_the_workloads_own_pods_are_told(api: KubernetesWorkloads) -> None:
    assert {pod.name for pod in await api.pods(await api.get(DB))} == {"db-0", "db-1"}
    assert await api.pods(await api.get(WEB)) == ()


async def test_an_empty_selector_selects_nothing_rather_than_everything(
    api: KubernetesWorkloads, cluster: SimulatedCluster
) -> None:
    database = replace(await api.get(DB), selector="")
    assert await api.pods(database) == ()
    assert cluster.asked("GET", "/pods") == []


async def test_events_in_pages_are_read_on(api: KubernetesWorkloads, cluster: SimulatedCluster) -> None:
    def page(name: str, token: str) -> str:
        about = {"kind": "StatefulSet", "name": name}
        event = {"metadata": {}, "involvedObject": about, "reason": name, "lastTimestamp": "2026-11-23T10:00:00Z"}
        return json.dumps({"metadata": {"continue": token}, "items": [event]})

    database = await api.get(DB)
    cluster.fail(path="/events", body=page("other", "more"))
    cluster.fail(path="/events", body=page("db", ""))
    assert [event.reason for event in await api.events(database, [])] == ["db"]
    assert [request.query.get("continue") for request in cluster.asked("GET", "/events")] == [None, "more"]
    cluster.requests.clear()
    cluster.fail(path="/events", body=page("db", "more"), times=None)
    assert len(await api.events(database, [])) == len(cluster.requests) == 4


async def test_pods_that_are_ending_say_so(api: KubernetesWorkloads, cluster: SimulatedCluster) -> None:
    cluster.behave("demo", "db", "StatefulSet", terminate=SOON)
    await api.scale(DB, 1)
    await until(lambda: any("deletionTimestamp" in pod["metadata"] for pod in cluster.pods("demo")))
    pods = {pod.name: pod for pod in await api.pods(await api.get(DB))}
    assert (pods["db-0"].terminating, pods["db-1"].terminating) == (False, True)
    assert (await api.get(DB)).replicas == 1


# Rights


async def test_rights_are_asked_of_the_cluster(api: KubernetesWorkloads, cluster: SimulatedCluster) -> None:
    cluster.deny("patch", "deployments/scale", "demo", "web")
    cluster.deny("list", "events")
    rights = {(right.verb, right.resource): (right.granted, right.needed) for right in await api.rights(WEB)}
    assert rights == {
        ("patch", "deployments/scale"): (False, True),
        ("get", "deployments"): (True, True),
        ("watch", "deployments"): (True, True),
        ("list", "pods"): (True, False),
        ("list", "events"): (False, False),
    }


async def test_a_role_narrowed_to_names_is_enough(api: KubernetesWorkloads, cluster: SimulatedCluster) -> None:
    names = ("web",)
    cluster.grant(
        [
            PolicyRule(("patch",), ("deployments/scale",), ("apps",), names, "demo"),
            PolicyRule(("get", "watch"), ("deployments",), ("apps",), names, "demo"),
        ]
    )
    needed = [right for right in await api.rights(WEB) if right.needed]
    assert all(right.granted for right in needed)
    await api.scale(WEB, 1)
    async with aclosing(api.watch(WEB)) as states:
        await first(states, lambda web: web.available == 1)
    with pytest.raises(Forbidden, match=r"^I may not get deployments of other in namespace demo;"):
        await api.get(WorkloadRef("Deployment", "demo", "other"))


# Failures, one by one


async def failure(api: KubernetesWorkloads, ref: WorkloadRef = WEB) -> ClusterError:
    with pytest.raises(ClusterError) as caught:
        await api.scale(ref, 1)
    return caught.value


async def test_forbidden_names_the_right(api: KubernetesWorkloads, cluster: SimulatedCluster) -> None:
    cluster.deny("patch", "deployments/scale")
    error = await failure(api)
    assert type(error) is Forbidden
    assert str(error) == (
        "I may not patch deployments/scale of web in namespace demo; grant that right to the user of the kubeconfig."
    )
    assert "status=403" in error.detail
    assert "system:serviceaccount" in error.detail


async def test_forbidden_lists_have_no_name(api: KubernetesWorkloads, cluster: SimulatedCluster) -> None:
    cluster.deny("list", "pods")
    with pytest.raises(Forbidden, match=r"^I may not list pods in namespace demo; grant that right to"):
        await api.pods(await api.get(DB))


async def test_a_policy_that_forbids_is_not_called_a_missing_right(
    api: KubernetesWorkloads, cluster: SimulatedCluster
) -> None:
    status = {"kind": "Status", "message": 'admission webhook "policy.example" denied the request', "code": 403}
    cluster.fail(method="PATCH", status=403, body=json.dumps(status))
    error = await failure(api)
    assert type(error) is Forbidden
    assert str(error) == (
        "A policy or quota of the cluster does not let me patch Deployment demo/web; its reason is in the log."
    )
    assert "policy.example" in error.detail


async def test_not_found_names_the_object(api: KubernetesWorkloads) -> None:
    error = await failure(api, WorkloadRef("StatefulSet", "prod", "gone"))
    assert type(error) is NotFound
    assert str(error) == (
        "There is no StatefulSet gone in namespace prod; check kind, namespace and name of the target."
    )


async def test_a_wrong_token(api: KubernetesWorkloads, cluster: SimulatedCluster) -> None:
    cluster.rotate_token()
    error = await failure(api)
    assert type(error) is Unauthorized
    assert str(error) == (
        f"The cluster at {api.server} does not know me (HTTP 401); renew the credentials in {cluster.kubeconfig}."
    )
    assert cluster.replicas("Deployment", "demo", "web") == 0


async def test_a_token_that_was_renewed_is_read_again(api: KubernetesWorkloads, cluster: SimulatedCluster) -> None:
    cluster.rotate_token()
    cluster.write_kubeconfig(cluster.kubeconfig)
    await api.scale(WEB, 1)
    assert cluster.replicas("Deployment", "demo", "web") == 1


async def test_conflicts_are_tried_again_and_then_told(
    api: KubernetesWorkloads, cluster: SimulatedCluster, impatient: None
) -> None:
    cluster.fail(method="PATCH", status=409, times=2)
    await api.scale(WEB, 1)
    assert len(cluster.asked("PATCH")) == 3
    cluster.fail(method="PATCH", status=409, times=None)
    error = await failure(api)
    assert type(error) is Conflict
    assert str(error) == "Somebody else changed Deployment demo/web at the same moment; try again."
    assert len(cluster.asked("PATCH")) == 6


async def test_a_request_that_the_server_does_not_take(api: KubernetesWorkloads, cluster: SimulatedCluster) -> None:
    with pytest.raises(Invalid) as caught:
        await api.scale(WEB, -1)
    assert str(caught.value) == (
        "The cluster refused to patch Deployment demo/web (HTTP 422): it does not take the request as it is; "
        "its reason is in the log."
    )
    assert "must be greater than or equal to 0" in caught.value.detail
    assert len(cluster.asked("PATCH")) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_server_in_trouble_is_tried_four_times(
    api: KubernetesWorkloads, cluster: SimulatedCluster, impatient: None, status: int
) -> None:
    cluster.fail(method="PATCH", status=status, times=3)
    await api.scale(WEB, 1)
    assert len(cluster.asked("PATCH")) == 4
    assert cluster.replicas("Deployment", "demo", "web") == 1


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (429, "is too busy right now (HTTP 429); try again in a minute."),
        (503, "has a problem of its own (HTTP 503); try again later."),
    ],
)
async def test_a_server_that_stays_in_trouble(
    api: KubernetesWorkloads, cluster: SimulatedCluster, impatient: None, status: int, sentence: str
) -> None:
    cluster.fail(status=status, times=None)
    error = await failure(api)
    assert type(error) is Unavailable
    assert str(error) == f"The cluster at {api.server} {sentence}"
    assert len(cluster.requests) == 4
    assert cluster.replicas("Deployment", "demo", "web") == 0


async def test_a_501_is_not_tried_again(api: KubernetesWorkloads, cluster: SimulatedCluster) -> None:
    cluster.fail(status=501)
    assert type(await failure(api)) is Unavailable
    assert len(cluster.requests) == 1


async def test_retry_after_is_waited_for(api: KubernetesWorkloads, cluster: SimulatedCluster, impatient: None) -> None:
    cluster.fail(method="PATCH", status=429, retry_after=1)
    await api.scale(WEB, 1)
    refused, taken = cluster.asked("PATCH")
    assert taken.time - refused.time >= 1


def test_pauses_are_bounded() -> None:
    error = Unavailable("busy")
    for tries in (1, 2, 3):
        pauses = [api_transport.Again(error, 3).pause(tries) for _ in range(200)]
        assert 0 <= min(pauses) <= max(pauses) <= 0.5 * 2 ** (tries - 1)
        assert len(set(pauses)) > 1
    assert 10 <= api_transport.Again(error, 3, after=3600).pause(1) <= 11
    assert all(api_watch.pause(failures) >= 0.5 for failures in range(100) for _ in range(20))
    assert max(api_watch.pause(failures) for failures in range(2000)) <= 5
    assert min(api_watch.pause(20) for _ in range(200)) >= 2.5


async def test_a_change_that_was_made_but_not_answered_is_repeated_without_harm(
    api: KubernetesWorkloads, cluster: SimulatedCluster, impatient: None
) -> None:
    cluster.fail(method="PATCH", cut=True, when=When.AFTER)
    await api.scale(WEB, 2)
    assert len(cluster.asked("PATCH")) == 2
    assert cluster.workload("Deployment", "demo", "web")["metadata"]["generation"] == 2


async def test_connections_that_are_always_cut(
    api: KubernetesWorkloads, cluster: SimulatedCluster, impatient: None
) -> None:
    cluster.fail(method="PATCH", cut=True, times=None)
    error = await failure(api)
    assert type(error) is Unreachable
    assert str(error) == f"The connection to the cluster at {api.server} broke off; try again."
    assert len(cluster.asked("PATCH")) == 4


async def test_a_server_that_refuses_connections(
    api: KubernetesWorkloads, cluster: SimulatedCluster, impatient: None
) -> None:
    await cluster.refuse()
    error = await failure(api)
    assert type(error) is Unreachable
    assert str(error) == f"The cluster at {api.server} refuses connections; is it running, and is the port right?"
    await cluster.listen()
    await api.scale(WEB, 1)


async def test_who_may_not_is_told_so_at_once(api: KubernetesWorkloads, cluster: SimulatedCluster) -> None:
    fault = cluster.fail(method="GET", path="deployments", times=None, status=403)
    with pytest.raises(Forbidden):
        await api.get(WEB)
    assert fault.struck == 1


async def test_a_server_that_was_away_may_not_know_our_rights_yet(
    api: KubernetesWorkloads, cluster: SimulatedCluster, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.refuse()
    await failure(api)
    await cluster.listen()
    fault = cluster.fail(method="GET", path="deployments", times=2, status=403)
    assert (await api.get(WEB)).ref == WEB
    assert fault.struck == 2
    monkeypatch.setattr(api_transport, "NO_ROLES_YET", 0.0)
    fault = cluster.fail(method="GET", path="deployments", times=None, status=403)
    with pytest.raises(Forbidden):
        await api.get(WEB)
    assert fault.struck == 1, "it has had its time"


async def test_a_server_that_does_not_answer(cluster: SimulatedCluster, impatient: None) -> None:
    api = await connect(cluster, timeout=0.4)
    cluster.fail(delay=SOON, times=None)
    error = await failure(api)
    assert type(error) is TimedOut
    assert str(error) == f"The cluster at {api.server} did not answer within 1 s."
    assert len(cluster.requests) == 2
    await api.close()


async def test_a_host_name_that_nobody_knows(cluster: SimulatedCluster, impatient: None) -> None:
    cluster.write_kubeconfig(cluster.kubeconfig, server="https://cluster.invalid:6443")
    api = await connect(cluster)
    error = await failure(api)
    assert type(error) is Unreachable
    assert str(error) == (
        "The host name of the cluster at cluster.invalid:6443 is not known here; "
        "check the address and the DNS of maubot."
    )
    await api.close()


async def test_a_certificate_of_another_ca(cluster: SimulatedCluster, caplog: pytest.LogCaptureFixture) -> None:
    """It does not mend itself, so nobody waits for more tries."""
    caplog.set_level(logging.INFO)
    async with SimulatedCluster() as other:
        cluster.write_kubeconfig(cluster.kubeconfig, **{"certificate-authority": str(other.ca_file)})
        api = await connect(cluster)
        error = await failure(api)
        assert type(error) is Unreachable
        assert str(error) == (
            f"The certificate of the cluster at {api.server} is not trusted; "
            f"check certificate-authority in {cluster.kubeconfig}."
        )
        assert "retried" not in caplog.text
        await api.close()


async def test_a_certificate_for_other_names() -> None:
    async with SimulatedCluster(names=("kubernetes.example",)) as cluster:
        cluster.add_deployment("demo", "web")
        api = await connect(cluster)
        error = await failure(api)
        assert type(error) is Unreachable
        assert str(error) == (
            f"The certificate of the cluster at {api.server} is for other host names; "
            "use a name that is in it, or set tls-server-name in the kubeconfig."
        )
        await api.close()
        cluster.write_kubeconfig(cluster.kubeconfig, **{"tls-server-name": "kubernetes.example"})
        api = await connect(cluster)
        await api.scale(WEB, 1)
        await api.close()


async def test_something_that_is_no_tls(cluster: SimulatedCluster, impatient: None) -> None:
    plain = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    try:
        port = plain.sockets[0].getsockname()[1]
        cluster.write_kubeconfig(cluster.kubeconfig, server=f"https://127.0.0.1:{port}")
        api = await connect(cluster)
        assert type(await failure(api)) is Unreachable
        await api.close()
    finally:
        plain.close()
        await plain.wait_closed()


@pytest.mark.parametrize("body", ["<html><body>Sign in</body></html>", "", "[]", '"text"', "{"])
async def test_an_answer_that_is_not_from_kubernetes(
    api: KubernetesWorkloads, cluster: SimulatedCluster, impatient: None, body: str
) -> None:
    cluster.fail(body=body, content_type="text/html", times=None)
    with pytest.raises(Unavailable) as caught:
        await api.get(WEB)
    assert str(caught.value) == (
        f"What {api.server} answered is not from a Kubernetes API server; check the address and what is between."
    )
    assert "Sign in" not in caught.value.detail


async def test_an_object_that_is_no_workload(api: KubernetesWorkloads, cluster: SimulatedCluster) -> None:
    cluster.fail(body='{"kind": "Other"}')
    with pytest.raises(Unavailable, match="is not from a Kubernetes API server"):
        await api.get(WEB)


async def test_no_body_and_no_secret_gets_into_errors_or_the_log(
    api: KubernetesWorkloads, cluster: SimulatedCluster, impatient: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for status in (400, 401, 403, 404, 409, 410, 422, 429, 500, 503):
        message = {"kind": "Status", "message": f"secret-in-body {'x' * 5000}", "code": status}
        cluster.fail(status=status, body=json.dumps(message), times=None)
        error = await failure(api)
        assert "secret-in-body" not in str(error)
        assert "\n" not in str(error)
        assert len(error.detail) < 700
        cluster.faults.clear()
    assert cluster.token not in caplog.text


async def test_failures_are_logged_with_what_was_asked(
    api: KubernetesWorkloads, cluster: SimulatedCluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOG.name)
    cluster.deny("patch", "deployments/scale")
    await failure(api)
    (record,) = [record for record in caplog.records if record.name == LOG.name]
    assert record.levelno == logging.WARNING
    for part in (
        "verb=patch",
        "resource=deployments/scale",
        "of=Deployment:demo/web",
        "status=403",
        "reason=Forbidden",
    ):
        assert part in record.getMessage()


async def test_the_cause_is_kept(api: KubernetesWorkloads, cluster: SimulatedCluster, impatient: None) -> None:
    await cluster.refuse()
    error = await failure(api)
    assert isinstance(error.__cause__, OSError)
    await cluster.listen()


# Watching


def watches(cluster: SimulatedCluster) -> int:
    """How many streams were asked for."""
    return sum(request.watch for request in cluster.requests)


async def test_a_watch_begins_with_now_and_follows(api: KubernetesWorkloads, cluster: SimulatedCluster) -> None:
    async with aclosing(api.watch(WEB)) as states:
        assert (await first(states, anything)).desired == 0
        cluster.scale("demo", "web", 1)
        web = await first(states, lambda web: web.available == 1)
    assert web.desired == 1
    watch = next(request for request in cluster.requests if request.watch)
    assert watch.query["fieldSelector"] == "metadata.name=web"
    assert "resourceVersion" not in watch.query
    assert watch.query["timeoutSeconds"] == "30"


async def test_a_watch_tells_no_state_twice(
    api: KubernetesWorkloads, cluster: SimulatedCluster, impatient: None
) -> None:
    seen: list[str] = []

    def available(web: Workload) -> bool:
        seen.append(web.resource_version)
        return web.available == 1

    async with aclosing(api.watch(WEB)) as states:
        follow = asyncio.ensure_future(first(states, available))
        for streams in range(1, 4):
            await until(lambda: watches(cluster) == streams and cluster.open_watches == 1)  # noqa: B023 - awaited here
            cluster.cut_watches()
        cluster.scale("demo", "web", 1)
        await follow
    assert seen == sorted(set(seen), key=int)


async def test_a_watch_outlives_cuts_errors_and_refusals(
    api: KubernetesWorkloads, cluster: SimulatedCluster, impatient: None
) -> None:
    async with aclosing(api.watch(WEB)) as states:
        await first(states, anything)
        follow = asyncio.ensure_future(first(states, lambda web: web.available == 1))
        await until(lambda: cluster.open_watches == 1)
        cluster.fail(method="GET", status=503, times=2)
        cluster.fail(method="GET", status=429, times=1)
        cluster.fail(method="GET", path="watch=true", body="<html>", times=2)
        cluster.fail(method="GET", path="watch=true", body="", times=2)
        before = watches(cluster)
        cluster.cut_watches()
        await until(lambda: watches(cluster) >= before + 5 and cluster.open_watches == 1)
        await cluster.refuse()
        await until(lambda: cluster.open_watches == 0)
        cluster.scale("demo", "web", 1)
        await asyncio.sleep(0.1)
        await cluster.listen()
        assert (await follow).available == 1


async def test_a_watch_outlives_410_as_event_and_as_answer(
    api: KubernetesWorkloads, cluster: SimulatedCluster, impatient: None
) -> None:
    status = {"kind": "Status", "reason": "Expired", "message": "too old resource version: 1 (2)", "code": 410}
    event = json.dumps({"type": "ERROR", "object": status}) + "\n"
    cluster.fail(path="watch=true", body=event)
    cluster.fail(path="watch=true", status=410, body=json.dumps(status))
    async with aclosing(api.watch(WEB)) as states:
        await first(states, anything)
        cluster.scale("demo", "web", 1)
        await first(states, lambda web: web.available == 1)
    assert watches(cluster) >= 3


async def test_a_watch_that_always_ends_at_once_is_never_busy(
    api: KubernetesWorkloads, cluster: SimulatedCluster
) -> None:
    cluster.fail(path="watch=true", body="", times=None)
    async with aclosing(api.watch(WEB)) as states:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(first(states, lambda web: web.desired == 99), 2)
    assert 2 <= watches(cluster) <= 4


async def test_a_watch_of_a_deleted_workload_ends(api: KubernetesWorkloads, cluster: SimulatedCluster) -> None:
    async with aclosing(api.watch(WEB)) as states:
        await first(states, anything)
        follow = asyncio.ensure_future(first(states, nothing))
        await until(lambda: cluster.open_watches == 1)
        cluster.delete("demo", "web")
        with pytest.raises(NotFound, match=r"^Somebody deleted Deployment demo/web meanwhile\."):
            await follow


async def test_a_workload_deleted_between_two_streams_ends_the_watch(
    api: KubernetesWorkloads, cluster: SimulatedCluster, impatient: None
) -> None:
    async with aclosing(api.watch(WEB)) as states:
        await first(states, anything)
        follow = asyncio.ensure_future(first(states, nothing))
        await until(lambda: cluster.open_watches == 1)
        await cluster.refuse()
        cluster.delete("demo", "web")
        await cluster.listen()
        with pytest.raises(NotFound):
            await follow


async def test_a_watch_of_nothing_ends_at_once(api: KubernetesWorkloads) -> None:
    async with aclosing(api.watch(WorkloadRef("Deployment", "demo", "nope"))) as states:
        with pytest.raises(NotFound):
            await first(states, anything)


async def test_a_watch_that_is_not_allowed_ends(api: KubernetesWorkloads, cluster: SimulatedCluster) -> None:
    cluster.deny("watch", "deployments")
    async with aclosing(api.watch(WEB)) as states:
        with pytest.raises(Forbidden, match=r"^I may not watch deployments of web in namespace demo; "):
            await first(states, anything)


async def test_a_right_that_a_new_server_does_not_know_yet_is_waited_for(
    api: KubernetesWorkloads, cluster: SimulatedCluster, impatient: None
) -> None:
    async with aclosing(api.watch(WEB)) as states:
        await first(states, anything)
        fault = cluster.fail(method="GET", path="deployments", times=2, status=403)
        cluster.cut_watches()
        cluster.scale("demo", "web", 1)
        await first(states, lambda web: web.available == 1)
    assert fault.struck == 2


async def test_a_right_that_is_gone_for_good_ends_the_watch(
    api: KubernetesWorkloads, cluster: SimulatedCluster, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_watch, "NO_ROLES_YET", 0.1)
    async with aclosing(api.watch(WEB)) as states:
        await first(states, anything)
        cluster.deny("watch", "deployments")
        cluster.cut_watches()
        with pytest.raises(Forbidden):
            await first(states, nothing)


async def test_a_deletion_before_the_first_look_is_noticed(api: KubernetesWorkloads, cluster: SimulatedCluster) -> None:
    cluster.fail(path=r"/deployments/web$", delay=1.0)
    async with aclosing(api.watch(WEB)) as states:
        looking = asyncio.ensure_future(first(states, anything))
        await until(lambda: cluster.open_watches == 1)
        cluster.delete("demo", "web")
        with pytest.raises(NotFound):
            await looking


async def test_a_watch_that_lost_its_rights_ends(
    api: KubernetesWorkloads, cluster: SimulatedCluster, impatient: None
) -> None:
    async with aclosing(api.watch(WEB)) as states:
        await first(states, anything)
        follow = asyncio.ensure_future(first(states, nothing))
        await until(lambda: cluster.open_watches == 1)
        cluster.rotate_token()
        cluster.cut_watches()
        with pytest.raises(Unauthorized):
            await follow


async def test_a_cancelled_watch_leaves_no_connection(api: KubernetesWorkloads, cluster: SimulatedCluster) -> None:
    async def follow() -> None:
        async for _ in api.watch(WEB):
            pass

    task = asyncio.ensure_future(follow())
    await until(lambda: cluster.open_watches == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: cluster.open_watches == 0)


async def test_a_closed_watch_leaves_no_connection(api: KubernetesWorkloads, cluster: SimulatedCluster) -> None:
    async with aclosing(api.watch(WEB)) as states:
        cluster.scale("demo", "web", 1)
        await first(states, lambda web: web.available == 1)
        assert cluster.open_watches == 1
    await until(lambda: cluster.open_watches == 0)


async def test_a_cancelled_request_is_cancelled_at_once(api: KubernetesWorkloads, cluster: SimulatedCluster) -> None:
    cluster.fail(delay=SOON, times=None)
    task = asyncio.ensure_future(api.scale(WEB, 1))
    await until(lambda: len(cluster.requests) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(cluster.requests) == 1


async def test_closing_leaves_nothing_behind(cluster: SimulatedCluster) -> None:
    """An unclosed session or transport would be a ResourceWarning here, and warnings are errors."""
    api = await connect(cluster)
    await api.get(WEB)
    await api.close()
    del api
    gc.collect()
    before = set(asyncio.all_tasks())
    await asyncio.sleep(0)
    assert set(asyncio.all_tasks()) <= before


async def test_nothing_global_is_set(api: KubernetesWorkloads) -> None:
    from kubernetes.aio import client  # noqa: PLC0415 - as late as the plugin does

    assert client.Configuration._default is None
    assert client.ApiClient._default is None


# Credentials


async def refusal(kubeconfig: Path | str) -> str:
    with pytest.raises(NotConfigured) as caught:
        await KubernetesWorkloads.connect(str(kubeconfig), log=LOG)
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_no_kubeconfig_there(tmp_path: Path) -> None:
    path = tmp_path / "nowhere"
    assert await refusal(path) == f"There is no kubeconfig {path}; check the setting kubeconfig."


async def test_a_kubeconfig_that_is_a_directory(tmp_path: Path) -> None:
    assert (await refusal(tmp_path)).startswith(f"The kubeconfig {tmp_path} cannot be read;")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"current-context": ""}, "has no current-context; set one with kubectl config use-context."),
        ({"current-context": "nope"}, "has no context nope, which is its current-context."),
        ({"contexts": None}, "has no context simulated, which is its current-context."),
        ({"clusters": []}, "does not say where the cluster of its context simulated is."),
        ({"users": []}, "has no user for its context simulated."),
        (
            {"clusters": [{"name": "simulated", "cluster": {"server": "127.0.0.1:6443"}}]},
            "has no server address that begins with https:// for its context simulated.",
        ),
        (
            {"clusters": [{"name": "simulated", "cluster": {"server": "https://"}}]},
            "has no server address that begins with https:// for its context simulated.",
        ),
        (
            {"users": [{"name": "simulated", "user": {"tokenFile": "/nowhere/token"}}]},
            "needs a file that cannot be read or written: /nowhere/token.",
        ),
        (
            {"users": [{"name": "simulated", "user": {"token": "t", "client-certificate": "/nowhere/tls.crt"}}]},
            "names the file /nowhere/tls.crt, which is not there.",
        ),
        (
            {"users": [{"name": "simulated", "user": {"exec": {"command": "no-such-program", "apiVersion": "v1"}}}]},
            "gives no credentials: no token, no client certificate, and no credential plugin",
        ),
        ({"users": [{"name": "simulated", "user": {"auth-provider": {"name": "oidc"}}}]}, "cannot be used;"),
    ],
)
async def test_a_kubeconfig_with_something_missing(
    cluster: SimulatedCluster, change: dict[str, object], problem: str
) -> None:
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    cluster.kubeconfig.write_text(yaml.safe_dump({**document, **change}))
    assert (await refusal(cluster.kubeconfig)).startswith(f"The kubeconfig {cluster.kubeconfig} {problem}")


@pytest.mark.parametrize(
    ("content", "problem"),
    [("{", "is no YAML; check the file."), ("", "holds no configuration; check the file."), ("\x00", "is no YAML;")],
)
async def test_a_kubeconfig_that_is_none(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "config"
    path.write_text(content)
    assert (await refusal(path)).startswith(f"The kubeconfig {path} {problem}")


@pytest.mark.parametrize("content", ["", "-----BEGIN CERTIFICATE-----\nnot base64\n-----END CERTIFICATE-----\n"])
async def test_a_ca_file_that_is_none(cluster: SimulatedCluster, tmp_path: Path, content: str) -> None:
    ca = tmp_path / "ca.crt"
    ca.write_text(content)
    cluster.write_kubeconfig(cluster.kubeconfig, **{"certificate-authority": str(ca)})
    assert (await refusal(cluster.kubeconfig)).startswith("The CA or client certificate of the kubeconfig ")


async def test_certificates_inside_the_kubeconfig(cluster: SimulatedCluster) -> None:
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    data = base64.b64encode(cluster.ca_file.read_bytes()).decode()
    document["clusters"][0]["cluster"] = {"server": cluster.url, "certificate-authority-data": data}
    cluster.kubeconfig.write_text(yaml.safe_dump(document))
    for _ in range(2):
        api = await connect(cluster)
        await api.get(WEB)
        await api.close()


async def test_a_credential_plugin_that_hangs(
    cluster: SimulatedCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(credentials, "PLUGIN_SECONDS", 0.3)
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    # The client lets go of its plugin, which must end by itself before the test does.
    wait = f"while [ ! -e {tmp_path}/enough ]; do sleep 0.05; done; touch {tmp_path}/ended"
    plugin = {"command": "sh", "args": ["-c", wait], "apiVersion": "client.authentication.k8s.io/v1"}
    document["users"] = [{"name": "simulated", "user": {"exec": plugin}}]
    cluster.kubeconfig.write_text(yaml.safe_dump(document))
    assert "has a credential plugin that did not end within" in await refusal(cluster.kubeconfig)
    (tmp_path / "enough").touch()
    await until((tmp_path / "ended").exists)
    await asyncio.sleep(0.2)


async def test_a_broken_kubeconfig_is_not_quoted(cluster: SimulatedCluster) -> None:
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    document["users"] = [{"name": "simulated", "user": {"auth-provider": {"name": "gcp", "config": cluster.token}}}]
    cluster.kubeconfig.write_text(yaml.safe_dump(document))
    with pytest.raises(NotConfigured) as caught:
        await KubernetesWorkloads.connect(str(cluster.kubeconfig), log=LOG)
    error: BaseException | None = caught.value
    while error is not None:
        assert cluster.token not in str(error) + getattr(error, "detail", "")
        error = error.__cause__


async def test_a_credential_plugin_is_asked_and_asked_again(cluster: SimulatedCluster, tmp_path: Path) -> None:
    credential = tmp_path / "credential.json"

    def write_credential() -> None:
        status = {"token": cluster.token}
        kind = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
        credential.write_text(json.dumps({**kind, "status": status}))

    write_credential()
    plugin = {"command": "cat", "args": [str(credential)], "apiVersion": "client.authentication.k8s.io/v1"}
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    document["users"] = [{"name": "simulated", "user": {"exec": plugin}}]
    cluster.kubeconfig.write_text(yaml.safe_dump(document))
    api = await connect(cluster)
    await api.scale(WEB, 1)
    cluster.rotate_token()
    write_credential()
    await api.scale(WEB, 2)
    assert cluster.replicas("Deployment", "demo", "web") == 2
    await api.close()


@pytest.fixture
def service_account(cluster: SimulatedCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The service account of a pod, with the client's own two constants pointing at it."""
    from kubernetes.aio.config import incluster_config  # noqa: PLC0415 - as late as the plugin does

    for name, value in cluster.service_account(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    return tmp_path


async def test_the_service_account_of_the_pod(service_account: Path, cluster: SimulatedCluster) -> None:
    api = await KubernetesWorkloads.connect(log=LOG)
    await api.scale(WEB, 1)
    cluster.deny("patch", "deployments/scale")
    error = await failure(api)
    assert str(error) == (
        "I may not patch deployments/scale of web in namespace demo; grant that right to the bot's service account."
    )
    await api.close()


async def test_a_rotated_token_of_the_service_account_is_read_again(
    service_account: Path, cluster: SimulatedCluster
) -> None:
    api = await KubernetesWorkloads.connect(log=LOG)
    await api.get(WEB)
    (service_account / "token").write_text(cluster.rotate_token())
    await api.get(WEB)
    cluster.rotate_token()
    with pytest.raises(Unauthorized, match="check the token of the pod's service account"):
        await api.get(WEB)
    (service_account / "token").unlink()
    with pytest.raises(NotConfigured, match="set automountServiceAccountToken: true for the pod"):
        await api.get(WEB)
    await api.close()


async def test_a_service_account_without_its_files(service_account: Path) -> None:
    (service_account / "ca.crt").write_text("")
    assert (await refusal("")).endswith("ca.crt of the pod's service account is empty; check it.")
    (service_account / "ca.crt").write_text("no certificate")
    assert (await refusal("")).startswith("The CA or client certificate of ")
    (service_account / "token").unlink()
    expected = f"The file {service_account / 'token'} of the pod's service account cannot be read;"
    assert (await refusal("")).startswith(expected)


async def test_neither_pod_nor_kubeconfig(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert await refusal("") == (
        "I do not run in a Kubernetes pod, and no kubeconfig is set; set kubeconfig to a file that I can read."
    )


PROGRAM = """
import asyncio, logging
from toggle_plugin.errors import ClusterError
from toggle_plugin.workloads import KubernetesWorkloads

async def main():
    try:
        api = await KubernetesWorkloads.connect(log=logging.getLogger())
        print("version", await api.version())
        await api.close()
    except ClusterError as error:
        print(type(error).__name__, error)

asyncio.run(main())
"""


async def run(command: list[str], environment: dict[str, str] | None = None) -> str:
    program = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(program.communicate(), 60)
    return output.decode().strip()


async def test_a_program_in_a_pod(cluster: SimulatedCluster, tmp_path: Path) -> None:
    """Nothing of the client is touched: the files lie where a kubelet puts them, in a mount namespace."""
    command, environment, _ = in_pod(cluster, tmp_path, [sys.executable, "-W", "error", "-c", PROGRAM])
    assert await run(command, dict(environment)) == "version v1.37.0"


BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name == {missing!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)

sys.meta_path.insert(0, Blocked())
"""
OLD = """
import sys, types
sys.modules["kubernetes"] = types.ModuleType("kubernetes")
sys.modules["kubernetes"].__version__ = {version!r}
sys.modules["kubernetes"].__path__ = []
"""
CURE = "install kubernetes 37 or newer there and restart maubot."


@pytest.mark.parametrize(
    ("before", "sentence"),
    [
        (BLOCKED.format(missing="kubernetes"), f"The Python package kubernetes is missing beside maubot; {CURE}"),
        (BLOCKED.format(missing="kubernetes.aio"), f"The Python package kubernetes is missing beside maubot; {CURE}"),
        (
            BLOCKED.format(missing="aiohttp_retry"),
            f"The Python package aiohttp_retry, which kubernetes needs, is missing beside maubot; {CURE}",
        ),
        (
            "import sys; sys.modules['aiohttp_retry'] = None",
            f"The Python package aiohttp_retry, which kubernetes needs, is missing beside maubot; {CURE}",
        ),
        (
            "import sys, types; sys.modules['aiohttp_retry'] = types.ModuleType('aiohttp_retry')",
            f"The Python package kubernetes does not fit to the others beside maubot; {CURE}",
        ),
        (OLD.format(version="28.1.0"), f"The Python package kubernetes beside maubot is too old (28.1.0); {CURE}"),
    ],
)
async def test_a_package_that_is_missing_or_too_old(before: str, sentence: str) -> None:
    output = await run([sys.executable, "-c", textwrap.dedent(before) + PROGRAM])
    assert output == f"NotConfigured {sentence}"


async def test_importing_the_module_does_not_import_the_package() -> None:
    program = (
        "import sys, toggle_plugin.workloads; print([name for name in sys.modules if name.startswith('kubernetes')])"
    )
    assert await run([sys.executable, "-c", program]) == "[]"
