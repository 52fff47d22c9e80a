"""The one connection to the cluster.

Made when it is first needed, tried again while it cannot be made, replaced when the settings name another cluster.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from .errors import ClusterError, NotConfigured
from .workloads import KubernetesWorkloads


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
        self.problem = ""
        """Why there is no connection, as of the last try; nothing before the first."""

    async def workloads(self) -> KubernetesWorkloads:
        """The connection. Raises NotConfigured, each time anew, until what is missing is there."""
        async with self._lock:
            wanted = self._kubeconfig()
            if self._workloads is not None and self._made_for != wanted:
                self._retired.append(self._workloads)
                self._workloads = None
            if self._workloads is None:
                self._workloads, self._made_for = await self._connect(wanted), wanted
            return self._workloads

    async def try_now(self) -> None:
        """Connect ahead of the first command, and say in the log how that went."""
        try:
            workloads = await self.workloads()
            self._log.info("cluster=%s version=%s", workloads.server, await workloads.version())
        except ClusterError as error:
            self._log.warning("cluster=unavailable error=%r detail=%r", str(error), error.detail)

    async def close(self) -> None:
        """Close every connection; nobody may be using one."""
        async with self._lock:
            every = [*self._retired, *([self._workloads] if self._workloads else [])]
            self._workloads, self._retired = None, []
        for workloads in every:
            await workloads.close()

    async def _connect(self, kubeconfig: str) -> KubernetesWorkloads:
        try:
            workloads = await KubernetesWorkloads.connect(kubeconfig, log=self._log)
        except NotConfigured as error:
            self.problem = str(error)
            raise
        self.problem = ""
        return workloads
