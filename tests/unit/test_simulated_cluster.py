"""The simulated cluster itself: what a real API server does, as far as anything here relies on it, and real kubectl."""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import gc
import json
import re
import shutil
import ssl
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.stack.cluster import Outcome, PolicyRule, SimulatedCluster, When
from tests.stack.cluster.ages import age, human_duration
from tests.stack.cluster.printers import pod_status

WEB = "/apis/apps/v1/namespaces/demo/deployments/web"
DEPLOYMENTS = "/apis/apps/v1/namespaces/demo/deployments"
MERGE = "application/merge-patch+json"
SOON = 20.0


# Where a peer cuts a TLS connection, Python 3.10 complains about a transport that nobody holds any more.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed transport <asyncio.sslproto:ResourceWarning")


@pytest.fixture
async def cluster() -> AsyncIterator[SimulatedCluster]:
    async with SimulatedCluster() as cluster:
        cluster.add_deployment("demo", "web")
        cluster.add_statefulset("demo", "db", 2)
        yield cluster
    gc.collect()


@dataclass
class Client:
    """Plain HTTP to the cluster: status and parsed body."""

    session: aiohttp.ClientSession
    cluster: SimulatedCluster

    async def __call__(
        self, method: str, path: str, body: Any = None, kind: str = MERGE, accept: str = "*/*"
    ) -> tuple[int, Any]:
        headers = {"Content-Type": kind, "Accept": accept, "Authorization": f"Bearer {self.cluster.token}"}
        data = body if body is None or isinstance(body, str) else json.dumps(body)
        async with self.session.request(method, self.cluster.url + path, data=data, headers=headers) as response:
            text = await response.text()
            return response.status, json.loads(text) if response.content_type == "application/json" else text

    async def events(self, path: str, count: int, accept: str = "*/*") -> list[tuple[str, Any]]:
        """The first so many events of a watch."""
        headers = {"Accept": accept, "Authorization": f"Bearer {self.cluster.token}"}
        async with self.session.get(self.cluster.url + path, headers=headers) as response:
            found: list[tuple[str, Any]] = []
            async for line in response.content:
                event = json.loads(line)
                found.append((event["type"], event["object"]))
                if len(found) == count:
                    break
            return found


@pytest.fixture
async def http(cluster: SimulatedCluster) -> AsyncIterator[Client]:
    context = ssl.create_default_context(cafile=str(cluster.ca_file))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        yield Client(session, cluster)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(int(SOON / 0.02)):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never became true")


def status_of(cluster: SimulatedCluster, name: str = "web", kind: str = "Deployment") -> dict[str, Any]:
    status: dict[str, Any] = cluster.workload(kind, "demo", name)["status"]
    return status


def condition(cluster: SimulatedCluster, kind: str, name: str = "web") -> dict[str, Any]:
    conditions = status_of(cluster, name).get("conditions", [])
    return next((entry for entry in conditions if entry["type"] == kind), {})


# kubectl


