"""The use cases on a cluster: what is written, in which order, what is told meanwhile, and how it ends."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import re
import sqlite3
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mautrix.util.async_db import Database

from tests.stack.cluster import Behaviour, SimulatedCluster, When
from tests.stack.cluster import Outcome as Fate
from toggle_plugin import stuck
from toggle_plugin.errors import Forbidden, NotConfigured, NotFound, Unreachable
from toggle_plugin.models import Outcome, Phase, Progress, Result, Right, Verb
from toggle_plugin.plans import Plan, plan
from toggle_plugin.settings import Target
from toggle_plugin.store import Store
from toggle_plugin.toggle import ToggleService
from toggle_plugin.workloads import KubernetesWorkloads

from .builders import ALICE, BOB, DATABASE, WEB, reached, target, tasks_of_the_plugin, workload
from .conftest import opened

LOG = logging.getLogger("test.toggle")
SLOW: dict[str, Any] = {"step": 0.3, "terminate": 0.6}
TARGET = target()
TIMEOUT = 30.0

# Where a peer cuts a TLS connection, Python 3.10 complains about a transport that nobody holds any more.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed transport <asyncio.sslproto:ResourceWarning"),
    pytest.mark.usefixtures("impatient"),
]


class Use:
    """The service as tests use it, and what it told."""

    def __init__(self, workloads: KubernetesWorkloads, store: Store) -> None:
        self.timeout = TIMEOUT
        self.news: list[Progress] = []
        self.service = ToggleService(self._connect, store, lambda: self.timeout, LOG)
        self._workloads = workloads

    async def _connect(self) -> KubernetesWorkloads:
        return self._workloads

    def begin(self, verb: Verb, what: Target = TARGET, by: str = ALICE) -> asyncio.Task[Outcome]:
        return asyncio.ensure_future(self.service.toggle(verb, what, by, self.news.append))

    async def start(self, what: Target = TARGET, by: str = ALICE) -> Outcome:
        return await asyncio.wait_for(self.begin(Verb.START, what, by), 2 * TIMEOUT)

    async def stop(self, what: Target = TARGET, by: str = ALICE) -> Outcome:
        return await asyncio.wait_for(self.begin(Verb.STOP, what, by), 2 * TIMEOUT)

    @property
    def phases(self) -> list[Phase]:
        return [news.status.phase for news in self.news]


@pytest.fixture
async def use(workloads: KubernetesWorkloads, store: Store, cluster: SimulatedCluster) -> AsyncIterator[Use]:
    yield Use(workloads, store)
    assert not tasks_of_the_plugin()
    await reached(lambda: cluster.open_watches == 0)


def written(cluster: SimulatedCluster, name: str = "web") -> list[int]:
    """The counts that were written, in their order."""
    return [json.loads(request.body)["spec"]["replicas"] for request in cluster.asked("PATCH", f"/{name}/scale$")]


# What to write


@pytest.mark.parametrize(
    ("verb", "desired", "wanted", "remembered", "expected"),
    [
        (Verb.STOP, 0, 1, None, Plan(0, False)),
        (Verb.STOP, 3, 1, None, Plan(0, True)),
        (Verb.STOP, 3, None, 5, Plan(0, True)),
        (Verb.START, 0, 1, None, Plan(1, True)),
        (Verb.START, 1, 1, None, Plan(1, False)),
        (Verb.START, 1, 3, None, Plan(3, True)),
        (Verb.START, 3, 1, None, Plan(3, False, "it has 3 replicas, more than the 1 set, and keeps them")),
        (Verb.START, 0, None, 5, Plan(5, True)),
        (Verb.START, 2, None, 5, Plan(2, False)),
        (Verb.START, 0, None, None, Plan(1, True, "how many replicas it had is not known, so it gets 1")),
    ],
)
def test_what_is_written_depends_on_what_is_there(
    verb: Verb, desired: int, wanted: int | None, remembered: int | None, expected: Plan
) -> None:
    assert plan(verb, workload(desired=desired), wanted, remembered) == expected


COUNT = st.integers(1, 1000)


@given(st.sampled_from([Verb.START, Verb.STOP]), st.integers(0, 1000), st.none() | COUNT, st.none() | COUNT)
def test_a_start_takes_nothing_away_a_stop_leaves_nothing_and_what_is_so_is_not_written(
    verb: Verb, desired: int, wanted: int | None, remembered: int | None
) -> None:
    decided = plan(verb, workload(desired=desired), wanted, remembered)
    assert decided.write == (decided.goal != desired)
    if verb is Verb.STOP:
        assert decided.goal == 0
    else:
        assert decided.goal >= max(desired, 1)


# To the end


@pytest.mark.parametrize(("ref", "count"), [(WEB, 1), (WEB, 3), (DATABASE, 2)])
async def test_a_start_ends_when_it_runs(use: Use, cluster: SimulatedCluster, ref: Any, count: int) -> None:
    outcome = await use.start(target("it", ref, replicas=count))
    assert (outcome.result, outcome.before, outcome.after, outcome.by) == (Result.DONE, 0, count, "")
    assert outcome.status is not None
    assert (outcome.status.phase, outcome.status.ready) == (Phase.RUNNING, count)
    assert outcome.as_asked
    assert outcome.seconds > 0
    assert written(cluster, ref.name) == [count]
    assert cluster.replicas(ref.kind, "games", ref.name) == count
    assert set(use.phases) == {Phase.STARTING}, "nothing is called running before it is believed"


async def test_a_stop_ends_when_the_last_pod_is_gone(use: Use, cluster: SimulatedCluster) -> None:
    cluster.scale("games", "web", 2)
    await reached(lambda: cluster.workload("Deployment", "games", "web")["status"].get("availableReplicas") == 2)
    cluster.behave("games", "web", terminate=0.8)
    stopping = use.begin(Verb.STOP)
    await reached(lambda: cluster.workload("Deployment", "games", "web")["status"].get("replicas", 0) == 0)
    await reached(lambda: len(use.news) > 0)
    assert not stopping.done(), "terminating pods are counted by nobody, but they are there"
    outcome = await stopping
    assert (outcome.result, outcome.before, outcome.after) == (Result.DONE, 2, 0)
    assert outcome.status is not None
    assert outcome.status.phase is Phase.OFF
    assert cluster.pods("games") == []
    assert set(use.phases) == {Phase.STOPPING}


@pytest.mark.parametrize("verb", [Verb.START, Verb.STOP])
async def test_what_is_so_already_is_not_written(use: Use, cluster: SimulatedCluster, verb: Verb) -> None:
    if verb is Verb.START:
        await use.start()
    cluster.requests.clear()
    use.news.clear()
    outcome = await (use.start() if verb is Verb.START else use.stop())
    assert outcome.result is Result.UNCHANGED
    assert outcome.as_asked
    assert outcome.before == outcome.after == (1 if verb is Verb.START else 0)
    assert cluster.asked("PATCH") == []
    assert not any(request.watch for request in cluster.requests), "nor followed"
    assert use.news == []


async def test_what_is_on_its_way_is_followed_without_another_write(use: Use, cluster: SimulatedCluster) -> None:
    cluster.behave("games", "web", **SLOW)
    cluster.scale("games", "web", 1)
    outcome = await use.start()
    assert (outcome.result, outcome.before, outcome.after) == (Result.DONE, 1, 1)
    assert cluster.asked("PATCH") == []


async def test_a_start_takes_no_replicas_away(use: Use, cluster: SimulatedCluster) -> None:
    cluster.scale("games", "web", 3)
    outcome = await use.start()
    assert outcome.note == "it has 3 replicas, more than the 1 set, and keeps them"
    assert (outcome.before, outcome.after) == (3, 3)
    assert cluster.replicas("Deployment", "games", "web") == 3


async def test_each_state_is_told_once(use: Use, cluster: SimulatedCluster) -> None:
    cluster.behave("games", "web", **SLOW)
    await use.start(target(replicas=3))
    states = [news.status for news in use.news]
    assert len(states) > 1
    assert all(one != other for one, other in itertools.pairwise(states))
    assert [news.seconds for news in use.news] == sorted(news.seconds for news in use.news)
    assert {news.target for news in use.news} == {"web"}


async def test_a_watch_that_breaks_is_begun_again(use: Use, cluster: SimulatedCluster) -> None:
    cluster.behave("games", "web", **SLOW)
    starting = use.begin(Verb.START)
    for _ in range(3):
        await reached(lambda: cluster.open_watches == 1)
        cluster.cut_watches()
        await reached(lambda: cluster.open_watches == 0)
    assert (await starting).result is Result.DONE


# Others


@pytest.mark.parametrize("newer", [ALICE, BOB])
async def test_a_newer_command_takes_over_and_the_older_one_says_whose_it_was(
    use: Use, cluster: SimulatedCluster, newer: str
) -> None:
    cluster.behave("games", "web", **SLOW)
    starting = use.begin(Verb.START)
    await reached(lambda: bool(use.news))
    stopping = use.begin(Verb.STOP, by=newer)
    older = await starting
    assert (older.result, older.by, older.after) == (Result.SUPERSEDED, newer, 1)
    assert not stopping.done()
    assert (await stopping).result is Result.DONE
    assert written(cluster) == [1, 0]
    assert cluster.replicas("Deployment", "games", "web") == 0


async def test_of_commands_that_come_faster_than_the_cluster_answers_the_last_is_carried_out(
    use: Use, cluster: SimulatedCluster
) -> None:
    cluster.fail(path="/web", delay=0.03, times=9)
    verbs = [Verb.STOP, Verb.START] * 4
    running = []
    for number, verb in enumerate(verbs):
        running.append(use.begin(verb, by=f"@user{number}:example.org"))
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*running)
    assert written(cluster) == [1]
    assert [outcome.result for outcome in outcomes[:-1]] == [Result.SUPERSEDED] * 7
    assert [outcome.by for outcome in outcomes[:-1]] == [f"@user{number}:example.org" for number in range(1, 8)]
    assert outcomes[-1].result is Result.DONE


async def test_what_was_overtaken_before_it_was_written_says_that_it_changed_nothing(
    use: Use, cluster: SimulatedCluster
) -> None:
    cluster.fail(method="GET", path="/web", delay=0.2)
    starting = use.begin(Verb.START)
    await reached(lambda: bool(cluster.asked("GET")))
    stopping = use.begin(Verb.STOP, by=BOB)
    outcome = await starting
    assert (outcome.result, outcome.by, outcome.before, outcome.after) == (Result.SUPERSEDED, BOB, None, None)
    assert (await stopping).result is Result.UNCHANGED
    assert written(cluster) == []


async def test_a_write_under_way_is_waited_for_before_the_next_one_looks(use: Use, cluster: SimulatedCluster) -> None:
    cluster.fail(method="PATCH", delay=0.5)
    starting = use.begin(Verb.START)
    await reached(lambda: bool(cluster.asked("PATCH")))
    cluster.requests.clear()
    stopping = use.begin(Verb.STOP, by=BOB)
    await asyncio.sleep(0.2)
    assert cluster.requests == [], "it would see the count of before"
    assert (await starting).result is Result.SUPERSEDED
    outcome = await stopping
    assert (outcome.result, outcome.before, outcome.after) == (Result.DONE, 1, 0)


async def test_counts_are_told_before_they_are_written_and_when_they_are(use: Use, cluster: SimulatedCluster) -> None:
    counts: list[tuple[int, int, bool]] = []
    cluster.fail(method="PATCH", delay=0.2)

    async def written(before: int, after: int, done: bool) -> None:
        counts.append((before, after, done))

    starting = asyncio.ensure_future(use.service.toggle(Verb.START, TARGET, ALICE, use.news.append, written))
    await reached(lambda: bool(cluster.asked("PATCH")))
    assert counts == [(0, 1, False)], "before it is written, for whoever goes on after a crash"
    assert (await starting).result is Result.DONE
    assert counts == [(0, 1, False), (0, 1, True)]


async def test_two_targets_of_one_workload_are_one_workload(use: Use, cluster: SimulatedCluster) -> None:
    cluster.behave("games", "web", **SLOW)
    starting = use.begin(Verb.START, target("one"))
    await reached(lambda: bool(use.news))
    await use.stop(target("other"), by=BOB)
    assert (await starting).result is Result.SUPERSEDED


async def test_a_slow_answer_about_one_workload_keeps_nobody_else_waiting(use: Use, cluster: SimulatedCluster) -> None:
    slow = cluster.fail(path="/deployments/web", delay=3.0, times=None)
    starting = use.begin(Verb.START)
    await reached(lambda: slow.struck > 0)
    assert (await use.start(target("db", DATABASE))).result is Result.DONE
    assert not starting.done()
    cluster.faults.clear()
    assert (await starting).result is Result.DONE


async def test_a_count_that_somebody_else_sets_meanwhile_ends_the_following(
    use: Use, cluster: SimulatedCluster
) -> None:
    cluster.behave("games", "web", **SLOW)
    starting = use.begin(Verb.START)
    await reached(lambda: bool(use.news))
    cluster.scale("games", "web", 2)
    outcome = await starting
    assert (outcome.result, outcome.before, outcome.after, outcome.by) == (Result.CHANGED, 0, 2, "kubectl")
    assert outcome.status is not None
    assert outcome.status.desired == 2
    assert not outcome.as_asked


# What goes wrong


async def test_what_does_not_become_ready_is_followed_until_the_time_is_up(use: Use, cluster: SimulatedCluster) -> None:
    use.timeout = 1.5
    cluster.behave("games", "web", outcome=Fate.NEVER_READY)
    outcome = await use.start()
    assert outcome.result is Result.TIMED_OUT
    assert outcome.seconds >= 1.5
    assert (outcome.before, outcome.after) == (0, 1)
    assert outcome.status is not None
    assert outcome.status.phase is Phase.STUCK
    assert "fails its readiness probe" in outcome.status.reason


WEB_CONTAINER = r"container web of pod web-\S+"
REASONS = {
    Fate.IMAGE_PULL: rf"{WEB_CONTAINER} cannot get its image registry.example/app:1 \(\w+\): .*: not found",
    Fate.CRASH_LOOP: rf"{WEB_CONTAINER} keeps ending with exit code 3 \(\d+ restarts?\)",
    Fate.OUT_OF_MEMORY: rf"{WEB_CONTAINER} ran out of memory \(limit 64Mi, \d+ restarts?\)",
    Fate.NO_CONFIG: rf'{WEB_CONTAINER} cannot be created \(CreateContainerConfigError\): secret "absent" not found',
    Fate.NEVER_LIVE: rf"{WEB_CONTAINER} fails its liveness probe each time \(\d+ restarts?\): HTTP probe failed .*",
    Fate.NEVER_STARTED: rf"{WEB_CONTAINER} fails its startup probe each time \(\d+ restarts?\): HTTP probe failed .*",
    Fate.INIT_FAILS: r"init container prepare of pod web-\S+ keeps ending with exit code 3 \(\d+ restarts?\)",
    Fate.UNSCHEDULABLE: r"pod web-\S+ has no node: none of 3 fits: 3 Insufficient memory",
    Fate.UNBOUND_CLAIM: r"pod web-\S+ waits for its claim data: no persistent volumes available for this claim .*",
    Fate.NOT_MOUNTED: r'pod web-\S+ waits for its volume settings: configmap "absent" not found',
    Fate.NEVER_READY: r"pod web-\S+ runs but fails its readiness probe \(\d+ times\): HTTP probe failed .* 503",
    Fate.EVICTED: r"pod web-\S+ was evicted, as others after it: The node was low on resource: memory\. .*",
    Fate.QUOTA: r"its pods cannot be created, for they exceed the quota compute: requested pods=1, used pods=4, .*",
    Fate.POD_SECURITY: r'its pods cannot be created, for Pod Security "restricted" forbids them: allowPrivilege.*',
}


@pytest.mark.parametrize("fate", REASONS)
async def test_what_is_stuck_says_why_and_goes_on_when_that_is_mended(
    use: Use, cluster: SimulatedCluster, fate: Fate
) -> None:
    cluster.behave("games", "web", outcome=fate)
    starting = use.begin(Verb.START)
    await reached(lambda: any(is_stuck(news, REASONS[fate]) for news in use.news))
    cluster.behave("games", "web", outcome=Fate.NORMAL)
    assert (await starting).result is Result.DONE


def is_stuck(news: Progress, reason: str) -> bool:
    return news.status.phase is Phase.STUCK and bool(re.fullmatch(reason, news.status.reason))


def test_every_fate_but_the_good_ones_has_its_words() -> None:
    assert set(REASONS) == set(Fate) - {Fate.NORMAL, Fate.STAYS}


async def test_a_pod_that_does_not_end_is_named_after_its_grace_period(
    use: Use, cluster: SimulatedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stuck, "OVERDUE", 0.5)
    template = cluster.workload("Deployment", "games", "web")["spec"]["template"]
    template["spec"]["terminationGracePeriodSeconds"] = 1
    cluster.change("games", "web", {"template": template})
    await use.start()
    cluster.behave("games", "web", outcome=Fate.STAYS)
    stopping = use.begin(Verb.STOP)
    await reached(lambda: any("did not go within its grace period" in news.status.reason for news in use.news))
    assert use.news[-1].status.phase is Phase.STOPPING
    await reached(lambda: any(news.alarm for news in use.news))
    cluster.behave("games", "web", outcome=Fate.NORMAL)
    assert (await stopping).result is Result.DONE


async def test_somebody_is_called_once_when_it_is_stuck_for_long(use: Use, cluster: SimulatedCluster) -> None:
    cluster.behave("games", "web", outcome=Fate.IMAGE_PULL)
    starting = use.begin(Verb.START)
    await reached(lambda: any(news.alarm for news in use.news))
    began = next(news.seconds for news in use.news if news.status.phase is Phase.STUCK)
    alarm = next(news for news in use.news if news.alarm)
    assert alarm.seconds - began >= 0.5, "not for what passes by itself"
    assert alarm.status.phase is Phase.STUCK
    assert "cannot get its image" in alarm.status.reason
    await asyncio.sleep(1.2)
    cluster.behave("games", "web", outcome=Fate.NORMAL)
    assert (await starting).result is Result.DONE
    assert [news.alarm for news in use.news].count(True) == 1


async def test_a_workload_that_is_deleted_meanwhile_is_not_there(use: Use, cluster: SimulatedCluster) -> None:
    cluster.behave("games", "web", **SLOW)
    starting = use.begin(Verb.START)
    await reached(lambda: cluster.open_watches == 1)
    cluster.delete("games", "web")
    outcome = await starting
    assert outcome.result is Result.FAILED
    assert isinstance(outcome.error, NotFound)
    assert (outcome.before, outcome.after) == (0, 1)
    assert str(outcome.error) == (
        "There is no Deployment web in namespace games; check kind, namespace and name of the target."
    )


async def test_a_workload_that_is_not_there_is_not_written(use: Use, cluster: SimulatedCluster) -> None:
    cluster.delete("games", "web")
    outcome = await use.start()
    assert outcome.result is Result.FAILED
    assert isinstance(outcome.error, NotFound)
    assert (outcome.before, outcome.after) == (None, None)
    assert cluster.asked("PATCH") == []


async def test_where_the_right_to_write_is_missing_nothing_was_changed(use: Use, cluster: SimulatedCluster) -> None:
    cluster.deny("patch", "deployments/scale")
    outcome = await use.start()
    assert isinstance(outcome.error, Forbidden)
    assert str(outcome.error).startswith("I may not patch deployments/scale of web in namespace games;")
    assert (outcome.before, outcome.after) == (0, 0)


async def test_where_the_right_to_watch_is_missing_the_write_is_told(use: Use, cluster: SimulatedCluster) -> None:
    cluster.deny("watch", "deployments")
    outcome = await use.start()
    assert isinstance(outcome.error, Forbidden)
    assert (outcome.before, outcome.after) == (0, 1)


async def test_a_write_whose_answer_is_lost_is_written_again(use: Use, cluster: SimulatedCluster) -> None:
    cluster.fail(method="PATCH", cut=True, when=When.AFTER)
    outcome = await use.start()
    assert (outcome.result, outcome.before, outcome.after) == (Result.DONE, 0, 1)


@pytest.mark.parametrize("fault", [{"cut": True}, {"status": 503}])
async def test_where_every_answer_to_a_write_is_lost_nobody_says_what_the_count_is(
    use: Use, cluster: SimulatedCluster, fault: dict[str, Any]
) -> None:
    cluster.fail(method="PATCH", when=When.AFTER, times=None, **fault)
    outcome = await use.start()
    assert outcome.result is Result.FAILED
    assert (outcome.before, outcome.after) == (0, None)
    assert cluster.replicas("Deployment", "games", "web") == 1, "so it is good that nobody said 0"


async def test_an_unreachable_cluster_is_told(use: Use, cluster: SimulatedCluster) -> None:
    await cluster.refuse()
    outcome = await use.start()
    assert isinstance(outcome.error, Unreachable)
    await cluster.listen()
    assert (await use.start()).result is Result.DONE


async def test_where_there_is_no_connection_that_is_the_outcome(store: Store) -> None:
    async def connect() -> KubernetesWorkloads:
        raise NotConfigured("There is no kubeconfig.")

    service = ToggleService(connect, store, lambda: TIMEOUT, LOG)
    outcome = await service.toggle(Verb.START, TARGET, ALICE, lambda _: None)
    assert (outcome.result, str(outcome.error)) == (Result.FAILED, "There is no kubeconfig.")


# Counts to restore

RESTORED = target(replicas=None)


async def test_a_stop_remembers_and_a_start_restores(use: Use, cluster: SimulatedCluster, store: Store) -> None:
    cluster.scale("games", "web", 3)
    stopped = await use.stop(RESTORED)
    assert (stopped.before, stopped.after) == (3, 0)
    assert await store.recall(WEB) == 3
    assert (await use.stop(RESTORED)).result is Result.UNCHANGED
    assert await store.recall(WEB) == 3, "a repeated stop finds 0 and must not restore that"
    started = await use.start(RESTORED)
    assert (started.result, started.before, started.after, started.note) == (Result.DONE, 0, 3, "")
    assert written(cluster) == [0, 3]


async def test_a_start_restores_after_a_restart(
    cluster: SimulatedCluster, workloads: KubernetesWorkloads, tmp_path: Any
) -> None:
    cluster.scale("games", "web", 2)
    async with opened(tmp_path / "other.db") as database:
        await Use(workloads, Store(database)).stop(RESTORED)
    async with opened(tmp_path / "other.db") as database:
        assert (await Use(workloads, Store(database)).start(RESTORED)).after == 2


async def test_a_start_without_anything_to_restore_brings_one_and_says_so(use: Use) -> None:
    outcome = await use.start(RESTORED)
    assert (outcome.after, outcome.note) == (1, "how many replicas it had is not known, so it gets 1")
    assert {news.note for news in use.news} == {outcome.note}


async def test_what_was_started_before_it_was_stopped_by_hand_is_not_made_smaller(
    use: Use, cluster: SimulatedCluster
) -> None:
    cluster.scale("games", "web", 2)
    await use.stop(RESTORED)
    cluster.scale("games", "web", 1)
    await reached(lambda: cluster.workload("Deployment", "games", "web")["status"].get("availableReplicas") == 1)
    outcome = await use.start(RESTORED)
    assert (outcome.result, outcome.after) == (Result.UNCHANGED, 1)


async def test_a_target_with_a_count_of_its_own_remembers_too_for_its_settings_may_change(
    use: Use, cluster: SimulatedCluster
) -> None:
    cluster.scale("games", "web", 4)
    await use.stop(TARGET)
    assert (await use.start(RESTORED)).after == 4


async def test_what_cannot_be_remembered_is_not_stopped(
    use: Use, cluster: SimulatedCluster, database: Database
) -> None:
    cluster.scale("games", "web", 3)
    await database.execute("ALTER TABLE replica_count RENAME TO elsewhere")
    with pytest.raises(sqlite3.OperationalError):
        await use.stop(RESTORED)
    assert cluster.asked("PATCH") == []
    await database.execute("ALTER TABLE elsewhere RENAME TO replica_count")
    assert (await use.stop(RESTORED)).result is Result.DONE


# Being cut off


async def test_a_command_that_is_cut_off_leaves_nothing_behind(use: Use, cluster: SimulatedCluster) -> None:
    cluster.behave("games", "web", **SLOW)
    starting = use.begin(Verb.START)
    await reached(lambda: cluster.open_watches == 1)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    assert starting.cancelled()
    assert not tasks_of_the_plugin()
    await reached(lambda: cluster.open_watches == 0)
    assert (await use.stop()).result is Result.DONE


async def test_a_command_that_is_cut_off_while_it_waits_its_turn_lets_the_next_one_through(
    use: Use, cluster: SimulatedCluster
) -> None:
    cluster.fail(method="GET", path="/web", delay=0.3)
    first = use.begin(Verb.START)
    await reached(lambda: bool(cluster.asked("GET")))
    second = use.begin(Verb.STOP, by=BOB)
    await asyncio.sleep(0.02)
    second.cancel()
    third = use.begin(Verb.START, by=BOB)
    assert (await third).as_asked
    assert (await first).result is Result.SUPERSEDED
    assert written(cluster) == [1]


# Looking


async def test_a_status_is_how_it_stands(use: Use, cluster: SimulatedCluster) -> None:
    assert (await use.service.status(TARGET)).phase is Phase.OFF
    await use.start()
    assert (await use.service.status(TARGET)).phase is Phase.RUNNING
    cluster.add_deployment("games", "bad", behaviour=Behaviour(outcome=Fate.QUOTA))
    bad = target("bad", type(WEB)("Deployment", "games", "bad"))
    use.timeout = 0.5
    await use.start(bad)
    stuck = await use.service.status(bad)
    assert stuck.phase is Phase.STUCK
    assert stuck.reason.startswith("its pods cannot be created")


async def test_looking_changes_nothing(use: Use, cluster: SimulatedCluster) -> None:
    await use.service.status(TARGET)
    assert await use.service.version()
    assert all(isinstance(right, Right) and right.granted for right in await use.service.rights(TARGET))
    assert cluster.asked("PATCH") == []
    assert cluster.asked("PUT") == []
