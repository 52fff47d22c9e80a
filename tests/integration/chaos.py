"""Rounds of commands while the bot is killed at any moment, and what must hold afterwards."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from tests.stack.chat import ChatClient
from tests.stack.stack import Stack

PAIRS = 5
"""Starts, each with a stop behind it, of one round."""
PATIENCE = 60.0
ENDS = ("is running", "is off", "took over", "as it was already", "Somebody else set")
"""One of these is in the last words about every command."""


def targets(pairs: int = PAIRS) -> dict[str, dict[str, object]]:
    """Targets of one workload that differ in their replicas, so that what was written says which command wrote it."""
    workload = {"kind": "Deployment", "namespace": "demo", "name": "web"}
    return {f"web{count}": {**workload, "replicas": count} for count in range(1, pairs + 1)}


@dataclass
class Round:
    """One round.

    Attributes:
        sent: the commands in the order of their sending, as event ID and the replicas that it asks for.
        writes: the replicas that were written to the cluster, in their order.
    """

    sent: list[tuple[str, int]] = field(default_factory=list)
    writes: list[int] = field(default_factory=list)
    kills: int = 0

    def in_order(self) -> bool:
        """Whether the writes are those of some of the commands, in their order, none of them twice."""
        wanted = iter([replicas for _, replicas in self.sent])
        return all(write in wanted for write in self.writes)


async def play(stack: Stack, people: Sequence[ChatClient], room: str, chance: random.Random, kills: int = 1) -> Round:
    """Let `people` say starts and stops in turn, kill the bot at random moments, and wait until all are answered."""
    played = Round()
    before = len(stack.cluster.asked("PATCH"))
    killing = asyncio.ensure_future(_kill(stack, played, chance, kills))
    try:
        for pair in range(PAIRS):
            for line, replicas in ((f"start web{pair + 1}", pair + 1), ("stop web1", 0)):
                person = people[len(played.sent) % len(people)]
                played.sent.append((await person.send(room, f"!toggle {line}"), replicas))
                await asyncio.sleep(chance.uniform(0.0, 0.5))
        await killing
    finally:
        killing.cancel()
    for event, _ in played.sent:
        await people[0].wait_for(partial(_ended, people[0], event), PATIENCE, "the end")
    await _all_written_down(stack, people[0], played)
    writes = [_replicas(request.body) for request in stack.cluster.asked("PATCH")[before:]]
    # The same write again, by whoever could not know that it was made, changes nothing.
    played.writes = [write for write, _ in itertools.groupby(writes)]
    return played


def _ended(person: ChatClient, event: str) -> bool:
    return any(end in message.body for message in person.timeline.replies(event) for end in ENDS)


def answers(person: ChatClient, event: str) -> tuple[int, int]:
    """How many replies a command has, and how many messages that call the person: one at most."""
    kinds = [bool(message.mentions) for message in person.timeline.replies(event)]
    return kinds.count(False), kinds.count(True)


async def _kill(stack: Stack, played: Round, chance: random.Random, kills: int) -> None:
    for _ in range(kills):
        await asyncio.sleep(chance.uniform(0.1, 2.5))
        await stack.maubot.kill()
        played.kills += 1
        await stack.maubot.run()


async def _all_written_down(stack: Stack, person: ChatClient, played: Round) -> None:
    events = {event for event, _ in played.sent}
    for _ in range(round(PATIENCE / 0.2)):
        rows = await stack.rows("SELECT event_id FROM command WHERE outcome <> ''")
        if events <= {row["event_id"] for row in rows}:
            return
        await person.settle(0.2)
    raise AssertionError("some commands are not written down as ended")


def _replicas(body: str) -> int:
    return int(json.loads(body)["spec"]["replicas"])
