"""Other hands and restarts, from a line to its reply: each is told, nothing is done twice, and what does not last."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.stack.cluster import Outcome as Fate
from tests.stack.cluster import SimulatedCluster
from toggle_plugin import aftermath, api_autoscalers
from toggle_plugin.models import WorkloadRef
from toggle_plugin.restart import ANNOTATION

from .builders import ALICE, BOB, WEB, reached, requester, target
from .room import Room

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed transport <asyncio.sslproto:ResourceWarning"),
    pytest.mark.usefixtures("impatient"),
]

UP = r"🟢 \*\*web\*\* is running \(desired 1, ready 1, available 1\)"


def stamped(cluster: SimulatedCluster, name: str = "web", kind: str = "Deployment") -> str:
    metadata = cluster.workload(kind, "games", name)["spec"]["template"]["metadata"]
    return str(metadata.get("annotations", {}).get(ANNOTATION, ""))


def pods(cluster: SimulatedCluster) -> set[str]:
    return {pod["metadata"]["name"] for pod in cluster.pods("games")}


def restarts(cluster: SimulatedCluster) -> list[str]:
    """The stamps that were written, in their order."""
    written = cluster.asked("PATCH", "/(web|db)$")
    return [json.loads(request.body)["spec"]["template"]["metadata"]["annotations"][ANNOTATION] for request in written]


async def running(cluster: SimulatedCluster, replicas: int = 1) -> None:
    cluster.scale("games", "web", replicas)
    await reached(available(cluster, replicas))
    cluster.requests.clear()


def available(cluster: SimulatedCluster, replicas: int) -> Callable[[], bool]:
    return lambda: cluster.workload("Deployment", "games", "web")["status"].get("availableReplicas", 0) == replicas


# Restart


async def test_a_restart_replaces_every_pod_and_is_followed_to_the_end(room: Room, cluster: SimulatedCluster) -> None:
    await running(cluster)
    before = pods(cluster)
    answer = await room.say("restart web", event="$restart")
    assert re.fullmatch(rf"{UP}, restarted after \d+\.\d s\.", answer)
    assert not pods(cluster) & before
    (entry,) = await room.store.entries(10)
    assert (entry.verb, entry.outcome, entry.replicas_before, entry.replicas_after) == ("restart", "done", 1, 1)
    assert entry.written
    (patch,) = cluster.asked("PATCH")
    assert (patch.path, patch.content_type) == (
        "/apis/apps/v1/namespaces/games/deployments/web",
        "application/merge-patch+json",
    )
    assert patch.query == {"fieldManager": "maubot-k8s-toggle"}


async def test_the_stamp_is_the_time_of_the_command(room: Room, cluster: SimulatedCluster) -> None:
    await running(cluster)
    asked = await room.admitted("restart web", seconds_ago=3)
    await room.restart()
    seconds, milliseconds = divmod(asked.line.sent_ms, 1000)
    assert re.fullmatch(rf"\S+\.{milliseconds:03}Z", stamped(cluster))
    assert seconds % 60 == int(stamped(cluster)[17:19])


async def test_a_stateful_set_is_restarted_too(room: Room, cluster: SimulatedCluster) -> None:
    cluster.scale("games", "db", 2, "StatefulSet")
    await reached(lambda: cluster.workload("StatefulSet", "games", "db")["status"].get("readyReplicas") == 2)
    uids = {pod["metadata"]["uid"] for pod in cluster.pods("games")}
    answer = await room.say("restart db", requester(BOB))
    assert "**db** is running (desired 2, ready 2, available 2), restarted after" in answer
    assert not {pod["metadata"]["uid"] for pod in cluster.pods("games")} & uids
    assert len(restarts(cluster)) == 1


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (
            {},
            "there is nothing to restart while it is off; a start makes new pods",
        ),
        (
            {"replicas": 1, "paused": True},
            "it is paused, which would hold the restart back; resume it first (kubectl rollout resume)",
        ),
    ],
)
async def test_where_there_is_nothing_to_restart_that_is_said_and_nothing_is_done(
    room: Room, cluster: SimulatedCluster, spec: dict[str, Any], why: str
) -> None:
    cluster.change("games", "web", spec)
    await reached(available(cluster, spec.get("replicas", 0)))
    assert (await room.say("restart web")).endswith(f"I did not restart it: {why}.")
    assert restarts(cluster) == []
    assert [outcome for _, _, outcome in await room.outcomes()] == ["not restarted"]


async def test_a_kind_that_cannot_be_restarted_is_named(room: Room, cluster: SimulatedCluster) -> None:
    cluster.add("ReplicaSet", "games", "set", 1)
    bare = target("set", WorkloadRef("ReplicaSet", "games", "set"))
    room.settings = replace(room.settings, targets={**room.settings.targets, "set": bare})
    answer = await room.say("restart set")
    assert answer.endswith("only a Deployment or a StatefulSet can be restarted, not ReplicaSet games/set.")


async def test_without_the_right_nothing_is_tried(room: Room, cluster: SimulatedCluster) -> None:
    cluster.deny("patch", "deployments")
    await running(cluster)
    answer = await room.say("restart web")
    assert "I may not patch deployments of web in namespace games; grant that right to" in answer
    assert answer.endswith("**web** was left as it was.")
    assert restarts(cluster) == []
    assert await room.outcomes() == [("restart", str(WEB), "failed: Forbidden")]


async def test_a_right_that_was_just_given_counts_at_once(room: Room, cluster: SimulatedCluster) -> None:
    cluster.deny("patch", "deployments")
    await running(cluster)
    await room.say("restart web")
    cluster.authorization.reset()
    assert "restarted after" in await room.say("restart web")


async def test_a_viewer_may_not_restart(room: Room, cluster: SimulatedCluster) -> None:
    answer = await room.say("restart web", requester("@carol:example.org"))
    assert answer.startswith("You may ask for status and help, not restart;")
    assert cluster.requests == []


async def test_a_restart_that_was_written_before_a_crash_is_followed_and_not_written_again(
    room: Room, cluster: SimulatedCluster
) -> None:
    await running(cluster)
    event = await room.intended("restart web", before=1, after=1)
    await room.store.wrote(event)
    await room.restart()
    assert restarts(cluster) == []
    assert "restarted after" in room.homeserver.bodies[-1]


async def test_a_restart_whose_write_is_not_known_to_have_been_made_is_the_same_one_when_it_is_made_again(
    room: Room, cluster: SimulatedCluster
) -> None:
    await running(cluster)
    cluster.behave("games", "web", frozen=True)
    restarting = room.begin("restart web", event="$crash")
    await reached(lambda: len(room.homeserver.sent) > 0)
    first = stamped(cluster)
    restarting.cancel()
    await asyncio.wait({restarting})
    await room.database.execute("UPDATE command SET written=$1", False)
    cluster.behave("games", "web", frozen=False)
    await room.restart()
    assert stamped(cluster) == first
    assert restarts(cluster) == [first], "what is there already is not written again"
    assert "restarted after" in room.homeserver.bodies[-1]


async def test_a_restart_that_somebody_else_has_made_up_for_since_is_not_made(
    room: Room, cluster: SimulatedCluster
) -> None:
    await running(cluster)
    await room.intended("restart web", before=1, after=1, seconds_ago=5)
    template = cluster.workload("Deployment", "games", "web")["spec"]["template"]
    template["metadata"]["annotations"] = {ANNOTATION: "2999-01-01T00:00:00+01:00"}
    cluster.change("games", "web", {"template": template}, manager="kubectl-rollout")
    await room.restart()
    assert restarts(cluster) == []
    assert "restarted after" in room.homeserver.bodies[-1]


async def test_a_start_is_not_lost_to_a_restart_that_came_after_it(room: Room, cluster: SimulatedCluster) -> None:
    slow = cluster.fail(method="GET", path="/deployments/web$", delay=0.5)
    starting = room.begin("start web")
    await reached(lambda: slow.struck > 0)
    restarting = room.begin("restart web", requester(BOB))
    await asyncio.gather(starting, restarting)
    assert cluster.replicas("Deployment", "games", "web") == 1
    assert sorted(await room.outcomes()) == [("restart", str(WEB), "done"), ("start", str(WEB), "superseded")]


async def test_a_stop_makes_a_restart_needless(room: Room, cluster: SimulatedCluster) -> None:
    await running(cluster)
    slow = cluster.fail(method="GET", path="/deployments/web$", delay=0.5)
    restarting = room.begin("restart web")
    await reached(lambda: slow.struck > 0)
    stopping = room.begin("stop web", requester(BOB))
    await asyncio.gather(restarting, stopping)
    assert restarts(cluster) == []
    assert sorted(await room.outcomes()) == [("restart", str(WEB), "superseded"), ("stop", str(WEB), "done")]


async def test_a_start_that_waited_when_the_process_died_is_made_although_a_restart_came_after_it(
    room: Room, cluster: SimulatedCluster
) -> None:
    await room.admitted("start web", arrival=1)
    newer = await room.admitted("restart web", arrival=2)
    assert newer.entry is not None
    await room.store.finish(replace(newer.entry, outcome="not restarted"))
    await room.restart()
    assert cluster.replicas("Deployment", "games", "web") == 1


async def test_a_restart_that_cannot_be_followed_is_not_called_undone(room: Room, cluster: SimulatedCluster) -> None:
    await running(cluster)
    cluster.deny("watch", "deployments")
    answer = await room.say("restart web")
    assert "The restart of **web** is under way, but could not be followed; ask `!toggle status`." in answer


# Autoscalers, pauses, deletions


async def test_a_status_names_what_scales_it_by_itself(room: Room, cluster: SimulatedCluster) -> None:
    cluster.add_autoscaler("games", "web", 1, 5)
    assert await room.say("status web") == (
        "⚪ **web** is off (desired 0, ready 0, available 0) (HorizontalPodAutoscaler web rests while it is off)"
    )
    await running(cluster)
    answer = await room.say("status web")
    assert answer.endswith("available 1) (HorizontalPodAutoscaler web keeps it between 1 and 5 replicas)")


async def test_what_may_not_be_listed_is_not_asked_for(room: Room, cluster: SimulatedCluster) -> None:
    cluster.add_autoscaler("games", "web", 1, 5)
    cluster.deny("list", "horizontalpodautoscalers")
    cluster.deny("list", "scaledobjects")
    for _ in range(3):
        assert (await room.say("status web")).endswith("available 0)")
    assert cluster.asked("GET", "autoscaling|keda") == []
    assert len(cluster.asked("POST", "selfsubjectaccessreviews")) == 2, "and the answers hold for a while"


async def test_many_targets_of_a_namespace_ask_for_their_autoscalers_once(
    room: Room, cluster: SimulatedCluster
) -> None:
    await room.say("status all", requester(BOB))
    assert len(cluster.asked("GET", "autoscaling")) == len(cluster.asked("GET", "keda")) == 1


async def test_a_kind_of_autoscalers_that_the_cluster_does_not_have_is_asked_for_once(
    room: Room, cluster: SimulatedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_autoscalers, "SAME_FOR", 0.0)
    cluster.fail(method="GET", path="/keda.sh", status=404, times=None)
    for _ in range(2):
        await room.say("status web")
    assert [len(cluster.asked("GET", path)) for path in ("autoscaling", "keda")] == [2, 1]


@pytest.mark.parametrize("fault", [{"status": 404}, {"status": 403}, {"status": 500, "times": None}])
async def test_without_an_answer_about_autoscalers_a_status_says_less(
    room: Room, cluster: SimulatedCluster, fault: dict[str, Any]
) -> None:
    cluster.fail(method="GET", path="/keda.sh|/autoscaling", **fault)
    assert (await room.say("status web")).startswith("⚪ **web** is off")


async def test_a_stop_that_keda_undoes_says_so(room: Room, cluster: SimulatedCluster) -> None:
    cluster.add_scaled_object("games", "web", 1, 3)
    await reached(available(cluster, 1))
    answer = await room.say("stop web")
    # Of a count that was 0, the cluster does not tell who scales it up.
    assert "Somebody else set it to 1 meanwhile, so I stopped following." in answer
    assert "ScaledObject web starts it again; set its annotation autoscaling.keda.sh/paused to true" in answer


async def test_a_start_of_what_is_paused_says_what_that_holds_back(room: Room, cluster: SimulatedCluster) -> None:
    cluster.change("games", "web", {"paused": True})
    answer = await room.say("start web")
    assert answer.endswith("(it is paused, so a change of its template waits until it is resumed)")
    assert (await room.say("status web")).endswith("available 1) (it is paused)")


async def test_a_paused_roll_out_is_stuck_and_says_why(room: Room, cluster: SimulatedCluster) -> None:
    cluster.change("games", "web", {"paused": True})
    template = cluster.workload("Deployment", "games", "web")["spec"]["template"]
    template["metadata"]["labels"]["version"] = "2"
    cluster.change("games", "web", {"template": template})
    starting = room.begin("start web")
    await reached(lambda: any("**web** is stuck" in body for body in room.homeserver.bodies))
    assert (
        "it is paused, so its newest template is held back; resume it (kubectl rollout resume)"
        in (room.homeserver.bodies[-1])
    )
    cluster.change("games", "web", {"paused": False})
    await asyncio.wait_for(starting, 30)
    assert "**web** is running" in room.homeserver.bodies[-1]


async def test_a_workload_that_is_being_deleted_is_told(room: Room, cluster: SimulatedCluster) -> None:
    cluster.begin_deletion("games", "web")
    assert (await room.say("status web")).endswith("available 0) (it is being deleted)")
    cluster.scale("games", "web", 1)
    await reached(available(cluster, 1))
    assert "**web** is starting (desired 1, ready 1, available 1): it is being deleted" in await room.say("status web")
    assert (await room.say("stop web")).endswith("(it is being deleted)")


async def test_whoever_deletes_it_meanwhile_is_told_of(room: Room, cluster: SimulatedCluster) -> None:
    cluster.behave("games", "web", outcome=Fate.UNSCHEDULABLE)
    starting = room.begin("start web")
    await reached(lambda: "**web** is stuck" in "".join(room.homeserver.bodies))
    cluster.delete("games", "web")
    await asyncio.wait_for(starting, 30)
    assert "Somebody deleted Deployment games/web meanwhile." in room.homeserver.bodies[-1]


# What does not last


async def test_a_stop_that_is_put_back_while_it_is_followed_names_who_did(
    room: Room, cluster: SimulatedCluster
) -> None:
    await running(cluster)
    cluster.behave("games", "web", terminate=3.0)
    stopping = room.begin("stop web")
    await reached(lambda: cluster.replicas("Deployment", "games", "web") == 0)
    cluster.hold("games", "web", 1)
    await asyncio.wait_for(stopping, 30)
    assert "Somebody else (Argo CD) set it to 1 meanwhile" in room.homeserver.bodies[-1]


async def test_an_autoscaler_that_changes_the_count_meanwhile_is_named(room: Room, cluster: SimulatedCluster) -> None:
    cluster.behave("games", "web", step=0.3)
    cluster.change("games", "web", {"replicas": 1}, manager="helm")
    starting = room.begin("start web")
    await reached(lambda: len(room.homeserver.sent) > 0)
    cluster.add_autoscaler("games", "web", 2, 5)
    await asyncio.wait_for(starting, 30)
    told = "Somebody else (a HorizontalPodAutoscaler) set it to 2 meanwhile, so I stopped following."
    assert told in room.homeserver.bodies[-1]


async def test_where_the_cluster_does_not_tell_who_changed_the_count_an_autoscaler_is_named_that_can_have(
    room: Room, cluster: SimulatedCluster
) -> None:
    await running(cluster)
    cluster.scale("games", "web", 0)  # by the scale subresource, after which nobody owns the count
    cluster.behave("games", "web", step=0.3)
    cluster.add_autoscaler("games", "web", 2, 5)
    answer = await room.say("start web")
    assert "Somebody else set it to 2 meanwhile, so I stopped following." in answer
    assert answer.endswith("(HorizontalPodAutoscaler web keeps it between 2 and 5 replicas)")


@pytest.mark.parametrize(("verb", "stayed", "replicas"), [("stop", "off", 1), ("start", "on", 0)])
async def test_what_is_put_back_after_it_was_done_is_told_and_written_down(
    room: Room, cluster: SimulatedCluster, verb: str, stayed: str, replicas: int
) -> None:
    await running(cluster, replicas)
    done = await room.say(f"{verb} web")
    assert re.search(r", after \d+\.\d s\.$", done)
    cluster.change("games", "web", {"replicas": replicas}, manager="kustomize-controller")
    await reached(lambda: not room.answers._lasting._watching)
    call = room.homeserver.contents[-1]
    assert re.fullmatch(
        rf"{ALICE}: \*\*web\*\* did not stay {stayed}: somebody else \(Flux\) set it to {replicas} after \d+\.\d s\. "
        r"If a program does that, tell it to leave the replica count alone\.",
        call["body"],
    )
    assert call["m.mentions"] == {"user_ids": [ALICE]}
    edits = [content for content in room.homeserver.contents if "m.new_content" in content]
    assert f"did not stay {stayed}" in edits[-1]["m.new_content"]["body"]
    assert await room.outcomes() == [(verb, str(WEB), "changed by others")]


async def test_a_newer_command_is_nobody_elses_hand(room: Room, cluster: SimulatedCluster) -> None:
    await running(cluster)
    await room.say("stop web")
    await room.say("start web")
    await reached(lambda: len(room.answers._lasting._watching) == 1)
    assert not any("did not stay" in body for body in room.homeserver.bodies)
    assert [outcome for _, _, outcome in await room.outcomes()] == ["done", "done"]


async def test_what_lasts_is_not_looked_at_for_ever(
    room: Room, cluster: SimulatedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aftermath, "LASTS", 0.3)
    await running(cluster)
    await room.say("stop web")
    said = len(room.homeserver.sent)
    await reached(lambda: not room.answers._lasting._watching)
    await reached(lambda: cluster.open_watches == 0)
    assert len(room.homeserver.sent) == said
    cluster.delete("games", "web")


async def test_what_is_deleted_after_it_was_done_is_no_news_of_that(room: Room, cluster: SimulatedCluster) -> None:
    await running(cluster)
    await room.say("stop web")
    said = len(room.homeserver.sent)
    await reached(lambda: cluster.open_watches == 1)
    cluster.delete("games", "web")
    await reached(lambda: not room.answers._lasting._watching)
    assert len(room.homeserver.sent) == said
