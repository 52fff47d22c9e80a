"""What is listed: whole, page by page; and what explains several workloads of a namespace, each list asked for once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from .api_objects import events_about, parse_event, parse_pod
from .api_requests import POD_LIMIT, Request, list_all_pods, list_events
from .api_transport import Transport
from .errors import ClusterError
from .models import ClusterEvent, Pod, Workload, WorkloadRef
from .selectors import matcher

T = TypeVar("T")
Json = Mapping[str, Any]

PAGES = 40
"""Pages of a list at most: what is longer is asked for in other ways."""
EVENT_PAGES, EVENT_LIMIT = 4, 50


async def listed(
    transport: Transport, request: Callable[[str], Request], parse: Callable[[Json], T], pages: int
) -> tuple[list[T], bool]:
    """The objects of up to `pages` pages of a list, and whether those are all. Raises ClusterError.

    Args:
        request: makes the request for a page from the token that continues the one before it, empty for the first.
    """
    found: list[T] = []
    token = ""
    for _ in range(pages):
        page, token = await transport.parsed(request(token), lambda body: _page(body, parse))
        found += page
        if not token:
            return found, True
    return found, False


def _page(body: Json, parse: Callable[[Json], T]) -> tuple[list[T], str]:
    return [parse(item) for item in body["items"]], (body.get("metadata") or {}).get("continue", "")


async def list_of_events(transport: Transport, ref: WorkloadRef) -> list[ClusterEvent]:
    """The events of the workload's namespace, of its first pages."""
    events, _ = await listed(transport, lambda token: list_events(ref, token), parse_event, EVENT_PAGES)
    return events


class Together:
    """The pods and events of one namespace, for several of its workloads one after the other.

    Args:
        ref: any of these workloads.
        pods_of: gives the pods of one workload, where the namespace has too many to list.
    """

    def __init__(
        self, transport: Transport, ref: WorkloadRef, pods_of: Callable[[Workload], Awaitable[Sequence[Pod]]]
    ) -> None:
        self._transport = transport
        self._ref = ref
        self._pods_of = pods_of
        self._pods = _Once(self._list_pods)
        self._events = _Once(lambda: list_of_events(transport, ref))

    async def pods(self, workload: Workload) -> Sequence[Pod]:
        """The pods that the workload's selector selects, at most `POD_LIMIT`."""
        found, whole = await self._pods()
        if not whole:
            return await self._pods_of(workload)
        selected = matcher(workload.selector)
        return [pod for labels, pod in found if selected(labels)][:POD_LIMIT]

    async def events(self, workload: Workload, pods: Sequence[Pod]) -> Sequence[ClusterEvent]:
        """As `KubernetesWorkloads.events`."""
        return events_about(await self._events(), workload, pods, EVENT_LIMIT)

    async def _list_pods(self) -> tuple[list[tuple[Mapping[str, str], Pod]], bool]:
        return await listed(self._transport, lambda token: list_all_pods(self._ref, token), _with_labels, PAGES)


def _with_labels(item: Json) -> tuple[Mapping[str, str], Pod]:
    return item["metadata"].get("labels") or {}, parse_pod(item)


class _Once(Generic[T]):
    """The result of `ask`, or the error that it raised, for everybody who wants it; nobody waits for it twice."""

    def __init__(self, ask: Callable[[], Awaitable[T]]) -> None:
        self._ask = ask
        self._answer: tuple[T | ClusterError] | None = None

    async def __call__(self) -> T:
        if self._answer is None:
            try:
                self._answer = (await self._ask(),)
            except ClusterError as error:
                self._answer = (error,)
        (answer,) = self._answer
        if isinstance(answer, ClusterError):
            raise answer
        return answer
