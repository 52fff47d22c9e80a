"""Child processes on loopback: started, awaited, ended with their parent, and quoted when they fail."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import aiohttp

LAUNCHER = Path(__file__).with_name("launch.py")
LOOPBACK = "127.0.0.1"
PORTS = range(20000, 32768)
POLL_SECONDS = 0.05
STOP_SECONDS = 15.0
QUOTED_LINES = 25
QUOTED_CHARACTERS = 300


class ProcessFailed(Exception):
    """A child process did not start, did not get ready in time or ended by itself; quotes the end of its log."""


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody uses now, of those that the kernel does not give to connections meanwhile."""
    while True:
        port = secrets.choice(PORTS)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((LOOPBACK, port))
            return port


def last_lines(path: Path, count: int = QUOTED_LINES) -> str:
    """The last `count` lines of a text file, long ones cut, or a note that there are none."""
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return "\n".join(line[:QUOTED_CHARACTERS] for line in lines[-count:]) or "(its log is empty)"


class ChildProcess:
    """One running child in a process group of its own; its output goes to `log`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str],
        *,
        directory: Path,
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> ChildProcess:
        """Start `command` in `directory`; `environment` is added to ours, the output is appended to `log`."""
        launcher = (sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()))
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *launcher,
                *command,
                cwd=directory,
                env={**os.environ, **(environment or {})},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C in our terminal is ours: we stop the children in order
            )
        return cls(name, process, log)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    async def wait_until_ready(self, url: str, seconds: float = 120) -> None:
        """Wait until `url` answers 2xx or 3xx.

        Raises:
            ProcessFailed: the process ended, or `seconds` passed first.
        """
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            answered = asyncio.create_task(_answered(session, url))
            ended = asyncio.create_task(self._process.wait())
            try:
                await asyncio.wait({answered, ended}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                if not answered.done():
                    raise self._failure(
                        f"ended with status {ended.result()}" if ended.done() else f"not ready in {seconds:g} s"
                    )
            finally:
                await _cancel(answered, ended)

    async def wait(self) -> int:
        """Wait for its end; the exit status, negative for a signal."""
        return await self._process.wait()

    async def wait_failure(self) -> None:
        """Wait for its end, and raise ProcessFailed then."""
        raise self._failure(f"ended with status {await self.wait()}")

    async def stop(self, grace: float = STOP_SECONDS) -> None:
        """SIGTERM, and SIGKILL for the whole group if it has not ended within `grace` seconds."""
        self._signal(signal.SIGTERM)
        self.resume()
        try:
            await asyncio.wait_for(self._process.wait(), grace)
        except asyncio.TimeoutError:
            pass
        finally:  # also when we are cancelled while we wait
            await self.kill()

    def terminate(self) -> None:
        """SIGTERM; `wait` tells when it has ended by itself."""
        self._signal(signal.SIGTERM)

    async def kill(self) -> None:
        """SIGKILL for the whole group, now."""
        self._signal(signal.SIGKILL)
        await self._process.wait()

    def pause(self) -> None:
        """SIGSTOP: it goes on listening and never answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self.running:  # else its number may be somebody else's by now
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def _failure(self, what: str) -> ProcessFailed:
        return ProcessFailed(f"the end of {self.log}:\n{last_lines(self.log)}\n{self.name} {what}")


async def _answered(session: aiohttp.ClientSession, url: str) -> None:
    while True:
        with contextlib.suppress(aiohttp.ClientError, asyncio.TimeoutError):
            async with session.get(url, allow_redirects=False) as response:
                if response.status < 400:
                    return
        await asyncio.sleep(POLL_SECONDS)


async def _cancel(*tasks: asyncio.Task[None] | asyncio.Task[int]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
