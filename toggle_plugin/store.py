"""What must outlive a restart: commands received and done (which is also the audit log), and replica counts to restore.

Plain SQL on the plugin's own database. No cancellation reaches the inside of a statement: a task cancelled there leaves
SQLite's transaction open, and everything written later is lost with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, fields

from mautrix.util.async_db import Database

from .models import BETWEEN, CHANGING, OVERTAKEN_BY, AuditEntry, Verb, WorkloadRef
from .steps import Step
from .tasks import Shield

KEEP_ROWS = 10_000
"""Starts and stops, and apart from them all that changed nothing, that are kept at most; older ones are forgotten."""
PRUNE_EVERY = 100

_COLUMNS = {
    "event": "event_id",
    "room": "room_id",
    "user": "user_id",
    "device": "device_id",
}
"""AuditEntry's fields whose columns have another name."""
_NAMES = [_COLUMNS.get(item.name, item.name) for item in fields(AuditEntry)]
_CHANGES = f"verb IN ({', '.join(f'{verb.value!r}' for verb in CHANGING)})"
_CHANGING = f"({_CHANGES} AND outcome <> 'refused')"
_RECEIVE = (
    f"INSERT INTO command ({', '.join(_NAMES)}) VALUES ({', '.join(f'${n}' for n in range(1, len(_NAMES) + 1))}) "  # noqa: S608
    "ON CONFLICT (event_id) DO NOTHING RETURNING event_id"
)
_STEP = [_COLUMNS.get(item.name, item.name) for item in fields(Step)]
_BEGIN_STEP = (
    f"INSERT INTO step ({', '.join(_STEP)}) VALUES ({', '.join(f'${n}' for n in range(1, len(_STEP) + 1))}) "  # noqa: S608
    "ON CONFLICT (event_id, target) DO UPDATE SET replicas_before=excluded.replicas_before, "
    "replicas_after=excluded.replicas_after, outcome=excluded.outcome"
)


