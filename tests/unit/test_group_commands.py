"""Commands for a group: in order, no further than they go well, in one reply; once, also over a crash."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace

import pytest

from tests.stack.cluster import Outcome as Fate
from tests.stack.cluster import SimulatedCluster
from toggle_plugin.groups import Group
from toggle_plugin.models import WorkloadRef
from toggle_plugin.steps import Step

from .builders import ALICE, BOB, CAROL, DATABASE, WEB, reached, requester, settings, target
from .room import WAIT, Room

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed transport <asyncio.sslproto:ResourceWarning"),
    pytest.mark.usefixtures("impatient"),
]

API = WorkloadRef("Deployment", "games", "api")
ALL_THREE = f"{DATABASE}, {API}, {WEB}"


@pytest.fixture
async def stack(room: Room, cluster: SimulatedCluster) -> Room:
    """A room whose group `stack` has `db`, `api` and `web`, in this order."""
    cluster.add_deployment("games", "api")
    room.settings = settings(
        *(target("web", WEB), target("db", DATABASE), target("api", API)),
        groups={"stack": Group("stack", ("db", "api", "web"))},
        allowed_users=frozenset({ALICE, BOB}),
        viewers=frozenset({CAROL}),
    )
    return room


def written(cluster: SimulatedCluster) -> list[tuple[str, int]]:
    """What was written, in its order: workload and count."""
    patches = cluster.asked("PATCH")
    return [(patch.path.split("/")[-2], json.loads(patch.body)["spec"]["replicas"]) for patch in patches]


def pods(cluster: SimulatedCluster) -> set[str]:
    return {pod["metadata"]["name"].split("-")[0] for pod in cluster.pods("games")}


async def steps(room: Room, event: str) -> dict[str, tuple[int, int, bool, str]]:
    found = await room.store.steps(event)
    return {
        step.target: (step.replicas_before, step.replicas_after, bool(step.written), step.outcome) for step in found
    }


# In order


async def test_a_start_goes_in_order_and_each_waits_for_the_one_before_it(
    stack: Room, cluster: SimulatedCluster
) -> None:
    cluster.behave("games", "db", "StatefulSet", outcome=Fate.NEVER_READY)
    starting = stack.begin("start stack", event="$stack")
    await reached(lambda: any("● ⏸ **api** waits" in body for body in stack.homeserver.bodies))
    assert written(cluster) == [("db", 1)]
    assert "● ⏸ **api** waits\n● ⏸ **web** waits" in stack.homeserver.bodies[-1]
    cluster.behave("games", "db", "StatefulSet", outcome=Fate.NORMAL)
    await asyncio.wait_for(starting, WAIT)
    assert written(cluster) == [("db", 1), ("api", 1), ("web", 1)]
    head, _, *lines = stack.homeserver.bodies[-1].splitlines()
    assert head.removeprefix(f"{ALICE}: ").startswith("🟢 **stack** is running, after ")
    if lines:  # else it took so long that the end is a message of its own
        assert [line.split("**")[1] for line in lines] == ["db", "api", "web"]
    assert await stack.outcomes() == [("start", ALL_THREE, "done")]
    assert await steps(stack, "$stack") == dict.fromkeys(("db", "api", "web"), (0, 1, True, "done"))


async def test_a_stop_goes_the_other_way_and_waits_for_the_last_pod(stack: Room, cluster: SimulatedCluster) -> None:
    for name, kind in (("db", "StatefulSet"), ("api", "Deployment"), ("web", "Deployment")):
        cluster.scale("games", name, 1, kind)
    cluster.behave("games", "web", terminate=60.0)
    await reached(lambda: pods(cluster) == {"db", "api", "web"})
    stopping = stack.begin("stop stack")
    await reached(lambda: any("**web** is stopping" in body for body in stack.homeserver.bodies))
    assert written(cluster) == [("web", 0)]
    stopping.cancel()
    await asyncio.wait({stopping})
    assert stack.homeserver.bodies[-1].startswith("I am being stopped and do not see how **stack** goes on;")


async def test_a_stop_stops_all_of_them(stack: Room, cluster: SimulatedCluster) -> None:
    await stack.say("start stack")
    answer = await stack.say("stop stack")
    assert answer.startswith("⚪ **stack** is off, after ")
    assert written(cluster)[3:] == [("web", 0), ("api", 0), ("db", 0)]
    assert pods(cluster) == set()
    assert (await stack.say("stop stack")).startswith("⚪ **stack** is off, as it was already.")


async def test_it_is_one_reply_that_is_edited(stack: Room) -> None:
    await stack.say("start stack")
    first, *edits = stack.homeserver.contents
    assert "m.in_reply_to" in first["m.relates_to"]
    assert edits
    assert {edit["m.relates_to"]["rel_type"] for edit in edits} == {"m.replace"}


async def test_what_is_as_asked_already_is_not_written(stack: Room, cluster: SimulatedCluster) -> None:
    cluster.scale("games", "api", 1)
    answer = await stack.say("start stack")
    assert written(cluster) == [("db", 1), ("web", 1)]
    assert answer.startswith("🟢 **stack** is running, after ")


# No further than it goes well


async def test_one_that_fails_stops_the_rest_and_the_reply_says_which_did_what(
    stack: Room, cluster: SimulatedCluster
) -> None:
    cluster.deny("patch", "deployments/scale", name="api")
    answer = await stack.say("start stack", event="$stack")
    assert written(cluster) == [("db", 1), ("api", 1)], "the second was refused"
    assert answer.startswith(f"{ALICE}: 🔴 The start of **stack** ended at **api**, so **web** had no turn.")
    assert "I may not patch deployments/scale of api in namespace games;" in answer
    whole = next(body for body in reversed(stack.homeserver.bodies) if "● " in body)
    assert "● 🟢 **db** is running" in whole
    assert whole.endswith("● ⏸ **web** was not started")
    assert await stack.outcomes() == [("start", ALL_THREE, "failed: Forbidden")]
    assert await steps(stack, "$stack") == {"db": (0, 1, True, "done"), "api": (0, 1, False, "failed: Forbidden")}


async def test_one_that_does_not_come_up_in_time_stops_the_rest(stack: Room, cluster: SimulatedCluster) -> None:
    stack.settings = replace(stack.settings, rollout_timeout=5.0)
    cluster.behave("games", "api", outcome=Fate.IMAGE_PULL)
    answer = await stack.say("start stack")
    assert "The start of **stack** ended at **api**, so **web** had no turn." in answer
    assert cluster.replicas("Deployment", "games", "web") == 0
    calls = [content["body"] for content in stack.homeserver.contents if content["msgtype"] == "m.text"]
    assert sum("I keep following it" in call for call in calls) == 1


async def test_two_that_are_stuck_one_after_the_other_are_each_called_for(
    stack: Room, cluster: SimulatedCluster
) -> None:
    cluster.behave("games", "db", "StatefulSet", outcome=Fate.UNSCHEDULABLE)
    cluster.behave("games", "api", outcome=Fate.UNSCHEDULABLE)
    starting = stack.begin("start stack")
    await reached(lambda: any("**db** is stuck" in body and "I keep" in body for body in stack.homeserver.bodies))
    cluster.behave("games", "db", "StatefulSet", outcome=Fate.NORMAL)
    await reached(lambda: any("**api** is stuck" in body and "I keep" in body for body in stack.homeserver.bodies))
    cluster.behave("games", "api", outcome=Fate.NORMAL)
    await asyncio.wait_for(starting, WAIT)


async def test_who_may_not_use_all_of_it_is_told_and_nothing_is_done(stack: Room, cluster: SimulatedCluster) -> None:
    db = target("db", DATABASE, allowed_users=frozenset({BOB}))
    stack.settings = replace(stack.settings, targets={**stack.settings.targets, "db": db})
    assert (await stack.say("start stack")).startswith("You may not start stack, because not all of its targets")
    assert (await stack.say("start stack", requester(CAROL))).startswith("You may ask for status and help, not start;")
    assert cluster.requests == []
    assert await stack.outcomes() == [("start", "", "refused"), ("start", "", "refused")]


# A newer command


@pytest.mark.parametrize("line", ["stop web", "stop db", "start api"])
async def test_a_newer_command_for_any_of_its_workloads_ends_it(
    stack: Room, cluster: SimulatedCluster, line: str
) -> None:
    cluster.behave("games", "api", step=60.0)
    starting = stack.begin("start stack")
    await reached(lambda: written(cluster) == [("db", 1), ("api", 1)])
    newer = stack.begin(line, requester(BOB))
    await asyncio.wait_for(starting, WAIT)
    whole = next(
        body for body in reversed(stack.homeserver.bodies) if "The start of **stack** ended" in body and "● " in body
    )
    assert f"because a newer command of {BOB} for one of its targets took over." in whole
    assert whole.endswith("● ⏸ **web** was not started")
    assert ("web", 1) not in written(cluster)
    newer.cancel()
    await asyncio.wait({newer})


async def test_it_takes_over_from_older_commands_for_its_workloads(stack: Room, cluster: SimulatedCluster) -> None:
    cluster.behave("games", "web", step=60.0)
    starting = stack.begin("start web")
    await reached(lambda: written(cluster) == [("web", 1)])
    stopping = stack.begin("stop stack", requester(BOB))
    await asyncio.wait_for(starting, WAIT)
    await asyncio.wait_for(stopping, WAIT)
    assert any(f"A newer command of {BOB} took over; I follow that one." in body for body in stack.homeserver.bodies)
    assert sorted(await stack.outcomes()) == [("start", str(WEB), "superseded"), ("stop", ALL_THREE, "done")]


async def test_an_older_one_that_comes_late_gives_way_and_leaves_the_others_alone(
    stack: Room, cluster: SimulatedCluster
) -> None:
    cluster.behave("games", "web", step=60.0)
    cluster.behave("games", "api", step=60.0)
    first = stack.begin("start web", arrival=1)
    await reached(lambda: written(cluster) == [("web", 1)])
    newest = stack.begin("start api", requester(BOB), arrival=3)
    await reached(lambda: written(cluster) == [("web", 1), ("api", 1)])
    await asyncio.wait_for(stack.begin("start stack", arrival=2), WAIT)
    assert any(f"a newer command of {BOB} for one of its targets took over" in body for body in stack.homeserver.bodies)
    assert not first.done(), "nobody follows web in its place"
    assert written(cluster) == [("web", 1), ("api", 1)]
    for task in (first, newest):
        task.cancel()
    await asyncio.wait({first, newest})


# After a crash


async def test_what_was_done_before_a_crash_is_not_written_again_and_the_rest_is_done(
    stack: Room, cluster: SimulatedCluster
) -> None:
    cluster.behave("games", "api", outcome=Fate.NEVER_READY)
    starting = stack.begin("start stack", event="$stack")
    await reached(lambda: written(cluster) == [("db", 1), ("api", 1)])
    starting.cancel()
    await asyncio.wait({starting})
    assert await stack.outcomes() == [("start", ALL_THREE, "")]
    cluster.behave("games", "api", outcome=Fate.NORMAL)
    await stack.restart()
    assert written(cluster) == [("db", 1), ("api", 1), ("web", 1)]
    assert any(body.startswith("🟢 **stack** is running, after ") for body in stack.homeserver.bodies)
    assert await stack.outcomes() == [("start", ALL_THREE, "done")]


async def begun(room: Room, *done: Step) -> None:
    """`start stack` was received, and these of its steps were written down, when the process died."""
    await room.admitted("start stack", event="$stack")
    for step in done:
        await room.store.begin_step(replace(step, written=False))
        if step.written:
            await room.store.wrote_step("$stack", step.target)


DB_DONE = Step("$stack", "db", str(DATABASE), 0, 1, written=True)


async def test_a_step_whose_write_was_lost_is_written_once(stack: Room, cluster: SimulatedCluster) -> None:
    cluster.scale("games", "db", 1, "StatefulSet")
    await begun(stack, DB_DONE, Step("$stack", "api", str(API), 0, 1))
    await stack.restart()
    assert written(cluster) == [("api", 1), ("web", 1)]


async def test_a_step_that_somebody_else_undid_meanwhile_is_not_done_again_and_ends_it(
    stack: Room, cluster: SimulatedCluster
) -> None:
    await begun(stack, DB_DONE)
    await stack.restart()
    assert written(cluster) == []
    assert any("The start of **stack** ended at **db**" in body for body in stack.homeserver.bodies)
    assert any("set it to 0 meanwhile" in body for body in stack.homeserver.bodies)
    assert await stack.outcomes() == [("start", ALL_THREE, "changed by others")]


async def test_a_group_that_was_not_begun_is_run_while_it_is_fresh(stack: Room, cluster: SimulatedCluster) -> None:
    await begun(stack)
    await stack.restart()
    assert written(cluster) == [("db", 1), ("api", 1), ("web", 1)]


async def test_a_group_that_has_other_targets_now_is_left_alone(stack: Room, cluster: SimulatedCluster) -> None:
    await begun(stack)
    await begun_by_bob(stack)
    stack.settings = replace(stack.settings, groups={"stack": Group("stack", ("api", "db", "web"))})
    await stack.restart()
    assert cluster.requests == []
    assert any("was taken out of my settings or became another workload" in body for body in stack.homeserver.bodies)
    assert any("I was stopped while I worked on **stack**" in body for body in stack.homeserver.bodies)
    assert await stack.outcomes() == [("start", ALL_THREE, "refused"), ("stop", ALL_THREE, "interrupted")]


async def begun_by_bob(room: Room) -> None:
    await room.admitted("stop stack", requester(BOB), event="$bob")
    await room.store.begin_step(Step("$bob", "web", str(WEB), 1, 0))


@pytest.mark.parametrize("line", ["stop web", "stop stack"])
async def test_what_a_newer_command_overtook_before_the_crash_is_not_gone_on_with(
    stack: Room, cluster: SimulatedCluster, line: str
) -> None:
    cluster.scale("games", "db", 1, "StatefulSet")
    await begun(stack, DB_DONE)
    if line == "stop web":
        await stack.intended(line, requester(BOB), before=0, after=0)
    else:
        await begun_by_bob(stack)
    stack.settings = replace(stack.settings, allowed_users=frozenset({ALICE}))
    await stack.restart()
    assert written(cluster) == []
    assert any(f"a newer command of {BOB} for **stack** took over" in body for body in stack.homeserver.bodies)
    assert [outcome for _, _, outcome in await stack.outcomes()] == ["superseded", "interrupted"]


async def test_a_single_command_is_overtaken_by_a_groups(stack: Room, cluster: SimulatedCluster) -> None:
    await stack.intended("start api")
    await begun_by_bob(stack)
    stack.settings = replace(stack.settings, allowed_users=frozenset({ALICE}))
    await stack.restart()
    assert written(cluster) == []
    assert any(f"a newer command of {BOB} for **api** took over" in body for body in stack.homeserver.bodies)


# Asking


async def test_a_status_has_the_groups_and_one_of_a_group_only_its_targets(
    stack: Room, cluster: SimulatedCluster
) -> None:
    cluster.add_deployment("games", "other")
    other = target("other", WorkloadRef("Deployment", "games", "other"))
    stack.settings = replace(stack.settings, targets={**stack.settings.targets, "other": other})
    await stack.say("start api")
    assert await stack.say("status", requester(CAROL)) == (
        "● ◐ **stack**: 1 running, 2 off\n● 🟢 **1 running**: api\n● ⚪ **3 off**: web, db, other"
    )
    assert await stack.say("status stack") == (
        "● ◐ **stack**: 1 running, 2 off\n● 🟢 **1 running**: api\n● ⚪ **2 off**: db, web"
    )


async def test_a_beginning_of_its_name_is_enough(stack: Room) -> None:
    assert (await stack.say("stop st")).startswith("⚪ **stack** is off, as it was already.")
    assert await stack.say("stop x") == "I know no target **x**. There is **web**, **db**, **api** and **stack**."


async def test_a_history_has_what_was_done_to_a_target_by_itself_and_in_a_group(stack: Room) -> None:
    await stack.say("start stack")
    await stack.say("stop web", requester(BOB))
    await stack.say("status")
    head, _, *lines = (await stack.say("history web")).splitlines()
    assert head == "The last commands for **web**:"
    assert [line.split(" ago: ")[1].split(", ")[0] for line in lines] == [
        f"{BOB} `stop web`: done",
        f"{ALICE} `start stack`: done",
    ]
    assert (await stack.say("history db")).count("ago:") == 1
    assert (await stack.say("history stack")).count("ago:") == 2
    assert (await stack.say("history")).count("ago:") == 2
    assert (await stack.say("history", requester(CAROL))).startswith("You may ask for status and help, not history;")


async def test_a_history_shows_only_what_this_person_may_use(stack: Room) -> None:
    await stack.say("start stack")
    await stack.say("stop db", requester(BOB))
    db = target("db", DATABASE, allowed_users=frozenset({BOB}))
    stack.settings = replace(stack.settings, targets={**stack.settings.targets, "db": db})
    assert "stop db" not in await stack.say("history")
    assert (await stack.say("history db")).startswith("You may not see the history of db;")
    assert "`stop db`: done, 1 → 0" in await stack.say("history", requester(BOB))


# After it


async def told(stack: Room, words: str) -> None:
    """Until a message begins so."""
    await reached(lambda: any(body.startswith(words) for body in stack.homeserver.bodies))


async def test_what_was_put_back_after_a_group_was_done_is_told_of_each(stack: Room, cluster: SimulatedCluster) -> None:
    await stack.say("start stack", event="$stack")
    for name, manager in (("api", "kustomize-controller"), ("web", "argocd-controller")):
        cluster.change("games", name, {"replicas": 0}, manager=manager)
        await told(stack, f"{ALICE}: **{name}** did not stay on: somebody else (")
    edits = [content["m.new_content"] for content in stack.homeserver.contents if "m.new_content" in content]
    head, _, *lines = edits[-1]["body"].splitlines()
    assert head == "🔴 **stack** did not stay on."
    assert lines[0].startswith("● 🟢 **db** is running")
    for line, name, tool in ((lines[1], "api", "Flux"), (lines[2], "web", "Argo CD")):
        undone = rf"\*\*{name}\*\* did not stay on: somebody else \({tool}\) set it to 0 after \d+\.\d s\. If a program"
        assert re.match(rf"● \S+ \*\*{name}\*\* is (off|stopping).*\. {undone}", line)
    assert await stack.outcomes() == [("start", ALL_THREE, "changed by others")]
    outcomes = {target: outcome for target, (*_, outcome) in (await steps(stack, "$stack")).items()}
    assert outcomes == {"db": "done", "api": "changed by others", "web": "changed by others"}


async def test_of_a_group_only_what_was_done_is_watched(stack: Room, cluster: SimulatedCluster) -> None:
    await stack.say("start db")
    await reached(lambda: cluster.open_watches == 1)
    await stack.say("start stack")
    await reached(lambda: cluster.open_watches == 2)
    await stack.say("stop stack")
    await reached(lambda: cluster.open_watches == 3)
    assert not any("did not stay" in body for body in stack.homeserver.bodies)
