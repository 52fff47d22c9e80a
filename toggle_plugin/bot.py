"""The composition root: wires the parts in `start`, undoes that in `stop`, swaps the settings on a reload.

`start` never raises: maubot registers handlers before it, and an instance whose start failed would stay half alive.
What is wrong is a state that `check`, ``/readyz`` and the log report.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import cast

from aiohttp.web import HTTPBadRequest
from maubot.plugin_base import Plugin
from mautrix.util.async_db import Database, UpgradeTable
from mautrix.util.config import BaseProxyConfig
from ruamel.yaml.error import YAMLError

from .access import AccessPolicy
from .account import Account
from .answers import Answers
from .asked import Around
from .commands import Commands, Parts
from .config import Config, yaml_problem
from .connection import Connection
from .errors import SettingsError, SettingsProblem, summary
from .gaps import Gaps
from .lines import InForce
from .membership import Membership, autojoin_caution
from .migrations import upgrade_table
from .outbox import Outbox
from .reach import Reach
from .rooms import Rooms
from .settings import Settings, cautions, parse_settings, read_settings
from .store import Store
from .strangers import Strangers
from .sync import Sync
from .tasks import cancelled
from .toggle import ToggleService
from .trust import Arrivals, OwnKeys
from .web import Readiness

LOG_REACHES_UI = 0.25
"""Seconds; measured: with 0.1 one error in three was not seen."""


_ONE_INSTANCE = "put all targets into one instance, or give this one an account of its own, then restart it"


class ToggleBot(Plugin):
    """The plugin, as maubot knows it."""

    config: Config
    _in_force: InForce
    _connection: Connection
    _undo: AsyncExitStack
    _account: Account
    _own_keys: OwnKeys | None
    _sync: Sync | None
    _membership: Membership | None
    _arrivals: Arrivals | None
    _idle: str
    """Why this instance does nothing, if it is not the first on its account, or did not start."""

    @classmethod
    def get_config_class(cls) -> type[BaseProxyConfig]:
        return Config

    @classmethod
    def get_db_upgrade_table(cls) -> UpgradeTable:
        return upgrade_table

    async def start(self) -> None:
        self._undo = AsyncExitStack()
        self._sync = None
        self._membership = None
        self._arrivals = None
        self._idle = ""
        self._account = Account(self.client, self.id)
        self._own_keys = None
        self._in_force = InForce(Settings(), (SettingsProblem("", "the instance is still starting"),))
        self._connection = Connection(lambda: self._in_force.settings.kubeconfig, self.log)
        self._undo.push_async_callback(self._account.settle)
        self._undo.push_async_callback(self._connection.close)
        self.register_handler_class(Readiness(self._not_ready, self._cautions))
        try:
            self._load_settings()
            if self._claimed():
                await self._wire()
        except Exception:
            # A boundary, see above: the log has the reason, and /readyz says that there is one. Settings that are saved
            # later do not start it. Nobody is answered: what is said meanwhile stays at the homeserver for the next
            # start, so nothing that was begun may go on and take it from there.
            self.log.exception("start=failed")
            self._idle = "the instance did not start; maubot's log says why"
            self._membership = None
            await self._undo.aclose()

    async def stop(self) -> None:
        await self._undo.aclose()

    async def on_external_config_update(self) -> None:
        """A save in the web UI: taken over if all of it is right, else refused with the reason and undone."""
        try:
            settings = parse_settings(self._edited())
        except SettingsError as error:
            # maubot keeps the refused text in memory and would store it with the next change: put the last one back.
            self.config.put_back()
            self._log_problems("settings=refused", error.problems)
            # maubot's UI forgets the error on the page with every log line that reaches it: let ours get there first.
            await asyncio.sleep(LOG_REACHES_UI)
            raise HTTPBadRequest(text=summary(error.problems)) from None
        self.config.load_and_update()
        self._in_force = InForce(settings)
        self._log_problems("settings=accepted", cautions(settings))
        if self._arrivals is not None:
            self._arrivals.trust_nobody()
        if self._membership is not None:
            self._membership.settings_changed()

    def _edited(self) -> object:
        try:
            return self.config.read()
        except YAMLError as error:
            raise SettingsError([yaml_problem(error)]) from None

    def _load_settings(self) -> None:
        """What was saved; where it is wrong, what can be read of it still says whom to tell."""
        try:
            raw = self._edited()
        except SettingsError as error:
            self._in_force = InForce(Settings(), error.problems)
            self._log_problems("settings=broken", error.problems)
            return
        settings, problems = read_settings(raw)
        self._in_force = InForce(settings, problems)
        self._log_problems("settings=broken" if problems else "settings=loaded", problems or cautions(settings))
        if problems:
            self.config.keep(raw)
        else:
            self.config.load_and_update()

    def _log_problems(self, what: str, problems: Sequence[SettingsProblem]) -> None:
        self.log.info("%s problems=%d", what, len(problems))
        for problem in problems:
            self.log.warning("%s path=%s problem=%r", what, problem.path or "-", problem.text)

    def _claimed(self) -> bool:
        """Whether this account is ours alone: two instances would both answer every command."""
        self._undo.callback(self._account.release)
        other = self._account.claim()
        if other:
            self._idle = f"the instance {other} uses this bot's account already: {_ONE_INSTANCE}"
            self.log.error("start=refused reason=%r", self._idle)
        return not other

    def _people(self) -> frozenset[str]:
        settings = self._in_force.settings
        return settings.allowed_users | settings.viewers

    def _cautions(self) -> Sequence[SettingsProblem]:
        """What works, but should be changed in maubot."""
        found = [self._sync.caution if self._sync else "", autojoin_caution(self._account.joins_everything)]
        return [SettingsProblem("", text) for text in found if text]

    async def _wire(self) -> None:
        """Make the parts; each says at once how it is ended, the last made first."""
        store = Store(cast(Database, self.database))
        self._undo.push_async_callback(store.drain)
        reach = Reach(self.client, lambda: self._account.replaced, self.log)
        self._undo.push_async_callback(reach.close)
        reach.install()
        self._arrivals = arrivals = Arrivals(self.client, self.log)
        self._undo.push_async_callback(arrivals.drain)
        rooms = Rooms(self.client, self.log)
        outbox = Outbox(self.client, rooms.encrypted, reach, self.log)
        self._undo.push_async_callback(outbox.stop)
        service = ToggleService(
            self._connection.workloads, store, lambda: self._in_force.settings.rollout_timeout, self.log
        )
        answers = Answers(Around(service, store, arrivals.own_device, self._cautions, self.log))
        self._undo.push_async_callback(answers.drain)
        strangers = Strangers(self.log)
        self._membership = Membership(
            self._account,
            lambda: AccessPolicy(self._in_force.settings),
            lambda: not self._in_force.problems,
            store,
            strangers,
            self.log,
        )
        self._undo.push_async_callback(self._membership.close)
        self._own_keys = OwnKeys(self.client, store.first_fingerprint, self.log)
        self._undo.push_async_callback(self._own_keys.drain)
        parts = Parts(
            self.client,
            self.client.mxid,
            lambda: self._in_force,
            answers,
            arrivals,
            rooms,
            outbox,
            strangers,
            self._own_keys.trouble,
        )
        commands = Commands(parts, self.log)
        self._undo.push_async_callback(commands.close)
        await commands.resume(await store.unfinished(), await store.newest_arrival())
        self.register_handler_class(commands)
        gaps = Gaps(self.client, self._people, lambda: self._in_force.settings.maximum_age, reach, self.log)
        self._sync = Sync(self._account, gaps, reach, lambda user: user in self._people(), commands.settled, self.log)
        self._undo.push_async_callback(self._sync.close)
        self._sync.start()
        self.register_handler_class(self._membership)
        self._membership.start()
        # In the background, for it may wait for the network, and so far only the log needs it.
        first_contact = asyncio.create_task(self._connection.try_now())
        own_keys = asyncio.create_task(self._own_keys.trouble())
        self._undo.push_async_callback(cancelled, first_contact, own_keys)

    async def _not_ready(self) -> Sequence[str]:
        if self._idle:
            return [self._idle]
        # Paths of keys, not their values; names of errors, not addresses: what there is to read is in the log.
        reasons = [f"settings: {problem.path or problem.text}" for problem in self._in_force.problems]
        if self._sync is not None and self._sync.trouble:
            reasons.append(f"sync: {self._sync.trouble}")
        if self._account.replaced:
            return reasons
        if self._own_keys is not None and (lost := await self._own_keys.trouble()):
            reasons.append(f"encryption: {lost}")
        trouble = await self._connection.trouble()
        return [*reasons, f"cluster: {trouble}"] if trouble else reasons