async def kubectl(cluster: SimulatedCluster, *arguments: str) -> tuple[int, str]:
    """Exit code, and what it said: its output, or where it failed its errors."""
    program = shutil.which("kubectl")
    if program is None:
        pytest.fail("kubectl is missing; on Debian: apt-get install kubernetes-client")
    command = [program, "--kubeconfig", str(cluster.kubeconfig), "--cache-dir", str(cluster.directory / "cache")]
    process = await asyncio.create_subprocess_exec(*command, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    code = process.returncode or 0
    return code, (errors if code else output).decode()


async def test_kubectl_gets_scales_and_follows_a_deployment(cluster: SimulatedCluster) -> None:
    code, output = await kubectl(cluster, "get", "deploy", "-A")
    assert code == 0
    assert "web" in output
    assert await kubectl(cluster, "scale", "deployment/web", "-n", "demo", "--replicas=2") == (
        0,
        "deployment.apps/web scaled\n",
    )
    code, output = await kubectl(cluster, "rollout", "status", "deployment/web", "-n", "demo")
    assert code == 0
    assert output.endswith('deployment "web" successfully rolled out\n')
    assert status_of(cluster)["availableReplicas"] == 2


async def test_kubectl_scales_and_follows_a_statefulset(cluster: SimulatedCluster) -> None:
    assert (await kubectl(cluster, "scale", "sts/db", "-n", "demo", "--replicas=3"))[0] == 0
    code, output = await kubectl(cluster, "rollout", "status", "sts/db", "-n", "demo")
    assert code == 0
    assert "roll out complete" in output or "rolling update complete" in output
    assert status_of(cluster, "db", "StatefulSet")["readyReplicas"] == 3


async def test_kubectl_checks_the_current_count(cluster: SimulatedCluster) -> None:
    """With a precondition kubectl reads the Scale and replaces it."""
    code, output = await kubectl(cluster, "scale", "deploy/web", "-n", "demo", "--current-replicas=1", "--replicas=2")
    assert (code, cluster.replicas("Deployment", "demo", "web")) == (1, 0)
    assert "Expected replicas to be 1, was 0" in output
    code, _ = await kubectl(cluster, "scale", "deploy/web", "-n", "demo", "--current-replicas=0", "--replicas=2")
    assert (code, cluster.replicas("Deployment", "demo", "web")) == (0, 2)


async def test_kubectl_sees_a_restart_through(cluster: SimulatedCluster) -> None:
    old = {pod["metadata"]["uid"] for pod in cluster.pods("demo")}
    assert (await kubectl(cluster, "rollout", "restart", "sts/db", "-n", "demo"))[0] == 0
    code, _ = await kubectl(cluster, "rollout", "status", "sts/db", "-n", "demo")
    assert code == 0
    await until(lambda: old.isdisjoint(pod["metadata"]["uid"] for pod in cluster.pods("demo")))


async def test_kubectl_tells_events_and_versions(cluster: SimulatedCluster) -> None:
    cluster.behave("demo", "web", outcome=Outcome.IMAGE_PULL)
    cluster.scale("demo", "web", 1)
    await until(lambda: any(event["reason"] == "BackOff" for event in cluster.events("demo")))
    code, output = await kubectl(cluster, "get", "events", "-n", "demo", "-o", "jsonpath={.items[*].reason}")
    assert code == 0
    assert "BackOff" in output.split()
    code, output = await kubectl(cluster, "version", "-o", "json")
    assert json.loads(output)["serverVersion"]["gitVersion"] == "v1.37.0"
    code, output = await kubectl(cluster, "api-resources", "--no-headers", "-o", "name")
    assert code == 0
    assert set(output.split()) >= {"deployments.apps", "statefulsets.apps", "pods", "events"}


async def rows(cluster: SimulatedCluster, *arguments: str) -> list[list[str]]:
    """What `kubectl get` shows of the namespace, by lines and columns."""
    code, output = await kubectl(cluster, "get", "-n", "demo", *arguments)
    assert code == 0, output
    return [re.split(r" {2,}", line.strip()) for line in output.splitlines()]


async def test_kubectl_shows_the_columns_of_a_real_cluster(cluster: SimulatedCluster) -> None:
    header, web = await rows(cluster, "deployments")
    assert header == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    assert web[:4] == ["web", "0/0", "0", "0"]
    header, db = await rows(cluster, "sts/db")
    assert header == ["NAME", "READY", "AGE"]
    assert db[:2] == ["db", "2/2"]
    header, *pods = await rows(cluster, "pods")
    assert header == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert [pod[:4] for pod in pods] == [["db-0", "1/1", "Running", "0"], ["db-1", "1/1", "Running", "0"]]
    header, *found = await rows(cluster, "statefulsets", "-A", "--show-labels")
    assert (header[0], header[-1]) == ("NAMESPACE", "LABELS")
    assert [(row[0], row[-1]) for row in found] == [("demo", "app=db")]


async def test_kubectl_shows_events_by_what_they_are_about(cluster: SimulatedCluster) -> None:
    cluster.scale("demo", "web", 1)
    await until(lambda: any(event["reason"] == "Started" for event in cluster.events("demo")))
    header, *found = await rows(cluster, "events", "--field-selector", "reason=Started")
    assert header == ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    (pod,) = [pod["metadata"]["name"] for pod in cluster.pods("demo") if pod["metadata"]["labels"]["app"] == "web"]
    assert [row[1:] for row in found] == [["Normal", "Started", f"pod/{pod}", "Started container web"]]


async def watched(cluster: SimulatedCluster, watching: list[str], act: Callable[[], None], last: str) -> list[str]:
    """The lines of `kubectl get -w` from its start, through `act`, to the first that matches `last`."""
    program = str(shutil.which("kubectl"))
    command = [program, "--kubeconfig", str(cluster.kubeconfig), "--cache-dir", str(cluster.directory / "cache")]
    process = await asyncio.create_subprocess_exec(
        *command, "get", "-n", "demo", *watching, "-w", stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        await until(lambda: cluster.open_watches == 1)
        act()
        lines = [(await asyncio.wait_for(process.stdout.readline(), SOON)).decode()]
        while lines[-1] and not re.search(last, lines[-1]):
            lines.append((await asyncio.wait_for(process.stdout.readline(), SOON)).decode())
        return lines
    finally:
        process.terminate()
        await process.communicate()


async def test_kubectl_watches_a_deployment_become_ready(cluster: SimulatedCluster) -> None:
    lines = await watched(cluster, ["deployments"], lambda: cluster.scale("demo", "web", 1), r"1/1 +1 +1 ")
    assert sum(line.startswith("NAME") for line in lines) == 1
    seen = [line.split()[1] for line in lines[1:]]
    assert list(dict.fromkeys(seen)) == ["0/0", "0/1", "1/1"]


async def test_kubectl_watches_one_name(cluster: SimulatedCluster) -> None:
    lines = await watched(cluster, ["sts/db"], lambda: cluster.scale("demo", "db", 3, "StatefulSet"), "3/3")
    assert {line.split()[0] for line in lines} == {"NAME", "db"}
    assert "2/3" in {line.split()[1] for line in lines}


async def test_kubectl_watches_a_pod_through_its_life(cluster: SimulatedCluster) -> None:
    cluster.behave("demo", "web", step=0.2)
    start = ["pods", "-l", "app=web"]
    lines = await watched(cluster, start, lambda: cluster.scale("demo", "web", 1), "1/1")
    words = [line.split()[2] for line in lines if not line.startswith("NAME")]
    assert list(dict.fromkeys(words)) == ["Pending", "ContainerCreating", "Running"]
    lines = await watched(cluster, start, lambda: cluster.scale("demo", "web", 0), "Terminating")
    assert lines[-1].split()[1:3] == ["1/1", "Terminating"]


@pytest.mark.parametrize(
    ("outcome", "word"),
    [
        (Outcome.UNSCHEDULABLE, "Pending"),
        (Outcome.IMAGE_PULL, "ImagePullBackOff"),
        (Outcome.CRASH_LOOP, "CrashLoopBackOff"),
        (Outcome.NEVER_READY, "Running"),
        (Outcome.INIT_FAILS, "Init:CrashLoopBackOff"),
        (Outcome.NO_CONFIG, "CreateContainerConfigError"),
        (Outcome.OUT_OF_MEMORY, "OOMKilled"),
        (Outcome.NOT_MOUNTED, "ContainerCreating"),
        (Outcome.EVICTED, "Error"),
    ],
)
async def test_kubectl_shows_what_went_wrong_in_the_usual_word(
    cluster: SimulatedCluster, outcome: Outcome, word: str
) -> None:
    cluster.behave("demo", "web", outcome=outcome, retry=1.0)
    act = functools.partial(cluster.scale, "demo", "web", 1)
    lines = await watched(cluster, ["pods", "-l", "app=web"], act, rf"0/1 +{word} ")
    assert lines[-1].split()[1:3] == ["0/1", word]


async def test_kubectl_counts_restarts_and_says_when(cluster: SimulatedCluster) -> None:
    cluster.behave("demo", "web", outcome=Outcome.CRASH_LOOP)
    act = functools.partial(cluster.scale, "demo", "web", 1)
    lines = await watched(cluster, ["pods", "-l", "app=web"], act, r"0/1 +\w+ +2 \(\d+s ago\) ")
    assert lines[-1]


async def test_kubectl_tells_refusals_in_the_real_words(cluster: SimulatedCluster) -> None:
    assert await kubectl(cluster, "get", "deploy", "nope", "-n", "demo") == (
        1,
        'Error from server (NotFound): deployments.apps "nope" not found\n',
    )
    cluster.deny("patch", "deployments/scale")
    code, output = await kubectl(cluster, "scale", "deploy/web", "-n", "demo", "--replicas=1")
    assert code == 1
    assert output.strip().endswith(
        'deployments.apps "web" is forbidden: User "system:serviceaccount:maubot:maubot" cannot patch resource '
        '"deployments/scale" in API group "apps" in the namespace "demo"'
    )
    cluster.rotate_token()
    code, output = await kubectl(cluster, "get", "deploy", "-n", "demo")
    assert code == 1
    assert "Unauthorized" in output or "logged in" in output


# Tables

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
OLD_TABLE = "application/json;as=Table;v=v1beta1;g=meta.k8s.io"


@pytest.mark.parametrize(
    ("accept", "kind", "version"),
    [
        (f"{TABLE},{OLD_TABLE},application/json", "Table", "meta.k8s.io/v1"),
        (f"{OLD_TABLE}, application/json", "Table", "meta.k8s.io/v1beta1"),
        ("application/json;as=Table;v=v2;g=meta.k8s.io,application/json", "DeploymentList", "apps/v1"),
        ("application/json;as=Table;v=v1;g=example.com,application/json", "DeploymentList", "apps/v1"),
        (f"application/json,{TABLE}", "DeploymentList", "apps/v1"),
        (f"application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,{TABLE}", "Table", "meta.k8s.io/v1"),
        ("*/*", "DeploymentList", "apps/v1"),
    ],
)
async def test_only_who_prefers_a_table_gets_one(http: Client, accept: str, kind: str, version: str) -> None:
    code, found = await http("GET", DEPLOYMENTS, accept=accept)
    assert (code, found["kind"], found["apiVersion"]) == (200, kind, version)
    assert int(found["metadata"]["resourceVersion"]) > 0


async def test_a_row_carries_as_much_of_its_object_as_was_asked(cluster: SimulatedCluster, http: Client) -> None:
    web = cluster.workload("Deployment", "demo", "web")
    partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": web["metadata"]}
    included = [("", partial), ("?includeObject=Metadata", partial), ("?includeObject=Object", web)]
    for query, expected in [*included, ("?includeObject=None", None)]:
        _, found = await http("GET", WEB + query, accept=TABLE)
        assert [row["object"] for row in found["rows"]] == [expected]
        assert found["metadata"]["resourceVersion"] == web["metadata"]["resourceVersion"]
    assert (await http("GET", f"{WEB}?includeObject=All", accept=TABLE))[0] == 400
    assert (await http("GET", f"{DEPLOYMENTS}?watch=true&includeObject=All", accept=TABLE))[0] == 400


async def test_errors_are_no_tables(cluster: SimulatedCluster, http: Client) -> None:
    code, status = await http("GET", f"{DEPLOYMENTS}/nope", accept=TABLE)
    assert (code, status["kind"]) == (404, "Status")
    cluster.forget_history()
    ((kind, status),) = await http.events(f"{DEPLOYMENTS}?watch=true&resourceVersion=1001", 5, TABLE)
    assert (kind, status["kind"], status["code"]) == ("ERROR", "Status", 410)


async def test_a_watch_names_the_columns_once(cluster: SimulatedCluster, http: Client) -> None:
    follow = asyncio.ensure_future(http.events(f"{DEPLOYMENTS}?watch=true", 2, TABLE))
    await until(lambda: cluster.open_watches == 1)
    cluster.scale("demo", "web", 1)
    (_, first), (_, second) = await follow
    assert (first["kind"], second["kind"]) == ("Table", "Table")
    assert [column["name"] for column in first["columnDefinitions"]] == [
        "Name",
        "Ready",
        "Up-to-date",
        "Available",
        "Age",
    ]
    assert second["columnDefinitions"] is None
    assert second["rows"][0]["cells"][:4] == ["web", "0/1", 0, 0]
    assert second["metadata"]["resourceVersion"] == second["rows"][0]["object"]["metadata"]["resourceVersion"]


async def test_a_bookmark_in_a_table_keeps_its_metadata(http: Client) -> None:
    (_, _), (kind, bookmark) = await http.events(f"{DEPLOYMENTS}?watch=true&sendInitialEvents=true", 2, TABLE)
    assert (kind, bookmark["kind"]) == ("BOOKMARK", "Table")
    annotations = bookmark["rows"][0]["object"]["metadata"]["annotations"]
    assert annotations == {"k8s.io/initial-events-end": "true"}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-2, "<invalid>"),
        (-1, "0s"),
        (-0.4, "0s"),
        (119.9, "119s"),
        (120, "2m"),
        (121, "2m1s"),
        (600, "10m"),
        (659, "10m"),
        (3 * 3600 - 1, "179m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 60, "3h1m"),
        (8 * 3600 + 60, "8h"),
        (48 * 3600 - 1, "47h"),
        (49 * 3600, "2d1h"),
        (8 * 86400 + 3600, "8d"),
        (730 * 86400, "2y"),
        (731 * 86400, "2y1d"),
        (8 * 365 * 86400 + 86400, "8y"),
    ],
)
def test_ages_read_as_kubectl_writes_them(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def test_an_age_counts_from_a_time_of_the_api() -> None:
    now = dt.datetime(2026, 11, 23, 12, 0, 5, tzinfo=dt.timezone.utc)
    assert age("2026-11-23T12:00:00Z", now) == "5s"
    assert age(None, now) == "<unknown>"


def pod_with(
    *states: dict[str, Any], phase: str = "Running", ready: bool = False, metadata: dict[str, str] | None = None
) -> dict[str, Any]:
    containers = [{"state": state, "ready": "running" in state} for state in states]
    conditions = [{"type": "Ready", "status": str(ready)}]
    status = {"phase": phase, "containerStatuses": containers, "conditions": conditions}
    return {"metadata": metadata or {}, "status": status}


RUNNING: dict[str, Any] = {"running": {}}
COMPLETED: dict[str, Any] = {"terminated": {"exitCode": 0, "reason": "Completed"}}
DELETED = {"deletionTimestamp": "2026-11-23T12:00:00Z"}


@pytest.mark.parametrize(
    ("pod", "word"),
    [
        (pod_with(phase="Pending"), "Pending"),
        (pod_with({"waiting": {"reason": "ErrImagePull"}}, RUNNING), "ErrImagePull"),
        (pod_with({"waiting": {}}, phase="Pending"), "Pending"),
        (pod_with({"terminated": {"exitCode": 3, "reason": "Error"}}), "Error"),
        (pod_with({"terminated": {"exitCode": 3}}), "ExitCode:3"),
        (pod_with({"terminated": {"exitCode": 137, "signal": 9}}), "Signal:9"),
        (pod_with(COMPLETED), "Completed"),
        (pod_with(COMPLETED, RUNNING, ready=True), "Running"),
        (pod_with(COMPLETED, RUNNING), "NotReady"),
        (pod_with(RUNNING, metadata=DELETED), "Terminating"),
        (pod_with(phase="Failed", metadata=DELETED), "Failed"),
    ],
)
def test_the_word_for_a_pod(pod: dict[str, Any], word: str) -> None:
    assert pod_status(pod) == word


# Reading and writing


async def test_scale_is_a_scale_object_whose_zero_is_left_out(cluster: SimulatedCluster, http: Client) -> None:
    code, scale = await http("GET", f"{WEB}/scale")
    assert code == 200
    assert (scale["kind"], scale["apiVersion"], scale["metadata"]["name"]) == ("Scale", "autoscaling/v1", "web")
    assert scale["spec"] == {}
    assert scale["status"] == {"replicas": 0, "selector": "app=web"}
    code, scale = await http("PATCH", f"{WEB}/scale", {"spec": {"replicas": 2}})
    assert (code, scale["spec"]) == (200, {"replicas": 2})


async def test_replacing_a_stale_scale_is_a_conflict(cluster: SimulatedCluster, http: Client) -> None:
    _, scale = await http("GET", f"{WEB}/scale")
    cluster.scale("demo", "web", 1)
    scale["spec"]["replicas"] = 5
    code, status = await http("PUT", f"{WEB}/scale", scale)
    assert (code, status["reason"]) == (409, "Conflict")
    assert status["message"].startswith('Operation cannot be fulfilled on deployments.apps "web": the object has been')
    del scale["metadata"]["resourceVersion"]
    assert (await http("PUT", f"{WEB}/scale", scale))[0] == 200
    assert cluster.replicas("Deployment", "demo", "web") == 5


async def test_a_patch_that_names_an_old_version_is_a_conflict(cluster: SimulatedCluster, http: Client) -> None:
    patch = {"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 1}}
    assert (await http("PATCH", WEB, patch))[0] == 409
    assert (await http("PATCH", f"{WEB}/scale", patch))[0] == 409
    assert cluster.replicas("Deployment", "demo", "web") == 0


@pytest.mark.parametrize(
    ("body", "kind", "code", "reason"),
    [
        ({"spec": {"replicas": -1}}, MERGE, 422, "Invalid"),
        ({"spec": {"replicas": "two"}}, MERGE, 422, "Invalid"),
        ("{", MERGE, 400, "BadRequest"),
        ({"spec": {"replicas": 1}}, "application/json", 415, "UnsupportedMediaType"),
        ({"spec": {"replicas": 1}}, "application/json-patch+json", 415, "UnsupportedMediaType"),
    ],
)
async def test_patches_that_are_refused_change_nothing(
    cluster: SimulatedCluster, http: Client, body: Any, kind: str, code: int, reason: str
) -> None:
    before = cluster.workload("Deployment", "demo", "web")
    got, status = await http("PATCH", f"{WEB}/scale", body, kind)
    assert (got, status["kind"], status["status"], status["code"]) == (code, "Status", "Failure", code)
    assert status["reason"] == reason
    assert cluster.workload("Deployment", "demo", "web") == before


async def test_generation_counts_changes_of_the_spec_only(cluster: SimulatedCluster, http: Client) -> None:
    labels = {"metadata": {"labels": {"tier": "front"}}}
    _, web = await http("PATCH", WEB, labels, "application/strategic-merge-patch+json")
    assert web["metadata"]["generation"] == 1
    assert web["metadata"]["labels"] == {"app": "web", "tier": "front"}
    version = int(web["metadata"]["resourceVersion"])
    _, web = await http("PATCH", WEB, {"spec": {"replicas": 1}, "status": {"replicas": 99}})
    assert web["metadata"]["generation"] == 2
    assert web["status"].get("replicas") != 99
    assert int(web["metadata"]["resourceVersion"]) > version
    _, same = await http("PATCH", WEB, {"spec": {"replicas": 1}})
    assert same["metadata"]["generation"] == 2


async def test_lists_are_selected(http: Client) -> None:
    async def names(query: str) -> list[str]:
        code, found = await http("GET", f"/api/v1/namespaces/demo/pods?{query}")
        assert (code, found["kind"]) == (200, "PodList")
        return [item["metadata"]["name"] for item in found["items"]]

    assert await names("labelSelector=app%3Ddb") == ["db-0", "db-1"]
    assert await names("labelSelector=app%20in%20(web,other)") == []
    assert await names("labelSelector=app,app!%3Dweb") == ["db-0", "db-1"]
    assert await names("labelSelector=!app") == []
    assert await names("labelSelector=app%20notin%20(db)") == []
    assert await names("fieldSelector=metadata.name%3Ddb-1") == ["db-1"]
    assert await names("fieldSelector=status.phase!%3DRunning") == []
    code, status = await http("GET", "/api/v1/namespaces/demo/pods?fieldSelector=spec.colour%3Dred")
    assert (code, status["message"]) == (400, "field label not supported: spec.colour")


async def test_what_is_not_there(http: Client) -> None:
    code, status = await http("GET", "/apis/apps/v1/namespaces/demo/deployments/nope")
    assert code == 404
    assert status["details"] == {"name": "nope", "group": "apps", "kind": "deployments"}
    code, status = await http("GET", "/apis/apps/v1/namespaces/demo/daemonsets/x")
    assert (code, status["message"]) == (404, "the server could not find the requested resource")
    assert await http("GET", "/apis/example.com/v1/things") == (404, "404 page not found\n")
    assert (await http("DELETE", f"{WEB}/scale"))[0] == 405


async def test_without_a_token_nothing_is_told(cluster: SimulatedCluster, http: Client) -> None:
    token, cluster.token = cluster.token, "another"
    for path in (WEB, "/version", "/apis", "/healthz"):
        async with http.session.get(cluster.url + path, headers={"Authorization": f"Bearer {token}"}) as response:
            assert response.status == 401
            assert (await response.json())["message"] == "Unauthorized"


# Watching


async def test_a_watch_without_a_version_begins_with_what_is(cluster: SimulatedCluster, http: Client) -> None:
    path = f"{DEPLOYMENTS}?watch=true&fieldSelector=metadata.name%3Dweb"
    follow = asyncio.ensure_future(http.events(path, 2))
    await until(lambda: cluster.open_watches == 1)
    cluster.scale("demo", "web", 1)
    (first, before), (second, after) = await follow
    assert (first, before["spec"]["replicas"]) == ("ADDED", 0)
    assert (second, after["spec"]["replicas"]) == ("MODIFIED", 1)


async def test_a_watch_from_a_version_tells_what_came_after(cluster: SimulatedCluster, http: Client) -> None:
    _, listed = await http("GET", DEPLOYMENTS)
    version = listed["metadata"]["resourceVersion"]
    cluster.add_deployment("demo", "other")
    cluster.delete("demo", "other")
    events = await http.events(f"{DEPLOYMENTS}?watch=1&resourceVersion={version}", 3)
    assert [kind for kind, _ in events] == ["ADDED", "MODIFIED", "DELETED"]
    versions = [int(obj["metadata"]["resourceVersion"]) for _, obj in events]
    assert versions == sorted(set(versions))


async def test_a_watch_from_a_forgotten_version_is_told_so(cluster: SimulatedCluster, http: Client) -> None:
    _, listed = await http("GET", DEPLOYMENTS)
    version = listed["metadata"]["resourceVersion"]
    cluster.forget_history()
    ((kind, status),) = await http.events(f"{DEPLOYMENTS}?watch=true&resourceVersion={version}", 5)
    assert (kind, status["code"], status["reason"]) == ("ERROR", 410, "Expired")


async def test_a_watch_ends_when_it_was_asked_to(http: Client) -> None:
    events = await http.events(f"{DEPLOYMENTS}?watch=true&timeoutSeconds=1", 99)
    assert [kind for kind, _ in events] == ["ADDED"]


async def test_an_object_that_begins_or_ends_to_match(cluster: SimulatedCluster, http: Client) -> None:
    follow = asyncio.ensure_future(http.events(f"{DEPLOYMENTS}?watch=true&labelSelector=tier", 2))
    await until(lambda: cluster.open_watches == 1)
    await http("PATCH", WEB, {"metadata": {"labels": {"tier": "front"}}})
    await http("PATCH", WEB, {"metadata": {"labels": {"tier": None}}})
    assert [kind for kind, _ in await follow] == ["ADDED", "DELETED"]


async def test_the_initial_events_end_with_a_bookmark(http: Client) -> None:
    query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    events = await http.events(f"{DEPLOYMENTS}?{query}", 2)
    assert [kind for kind, _ in events] == ["ADDED", "BOOKMARK"]
    assert events[1][1]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


# Controllers


async def test_a_start_is_seen_then_begun_then_done(cluster: SimulatedCluster) -> None:
    cluster.behave("demo", "web", observe=0.2, step=0.2)
    cluster.scale("demo", "web", 1)
    web = cluster.workload("Deployment", "demo", "web")
    assert web["metadata"]["generation"] > web["status"]["observedGeneration"]
    await until(lambda: status_of(cluster).get("replicas") == 1)
    assert status_of(cluster)["observedGeneration"] == web["metadata"]["generation"]
    assert status_of(cluster)["unavailableReplicas"] == 1
    assert condition(cluster, "Available")["status"] == "False"
    await until(lambda: status_of(cluster).get("availableReplicas") == 1)
    assert condition(cluster, "Available")["reason"] == "MinimumReplicasAvailable"
    assert condition(cluster, "Progressing")["reason"] == "NewReplicaSetAvailable"
    (pod,) = [pod for pod in cluster.pods("demo") if pod["metadata"]["labels"]["app"] == "web"]
    assert pod["metadata"]["ownerReferences"][0]["kind"] == "ReplicaSet"
    assert pod["metadata"]["name"].startswith(pod["metadata"]["ownerReferences"][0]["name"])


async def test_a_stop_counts_at_once_and_ends_later(cluster: SimulatedCluster) -> None:
    cluster.behave("demo", "web", terminate=0.5)
    cluster.scale("demo", "web", 1)
    await until(lambda: status_of(cluster).get("availableReplicas") == 1)
    cluster.scale("demo", "web", 0)
    await until(lambda: "replicas" not in status_of(cluster))
    (pod,) = [pod for pod in cluster.pods("demo") if pod["metadata"]["labels"]["app"] == "web"]
    assert "deletionTimestamp" in pod["metadata"]
    await until(lambda: len(cluster.pods("demo")) == 2)


async def test_a_statefulset_starts_in_order_and_stops_in_reverse(cluster: SimulatedCluster) -> None:
    seen: list[set[str]] = []

    def names() -> set[str]:
        found = {pod["metadata"]["name"] for pod in cluster.pods("demo")}
        if not seen or seen[-1] != found:
            seen.append(found)
        return found

    cluster.scale("demo", "db", 4, "StatefulSet")
    await until(lambda: names() == {"db-0", "db-1", "db-2", "db-3"})
    assert all(found == {f"db-{ordinal}" for ordinal in range(len(found))} for found in seen)
    await until(lambda: status_of(cluster, "db", "StatefulSet").get("readyReplicas") == 4)
    seen.clear()
    cluster.scale("demo", "db", 0, "StatefulSet")
    await until(lambda: names() == set())
    assert all(found == {f"db-{ordinal}" for ordinal in range(len(found))} for found in seen)
    status = status_of(cluster, "db", "StatefulSet")
    assert (status["replicas"], status["availableReplicas"]) == (0, 0)
    assert "readyReplicas" not in status


async def test_minimum_ready_seconds_count(cluster: SimulatedCluster) -> None:
    cluster.add_deployment("demo", "calm", spec={"minReadySeconds": 1})
    cluster.scale("demo", "calm", 1)
    await until(lambda: status_of(cluster, "calm").get("readyReplicas") == 1)
    assert "availableReplicas" not in status_of(cluster, "calm")
    await until(lambda: status_of(cluster, "calm").get("availableReplicas") == 1)


async def test_a_frozen_controller_sees_nothing_until_it_thaws(cluster: SimulatedCluster) -> None:
    cluster.behave("demo", "web", frozen=True)
    cluster.scale("demo", "web", 1)
    await asyncio.sleep(0.3)
    assert status_of(cluster)["observedGeneration"] == 1
    cluster.behave("demo", "web", frozen=False)
    await until(lambda: status_of(cluster).get("availableReplicas") == 1)


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome not in (Outcome.NORMAL, Outcome.STAYS)])
async def test_what_went_wrong_can_be_mended(cluster: SimulatedCluster, outcome: Outcome) -> None:
    cluster.behave("demo", "web", outcome=outcome)
    cluster.scale("demo", "web", 1)
    await until(lambda: any(event["type"] == "Warning" for event in cluster.events("demo")))
    assert "availableReplicas" not in status_of(cluster)
    cluster.behave("demo", "web", outcome=Outcome.NORMAL)
    await until(lambda: status_of(cluster).get("availableReplicas") == 1)
    assert condition(cluster, "ReplicaFailure") == {}


