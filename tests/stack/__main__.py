"""Runs the servers alone until it is ended: ``python -m tests.stack DIRECTORY PLUGIN`` prints their process IDs."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from .stack import Servers


async def main(directory: Path, plugin: Path) -> None:
    async with Servers.open(directory, plugin=plugin) as servers:
        print(servers.synapse.process.pid, servers.maubot.process.pid, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
