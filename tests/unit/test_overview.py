"""How many targets stand: in few requests where that is allowed, and the same answers where it is not."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence

import pytest

from tests.stack.cluster import Fault, PolicyRule, SimulatedCluster
from tests.stack.cluster import Outcome as Fate
from toggle_plugin import api_lists, api_requests
from toggle_plugin.errors import ClusterError
from toggle_plugin.models import Phase, RolloutStatus, WorkloadRef
from toggle_plugin.overview import SIDE_BY_SIDE, side_by_side
from toggle_plugin.settings import Target
from toggle_plugin.store import Store
from toggle_plugin.toggle import ToggleService
from toggle_plugin.workloads import KubernetesWorkloads

from .builders import reached, target

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed transport <asyncio.sslproto:ResourceWarning"),
    pytest.mark.usefixtures("impatient"),
]

WIDE = PolicyRule(("list", "get", "watch"), ("deployments", "statefulsets", "pods", "events"))
BY_NAME = [PolicyRule(("get",), ("deployments", "statefulsets")), PolicyRule(("list",), ("pods", "events"))]


@pytest.fixture
def service(workloads: KubernetesWorkloads, store: Store) -> ToggleService:
    async def connected() -> KubernetesWorkloads:
        return workloads

    return ToggleService(connected, store, lambda: 5.0, logging.getLogger("test.overview"))


def fleet(cluster: SimulatedCluster, namespace: str, count: int, replicas: int = 1) -> list[Target]:
    """Deployments of a namespace, as targets."""
    targets = [target(f"{namespace}-{n}", WorkloadRef("Deployment", namespace, f"app-{n}")) for n in range(count)]
    for each in targets:
        cluster.add_deployment(each.ref.namespace, each.ref.name, replicas)
    return targets


def phases(found: Sequence[tuple[str, RolloutStatus | ClusterError]]) -> Counter[str]:
    return Counter(what.phase.value if isinstance(what, RolloutStatus) else type(what).__name__ for _, what in found)


def asked(cluster: SimulatedCluster) -> Counter[str]:
    """The last part of what was asked for, and how often; of autoscalers nothing."""
    autoscalers = re.compile("horizontalpodautoscalers|scaledobjects")
    about = [request for request in cluster.requests if not autoscalers.search(request.path + request.body)]
    return Counter(request.path.rsplit("/", 1)[1] for request in about)


def unscheduled(cluster: SimulatedCluster, namespace: str) -> set[str]:
    """The pods that have an event of the scheduler."""
    events = [event for event in cluster.events(namespace) if event["reason"] == "FailedScheduling"]
    return {event["involvedObject"]["name"] for event in events}


async def test_with_the_wide_right_it_is_one_list_for_each_namespace_and_kind(
    cluster: SimulatedCluster, service: ToggleService
) -> None:
    targets = [*fleet(cluster, "one", 20), *fleet(cluster, "two", 20)]
    for number in range(3):
        cluster.add_statefulset("one", f"db-{number}", 1)
        targets.append(target(f"db-{number}", WorkloadRef("StatefulSet", "one", f"db-{number}")))
    cluster.grant([WIDE])
    found = await service.statuses(targets)
    assert [name for name, _ in found] == [each.name for each in targets]
    assert phases(found) == {"running": 43}
    assert asked(cluster) == {"selfsubjectaccessreviews": 3, "deployments": 2, "statefulsets": 1}
    cluster.requests.clear()
    await service.statuses(targets)
    assert asked(cluster) == {"deployments": 2, "statefulsets": 1}, "what we may is remembered"


async def test_with_narrow_rights_it_is_one_request_for_each_and_never_a_forbidden_one(
    cluster: SimulatedCluster, service: ToggleService
) -> None:
    targets = fleet(cluster, "one", 20)
    cluster.grant(BY_NAME)
    assert phases(await service.statuses(targets)) == {"running": 20}
    assert asked(cluster) == {"selfsubjectaccessreviews": 1, **{f"app-{n}": 1 for n in range(20)}}


async def test_a_single_target_of_a_kind_is_asked_for_by_name(
    cluster: SimulatedCluster, service: ToggleService
) -> None:
    cluster.grant([WIDE])
    await service.statuses([*fleet(cluster, "one", 1), *fleet(cluster, "two", 1)])
    assert asked(cluster) == {"app-0": 2}


@pytest.mark.parametrize("rights", [[WIDE], BY_NAME])
async def test_pods_and_events_of_many_are_listed_once(
    cluster: SimulatedCluster, service: ToggleService, rights: list[PolicyRule]
) -> None:
    targets = fleet(cluster, "one", 12, replicas=0)
    for number in (3, 4):
        cluster.behave("one", f"app-{number}", outcome=Fate.UNSCHEDULABLE)
        cluster.scale("one", f"app-{number}", 1)
    await reached(lambda: len(unscheduled(cluster, "one")) == 2)
    cluster.grant(rights)
    found = await service.statuses(targets)
    assert phases(found) == {"off": 10, "stuck": 2}
    stuck = dict(found)["one-3"]
    assert isinstance(stuck, RolloutStatus)
    assert "pod app-3-" in stuck.reason
    assert (asked(cluster)["pods"], asked(cluster)["events"]) == (1, 1)


async def test_pods_of_others_in_the_namespace_are_nobodys(cluster: SimulatedCluster, service: ToggleService) -> None:
    targets = fleet(cluster, "one", 5, replicas=0)
    cluster.add_deployment("one", "app-0-other", 3)
    cluster.behave("one", "app-1", terminate=60.0)
    cluster.scale("one", "app-1", 1)
    await reached(lambda: cluster.workload("Deployment", "one", "app-1")["status"].get("availableReplicas") == 1)
    cluster.scale("one", "app-1", 0)
    await reached(lambda: not cluster.workload("Deployment", "one", "app-1")["status"].get("replicas"))
    found = dict(await service.statuses(targets))
    assert {name: what.phase for name, what in found.items() if isinstance(what, RolloutStatus)} == {
        **{f"one-{number}": Phase.OFF for number in (0, 2, 3, 4)},
        "one-1": Phase.STOPPING,
    }


async def test_without_the_right_to_list_pods_they_are_asked_for_once_in_each_namespace(
    cluster: SimulatedCluster, service: ToggleService
) -> None:
    targets = [*fleet(cluster, "one", 6, replicas=0), *fleet(cluster, "two", 6, replicas=0)]
    cluster.deny("list", "pods", "one")
    assert phases(await service.statuses(targets)) == {"off": 12}
    pods = [request.path for request in cluster.requests if request.path.endswith("/pods")]
    assert sorted(pods) == ["/api/v1/namespaces/one/pods", "/api/v1/namespaces/two/pods"]


async def test_pages_are_followed_to_the_last(
    cluster: SimulatedCluster, service: ToggleService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_requests, "PAGE", 5)
    targets = fleet(cluster, "one", 13, replicas=0)
    cluster.add_deployment("one", "zzz", 9)
    cluster.grant([WIDE])
    assert phases(await service.statuses(targets)) == {"off": 13}
    lists = cluster.asked("GET", "/deployments$")
    assert [request.query.get("limit") for request in lists] == ["5", "5", "5"]
    assert len({request.query.get("continue") for request in lists}) == 3
    assert len(cluster.asked("GET", "/pods$")) == 2


async def test_a_list_without_an_end_is_left_for_single_requests(
    cluster: SimulatedCluster, service: ToggleService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_requests, "PAGE", 2)
    monkeypatch.setattr(api_lists, "PAGES", 2)
    monkeypatch.setattr("toggle_plugin.workloads.PAGES", 2)
    targets = fleet(cluster, "one", 6, replicas=0)
    cluster.add_deployment("one", "zzz", 9)
    cluster.grant([WIDE])
    assert phases(await service.statuses(targets)) == {"off": 6}
    assert len(cluster.asked("GET", "/deployments$")) == 2
    assert len(cluster.asked("GET", "/deployments/app-")) == 6
    assert len([each for each in cluster.asked("GET", "/pods$") if "labelSelector" in each.query]) == 6


async def test_what_is_not_there_is_told_in_the_same_words(cluster: SimulatedCluster, service: ToggleService) -> None:
    targets = fleet(cluster, "one", 3)
    cluster.delete("one", "app-1")
    cluster.grant([WIDE])
    wide = dict(await service.statuses(targets))
    assert str(wide["one-1"]) == str(dict(await service.statuses(targets[1:2]))["one-1"])
    assert str(wide["one-1"]).startswith("There is no Deployment app-1 in namespace one;")
    assert phases(list(wide.items())) == {"running": 2, "NotFound": 1}


async def test_a_right_that_was_taken_away_is_noticed_and_not_tried_again(
    cluster: SimulatedCluster, service: ToggleService
) -> None:
    targets = fleet(cluster, "one", 3)
    assert phases(await service.statuses(targets)) == {"running": 3}
    cluster.deny("list", "deployments")
    cluster.requests.clear()
    assert phases(await service.statuses(targets)) == {"running": 3}
    assert asked(cluster) == {"deployments": 1, "selfsubjectaccessreviews": 1, "app-0": 1, "app-1": 1, "app-2": 1}
    cluster.requests.clear()
    await service.statuses(targets)
    assert asked(cluster)["deployments"] == 0


async def test_one_namespace_that_cannot_be_asked_hides_no_other(
    cluster: SimulatedCluster, service: ToggleService
) -> None:
    targets = [*fleet(cluster, "one", 3), *fleet(cluster, "two", 3)]
    cluster.faults.add(Fault(path="/one/deployments", status=500, times=None))
    found = await service.statuses(targets)
    assert phases(found) == {"running": 3, "Unavailable": 3}
    assert len({str(what) for _, what in found if isinstance(what, ClusterError)}) == 1


async def test_without_a_cluster_every_target_says_why(service: ToggleService, cluster: SimulatedCluster) -> None:
    targets = fleet(cluster, "one", 3)
    await cluster.refuse()
    assert phases(await service.statuses(targets)) == {"Unreachable": 3}
    await cluster.listen()


async def test_two_names_for_one_workload_are_one_request(cluster: SimulatedCluster, service: ToggleService) -> None:
    (one,) = fleet(cluster, "one", 1)
    assert [name for name, _ in await service.statuses([one, target("again", one.ref)])] == ["one-0", "again"]
    assert asked(cluster) == {"app-0": 1}


async def test_a_count_to_restore_is_noticed_in_an_overview_too(
    cluster: SimulatedCluster, service: ToggleService, store: Store
) -> None:
    targets = [target(each.name, each.ref, replicas=None) for each in fleet(cluster, "one", 2, replicas=3)]
    await service.statuses(targets)
    assert [await store.recall(each.ref) for each in targets] == [3, 3]


async def test_no_more_than_a_few_wait_at_a_time() -> None:
    waiting, most = 0, 0

    async def ask(number: int) -> int:
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        for _ in range(3):
            await side_by_side(_nothing, [0])
        waiting -= 1
        return number

    assert await side_by_side(ask, list(range(50))) == list(range(50))
    assert most == SIDE_BY_SIDE


async def _nothing(_: int) -> None:
    pass