async def test_what_ran_can_begin_to_crash(cluster: SimulatedCluster) -> None:
    cluster.scale("demo", "web", 1)
    await until(lambda: status_of(cluster).get("availableReplicas") == 1)
    cluster.behave("demo", "web", outcome=Outcome.CRASH_LOOP)
    await until(lambda: "availableReplicas" not in status_of(cluster))
    cluster.behave("demo", "web", outcome=Outcome.NORMAL)
    await until(lambda: status_of(cluster).get("availableReplicas") == 1)


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
async def test_a_pod_that_failed_is_replaced(cluster: SimulatedCluster, kind: str) -> None:
    name = {"Deployment": "web", "StatefulSet": "db"}[kind]
    cluster.behave("demo", name, kind, outcome=Outcome.EVICTED, retry=0.02)
    cluster.scale("demo", name, 0, kind)
    await until(lambda: not [pod for pod in cluster.pods("demo") if pod["metadata"]["labels"]["app"] == name])
    cluster.scale("demo", name, 1, kind)
    await until(lambda: any(event["reason"] == "Evicted" for event in cluster.events("demo")))
    cluster.behave("demo", name, kind, outcome=Outcome.NORMAL)
    await until(lambda: status_of(cluster, name, kind).get("readyReplicas") == 1)


