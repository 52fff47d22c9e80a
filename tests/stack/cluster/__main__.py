"""Run a simulated cluster by itself: ``python -m tests.stack.cluster --directory DIR``; ends with its parent."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
from pathlib import Path

from . import SLOW, SimulatedCluster


async def serve(directory: Path, port: int) -> None:
    """Serve until SIGTERM, SIGINT or the end of the parent process."""
    parent = os.getppid()
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with SimulatedCluster(directory, port=port, behaviour=SLOW) as cluster:
        cluster.add_deployment("demo", "web")
        cluster.add_statefulset("demo", "db")
        print(f"kubeconfig: {cluster.kubeconfig}", flush=True)
        while not ended.is_set() and os.getppid() == parent:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(ended.wait(), 0.5)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.stack.cluster", description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="where the kubeconfig and the CA are written")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.directory, arguments.port))


main()
