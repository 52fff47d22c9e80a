"""GET /readyz: whether this instance can do its work and, if not, why not. Open to everybody, so it says no secrets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast

from aiohttp.web import Request, Response, json_response
from maubot.handlers import web

from .errors import SettingsProblem

_F = TypeVar("_F", bound=Callable[..., Any])
_get = cast("Callable[[str], Callable[[_F], _F]]", web.get)
"""maubot's decorator returns the method that it marks, but is typed for functions."""


class Readiness:
    """Serves what `reasons` says: an empty sequence means ready; `cautions` are told beside it."""

    def __init__(
        self, reasons: Callable[[], Awaitable[Sequence[str]]], cautions: Callable[[], Sequence[SettingsProblem]]
    ) -> None:
        self._reasons = reasons
        self._cautions = cautions

    @_get("/readyz")
    async def readyz(self, _: Request) -> Response:
        reasons = list(await self._reasons())
        cautions = [str(caution) for caution in self._cautions()]
        return json_response(
            {"ready": not reasons, "reasons": reasons, "cautions": cautions}, status=503 if reasons else 200
        )