async def test_a_pod_that_does_not_end_is_there_until_it_can(cluster: SimulatedCluster) -> None:
    cluster.scale("demo", "web", 1)
    await until(lambda: status_of(cluster).get("availableReplicas") == 1)
    cluster.behave("demo", "web", outcome=Outcome.STAYS)
    cluster.scale("demo", "web", 0)
    await until(lambda: "replicas" not in status_of(cluster))
    await asyncio.sleep(0.5)
    (pod,) = [pod for pod in cluster.pods("demo") if pod["metadata"]["labels"]["app"] == "web"]
    assert pod["metadata"]["deletionTimestamp"] > pod["metadata"]["creationTimestamp"], "when its grace period ends"
    cluster.behave("demo", "web", outcome=Outcome.NORMAL)
    await until(lambda: not [pod for pod in cluster.pods("demo") if pod["metadata"]["labels"]["app"] == "web"])


async def test_a_probe_that_fails_is_told(cluster: SimulatedCluster) -> None:
    cluster.behave("demo", "web", outcome=Outcome.NEVER_READY)
    cluster.scale("demo", "web", 1)
    await until(lambda: any(event["reason"] == "Unhealthy" for event in cluster.events("demo")))
    (pod,) = [pod for pod in cluster.pods("demo") if pod["metadata"]["labels"]["app"] == "web"]
    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["containerStatuses"][0]["ready"] is False


