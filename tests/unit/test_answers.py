"""From a line to its reply and its audit row: refused or run, written down before and after, and true in the end."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from dataclasses import replace
from typing import Any

import pytest
from mautrix.util.async_db import Database

from tests.stack.cluster import Outcome as Fate
from tests.stack.cluster import SimulatedCluster
from toggle_plugin import told
from toggle_plugin.errors import SettingsProblem
from toggle_plugin.models import Outcome, Phase, Requester, Result, RolloutStatus, Trust, Verb
from toggle_plugin.told import worth_a_call

from .builders import ALICE, BOB, CAROL, DATABASE, ROOM, WEB, reached, requester, settings
from .room import LOG, TARGETS, WAIT, Room

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed transport <asyncio.sslproto:ResourceWarning"),
    pytest.mark.usefixtures("impatient"),
]


# Run


async def test_a_start_is_answered_with_the_truth_and_written_down(room: Room, cluster: SimulatedCluster) -> None:
    answer = await room.say("start web", event="$start")
    assert re.fullmatch(r"🟢 \*\*web\*\* is running \(desired 1, ready 1, available 1\), after \d+\.\d s\.", answer)
    assert cluster.replicas("Deployment", "games", "web") == 1
    assert {content["m.new_content"]["msgtype"] for content in room.homeserver.contents[1:]} <= {"m.notice"}
    (entry,) = await room.store.entries(10)
    assert (entry.event, entry.room, entry.user, entry.device, entry.fingerprint) == (
        *("$start", ROOM, ALICE),
        *("PHONE", "abcdefgh"),
    )
    assert (entry.verb, entry.target, entry.workload, entry.outcome) == ("start", "web", str(WEB), "done")
    assert (entry.replicas_before, entry.replicas_after) == (0, 1)
    assert entry.duration_ms is not None
    assert abs(entry.received_at / 1000 - time.time()) < WAIT


async def test_with_a_single_target_of_ones_own_it_can_be_left_out(room: Room, cluster: SimulatedCluster) -> None:
    assert "**web** is running" in await room.say("start")
    assert await room.say("stop", requester(BOB)) == "Which one? `!toggle stop web` or `!toggle stop db`."
    assert await room.outcomes() == [("start", str(WEB), "done"), ("stop", "", "refused")]


async def test_without_a_target_of_ones_own_there_is_nothing_to_start(room: Room) -> None:
    room.settings = settings(TARGETS[1], allowed_users=frozenset({ALICE, BOB}))
    assert (await room.say("start")).startswith("There is no target that you may start;")


async def test_the_same_event_is_run_and_answered_once(room: Room, cluster: SimulatedCluster) -> None:
    await room.say("start web", event="$once")
    await room.say("stop web")
    assert await room.say("start web", event="$once") == ""
    assert cluster.replicas("Deployment", "games", "web") == 0
    assert len(await room.outcomes()) == 2


async def test_a_status_shows_what_this_person_may_see(room: Room) -> None:
    off = "is off (desired 0, ready 0, available 0)"
    assert await room.say("status") == f"⚪ **web** {off}"
    assert await room.say("status all", requester(CAROL)) == "⚪ **2 off**: web, db"
    assert (await room.say("status db")).startswith("You may not see db;")
    assert await room.outcomes() == [
        ("status", str(WEB), "done"),
        ("status", "", "done"),
        ("status", str(DATABASE), "refused"),
    ]


async def test_a_status_that_could_not_be_asked_for_hides_no_other(room: Room, cluster: SimulatedCluster) -> None:
    cluster.delete("games", "web")
    lines = (await room.say("status", requester(BOB))).splitlines()
    assert lines[0].startswith("● ❔ **web** is not known: There is no Deployment web in namespace games;")
    assert lines[1] == "● ⚪ **1 off**: db"
    assert await room.outcomes() == [("status", "", "failed")]


async def test_help_shows_what_this_person_may_do(room: Room, cluster: SimulatedCluster) -> None:
    assert "`!toggle start` or `!toggle on`: turn **web** on" in await room.say("help")
    assert "start" not in await room.say("help", requester(CAROL))
    assert cluster.requests == []


async def test_a_check_looks_at_everything(room: Room, cluster: SimulatedCluster) -> None:
    cluster.deny("list", "pods")
    lines = (await room.say("check")).splitlines()
    assert re.fullmatch(r"● ✅ Cluster: Kubernetes v\S+ answers in \d+ ms\.", lines[0])
    assert lines[1].startswith("● ✅ Rights for **web** (Deployment games/web): enough; without `list pods`")
    assert lines[2] == "● ✅ Your device: `PHONE`, verified by its owner (cross-signed); fingerprint `abcd efgh`."
    assert lines[3] == "● ✅ My device: `BOT`, cross-signed; fingerprint `klmn`."
    assert lines[4] == "● ✅ Settings: nothing to remark."
    assert len(lines) == 5, "of other people's targets nothing is said"


async def test_a_check_without_a_cluster_says_so(room: Room, cluster: SimulatedCluster) -> None:
    await cluster.refuse()
    lines = (await room.say("check")).splitlines()
    assert lines[0].startswith("● ❌ Cluster: The cluster at 127.0.0.1:")
    assert not any("Rights" in line for line in lines)
    await cluster.listen()


# Refused


@pytest.mark.parametrize(
    ("who", "text", "words"),
    [
        (requester(encrypted=False, trust=Trust.NONE), "start", "Your message was not encrypted although this room is"),
        (requester(room_encrypted=False, encrypted=False), "status", "This room is not encrypted, so I did nothing"),
        (requester(trust=Trust.UNVERIFIED), "stop web", "Your device is not verified by you, so I did nothing"),
        (requester(trust=Trust.FORWARDED), "help", "The key to your message came from another device"),
        (requester(trust=Trust.OUTDATED), "start", "I could not ask the homeserver which devices are yours now"),
        (requester(CAROL), "start web", "You may ask for status and help, not start;"),
        (requester(ALICE), "stop db", "You may not stop db; an administrator can add you"),
    ],
)
async def test_whoever_is_refused_is_told_why_and_nobody_is_asked(
    room: Room, cluster: SimulatedCluster, who: Requester, text: str, words: str
) -> None:
    assert (await room.say(text, who)).startswith(words)
    assert cluster.requests == []
    assert [outcome for _, _, outcome in await room.outcomes()] == ["refused"]


async def test_what_is_too_old_or_not_yet_written_is_not_run(room: Room, cluster: SimulatedCluster) -> None:
    assert (await room.say("start", seconds_ago=200)).startswith("Not executed: your message is 3m2")
    assert (await room.say("start", seconds_ago=-100)).startswith("Not executed: your message claims to be 1m40s in")
    assert cluster.requests == []
    assert [outcome for _, _, outcome in await room.outcomes()] == ["refused", "refused"]


@pytest.mark.parametrize("seconds_ago", [200, -100])
async def test_what_is_no_command_and_was_not_said_just_now_is_not_answered(room: Room, seconds_ago: int) -> None:
    assert await room.say("strat", seconds_ago=seconds_ago) == ""
    assert await room.say("start wbe", requester(trust=Trust.UNVERIFIED), seconds_ago=seconds_ago) == ""
    assert room.homeserver.requests == [], "no reaction either"


async def test_with_broken_settings_only_a_check_is_run(room: Room, cluster: SimulatedCluster) -> None:
    room.problems = [SettingsProblem("command", "write a word")]
    assert await room.say("start") == (
        "My settings cannot be used, so I do nothing until an administrator mends them in maubot: command: write a word"
    )
    assert cluster.requests == []
    assert "● ⚠️ Settings: command: write a word" in await room.say("check")


@pytest.mark.parametrize(
    ("text", "who", "answer"),
    [
        ("strat", ALICE, "I do not know the word **strat**. Did you mean `!toggle start`?"),
        ("start wbe", ALICE, "I know no target **wbe**. Did you mean `!toggle start web`?"),
        ("start dbs", BOB, "I know no target **dbs**. Did you mean `!toggle start db`?"),
        ("start dbs", ALICE, "I know no target **dbs**. There is **web**."),
        ("strat", CAROL, "I do not know the word **strat**. Did you mean `!toggle status`?"),
        ("stop it, bob", ALICE, "`!toggle stop` takes one target at the most; **it, bob** is too much."),
    ],
)
async def test_what_is_not_understood_gets_one_line_with_what_this_person_may_use(
    room: Room, text: str, who: str, answer: str
) -> None:
    assert await room.say(text, requester(who)) == answer
    assert await room.outcomes() == [], "it was no command"


async def test_what_is_not_understood_from_an_untrusted_device_is_refused(room: Room) -> None:
    assert (await room.say("strat", requester(trust=Trust.UNVERIFIED))).startswith("Your device is not verified by you")


# What is not as it should be


async def test_what_cannot_be_written_down_is_not_run(
    room: Room, cluster: SimulatedCluster, database: Database
) -> None:
    await database.execute("ALTER TABLE command RENAME TO elsewhere")
    assert (await room.say("start")).startswith("I could not write your command down in my database")
    assert cluster.requests == []


async def test_an_end_that_cannot_be_written_down_is_answered_nevertheless(
    room: Room, cluster: SimulatedCluster, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.behave("games", "web", step=0.3)
    starting = room.begin("start web")
    await reached(lambda: len(room.homeserver.sent) > 0)
    await database.execute("ALTER TABLE command RENAME TO elsewhere")
    await asyncio.wait_for(starting, WAIT)
    assert "**web** is running" in room.homeserver.bodies[-1]
    assert "audit=failed" in caplog.text


async def test_a_failure_wakes_the_person_and_names_itself_in_the_audit(room: Room, cluster: SimulatedCluster) -> None:
    cluster.deny("patch", "deployments/scale")
    answer = await room.say("start web")
    assert answer.startswith(f"{ALICE}: I may not patch deployments/scale of web in namespace games;")
    assert answer.endswith("**web** was left as it was.")
    assert len(room.homeserver.sent) == 1
    assert room.homeserver.contents[0]["m.mentions"] == {"user_ids": [ALICE]}
    assert await room.outcomes() == [("start", str(WEB), "failed: Forbidden")]


async def test_a_long_wait_ends_with_a_message_that_wakes(
    room: Room, monkeypatch: pytest.MonkeyPatch, cluster: SimulatedCluster
) -> None:
    monkeypatch.setattr(told, "CALL_AFTER", 0.0)
    cluster.behave("games", "web", step=0.2)
    answer = await room.say("start web")
    assert re.fullmatch(
        rf"{ALICE}: \*\*web\*\* is running after \d+\.\d s \(desired 1, ready 1, available 1\)\.", answer
    )
    assert room.homeserver.contents[-1]["msgtype"] == "m.text"


async def test_somebody_is_woken_when_it_is_stuck_and_again_when_it_runs(room: Room, cluster: SimulatedCluster) -> None:
    cluster.behave("games", "web", outcome=Fate.UNSCHEDULABLE)
    starting = room.begin("start web")
    await reached(lambda: any("I keep following it." in body for body in room.homeserver.bodies))
    cluster.behave("games", "web", outcome=Fate.NORMAL)
    await asyncio.wait_for(starting, WAIT)
    calls = [content["body"] for content in room.homeserver.contents if content["msgtype"] == "m.text"]
    assert len(calls) == 2
    assert "**web** is stuck" in calls[0]
    assert "**web** is running after" in calls[1]


async def test_somebody_elses_newer_command_wakes_whoever_is_overruled(room: Room, cluster: SimulatedCluster) -> None:
    cluster.behave("games", "web", step=0.3)
    starting = room.begin("start web")
    await reached(lambda: len(room.homeserver.sent) > 0)
    stopping = room.begin("stop web", requester(BOB))
    await asyncio.wait_for(starting, WAIT)
    await asyncio.wait_for(stopping, WAIT)
    (call,) = [content for content in room.homeserver.contents if content["msgtype"] == "m.text"]
    assert call["m.mentions"] == {"user_ids": [ALICE]}
    assert f"A newer command of {BOB} took over" in call["body"]
    assert sorted(await room.outcomes()) == [("start", str(WEB), "superseded"), ("stop", str(WEB), "done")]


async def test_a_command_that_is_cut_off_says_so_and_stays_unfinished(room: Room, cluster: SimulatedCluster) -> None:
    cluster.behave("games", "web", step=60.0)
    starting = room.begin("start web")
    await reached(lambda: len(room.homeserver.sent) > 0)
    starting.cancel()
    await asyncio.wait({starting}, timeout=WAIT)
    assert starting.cancelled()
    assert room.homeserver.bodies[-1] == (
        "I am being stopped and do not see how **web** goes on; I tell you when I am back."
    )
    assert await room.outcomes() == [("start", str(WEB), "")], "so that the next start goes on with it"


async def test_the_log_has_each_command_on_one_line(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOG.name)
    await room.say("status web", event="$logged")
    (line,) = [message for message in caplog.messages if message.startswith("command=")]
    assert re.fullmatch(
        rf"command=status target=web workload='Deployment games/web' user={ALICE} room={ROOM} event=\$logged "
        r"outcome='done' before=None after=None ms=\d+",
        line,
    )


# Who is woken

UP = RolloutStatus(Phase.RUNNING, 1, 1, 1)
STUCK = RolloutStatus(Phase.STUCK, 1, 0, 0, "why")
END = Outcome(Result.DONE, "web", Verb.START, 5.0, UP)


@pytest.mark.parametrize(
    ("changes", "alarmed", "woken"),
    [
        ({}, False, False),
        ({"seconds": 30.0}, False, False),
        ({"seconds": 30.1}, False, True),
        ({}, True, True),
        ({"result": Result.UNCHANGED}, False, False),
        ({"result": Result.SUPERSEDED, "by": ALICE, "seconds": 100.0}, True, False),
        ({"result": Result.SUPERSEDED, "by": BOB}, False, True),
        ({"result": Result.CHANGED}, False, True),
        ({"result": Result.FAILED}, False, True),
        ({"result": Result.TIMED_OUT, "status": STUCK}, False, True),
        ({"result": Result.TIMED_OUT, "status": STUCK}, True, False),
        ({"result": Result.TIMED_OUT, "status": None}, True, True),
    ],
)
def test_somebody_is_woken_by_what_they_wait_for_and_did_not_hear_yet(
    changes: dict[str, Any], alarmed: bool, woken: bool
) -> None:
    assert worth_a_call(replace(END, **changes), ALICE, alarmed) is woken
