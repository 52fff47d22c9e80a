"""The tables, as numbered upgrades: append, never change one that was released. SQLite and PostgreSQL alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

from mautrix.util.async_db import Connection, UpgradeTable

upgrade_table = UpgradeTable()


_Upgrade = Callable[[Connection], Awaitable[None]]
_register = cast("Callable[..., Callable[[_Upgrade], _Upgrade]]", upgrade_table.register)


@_register(description="Commands received and done, and replica counts to restore")
async def upgrade_v1(conn: Connection) -> None:
    await conn.execute(
        """CREATE TABLE command (
            event_id        TEXT PRIMARY KEY,
            room_id         TEXT NOT NULL,
            user_id         TEXT NOT NULL,
            device_id       TEXT NOT NULL,
            fingerprint     TEXT NOT NULL,
            verb            TEXT NOT NULL,
            target          TEXT NOT NULL,
            workload        TEXT NOT NULL,
            received_at     BIGINT NOT NULL,
            outcome         TEXT NOT NULL,
            replicas_before INTEGER,
            replicas_after  INTEGER,
            duration_ms     BIGINT
        )"""
    )
    await conn.execute("CREATE INDEX command_received_at ON command (received_at)")
    await conn.execute(
        """CREATE TABLE replica_count (
            kind      TEXT NOT NULL,
            namespace TEXT NOT NULL,
            name      TEXT NOT NULL,
            replicas  INTEGER NOT NULL,
            PRIMARY KEY (kind, namespace, name)
        )"""
    )


@_register(description="What it takes to finish a command after a crash; the rooms that we joined; our own devices")
async def upgrade_v2(conn: Connection) -> None:
    # Rows from before that have not ended lack what it takes to finish them.
    await conn.execute("UPDATE command SET outcome='interrupted' WHERE outcome=''")
    for column in (
        "arrival BIGINT NOT NULL DEFAULT 0",
        "sent_at BIGINT NOT NULL DEFAULT 0",
        "thread TEXT NOT NULL DEFAULT ''",
        "prefix TEXT NOT NULL DEFAULT ''",
        "reply TEXT NOT NULL DEFAULT ''",
    ):
        await conn.execute(f"ALTER TABLE command ADD COLUMN {column}")
    await conn.execute("CREATE INDEX command_open ON command (arrival) WHERE outcome = ''")
    await conn.execute("CREATE TABLE joined_room (room_id TEXT PRIMARY KEY)")
    await conn.execute("CREATE TABLE own_device (device_id TEXT PRIMARY KEY, fingerprint TEXT NOT NULL)")


@_register(
    description="How far a command's device was known, to judge it by after a restart; whether the cluster took it"
)
async def upgrade_v3(conn: Connection) -> None:
    for column in (
        "trust TEXT NOT NULL DEFAULT ''",
        "identity TEXT NOT NULL DEFAULT ''",
        "written BOOLEAN NOT NULL DEFAULT false",
    ):
        await conn.execute(f"ALTER TABLE command ADD COLUMN {column}")


@_register(description="What a group's command does to each of its targets")
async def upgrade_v4(conn: Connection) -> None:
    await conn.execute(
        """CREATE TABLE step (
            event_id        TEXT NOT NULL,
            target          TEXT NOT NULL,
            workload        TEXT NOT NULL,
            replicas_before INTEGER NOT NULL,
            replicas_after  INTEGER NOT NULL,
            written         BOOLEAN NOT NULL,
            outcome         TEXT NOT NULL,
            PRIMARY KEY (event_id, target)
        )"""
    )
