"""Which of the optional rights we have: asked for before they are used, so that nothing forbidden is ever tried."""

from __future__ import annotations

import asyncio

from .api_requests import Access, review
from .api_transport import Transport

KNOWN_FOR = 120.0
"""Seconds that an answer holds."""


class Rights:
    """Asks by SelfSubjectAccessReviews, and remembers the answers for `KNOWN_FOR`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._known: dict[Access, tuple[bool, float]] = {}

    async def has(self, access: Access) -> bool:
        """Whether we may do `access`, or might a moment ago. Raises ClusterError."""
        now = asyncio.get_running_loop().time()
        allowed, until = self._known.get(access, (False, 0.0))
        return allowed if now < until else await self.has_now(access)

    async def has_now(self, access: Access) -> bool:
        """Whether we may do `access`, whatever is remembered. Raises ClusterError."""
        allowed = await self._transport.parsed(review(access), lambda body: bool(body["status"]["allowed"]))
        self._known[access] = allowed, asyncio.get_running_loop().time() + KNOWN_FOR
        return allowed