class Store:
    """The plugin's rows. Every method may raise what the database raises."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._whole = Shield()
        self._finished = 0

    async def receive(self, entry: AuditEntry) -> bool:
        """Write down a command before anything is done; False if its event was written down already."""
        new = await self._whole(self._database.fetchval(_RECEIVE, *astuple(entry)))
        return new is not None

    async def finish(self, entry: AuditEntry) -> None:
        """Write down how a command ended; how many replicas there were before it stays, if that is known."""
        query = (
            "UPDATE command SET target=$2, workload=$3, outcome=$4, "
            "replicas_before=COALESCE($5, replicas_before), replicas_after=$6, duration_ms=$7 WHERE event_id=$1"
        )
        values = (
            entry.target,
            entry.workload,
            entry.outcome,
            entry.replicas_before,
            entry.replicas_after,
            entry.duration_ms,
        )
        await self._whole(self._database.execute(query, entry.event, *values))
        self._finished += 1
        if self._finished % PRUNE_EVERY == 1:
            await self.prune()

    async def intend(self, event: str, before: int, after: int) -> None:
        """Write down what a command is about to write to the cluster, or found to be so."""
        query = "UPDATE command SET replicas_before=$2, replicas_after=$3 WHERE event_id=$1"
        await self._whole(self._database.execute(query, event, before, after))

    async def wrote(self, event: str) -> None:
        """Write down that the cluster took what a command intended."""
        await self._whole(self._database.execute("UPDATE command SET written=$2 WHERE event_id=$1", event, True))

    async def replied(self, event: str, reply: str) -> None:
        """Write down which event answers a command."""
        await self._whole(self._database.execute("UPDATE command SET reply=$2 WHERE event_id=$1", event, reply))

    async def unfinished(self) -> list[AuditEntry]:
        """The commands that were received and have not ended, in the order of their arrival."""
        query = f"SELECT {', '.join(_NAMES)} FROM command WHERE outcome='' ORDER BY arrival"  # noqa: S608
        rows = await self._whole(self._database.fetch(query))
        return [AuditEntry(*tuple(row)) for row in rows]

    async def overtaken_by(self, entry: AuditEntry) -> str:
        """Who gave a newer command for one of its workloads, if one did that makes this one needless.

        Begun is enough, but not refused.
        """
        verbs = ", ".join(sorted(repr(verb.value) for verb in OVERTAKEN_BY[Verb(entry.verb)]))
        query = (
            f"SELECT user_id, workload FROM command WHERE arrival > $1 AND verb IN ({verbs}) "  # noqa: S608 - constants
            "AND outcome <> 'refused' AND (outcome <> '' OR replicas_before IS NOT NULL "
            "OR EXISTS (SELECT 1 FROM step WHERE step.event_id = command.event_id)) ORDER BY arrival DESC"
        )
        rows = await self._whole(self._database.fetch(query, entry.arrival))
        mine = set(entry.workload.split(BETWEEN))
        return next((str(row["user_id"]) for row in rows if mine & set(row["workload"].split(BETWEEN))), "")

    # The steps of a group's command

    async def begin_step(self, step: Step) -> None:
        """Write down what a step is about to write to the cluster, or found to be so; again after a restart."""
        await self._whole(self._database.execute(_BEGIN_STEP, *astuple(step)))

    async def wrote_step(self, event: str, target: str) -> None:
        """Write down that the cluster took what a step intended."""
        query = "UPDATE step SET written=$3 WHERE event_id=$1 AND target=$2"
        await self._whole(self._database.execute(query, event, target, True))

    async def end_step(self, event: str, target: str, outcome: str) -> None:
        """Write down how a step ended; nothing where it did not come to the cluster."""
        query = "UPDATE step SET outcome=$3 WHERE event_id=$1 AND target=$2"
        await self._whole(self._database.execute(query, event, target, outcome))

    async def steps(self, event: str) -> list[Step]:
        """What a command has begun of its group."""
        query = f"SELECT {', '.join(_STEP)} FROM step WHERE event_id=$1"  # noqa: S608
        rows = await self._whole(self._database.fetch(query, event))
        return [Step(*tuple(row)) for row in rows]

    async def newest_arrival(self) -> int:
        """The place of the newest command in the order of arrival; 0 without one."""
        return int(await self._whole(self._database.fetchval("SELECT MAX(arrival) FROM command")) or 0)

    async def entries(self, limit: int) -> list[AuditEntry]:
        """The newest `limit` commands, newest first."""
        query = f"SELECT {', '.join(_NAMES)} FROM command ORDER BY received_at DESC LIMIT $1"  # noqa: S608
        rows = await self._whole(self._database.fetch(query, limit))
        return [AuditEntry(*tuple(row)) for row in rows]

    async def history(self, names: Sequence[str], limit: int) -> list[AuditEntry]:
        """The newest `limit` commands that changed one of these targets and groups, or meant to, newest first."""
        places = ", ".join(f"${number}" for number in range(2, len(names) + 2))
        query = (
            f"SELECT {', '.join(_NAMES)} FROM command WHERE {_CHANGES} AND (target IN ({places}) OR "  # noqa: S608
            f"EXISTS (SELECT 1 FROM step WHERE step.event_id = command.event_id AND step.target IN ({places}))) "
            "ORDER BY arrival DESC LIMIT $1"
        )
        rows = await self._whole(self._database.fetch(query, limit, *names))
        return [AuditEntry(*tuple(row)) for row in rows]

    async def prune(self) -> None:
        """Forget all but the newest KEEP_ROWS of each sort, so that no viewer's questions push out who stopped what.

        By the order of arrival, for clocks are put back; and nothing that has not ended.
        """
        for sort in (_CHANGING, f"NOT {_CHANGING}"):
            query = (
                f"DELETE FROM command WHERE {sort} AND outcome <> '' AND arrival < "  # noqa: S608 - constants
                f"(SELECT arrival FROM command WHERE {sort} ORDER BY arrival DESC LIMIT 1 OFFSET $1)"
            )
            await self._whole(self._database.execute(query, KEEP_ROWS - 1))
        query = "DELETE FROM step WHERE NOT EXISTS (SELECT 1 FROM command WHERE command.event_id = step.event_id)"
        await self._whole(self._database.execute(query))

    async def remember(self, ref: WorkloadRef, replicas: int) -> None:
        """Keep the count that `ref` has; never 0, which would restore nothing."""
        if replicas < 1:
            raise ValueError(f"{replicas} replicas are nothing to restore")
        query = (
            "INSERT INTO replica_count (kind, namespace, name, replicas) VALUES ($1, $2, $3, $4) "
            "ON CONFLICT (kind, namespace, name) DO UPDATE SET replicas=excluded.replicas"
        )
        await self._whole(self._database.execute(query, ref.full_kind, ref.namespace, ref.name, replicas))

    async def recall(self, ref: WorkloadRef) -> int | None:
        """The count that `ref` had when it was last seen to have any, if it is known."""
        query = "SELECT replicas FROM replica_count WHERE kind=$1 AND namespace=$2 AND name=$3"
        count = await self._whole(self._database.fetchval(query, ref.full_kind, ref.namespace, ref.name))
        return None if count is None else int(count)

    async def first_fingerprint(self, device: str, fingerprint: str) -> str:
        """The fingerprint that our device `device` had first; from now on that is `fingerprint`, if it is new."""
        query = "INSERT INTO own_device (device_id, fingerprint) VALUES ($1, $2) ON CONFLICT (device_id) DO NOTHING"
        await self._whole(self._database.execute(query, device, fingerprint))
        query = "SELECT fingerprint FROM own_device WHERE device_id=$1"
        return str(await self._whole(self._database.fetchval(query, device)))

    async def joined(self, room: str) -> None:
        """Remember that it was we who joined `room`."""
        await self._whole(
            self._database.execute("INSERT INTO joined_room (room_id) VALUES ($1) ON CONFLICT DO NOTHING", room)
        )

    async def left(self, room: str) -> None:
        """Forget `room`."""
        await self._whole(self._database.execute("DELETE FROM joined_room WHERE room_id=$1", room))

    async def joined_rooms(self) -> list[str]:
        """The rooms that we joined and did not leave."""
        rows = await self._whole(self._database.fetch("SELECT room_id FROM joined_room ORDER BY room_id"))
        return [str(row["room_id"]) for row in rows]

    async def drain(self) -> None:
        """Wait for what was under way when its caller was cancelled; call it before the database closes."""
        await self._whole.drain()
