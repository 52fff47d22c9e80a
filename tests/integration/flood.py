"""A stranger who says commands without an end, and the traces that could be left of it."""

from __future__ import annotations

from dataclasses import dataclass

from tests.integration.conversation import room_of
from tests.stack import measure
from tests.stack.chat import ChatClient
from tests.stack.stack import Stack

LINES = ("!toggle start", "!toggle help", "!toggle nonsense", "!toggle", "start")
PATIENCE = 600.0
"""Seconds that the bot may take for all that a stranger said on a busy machine."""
LEAST_ROW = 100
"""Bytes that anything which is written down of an encrypted message takes at least: its session's ID and its index."""


@dataclass(frozen=True)
class Trace:
    """What there is of a stranger's.

    Attributes:
        asked: requests to the API server.
        rows: in the table of commands.
        answers: messages of the bot that answer somebody else than alice, and reactions.
        memory: kB of maubot's, resident.
        database: bytes of the instance's.
        keys: bytes of maubot's own database, which has the keys of everybody who shares a room with the bot.
    """

    asked: int
    rows: int
    answers: int
    memory: int
    database: int
    keys: int

    @property
    def visible(self) -> dict[str, int]:
        """What must be nothing from the first message on."""
        return {"asked": self.asked, "rows": self.rows, "answers": self.answers}


NOTHING = {"asked": 0, "rows": 0, "answers": 0}


@dataclass(frozen=True)
class Scene:
    """A room of the bot, alice, who may command, and mallory, who may not."""

    stack: Stack
    alice: ChatClient
    mallory: ChatClient
    room: str

    @classmethod
    async def open(cls, stack: Stack, *, encrypted: bool) -> Scene:
        """Bare words count in it, and the bot has met its cluster."""
        await stack.settings(bare_commands="always")
        await stack.wait_ready()
        alice, mallory = await stack.person("alice"), await stack.person("mallory")
        return cls(stack, alice, mallory, await room_of(stack, alice, mallory, encrypted=encrypted))

    async def flood(self, count: int) -> Trace:
        """Let mallory say `count` commands, and look once the bot has taken in the last of them."""
        self.stack.cluster.requests.clear()
        for number in range(count):
            await self.mallory.send(self.room, LINES[number % len(LINES)])
        # A room's events are taken in in their order: alice's answer comes after the whole flood. It asks no cluster.
        await self.alice.wait_reply(await self.alice.send(self.room, "!toggle help"), PATIENCE)
        return await self._trace()

    async def _trace(self) -> Trace:
        sql = f"SELECT COUNT(*) AS n FROM command WHERE user_id <> '{self.alice.user_id}'"  # noqa: S608 - our own
        return Trace(
            asked=len(self.stack.cluster.requests),
            rows=int((await self.stack.rows(sql))[0]["n"]),
            answers=self._answers(),
            memory=measure.resident(self.stack),
            database=measure.database_bytes(self.stack),
            keys=measure.key_store_bytes(self.stack),
        )

    def _answers(self) -> int:
        timeline = self.alice.timeline
        said = list(timeline.messages(self.room))
        asked_by_alice = {message.event_id for message in said if message.sender == self.alice.user_id}
        by_bot = [message for message in said if message.sender == self.stack.bot_id]
        unasked = [message for message in by_bot if not any(message.answers(event) for event in asked_by_alice)]
        return len(unasked) + sum(len(message.reactions) for message in said if message.sender == self.mallory.user_id)
