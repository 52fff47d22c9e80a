"""Runs one command to its end, for what it prints."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.stack.processes import LAUNCHER


class CommandFailed(Exception):
    """A command ended with an error; it, and what it said."""


async def run(command: Sequence[str], content: str = "") -> str:
    """What `command` prints, with `content` as its standard input. It ends with us.

    Raises:
        CommandFailed: it fails.
    """
    pipe = asyncio.subprocess.PIPE
    launcher = (sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()))
    process = await asyncio.create_subprocess_exec(*launcher, *command, stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        output, errors = await process.communicate(content.encode())
    finally:
        if process.returncode is None:  # we are cancelled
            process.kill()
            await process.wait()
    if process.returncode:
        words = " ".join((Path(command[0]).name, *command[1:]))
        raise CommandFailed(f"{words}: {errors.decode(errors='replace').strip()}")
    return output.decode()
