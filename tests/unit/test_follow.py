"""Following one roll-out: what is believed, what is looked at, and that nothing is left when it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.stack.cluster import Outcome as Fate
from tests.stack.cluster import SimulatedCluster
from toggle_plugin import follow
from toggle_plugin.errors import Forbidden, NotFound
from toggle_plugin.follow import Diagnosis, End, Follower, Following
from toggle_plugin.models import Phase, Progress
from toggle_plugin.tasks import cancelled
from toggle_plugin.workloads import KubernetesWorkloads

from .builders import ALICE, BOB, DATABASE, WEB, reached, tasks_of_the_plugin

LOG = logging.getLogger("test.follow")
NEVER = 3600.0
TIMEOUT = 30.0

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed transport <asyncio.sslproto:ResourceWarning"),
    pytest.mark.usefixtures("impatient"),
]


class Followed:
    """A `Follower` of web, or another, and what it told."""

    def __init__(self, workloads: KubernetesWorkloads, **changes: Any) -> None:
        self.news: list[Progress] = []
        self.following = Following("web", "a note")
        values = {"ref": WEB, "goal": 1, **changes}
        self.follower = Follower(workloads, values["ref"], values["goal"], self.following, self.news.append, LOG)

    async def follow(self, timeout: float = TIMEOUT) -> End:
        return await asyncio.wait_for(self.follower.follow(timeout), 2 * TIMEOUT)

    @property
    def phases(self) -> list[Phase]:
        return [news.status.phase for news in self.news]


@pytest.fixture(autouse=True)
async def nothing_is_left(cluster: SimulatedCluster) -> AsyncIterator[None]:
    yield
    assert not tasks_of_the_plugin()
    await reached(lambda: cluster.open_watches == 0)


# What is believed


async def test_ready_is_believed_when_it_stays_so(
    workloads: KubernetesWorkloads, cluster: SimulatedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "SETTLE", 2.0)
    monkeypatch.setattr(follow, "SETTLE_AFTER_STUCK", 2.0)
    cluster.behave("games", "web", retry=0.05)
    followed = Followed(workloads)
    cluster.scale("games", "web", 1)
    following = asyncio.ensure_future(followed.follow())
    await reached(lambda: cluster.workload("Deployment", "games", "web")["status"].get("readyReplicas") == 1)
    cluster.behave("games", "web", outcome=Fate.CRASH_LOOP)
    await reached(lambda: Phase.STUCK in followed.phases)
    assert not following.done()
    assert Phase.RUNNING not in followed.phases, "what is not believed is not told"
    ready_again = asyncio.get_running_loop().time()
    cluster.behave("games", "web", outcome=Fate.NORMAL)
    assert await following is End.COMPLETE
    assert asyncio.get_running_loop().time() - ready_again >= 2.0
    assert followed.follower.status is not None
    assert followed.follower.status.phase is Phase.RUNNING


async def test_available_after_min_ready_seconds_is_believed_at_once(
    workloads: KubernetesWorkloads, cluster: SimulatedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "SETTLE", NEVER)
    cluster.change("games", "web", {"minReadySeconds": 1, "replicas": 1})
    assert await Followed(workloads).follow() is End.COMPLETE


async def test_off_is_believed_when_the_pods_are_gone(
    workloads: KubernetesWorkloads, cluster: SimulatedCluster
) -> None:
    cluster.scale("games", "web", 2)
    await reached(lambda: cluster.workload("Deployment", "games", "web")["status"].get("readyReplicas") == 2)
    cluster.behave("games", "web", terminate=0.5)
    cluster.scale("games", "web", 0)
    followed = Followed(workloads, goal=0)
    assert await followed.follow() is End.COMPLETE
    assert cluster.pods("games") == []
    assert Phase.STOPPING in followed.phases


async def test_a_change_that_the_cluster_has_not_taken_up_is_not_complete(
    workloads: KubernetesWorkloads, cluster: SimulatedCluster
) -> None:
    cluster.scale("games", "web", 1)
    await reached(lambda: cluster.workload("Deployment", "games", "web")["status"].get("availableReplicas") == 1)
    cluster.behave("games", "web", frozen=True)
    cluster.scale("games", "web", 2)
    cluster.scale("games", "web", 1)
    followed = Followed(workloads)
    following = asyncio.ensure_future(followed.follow())
    await reached(lambda: bool(followed.news))
    assert followed.news[0].status.reason == "the cluster has not taken up the change yet"
    assert not following.done()
    cluster.behave("games", "web", frozen=False)
    assert await following is End.COMPLETE


# How it ends


async def test_time_runs_out_with_the_newest_state_known(
    workloads: KubernetesWorkloads, cluster: SimulatedCluster
) -> None:
    cluster.behave("games", "web", outcome=Fate.UNSCHEDULABLE)
    cluster.scale("games", "web", 1)
    followed = Followed(workloads)
    assert await followed.follow(0.8) is End.TIMED_OUT
    assert followed.follower.status is not None
    assert followed.follower.status.phase is Phase.STUCK
    assert "has no node" in followed.follower.status.reason


async def test_time_runs_out_also_where_nothing_was_seen(
    workloads: KubernetesWorkloads, cluster: SimulatedCluster
) -> None:
    cluster.fail(path="/web", delay=NEVER, times=None)
    followed = Followed(workloads)
    assert await followed.follow(0.3) is End.TIMED_OUT
    assert followed.follower.status is None
    assert followed.news == []


async def test_a_successor_ends_it_at_once(workloads: KubernetesWorkloads, cluster: SimulatedCluster) -> None:
    followed = Followed(workloads)
    followed.following.claim.give_way(BOB)
    followed.following.claim.give_way(ALICE)
    assert await followed.follow() is End.SUPERSEDED
    assert followed.following.claim.successor == BOB, "the first one is the one that took over"


async def test_another_count_ends_it_with_the_state_of_that(
    workloads: KubernetesWorkloads, cluster: SimulatedCluster
) -> None:
    followed = Followed(workloads, goal=3)
    assert await followed.follow() is End.CHANGED
    assert followed.follower.workload is not None
    assert followed.follower.workload.desired == 0
    assert followed.follower.status is not None
    assert followed.follower.status.phase is Phase.OFF


@pytest.mark.parametrize("gone", [True, False])
async def test_what_cannot_be_watched_ends_it_with_the_reason(
    workloads: KubernetesWorkloads, cluster: SimulatedCluster, gone: bool
) -> None:
    if gone:
        cluster.delete("games", "web")
    else:
        cluster.deny("watch", "deployments")
        cluster.scale("games", "web", 1)
    with pytest.raises(NotFound if gone else Forbidden):
        await Followed(workloads).follow()


async def test_a_following_that_is_cut_off_leaves_nothing(
    workloads: KubernetesWorkloads, cluster: SimulatedCluster
) -> None:
    for turns in (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144):
        cluster.scale("games", "web", 1)
        following = asyncio.ensure_future(Followed(workloads, ref=WEB).follow())
        for _ in range(turns):
            await asyncio.sleep(0.001)
        await cancelled(following)
        assert not tasks_of_the_plugin()
        cluster.scale("games", "web", 0)


# What is told


async def test_news_carry_the_note_and_the_name(workloads: KubernetesWorkloads, cluster: SimulatedCluster) -> None:
    cluster.scale("games", "db", 2, kind="StatefulSet")
    followed = Followed(workloads, ref=DATABASE, goal=2)
    await followed.follow()
    assert {(news.target, news.note, news.alarm) for news in followed.news} == {("web", "a note", False)}


async def test_a_reason_holds_between_two_looks_at_the_pods(
    workloads: KubernetesWorkloads, cluster: SimulatedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "LOOK_EVERY", 0.4)
    monkeypatch.setattr(follow, "PATIENCE", NEVER)
    cluster.behave("games", "web", outcome=Fate.UNSCHEDULABLE)
    cluster.scale("games", "web", 1)
    followed = Followed(workloads)
    following = asyncio.ensure_future(followed.follow())
    await reached(lambda: Phase.STUCK in followed.phases)
    for number in range(20):
        # News about the workload itself, which says nothing of the pods.
        cluster.change("games", "web", {"revisionHistoryLimit": number})
        await asyncio.sleep(0.05)
    after = followed.phases[followed.phases.index(Phase.STUCK) :]
    await cancelled(following)
    assert set(after) == {Phase.STUCK}, "the reply does not flicker"


# One look


async def test_without_the_right_to_see_pods_there_is_a_state_without_its_reason(
    workloads: KubernetesWorkloads, cluster: SimulatedCluster
) -> None:
    cluster.behave("games", "web", outcome=Fate.IMAGE_PULL)
    cluster.deny("list", "pods")
    cluster.scale("games", "web", 1)
    await asyncio.sleep(0.2)
    status = await Diagnosis(workloads, LOG).of(await workloads.get(WEB))
    assert status.phase is Phase.STARTING
    assert "image" not in status.reason


async def test_without_the_right_to_see_pods_off_is_what_the_workload_says(
    workloads: KubernetesWorkloads, cluster: SimulatedCluster
) -> None:
    cluster.deny("list", "pods")
    assert (await Diagnosis(workloads, LOG).of(await workloads.get(WEB))).phase is Phase.OFF


async def test_where_the_pods_could_not_be_asked_for_off_is_not_said(
    workloads: KubernetesWorkloads, cluster: SimulatedCluster
) -> None:
    cluster.fail(path="/pods", status=500, times=None)
    assert (await Diagnosis(workloads, LOG).of(await workloads.get(WEB))).phase is Phase.STOPPING


async def test_what_runs_needs_no_look_at_its_pods(workloads: KubernetesWorkloads, cluster: SimulatedCluster) -> None:
    cluster.scale("games", "web", 1)
    await reached(lambda: cluster.workload("Deployment", "games", "web")["status"].get("availableReplicas") == 1)
    assert (await Diagnosis(workloads, LOG).of(await workloads.get(WEB))).phase is Phase.RUNNING
    assert cluster.asked("GET", "/pods") == []


async def test_the_api_server_is_not_asked_more_often_than_it_must_be(
    workloads: KubernetesWorkloads, cluster: SimulatedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "LOOK_EVERY", 0.5)
    cluster.behave("games", "web", outcome=Fate.NEVER_READY)
    cluster.scale("games", "web", 1)
    await Followed(workloads).follow(2.2)
    assert 1 <= len(cluster.asked("GET", "/pods$")) <= 5
    assert len([request for request in cluster.requests if request.watch]) == 1


async def test_what_was_refused_once_is_not_asked_for_again(
    workloads: KubernetesWorkloads, cluster: SimulatedCluster
) -> None:
    cluster.deny("list", "pods")
    cluster.behave("games", "web", outcome=Fate.NEVER_READY)
    cluster.scale("games", "web", 1)
    assert await Followed(workloads).follow(1.5) is End.TIMED_OUT
    assert len(cluster.asked("GET", "/pods$")) == 1
    assert cluster.asked("GET", "/events$") == []


async def test_without_the_right_to_see_events_the_pods_say_what_they_can(
    workloads: KubernetesWorkloads, cluster: SimulatedCluster
) -> None:
    cluster.deny("list", "events")
    cluster.behave("games", "web", outcome=Fate.IMAGE_PULL)
    cluster.scale("games", "web", 1)
    followed = Followed(workloads)
    following = asyncio.ensure_future(followed.follow())
    await reached(lambda: any("cannot get its image" in news.status.reason for news in followed.news))
    await cancelled(following)
    assert len(cluster.asked("GET", "/events$")) == 1


async def test_a_crash_loop_is_told_once_and_not_at_every_crash(
    workloads: KubernetesWorkloads, cluster: SimulatedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "PATIENCE", NEVER)
    cluster.behave("games", "web", outcome=Fate.CRASH_LOOP, retry=0.05)
    cluster.scale("games", "web", 1)
    followed = Followed(workloads)
    following = asyncio.ensure_future(followed.follow())
    # At the first crash nobody knows that there will be a second one.
    await reached(lambda: Phase.STUCK in followed.phases)
    assert "(0 restarts)" not in followed.news[-1].status.reason
    told, before = len(followed.news), restarts(cluster)
    await reached(lambda: restarts(cluster) > before + 5)
    await cancelled(following)
    assert len(followed.news) == told


@pytest.mark.parametrize(
    "fate",
    [
        *(Fate.IMAGE_PULL, Fate.OUT_OF_MEMORY, Fate.INIT_FAILS, Fate.NEVER_READY, Fate.NEVER_LIVE, Fate.NEVER_STARTED),
        *(Fate.EVICTED, Fate.QUOTA),
    ],
)
async def test_what_is_stuck_is_told_once_however_its_state_changes(
    workloads: KubernetesWorkloads, cluster: SimulatedCluster, monkeypatch: pytest.MonkeyPatch, fate: Fate
) -> None:
    monkeypatch.setattr(follow, "PATIENCE", NEVER)
    cluster.behave("games", "web", outcome=fate, retry=0.05)
    cluster.scale("games", "web", 1)
    followed = Followed(workloads)
    following = asyncio.ensure_future(followed.follow())
    await reached(lambda: Phase.STUCK in followed.phases)
    told, asked = len(followed.news), len(cluster.asked("GET", "/pods$"))
    await reached(lambda: len(cluster.asked("GET", "/pods$")) > asked + 15)
    await cancelled(following)
    assert followed.news[told:] == []


async def test_what_was_stuck_is_believed_later(
    workloads: KubernetesWorkloads, cluster: SimulatedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "SETTLE_AFTER_STUCK", 1.5)
    cluster.behave("games", "web", outcome=Fate.IMAGE_PULL)
    cluster.scale("games", "web", 1)
    followed = Followed(workloads)
    following = asyncio.ensure_future(followed.follow())
    await reached(lambda: Phase.STUCK in followed.phases)
    mended = asyncio.get_running_loop().time()
    cluster.behave("games", "web", outcome=Fate.NORMAL)
    assert await following is End.COMPLETE
    assert asyncio.get_running_loop().time() - mended >= 1.5


async def test_the_ready_moment_between_two_crashes_is_no_news(
    workloads: KubernetesWorkloads, cluster: SimulatedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "SETTLE", 2.0)
    monkeypatch.setattr(follow, "SETTLE_AFTER_STUCK", 2.0)
    monkeypatch.setattr(follow, "PATIENCE", NEVER)
    cluster.behave("games", "web", retry=0.05)
    followed = Followed(workloads)
    cluster.scale("games", "web", 1)
    following = asyncio.ensure_future(followed.follow())
    await reached(lambda: cluster.workload("Deployment", "games", "web")["status"].get("readyReplicas") == 1)
    cluster.behave("games", "web", outcome=Fate.CRASH_LOOP)
    await reached(lambda: Phase.STUCK in followed.phases)
    told = len(followed.news)
    cluster.behave("games", "web", outcome=Fate.NORMAL)
    assert await following is End.COMPLETE
    assert Phase.STUCK not in followed.phases[told:], "it is said once"
    assert Phase.RUNNING not in followed.phases, "what is not believed is not told"


def restarts(cluster: SimulatedCluster) -> int:
    """How often the container of the only pod was restarted."""
    (found,) = [pod["status"]["containerStatuses"][0]["restartCount"] for pod in cluster.pods("games")]
    return int(found)
