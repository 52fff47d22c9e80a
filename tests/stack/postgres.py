"""Debian's PostgreSQL as a child process: its files in one directory, gone with its parent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
from pathlib import Path

import asyncpg

from .processes import LOOPBACK, POLL_SECONDS, STOP_SECONDS, ChildProcess, ProcessFailed, free_port, last_lines

READY_SECONDS = 60.0
USER = "maubot"


def programs() -> Path:
    """Where initdb and postgres are.

    Raises:
        FileNotFoundError: PostgreSQL is not installed.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    if on_path and not found:
        found = [Path(on_path)]
    if not found:
        raise FileNotFoundError("PostgreSQL is missing: ./build.sh test installs it (Debian: apt install postgresql)")
    return found[-1].parent


def unprivileged() -> tuple[str, ...]:
    """The words before a command that make it run as somebody else than root, whom PostgreSQL refuses."""
    if os.geteuid() != 0:
        return ()
    name = next(name for name in ("postgres", "nobody") if _exists(name))
    group = pwd.getpwnam(name).pw_gid
    # The kernel forgets whose death ends a process when it changes its user, so that is said again.
    return ("setpriv", f"--reuid={name}", f"--regid={group}", "--clear-groups", "--pdeathsig=KILL")


def _exists(name: str) -> bool:
    with contextlib.suppress(KeyError):
        return bool(pwd.getpwnam(name))
    return False


def open_the_way(directory: Path) -> None:
    """Let somebody else than root get to a directory."""
    for parent in directory.parents:
        if not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)


class Postgres:
    """A PostgreSQL server; who gets to its address may use it, with the password if it has one."""

    def __init__(self, directory: Path, address: str, port: int, password: str) -> None:
        self._directory = directory
        self._address = address
        self._port = port
        self._password = password
        self._process: ChildProcess | None = None

    @classmethod
    async def open(cls, directory: Path, *, address: str = LOOPBACK, password: str = "") -> Postgres:
        """Make one in `directory` and start it.

        Args:
            address: where it listens: one that is only this machine's, or a network namespace's.
            password: of its user, of letters, digits, - and _; without one, nobody is asked for any.

        Raises:
            ProcessFailed: it did not start; quotes its log.
        """
        server = cls(directory, address, free_port(), password)
        await server._prepare(server._data())
        await server._run()
        return server

    @property
    def process(self) -> ChildProcess:
        if self._process is None:
            raise RuntimeError("PostgreSQL was not started")
        return self._process

    def url(self, database: str) -> str:
        user = f"{USER}:{self._password}" if self._password else USER
        return f"postgresql://{user}@{self._address}:{self._port}/{database}"

    async def create(self, database: str) -> str:
        """Make an empty database and give back its URL."""
        connection = await asyncpg.connect(self.url("postgres"))
        try:
            await connection.execute(f'CREATE DATABASE "{database}"')
        finally:
            await connection.close()
        return self.url(database)

    async def start_again(self) -> None:
        """Start it on the same data and port after `stop`."""
        await self._run()

    async def stop(self, grace: float = STOP_SECONDS) -> None:
        if self._process is not None:
            await self._process.stop(grace)

    def _data(self) -> Path:
        """The directory of its files, made for whoever it runs as."""
        data = self._directory / "data"
        data.mkdir(mode=0o700, parents=True)
        if os.geteuid() == 0:
            account = pwd.getpwnam(unprivileged()[1].removeprefix("--reuid="))
            os.chown(data, account.pw_uid, account.pw_gid)
            open_the_way(data)
        return data

    async def _prepare(self, data: Path) -> None:
        log = self._directory / "initdb.log"
        secret = data.parent / "password"
        command = (
            *(*unprivileged(), str(programs() / "initdb"), "-D", str(data), "-U", USER),
            *("--no-sync", "--encoding=UTF8", "--locale=C", *self._authentication(secret)),
        )
        process = await ChildProcess.start("initdb", command, directory=Path("/"), log=log)
        if await process.wait():
            raise ProcessFailed(f"the end of {log}:\n{last_lines(log)}")
        if self._password:
            secret.unlink()
            (data / "pg_hba.conf").write_text("host all all all scram-sha-256\n")  # initdb's own has only loopback

    def _authentication(self, secret: Path) -> tuple[str, ...]:
        """initdb's words for who is let in, which takes a password from a file."""
        if not self._password:
            return ("--auth=trust",)
        secret.write_text(self._password)
        secret.chmod(0o644)  # for whoever initdb runs as; the directory above is not everybody's to list
        return ("--auth=scram-sha-256", f"--pwfile={secret}")

    async def _run(self) -> None:
        if os.geteuid() == 0:
            open_the_way(self._directory / "data")  # again: every other run of pytest shuts its directory
        options = {
            "listen_addresses": self._address,
            "port": str(self._port),
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": "200",
        }
        settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        command = (*unprivileged(), str(programs() / "postgres"), "-D", str(self._directory / "data"), *settings)
        log = self._directory / "postgres.log"
        self._process = await ChildProcess.start("postgres", command, directory=Path("/"), log=log)
        deadline = asyncio.get_running_loop().time() + READY_SECONDS
        while not await self._answers():
            if not self._process.running or asyncio.get_running_loop().time() > deadline:
                raise ProcessFailed(f"the end of {log}:\n{last_lines(log)}")
            await asyncio.sleep(POLL_SECONDS)

    async def _answers(self) -> bool:
        try:
            connection = await asyncpg.connect(self.url("postgres"), timeout=2)
        except (OSError, asyncpg.PostgresError, asyncio.TimeoutError):
            return False
        await connection.close()
        return True
