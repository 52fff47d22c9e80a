"""The one connection to the cluster.

Made when it is first needed, tried again while it cannot be made, replaced when the settings name another cluster.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from .errors import ClusterError, NotConfigured, TimedOut
from .tasks import cancelled
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
        self._workloads: KubernetesWorkloads | None = None
        self._made_for = ""
        self._attempt: asyncio.Task[KubernetesWorkloads] | None = None
        # Roll-outs that are being followed go on with the connection that they began with.
        self._retired: list[KubernetesWorkloads] = []
        self._closed = False
        self._asking = asyncio.Lock()
        self._trouble = ""
        self._asked_about = ""
        self._ask_again = 0.0

    async def workloads(self) -> KubernetesWorkloads:
        """The connection. Raises NotConfigured, each time anew, until what is missing is there."""
        if self._closed:
            raise NotConfigured("I am being restarted; ask again in a moment.")
        if self._workloads is not None and self._made_for == self._kubeconfig():
            return self._workloads
        if self._attempt is None or self._attempt.done():
            self._attempt = asyncio.create_task(self._connect(self._kubeconfig()))
        # One attempt for all who wait: a credential plugin that hangs would make each wait for all before them.
        return await asyncio.shield(self._attempt)

    async def try_now(self) -> None:
        """Connect ahead of the first command, and say in the log how that went."""
        try:
            workloads = await self.workloads()
            self._log.info("cluster=%s version=%s", workloads.server, await workloads.version())
        except ClusterError as error:
            self._log.warning("cluster=unavailable error=%r detail=%r", str(error), error.detail)
        except Exception:  # noqa: BLE001 - a boundary: in the background nobody else would say it
            self._log.exception("cluster=unavailable")

    async def trouble(self) -> str:
        """Why nothing could be started or stopped, as of at most ASK_EVERY seconds ago, in one word, or nothing."""
        async with self._asking:
            about = self._kubeconfig()
            if time.monotonic() >= self._ask_again or about != self._asked_about:
                self._trouble = await self._ask()
                self._asked_about, self._ask_again = about, time.monotonic() + ASK_EVERY
            return self._trouble

    async def close(self) -> None:
        """Close every connection, and make no other; nobody may be using one."""
        self._closed = True
        if self._attempt is not None:
            await cancelled(self._attempt)
        every = [*self._retired, *([self._workloads] if self._workloads else [])]
        self._workloads, self._retired = None, []
        for workloads in every:
            await workloads.close()

    async def _connect(self, kubeconfig: str) -> KubernetesWorkloads:
        workloads = await KubernetesWorkloads.connect(kubeconfig, log=self._log)
        if self._workloads is not None:
            self._retired.append(self._workloads)
        self._workloads, self._made_for, self._ask_again = workloads, kubeconfig, 0.0
        return workloads

    async def _ask(self) -> str:
        try:
            await asyncio.wait_for(self._version(), ANSWER_WITHIN)
        except asyncio.TimeoutError:
            return TimedOut.__name__
        except ClusterError as error:
            return type(error).__name__
        except Exception:  # noqa: BLE001 - a boundary: in the background nobody else would say it
            if self._closed:
                return NotConfigured.__name__  # a question that met the end of the connection
            self._log.exception("cluster=unavailable")
            return "broken, see the log"
        return ""

    async def _version(self) -> str:
        return await (await self.workloads()).version()
