"""Workloads of every kind on a cluster: found through discovery, scaled, followed to the end, and told of truly."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from tests.stack.cluster import Outcome as Fate
from tests.stack.cluster import SimulatedCluster
from toggle_plugin import api_discovery
from toggle_plugin.errors import ClusterError, Forbidden, Invalid, NotFound
from toggle_plugin.models import Outcome, Phase, Progress, Result, Right, Verb, WorkloadRef
from toggle_plugin.settings import Target
from toggle_plugin.store import Store
from toggle_plugin.toggle import ToggleService
from toggle_plugin.workloads import KubernetesWorkloads

from .builders import ALICE, reached

LOG = logging.getLogger("test.kinds")
TIMEOUT = 30.0

REPLICASET = WorkloadRef("ReplicaSet", "games", "rs")
ROLLOUT = WorkloadRef("Rollout", "games", "shop", "argoproj.io/v1alpha1")
GAMESERVER = WorkloadRef("GameServer", "games", "arena", "games.example/v1")
EVERY = pytest.mark.parametrize("ref", [REPLICASET, ROLLOUT, GAMESERVER], ids=lambda ref: ref.kind)
CUSTOM = pytest.mark.parametrize("ref", [ROLLOUT, GAMESERVER], ids=lambda ref: ref.kind)

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed transport <asyncio.sslproto:ResourceWarning"),
    pytest.mark.usefixtures("impatient"),
]


@pytest.fixture(autouse=True)
async def every_kind(cluster: SimulatedCluster) -> None:
    """One workload of each kind, all off."""
    for ref in (REPLICASET, ROLLOUT, GAMESERVER):
        cluster.add(ref.full_kind, ref.namespace, ref.name)


@pytest.fixture
def service(workloads: KubernetesWorkloads, store: Store) -> ToggleService:
    async def connect() -> KubernetesWorkloads:
        return workloads

    return ToggleService(connect, store, lambda: TIMEOUT, LOG)


async def toggle(service: ToggleService, verb: Verb, ref: WorkloadRef, replicas: int | None = 2) -> Outcome:
    target = Target(ref.name, ref, replicas)
    return await asyncio.wait_for(service.toggle(verb, target, ALICE, lambda _: None), 2 * TIMEOUT)


def count(cluster: SimulatedCluster, ref: WorkloadRef) -> int:
    return cluster.replicas(ref.full_kind, ref.namespace, ref.name)


# From off to on and back


@EVERY
async def test_it_is_started_and_stopped(service: ToggleService, cluster: SimulatedCluster, ref: WorkloadRef) -> None:
    started = await toggle(service, Verb.START, ref)
    assert (started.result, count(cluster, ref)) == (Result.DONE, 2)
    assert started.status is not None
    assert (started.status.phase, started.status.ready, started.status.available) == (Phase.RUNNING, 2, 2)
    assert (await service.status(Target(ref.name, ref))).phase is Phase.RUNNING
    stopped = await toggle(service, Verb.STOP, ref)
    assert (stopped.result, count(cluster, ref)) == (Result.DONE, 0)
    assert stopped.status is not None
    assert stopped.status.phase is Phase.OFF
    assert not [pod for pod in cluster.pods("games") if pod["metadata"]["labels"]["app"] == ref.name]


@EVERY
async def test_what_is_so_already_is_left_alone(
    service: ToggleService, cluster: SimulatedCluster, ref: WorkloadRef
) -> None:
    await toggle(service, Verb.START, ref)
    assert (await toggle(service, Verb.START, ref)).result is Result.UNCHANGED
    await toggle(service, Verb.STOP, ref)
    assert (await toggle(service, Verb.STOP, ref)).result is Result.UNCHANGED
    written = [json.loads(request.body)["spec"]["replicas"] for request in cluster.asked("PATCH")]
    assert written == [2, 0]


@EVERY
@pytest.mark.parametrize(("fate", "words"), [(Fate.NEVER_READY, "probe"), (Fate.IMAGE_PULL, "cannot get its image")])
async def test_it_is_not_up_before_its_pods_are_and_why_is_told(
    service: ToggleService, cluster: SimulatedCluster, ref: WorkloadRef, fate: Fate, words: str
) -> None:
    cluster.behave("games", ref.name, ref.full_kind, outcome=fate)
    news: list[Progress] = []
    task = asyncio.ensure_future(service.toggle(Verb.START, Target(ref.name, ref, 1), ALICE, news.append))
    await reached(lambda: any(words in each.status.reason for each in news))
    assert not task.done()
    assert {each.status.ready for each in news} == {0}
    cluster.behave("games", ref.name, ref.full_kind, outcome=Fate.NORMAL)
    assert (await asyncio.wait_for(task, TIMEOUT)).result is Result.DONE


async def test_a_replicaset_that_may_have_no_pod_says_so(service: ToggleService, cluster: SimulatedCluster) -> None:
    cluster.behave("games", "rs", "ReplicaSet", outcome=Fate.QUOTA)
    news: list[Progress] = []
    task = asyncio.ensure_future(service.toggle(Verb.START, Target("rs", REPLICASET, 1), ALICE, news.append))
    await reached(lambda: any("they exceed the quota compute" in each.status.reason for each in news))
    cluster.behave("games", "rs", "ReplicaSet", outcome=Fate.NORMAL)
    assert (await asyncio.wait_for(task, TIMEOUT)).result is Result.DONE


async def test_what_crashes_once_it_was_counted_as_ready_is_not_believed(
    service: ToggleService, cluster: SimulatedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toggle_plugin.follow.SETTLE", 1.0)
    news: list[Progress] = []
    target = Target("arena", GAMESERVER, 1)
    task = asyncio.ensure_future(service.toggle(Verb.START, target, ALICE, news.append))
    await reached(lambda: any(pod["status"].get("phase") == "Running" for pod in cluster.pods("games")))
    cluster.behave("games", "arena", GAMESERVER.full_kind, outcome=Fate.CRASH_LOOP, retry=0.05)
    await reached(lambda: any(each.status.phase is Phase.STUCK for each in news))
    assert not task.done()
    cluster.behave("games", "arena", GAMESERVER.full_kind, outcome=Fate.NORMAL)
    assert (await asyncio.wait_for(task, TIMEOUT)).result is Result.DONE


async def test_pods_that_may_not_be_counted_are_those_that_the_workload_has(
    service: ToggleService, cluster: SimulatedCluster
) -> None:
    cluster.deny("list", "pods")
    started = await toggle(service, Verb.START, GAMESERVER)
    assert started.result is Result.DONE
    assert started.status is not None
    assert (started.status.phase, started.status.ready) == (Phase.RUNNING, 2)


# What is asked of the cluster


async def test_a_replicaset_needs_no_discovery(service: ToggleService, cluster: SimulatedCluster) -> None:
    await service.status(Target("rs", REPLICASET))
    assert cluster.requests[0].path == "/apis/apps/v1/namespaces/games/replicasets/rs"


@CUSTOM
async def test_a_kind_is_asked_for_once_in_a_while(
    service: ToggleService, cluster: SimulatedCluster, monkeypatch: pytest.MonkeyPatch, ref: WorkloadRef
) -> None:
    monkeypatch.setattr(api_discovery, "KNOWN_FOR", 2.0)
    for _ in range(3):
        await service.rights(Target(ref.name, ref))
    assert len(cluster.asked("GET", f"^/apis/{ref.api_version}$")) == 1
    await asyncio.sleep(2.0)
    await service.rights(Target(ref.name, ref))
    assert len(cluster.asked("GET", f"^/apis/{ref.api_version}$")) == 2


async def test_the_rights_of_a_custom_kind_include_its_scale(service: ToggleService, cluster: SimulatedCluster) -> None:
    cluster.deny("get", "gameservers/scale")
    rights = await service.rights(Target("arena", GAMESERVER))
    assert Right("get", "gameservers/scale", granted=False, needed=True) in rights
    assert Right("patch", "gameservers/scale", granted=True, needed=True) in rights
    asked = [json.loads(request.body)["spec"]["resourceAttributes"] for request in cluster.asked("POST")]
    assert {(each.get("group"), each.get("name")) for each in asked} == {("games.example", "arena"), (None, None)}


async def test_a_right_that_is_missing_is_named(service: ToggleService, cluster: SimulatedCluster) -> None:
    cluster.deny("get", "gameservers/scale")
    outcome = await toggle(service, Verb.START, GAMESERVER)
    assert isinstance(outcome.error, Forbidden)
    assert "I may not get gameservers/scale of arena in namespace games" in str(outcome.error)
    assert cluster.asked("PATCH") == []


@pytest.mark.parametrize(
    ("kind", "error", "sentence"),
    [
        ("argoproj.io/v1/Rollout", NotFound, "The cluster has no kind argoproj.io/v1/Rollout;"),
        ("argoproj.io/v1alpha1/Rollouts", NotFound, "The cluster has no kind argoproj.io/v1alpha1/Rollouts;"),
        ("nowhere.example/v1/Thing", NotFound, "The cluster has no kind nowhere.example/v1/Thing;"),
        ("apps/v1/DaemonSet", NotFound, "The cluster has no kind DaemonSet;"),
        ("v1/Pod", Invalid, "Kind v1/Pod has no scale subresource, so I cannot turn it on and off."),
        ("v1/Namespace", Invalid, "Objects of kind v1/Namespace are in no namespace, so none can be a target."),
    ],
)
async def test_a_kind_that_cannot_be_a_target_is_told_in_one_sentence(
    service: ToggleService, kind: str, error: type[ClusterError], sentence: str
) -> None:
    api_version, _, name = kind.rpartition("/")
    target = Target("web", WorkloadRef(name, "games", "web", api_version))
    with pytest.raises(error) as raised:
        await service.status(target)
    assert str(raised.value).startswith(sentence)
    assert str(raised.value).count(". ") == 0
    with pytest.raises(error):
        await service.rights(target)


async def test_a_kind_that_was_missing_is_looked_for_again(service: ToggleService, cluster: SimulatedCluster) -> None:
    cluster.fail(path="^/apis/argoproj.io/v1alpha1$", status=404)
    with pytest.raises(NotFound):
        await service.status(Target("shop", ROLLOUT))
    assert (await service.status(Target("shop", ROLLOUT))).phase is Phase.OFF


async def test_a_custom_resource_that_says_no_count_is_told_at_once(
    service: ToggleService, cluster: SimulatedCluster
) -> None:
    cluster.change("games", "arena", {"fleet": None}, GAMESERVER.full_kind)
    outcome = await toggle(service, Verb.START, GAMESERVER)
    sentence = (
        "games.example/v1/GameServer games/arena does not say how many replicas it wants; give it that field once."
    )
    assert isinstance(outcome.error, Invalid)
    assert str(outcome.error) == sentence
    assert len(cluster.asked("GET", "/scale$")) == 1, "another try would not mend it"


# Whom it belongs to


async def test_a_replicaset_of_a_deployment_says_whose_it_is(service: ToggleService, cluster: SimulatedCluster) -> None:
    cluster.add("ReplicaSet", "games", "web-5d8f", 1, owner=("Deployment", "web"))
    owned = WorkloadRef("ReplicaSet", "games", "web-5d8f")
    outcome = await toggle(service, Verb.STOP, owned, None)
    assert outcome.note == "it belongs to Deployment web, which may set its replicas back; better make that the target"
    assert (await toggle(service, Verb.STOP, owned, None)).note == "", "nothing was done that could be undone"


async def test_both_notes_are_told(service: ToggleService, cluster: SimulatedCluster) -> None:
    cluster.add("ReplicaSet", "games", "web-5d8f", 0, owner=("Deployment", "web"))
    outcome = await toggle(service, Verb.START, WorkloadRef("ReplicaSet", "games", "web-5d8f"), None)
    assert outcome.note.startswith("how many replicas it had is not known, so it gets 1; it belongs to Deployment web")