async def test_the_progress_deadline_is_told_if_asked(cluster: SimulatedCluster) -> None:
    cluster.behave("demo", "web", outcome=Outcome.NEVER_READY, progress_deadline=0.3)
    cluster.scale("demo", "web", 1)
    await until(lambda: condition(cluster, "Progressing").get("reason") == "ProgressDeadlineExceeded")
    assert condition(cluster, "Progressing")["status"] == "False"


async def test_repeated_events_are_counted(cluster: SimulatedCluster) -> None:
    cluster.behave("demo", "web", outcome=Outcome.NEVER_READY, retry=0.02)
    cluster.scale("demo", "web", 1)
    await until(lambda: any(event["count"] >= 3 for event in cluster.events("demo")))
    unhealthy = [event for event in cluster.events("demo") if event["reason"] == "Unhealthy"]
    assert len(unhealthy) == 1


async def test_deleting_a_workload_takes_its_pods_along(cluster: SimulatedCluster, http: Client) -> None:
    code, _ = await http("DELETE", "/apis/apps/v1/namespaces/demo/statefulsets/db")
    assert code == 200
    await until(lambda: cluster.pods("demo") == [])


async def test_a_deleted_pod_is_replaced(cluster: SimulatedCluster, http: Client) -> None:
    (uid,) = [pod["metadata"]["uid"] for pod in cluster.pods("demo") if pod["metadata"]["name"] == "db-1"]
    assert (await http("DELETE", "/api/v1/namespaces/demo/pods/db-1"))[0] == 200
    await until(lambda: status_of(cluster, "db", "StatefulSet").get("readyReplicas") == 2)
    await until(lambda: "db-1" in {pod["metadata"]["name"] for pod in cluster.pods("demo")})
    assert uid not in {pod["metadata"]["uid"] for pod in cluster.pods("demo")}


