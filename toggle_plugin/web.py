"""GET /readyz: whether this instance can do its work and, if not, why not. Open to everybody, so it says no secrets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast

from aiohttp.web import Request, Response, json_response
from maubot.handlers import web

_F = TypeVar("_F", bound=Callable[..., Any])
_get = cast("Callable[[str], Callable[[_F], _F]]", web.get)
"""maubot's decorator returns the method that it marks, but is typed for functions."""


class Readiness:
    """Serves what `reasons` says: an empty sequence means ready."""

    def __init__(self, reasons: Callable[[], Awaitable[Sequence[str]]]) -> None:
        self._reasons = reasons

    @_get("/readyz")
    async def readyz(self, _: Request) -> Response:
        reasons = list(await self._reasons())
        return json_response({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)
