"""What maubot and an instance use up, read where they cannot tell it wrongly: /proc, the disk, the homeserver's log."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from .stack import Stack

SYNC = "/_matrix/client/v3/sync"


def resident(stack: Stack) -> int:
    """maubot's resident memory in kB."""
    status = Path(f"/proc/{stack.maubot.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def open_files(stack: Stack) -> int:
    """How many file descriptors maubot has open, sockets included."""
    return len(list(Path(f"/proc/{stack.maubot.process.pid}/fd").iterdir()))


def database_bytes(stack: Stack) -> int:
    """The size of the instance's SQLite database."""
    return _pages(stack.maubot.directory / "plugins" / f"{stack.instance}.db")


def key_store_bytes(stack: Stack) -> int:
    """The same of maubot's own database, which holds the keys of all clients."""
    return _pages(stack.maubot.directory / "maubot.db")


def _pages(path: Path) -> int:
    """By its pages: the files also hold what was written twice, up to a bound (the write-ahead log)."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        (size,) = database.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").fetchone()
        return int(size)


def homeserver_requests(stack: Stack) -> tuple[int, int]:
    """The bot's requests that Synapse has answered so far: syncs, and all others."""
    bot, syncs, others = "{" + stack.bot_id + "} Processed request", 0, 0
    with stack.synapse.log.open(errors="replace") as log:
        for line in log:
            if bot in line:
                syncs, others = (syncs + 1, others) if SYNC in line else (syncs, others + 1)
    return syncs, others