# Secrets

SECRET = "/api/v1/namespaces/maubot/secrets/bot"


@pytest.fixture
def secret(cluster: SimulatedCluster) -> None:
    cluster.add_secret("maubot", "bot")


@pytest.mark.usefixtures("secret")
async def test_a_secret_is_patched_key_by_key(cluster: SimulatedCluster, http: Client) -> None:
    code, empty = await http("GET", SECRET)
    assert (code, empty["type"], "data" in empty) == (200, "Opaque", False)
    code, patched = await http("PATCH", SECRET, {"data": {"a": "b25l", "b": "dHdv"}})
    assert (code, patched["data"]) == (200, {"a": "b25l", "b": "dHdv"})
    assert patched["metadata"]["resourceVersion"] != empty["metadata"]["resourceVersion"]
    assert (await http("PATCH", SECRET, {"data": {"a": None}, "stringData": {"c": "three"}}))[0] == 200
    assert cluster.secret("maubot", "bot") == {"b": "two", "c": "three"}


@pytest.mark.usefixtures("secret")
async def test_a_secret_that_was_changed_meanwhile_is_a_conflict(cluster: SimulatedCluster, http: Client) -> None:
    version = (await http("GET", SECRET))[1]["metadata"]["resourceVersion"]
    cluster.change_secret("maubot", "bot", a="one")
    patch = {"metadata": {"resourceVersion": version}, "data": {"a": "dHdv"}}
    for path in (SECRET, f"{SECRET}?dryRun=All"):
        code, status = await http("PATCH", path, patch)
        assert (code, status["reason"]) == (409, "Conflict")
    assert cluster.secret("maubot", "bot") == {"a": "one"}


