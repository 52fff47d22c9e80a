"""From a message to the write in the cluster, and to the reply: this bot and the least possible one, in turn."""

from __future__ import annotations

import asyncio
import io
import json
import statistics
import zipfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.stack.chat import ChatClient
from tests.stack.stack import Servers, Stack

pytestmark = pytest.mark.timeout(600)

ROUNDS = 30
LEAST = "test.least"
META = f"maubot: 0.1.0\nid: {LEAST}\nversion: 0.0.1\nlicense: MIT\nmodules: [least]\nmain_class: Least\n"
SCALE = "/apis/apps/v1/namespaces/demo/deployments/web/scale"
BOUND = 3.0
"""How many times the least bot's medians ours may be."""


@dataclass(frozen=True)
class Words:
    """What turns a bot's workload on or off, and what its reply ends with."""

    say: str
    end: str


OURS = (Words("stop", "is off"), Words("start", "is running"))
OTHERS = (Words("!least 0", "answered 200"), Words("!least 1", "answered 200"))


@dataclass
class Talk:
    """A bot in a room of its own, with a cluster of its own; the times of what it was told, in milliseconds."""

    stack: Stack
    alice: ChatClient
    room: str
    words: Sequence[Words]
    to_write: list[float] = field(default_factory=list)
    to_reply: list[float] = field(default_factory=list)

    @classmethod
    async def open(cls, stack: Stack, words: Sequence[Words]) -> Talk:
        """Said once each way already: the first time takes longer, and nobody waits for it again."""
        alice = await stack.person("alice")
        talk = cls(stack, alice, await stack.room_with_bot(alice), words)
        for replicas in (1, 0):
            await talk.tell(replicas)
        talk.to_write.clear()
        talk.to_reply.clear()
        return talk

    async def tell(self, replicas: int) -> None:
        """One command; it is over when this returns."""
        clock = asyncio.get_running_loop().time
        begun = clock()
        reply = await self.alice.wait_reply(await self.alice.send(self.room, self.words[replicas].say))
        replied = clock()
        written = self.stack.cluster.asked("PATCH", SCALE)[-1].time
        self.to_write.append((written - begun) * 1000)
        self.to_reply.append((replied - begun) * 1000)
        await self.alice.wait_text(reply, self.words[replicas].end)


def packed() -> bytes:
    """The least bot as maubot takes it."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("maubot.yaml", META)
        file.writestr("least.py", Path(__file__).with_name("least.py").read_text(encoding="utf-8"))
    return archive.getvalue()


@asynccontextmanager
async def least_bot(servers: Servers) -> AsyncIterator[Stack]:
    """A stack whose instance is the least bot."""
    async with servers.stack(autojoin=True) as stack:
        cluster = stack.cluster
        settings = {"url": cluster.url + SCALE, "token": cluster.token, "authority": str(cluster.ca_file)}
        (servers.maubot.directory / "least.json").write_text(json.dumps(settings))
        await servers.api.delete_instance(stack.instance)
        await servers.api.upload_plugin(packed())
        await servers.api.create_instance(stack.instance, LEAST, stack.bot_id, {})
        try:
            yield stack
        finally:
            await servers.api.delete_instance(stack.instance)
            await servers.api.delete_plugin(LEAST)


def summary(times: Sequence[float]) -> str:
    return f"median {statistics.median(times):.0f} ms, 90 % within {statistics.quantiles(times, n=10)[-1]:.0f} ms"


async def test_it_is_about_as_fast_as_the_least_possible_bot(servers: Servers) -> None:
    async with servers.stack() as ours, least_bot(servers) as least:
        mine, others = await Talk.open(ours, OURS), await Talk.open(least, OTHERS)
        for number in range(ROUNDS):
            for talk in (mine, others):
                await talk.tell((number + 1) % 2)
    for name, here, there in (
        ("send -> API", mine.to_write, others.to_write),
        ("send -> reply", mine.to_reply, others.to_reply),
    ):
        ratio = statistics.median(here) / statistics.median(there)
        line = f"{name}: {summary(here)}; the least bot {summary(there)}; {ratio:.2f} times as long"
        print(f"\n{line}")  # noqa: T201 - figures for the docs
        assert ratio < BOUND
