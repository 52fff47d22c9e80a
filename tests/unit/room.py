"""A room with the bot in it, made of the plugin's real parts: what is said, answered and written down."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

from mautrix.types import EventID
from mautrix.util.async_db import Database

from toggle_plugin.access import said
from toggle_plugin.answers import Answers
from toggle_plugin.asked import Around, Asked
from toggle_plugin.commands import Commands, Parts
from toggle_plugin.errors import SettingsProblem
from toggle_plugin.grammar import parse
from toggle_plugin.lines import InForce, Line
from toggle_plugin.models import Requester, Trust
from toggle_plugin.outbox import Outbox
from toggle_plugin.progress import Anchor, ProgressMessage
from toggle_plugin.rooms import Rooms
from toggle_plugin.settings import Settings
from toggle_plugin.store import Store
from toggle_plugin.strangers import Strangers
from toggle_plugin.toggle import ToggleService
from toggle_plugin.trust import Arrivals
from toggle_plugin.workloads import KubernetesWorkloads

from .builders import ALICE, BOB, CAROL, DATABASE, ROOM, WEB, reach_of, requester, settings, target
from .homeserver import BOT, Homeserver

LOG = logging.getLogger("test.room")
WAIT = 60.0
TARGETS = (target("web", WEB), target("db", DATABASE, allowed_users=frozenset({BOB})))
SETTINGS = settings(*TARGETS, allowed_users=frozenset({ALICE, BOB}), viewers=frozenset({CAROL}))


class Room:
    """One room with the bot in it: says lines, and shows what was answered and written down."""

    def __init__(
        self, workloads: KubernetesWorkloads, store: Store, database: Database, homeserver: Homeserver
    ) -> None:
        self.store = store
        self.database = database
        self.homeserver = homeserver
        self.client = homeserver.client()
        self.settings: Settings = SETTINGS
        self.problems: Sequence[SettingsProblem] = ()
        self.cautions: Sequence[SettingsProblem] = ()
        self._workloads = workloads
        self._number = 0
        self._wire()

    def _wire(self) -> None:
        """Make the parts, as the composition root does."""
        self.outbox = Outbox(self.client, _nowhere_encrypted, reach_of(self.client), LOG)
        service = ToggleService(self._connect, self.store, lambda: self.settings.rollout_timeout, LOG)
        self.answers = Answers(Around(service, self.store, self._own_device, lambda: self.cautions, LOG))
        parts = Parts(
            self.client,
            BOT,
            lambda: InForce(self.settings, self.problems),
            self.answers,
            Arrivals(self.client, LOG),
            Rooms(self.client, LOG),
            self.outbox,
            Strangers(LOG),
            self._no_trouble,
        )
        self.commands = Commands(parts, LOG)

    async def _connect(self) -> KubernetesWorkloads:
        return self._workloads

    async def _own_device(self) -> tuple[str, str, Trust]:
        return "BOT", "klmn", Trust.CROSS_SIGNED_TOFU

    async def _no_trouble(self) -> str:
        return ""

    def line(
        self,
        text: str,
        who: Requester | None = None,
        *,
        seconds_ago: float = 0.0,
        event: str = "",
        arrival: int = 0,
    ) -> Line:
        self._number += 1
        person = who or requester()
        anchor = Anchor(ROOM, EventID(event or f"$line{self._number}"), person.user)
        sent_ms = round((time.time() - seconds_ago) * 1000)
        parsed = said(parse(text, self.settings.targets, self.settings.groups), person.user, self.settings)
        return Line(anchor, person, parsed, "!toggle ", sent_ms, arrival=arrival or self._number)

    async def admitted(self, text: str, who: Requester | None = None, **changes: Any) -> Asked:
        """Say `text`; it is written down, and not answered yet."""
        asked = await self.answers.admit(self.line(text, who, **changes), InForce(self.settings, self.problems))
        assert asked is not None
        return asked

    async def intended(
        self, text: str, who: Requester | None = None, *, before: int = 0, after: int = 1, **changes: Any
    ) -> str:
        """Say `text`; what it is about to write is written down, and nothing more is known of it. Gives the event."""
        asked = await self.admitted(text, who, **changes)
        event = asked.line.anchor.event
        await self.store.intend(event, before, after)
        return event

    def begin(self, text: str, who: Requester | None = None, **changes: Any) -> asyncio.Task[None]:
        """Say `text`; the task ends when it is answered."""
        return asyncio.ensure_future(self._answer(self.line(text, who, **changes)))

    async def _answer(self, line: Line) -> None:
        reply = ProgressMessage(self.outbox, line.anchor, LOG)
        try:
            asked = await self.answers.admit(line, InForce(self.settings, self.problems))
            if asked is not None:
                await self.answers.answer(asked, reply)
        finally:
            await reply.close()

    async def say(self, text: str, who: Requester | None = None, **changes: Any) -> str:
        """Say `text` and wait for the last words about it; nothing if nothing was said."""
        before = len(self.homeserver.sent)
        await asyncio.wait_for(self.begin(text, who, **changes), WAIT)
        return self.homeserver.bodies[-1] if len(self.homeserver.sent) > before else ""

    async def restart(self) -> None:
        """Begin anew with what is written down; returns when all that was unfinished is answered."""
        await self.close()
        self._wire()
        await self.commands.resume(await self.store.unfinished(), await self.store.newest_arrival())
        await asyncio.wait_for(asyncio.gather(*self.commands._intake._tasks), WAIT)

    async def outcomes(self) -> list[tuple[str, str, str]]:
        """Verb, workload and outcome of every audit row, the oldest first."""
        entries = await self.store.entries(100)
        return [(entry.verb, entry.workload, entry.outcome) for entry in reversed(entries)]

    async def close(self) -> None:
        """End everything as the composition root does."""
        await self.commands.close()
        await self.answers.drain()
        await self.outbox.stop()
        await self.store.drain()


async def _nowhere_encrypted(_: str) -> bool:
    return False