@pytest.mark.usefixtures("secret")
async def test_a_dry_run_answers_and_changes_nothing(cluster: SimulatedCluster, http: Client) -> None:
    before = (await http("GET", SECRET))[1]
    code, answer = await http("PATCH", f"{SECRET}?dryRun=All", {"data": {"a": "b25l"}})
    assert (code, answer["data"]) == (200, {"a": "b25l"})
    assert (await http("GET", SECRET))[1] == before
    assert (await http("PATCH", f"{SECRET}?dryRun=Some", {"data": {"a": "b25l"}}))[0] == 422
    assert (await http("PATCH", f"{SECRET}?dryRun=All", {"data": {"a": "!"}}))[0] == 400


@pytest.mark.usefixtures("secret")
@pytest.mark.parametrize(
    ("patch", "code"),
    [({"data": {"a": "no base64"}}, 400), ({"data": {"a/b": "b25l"}}, 422), ({"type": "kubernetes.io/tls"}, 422)],
)
async def test_what_no_secret_can_hold(cluster: SimulatedCluster, http: Client, patch: Any, code: int) -> None:
    assert (await http("PATCH", SECRET, patch))[0] == code
    assert cluster.secret("maubot", "bot") == {}


@pytest.mark.usefixtures("secret")
async def test_rights_on_one_secret(cluster: SimulatedCluster, http: Client) -> None:
    cluster.add_secret("maubot", "other")
    cluster.grant([PolicyRule(("get", "patch"), ("secrets",), ("",), ("bot",), "maubot")])
    assert (await http("PATCH", SECRET, {"data": {"a": "b25l"}}))[0] == 200
    code, status = await http("PATCH", "/api/v1/namespaces/maubot/secrets/other", {"data": {"a": "b25l"}})
    assert (code, status["reason"]) == (403, "Forbidden")
    assert status["message"].startswith('secrets "other" is forbidden: User ')
    assert (await http("GET", "/api/v1/namespaces/maubot/secrets"))[0] == 403
    assert (await http("DELETE", SECRET))[0] == 403


@pytest.mark.usefixtures("secret")
async def test_kubectl_lists_and_patches_a_secret(cluster: SimulatedCluster) -> None:
    code, output = await kubectl(
        cluster, "patch", "secret", "bot", "-n", "maubot", "-p", '{"stringData": {"a": "one"}}'
    )
    assert (code, output) == (0, "secret/bot patched\n")
    code, output = await kubectl(cluster, "get", "secrets", "-n", "maubot")
    assert [line.split()[:3] for line in output.splitlines()] == [["NAME", "TYPE", "DATA"], ["bot", "Opaque", "1"]]


# Rights, faults, life


