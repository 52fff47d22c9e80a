"""The one connection to the cluster.

Made when it is first needed, tried again while it cannot be made, replaced when the settings name another cluster.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from .errors import ClusterError
from .workloads import KubernetesWorkloads

ANSWER_WITHIN = 5.0
"""Seconds that the API server may take to be called ready."""
ASK_EVERY = 30.0
"""Seconds that its answer holds, so that a probe, which anybody may send, is no request to the cluster each time."""


class Connection:
    """Gives `KubernetesWorkloads` for the kubeconfig that holds now.

    Args:
        kubeconfig: the path, or nothing for the pod's service account.
    """

    def __init__(self, kubeconfig: Callable[[], str], log: logging.Logger) -> None:
        self._kubeconfig = kubeconfig
        self._log = log
        self._lock = asyncio.Lock()
        self._workloads: KubernetesWorkloads | None = None
        self._made_for = ""
        # Roll-outs that are being followed go on with the connection that they began with.
        self._retired: list[KubernetesWorkloads] = []
        self._asking = asyncio.Lock()
        self._trouble = ""
        self._asked_about = ""
        self._ask_again = 0.0

    async def workloads(self) -> KubernetesWorkloads:
        """The connection. Raises NotConfigured, each time anew, until what is missing is there."""
        async with self._lock:
            wanted = self._kubeconfig()
            if self._workloads is not None and self._made_for != wanted:
                self._retired.append(self._workloads)
                self._workloads = None
            if self._workloads is None:
                self._workloads = await KubernetesWorkloads.connect(wanted, log=self._log)
                self._made_for, self._ask_again = wanted, 0.0
            return self._workloads

    async def try_now(self) -> None:
        """Connect ahead of the first command, and say in the log how that went."""
        try:
            workloads = await self.workloads()
            self._log.info("cluster=%s version=%s", workloads.server, await workloads.version())
        except ClusterError as error:
            self._log.warning("cluster=unavailable error=%r detail=%r", str(error), error.detail)

    async def trouble(self) -> str:
        """Why nothing could be started or stopped, as of at most ASK_EVERY seconds ago, or nothing."""
        async with self._asking:
            about = self._kubeconfig()
            if time.monotonic() >= self._ask_again or about != self._asked_about:
                self._trouble = await self._ask()
                self._asked_about, self._ask_again = about, time.monotonic() + ASK_EVERY
            return self._trouble

    async def _ask(self) -> str:
        try:
            workloads = await self.workloads()
            await asyncio.wait_for(workloads.version(), ANSWER_WITHIN)
        except asyncio.TimeoutError:
            return f"The cluster did not answer within {ANSWER_WITHIN:.0f} s."
        except ClusterError as error:
            return str(error)
        return ""

    async def close(self) -> None:
        """Close every connection; nobody may be using one."""
        async with self._lock:
            every = [*self._retired, *([self._workloads] if self._workloads else [])]
            self._workloads, self._retired = None, []
        for workloads in every:
            await workloads.close()
