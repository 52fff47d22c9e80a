"""Pages of a list, as ``limit`` and ``continue`` ask for them."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence

from . import errors
from .resources import Json

TOKEN_VERSION = "meta.k8s.io/v1"


def page(items: Sequence[Json], query: Mapping[str, str], version: int, oldest: int) -> tuple[list[Json], Json]:
    """The objects of one page, and the metadata of the list.

    Unlike the real server, which goes on with the state that the first page showed, each page shows what is there now.

    Args:
        items: all objects of the list, by namespace and name.
        version: the newest resourceVersion.
        oldest: the oldest one that a list can be continued from.

    Raises:
        ApiError: 400 for what is no limit or token, 410 for a token that is too old.
    """
    token = query.get("continue", "")
    since, begun = _read(token) if token else (version, "")
    if since < oldest:
        raise errors.continue_expired()
    limit = _limit(query.get("limit", ""))
    left = [item for item in items if _key(item) > begun]
    metadata: Json = {"resourceVersion": str(since)}
    if not limit or len(left) <= limit:
        return left, metadata
    metadata["continue"] = _token(since, _key(left[limit - 1]))
    if not query.get("labelSelector") and not query.get("fieldSelector"):
        metadata["remainingItemCount"] = len(left) - limit
    return left[:limit], metadata


def _key(item: Json) -> str:
    metadata = item["metadata"]
    return f"{metadata.get('namespace', '')}/{metadata['name']}"


def _limit(text: str) -> int:
    try:
        return int(text or 0)
    except ValueError:
        raise errors.bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


def _token(version: int, last: str) -> str:
    # The real one begins with the next possible key: the last one and a zero byte.
    content = json.dumps({"v": TOKEN_VERSION, "rv": version, "start": f"{last}\0"})
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def _read(token: str) -> tuple[int, str]:
    try:
        content = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        return int(content["rv"]), str(content["start"]).rstrip("\0")
    except (binascii.Error, ValueError, KeyError, TypeError):
        raise errors.bad_request("continue key is not valid: the token is not one of this server") from None
