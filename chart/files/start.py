"""Starts maubot in its container: completes its configuration, waits for PostgreSQL, then becomes maubot.

    python3 start.py [CONFIGURATION [TARGET]]

CONFIGURATION is the JSON that the chart renders, without secrets (default: maubot.json beside this file); TARGET is the
file that maubot reads, which only its user can (default: /tmp/maubot.yaml). The secrets come from the environment, and
do not stay there: MAUBOT_ADMIN_PASSWORD, MAUBOT_UNSHARED_SECRET, and MAUBOT_DATABASE if it is another than the JSON's.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

MAUBOT = Path("/opt/maubot")
"""Where the official image has maubot, in no site-packages; another image may have it installed."""
SECRETS = ("MAUBOT_ADMIN_PASSWORD", "MAUBOT_UNSHARED_SECRET")
DATABASE = "MAUBOT_DATABASE"
WAIT_SECONDS = 900
"""For PostgreSQL; then the container ends, and the kubelet starts it again."""
RETRY_SECONDS = 2
CONNECT_SECONDS = 10
NO_URL = (
    f"start: {DATABASE} is not a URL like postgresql://USER:PASSWORD@HOST:5432/NAME, "
    "where other than letters and digits in a password are written as %XX."
)

Configuration = dict[str, Any]


def say(text: str) -> None:
    sys.stdout.write(f"start: {text}\n")
    sys.stdout.flush()


def is_postgres(database: str) -> bool:
    return database.startswith(("postgres://", "postgresql://"))


def complete(configuration: Configuration, environment: Mapping[str, str]) -> Configuration:
    """With the secrets, and the database of the environment for everything.

    Raises:
        SystemExit: a secret is missing.
    """
    missing = [name for name in SECRETS if not environment.get(name)]
    if missing:
        raise SystemExit(f"start: {' and '.join(missing)} must be set in the container's environment.")
    password, unshared = (environment[name] for name in SECRETS)
    done = {
        **configuration,
        "admins": {**configuration.get("admins", {}), "root": "", "admin": password},
        "server": {**configuration["server"], "unshared_secret": unshared},
        "database": environment.get(DATABASE) or configuration["database"],
    }
    if is_postgres(done["database"]):
        done["plugin_databases"] = {**configuration["plugin_databases"], "postgres": "default"}
    return done


def folders(configuration: Configuration) -> set[Path]:
    """All that maubot expects to be there."""
    plugins, database = configuration["plugin_directories"], configuration["database"]
    named = [plugins["upload"], *plugins["load"], configuration["plugin_databases"]["sqlite"]]
    if plugins["trash"] != "delete":
        named.append(plugins["trash"])
    found = {Path(name) for name in named}
    if not is_postgres(database):
        found.add(Path(urlsplit(database).path).parent)
    return found


def write(target: Path, configuration: Configuration) -> None:
    """JSON is YAML; nobody but maubot's user may read it, at no moment."""
    target.unlink(missing_ok=True)
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(configuration, file, ensure_ascii=False)


def address(database: str) -> str:
    """Host and port, to be shown.

    Raises:
        SystemExit: it is no URL, or one whose password would be taken for something else, and be shown.
    """
    try:
        parts = urlsplit(database)
    except ValueError:
        raise SystemExit(NO_URL) from None
    if "@" in parts.path + parts.query + parts.fragment:
        raise SystemExit(NO_URL)
    return parts.netloc.rpartition("@")[2] or "its socket"


async def problem(database: str) -> str | None:
    """Why PostgreSQL is not there yet; None if it is. A refusal is an answer, which maubot explains better.

    Raises:
        SystemExit: the URL is none.
    """
    import asyncpg  # noqa: PLC0415 # maubot's image has it; with SQLite nobody needs it

    try:
        connection = await asyncpg.connect(database, timeout=CONNECT_SECONDS)
    except asyncpg.PostgresError as error:  # "57": it is starting or stopping; "53": it has no connection to spare
        return str(error) if str(error.sqlstate).startswith(("57", "53")) else None
    except (OSError, asyncio.TimeoutError) as error:
        return str(error) or "no answer"
    except (ValueError, asyncpg.InterfaceError):
        raise SystemExit(NO_URL) from None
    await connection.close()
    return None


def wait_for(database: str) -> None:
    """Return once PostgreSQL answers; the network of a new pod, and a database that starts beside it, take their time.

    Raises:
        SystemExit: it has not answered for a long time.
    """
    begun, told, where = time.monotonic(), None, address(database)
    while (why := asyncio.run(problem(database))) is not None:
        if why != told:
            say(f"waiting for PostgreSQL at {where}: {why}")
        if time.monotonic() - begun > WAIT_SECONDS:
            raise SystemExit(f"start: PostgreSQL at {where} did not answer for {WAIT_SECONDS} s: {why}")
        told = why
        time.sleep(RETRY_SECONDS)
    say(f"PostgreSQL at {where} answers after {time.monotonic() - begun:.0f} s")


def become_maubot(target: Path) -> None:
    command = [sys.executable, "-m", "maubot", "-c", str(target), "--no-update"]
    tini = shutil.which("tini")
    if os.getpid() == 1 and tini:  # a first process is deaf to SIGTERM until it asks for it, and maubot is slow to
        command = [tini, "--", *command]
    if MAUBOT.is_dir():
        os.chdir(MAUBOT)
    kept = {name: value for name, value in os.environ.items() if name not in (*SECRETS, DATABASE)}
    os.execve(command[0], command, kept)  # noqa: S606


def main() -> None:
    # The first process of a container hears only the signals that it asked for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    arguments = [Path(argument).absolute() for argument in sys.argv[1:]]
    source = arguments[0] if arguments else Path(__file__).with_name("maubot.json")
    target = arguments[1] if len(arguments) > 1 else Path("/tmp/maubot.yaml")  # noqa: S108 # an emptyDir of the pod's own
    try:
        configuration = complete(json.loads(source.read_text(encoding="utf-8")), os.environ)
        for folder in folders(configuration):
            folder.mkdir(parents=True, exist_ok=True)
        write(target, configuration)
    except OSError as error:
        raise SystemExit(f"start: {error.filename} cannot be used: {error.strerror or error}.") from None
    if is_postgres(configuration["database"]):
        wait_for(configuration["database"])
    become_maubot(target)


if __name__ == "__main__":
    main()