async def test_rules_narrowed_to_names_also_cover_watches_of_that_name(cluster: SimulatedCluster, http: Client) -> None:
    cluster.grant([PolicyRule(("list", "watch"), ("deployments",), ("apps",), ("web",), "demo")])
    assert (await http("GET", f"{DEPLOYMENTS}?fieldSelector=metadata.name%3Dweb"))[0] == 200
    code, status = await http("GET", DEPLOYMENTS)
    assert code == 403
    assert status["message"].startswith("deployments.apps is forbidden: User ")
    assert status["message"].endswith('cannot list resource "deployments" in API group "apps" in the namespace "demo"')
    assert (await http("GET", f"{DEPLOYMENTS}?watch=true&fieldSelector=metadata.name%3Dother"))[0] == 403
    assert (await http("GET", "/apis/apps/v1/deployments?fieldSelector=metadata.name%3Dweb"))[0] == 403


async def test_access_reviews_answer_as_requests_do(cluster: SimulatedCluster, http: Client) -> None:
    async def allowed(**attributes: str) -> bool:
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        body = {"spec": {"resourceAttributes": attributes}}
        code, review = await http("POST", path, body, "application/json")
        assert code == 201
        answer: bool = review["status"]["allowed"]
        return answer

    scale = {"verb": "patch", "group": "apps", "resource": "deployments", "subresource": "scale", "namespace": "demo"}
    assert await allowed(**scale, name="web")
    cluster.deny("patch", "deployments/scale", "demo", "web")
    assert not await allowed(**scale, name="web")
    assert await allowed(**scale, name="other")
    assert (await http("PATCH", f"{WEB}/scale", {"spec": {"replicas": 1}}))[0] == 403
    cluster.authorization.reset()
    assert await allowed(**scale, name="web")


async def test_a_fault_before_changes_nothing_and_one_after_does(cluster: SimulatedCluster, http: Client) -> None:
    patch = {"spec": {"replicas": 1}}
    cluster.fail(method="PATCH", status=503)
    assert (await http("PATCH", f"{WEB}/scale", patch))[0] == 503
    assert cluster.replicas("Deployment", "demo", "web") == 0
    cluster.fail(method="PATCH", status=503, when=When.AFTER)
    assert (await http("PATCH", f"{WEB}/scale", patch))[0] == 503
    assert cluster.replicas("Deployment", "demo", "web") == 1
    fault = cluster.fail(method="PATCH", cut=True, when=When.AFTER)
    with pytest.raises(aiohttp.ClientError):
        await http("PATCH", f"{WEB}/scale", {"spec": {"replicas": 2}})
    assert (cluster.replicas("Deployment", "demo", "web"), fault.struck) == (2, 1)
    assert (await http("PATCH", f"{WEB}/scale", patch))[0] == 200


async def test_a_delay_comes_before_the_work(cluster: SimulatedCluster, http: Client) -> None:
    cluster.fail(method="PATCH", delay=0.5)
    patching = asyncio.ensure_future(http("PATCH", f"{WEB}/scale", {"spec": {"replicas": 1}}))
    await until(lambda: len(cluster.asked("PATCH")) == 1)
    assert cluster.replicas("Deployment", "demo", "web") == 0
    assert (await patching)[0] == 200
    assert cluster.replicas("Deployment", "demo", "web") == 1


async def test_requests_are_recorded(cluster: SimulatedCluster, http: Client) -> None:
    await http("PATCH", f"{WEB}/scale?fieldManager=test", {"spec": {"replicas": 1}})
    (request,) = cluster.asked("PATCH", "/scale$")
    assert (request.path, request.query, request.content_type) == (f"{WEB}/scale", {"fieldManager": "test"}, MERGE)
    assert request.user_agent.startswith("Python/")
    assert json.loads(request.body) == {"spec": {"replicas": 1}}


async def test_refusing_and_listening_again_keeps_port_and_objects(cluster: SimulatedCluster, http: Client) -> None:
    url = cluster.url
    await cluster.refuse()
    with pytest.raises(aiohttp.ClientConnectionError):
        await http("GET", WEB)
    cluster.scale("demo", "web", 1)
    await cluster.listen()
    assert cluster.url == url
    code, web = await http("GET", WEB)
    assert (code, web["spec"]["replicas"]) == (200, 1)


async def test_its_files_are_private_and_go_with_it() -> None:
    async with SimulatedCluster() as cluster:
        directory = cluster.directory
        assert stat.S_IMODE(cluster.kubeconfig.stat().st_mode) == 0o600
    assert not directory.exists()


async def test_a_broken_controller_is_not_hidden() -> None:
    async def use() -> None:
        async with SimulatedCluster() as cluster:
            cluster.add_deployment("demo", "web")
            cluster.change("demo", "web", {"replicas": 1, "template": {}})
            await asyncio.sleep(0.2)

    with pytest.raises(KeyError):
        await use()


async def start_alone(directory: Path) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.stack.cluster", "--directory", str(directory), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 60)
    assert line.decode() == f"kubeconfig: {directory / 'kubeconfig'}\n"
    return process


async def test_alone_it_serves_until_sigterm(tmp_path: Path) -> None:
    process = await start_alone(tmp_path)
    assert (tmp_path / "kubeconfig").exists()
    process.terminate()
    assert await asyncio.wait_for(process.wait(), SOON) == 0


async def test_alone_it_ends_with_its_parent(tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.touch()
    script = '"$0" -m tests.stack.cluster --directory "$1" > "$1/output" & echo $!; exec sleep 60'
    parent = await asyncio.create_subprocess_exec(
        "sh", "-c", script, sys.executable, str(tmp_path), stdout=subprocess.PIPE
    )
    try:
        assert parent.stdout is not None
        child = int(await asyncio.wait_for(parent.stdout.readline(), 60))
        await until(lambda: output.read_text().startswith("kubeconfig:"))
    finally:
        parent.kill()
        await parent.wait()
    await until(lambda: ended(child))


def ended(pid: int) -> bool:
    """Whether a process is gone; an orphan that nobody reaps stays a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
