"""The few endpoints of a homeserver that sending needs, over real HTTP; any answer can be spoilt before it is given."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from mautrix.client import Client
from mautrix.client.state_store import MemoryStateStore

TOKEN = "token-of-the-bot"
BOT = "@bot:example.org"
_SEND = "/_matrix/client/v3/rooms/"


@dataclass(frozen=True)
class Answer:
    """How one request is answered. `taken`: the event was sent all the same; `cut`: the connection ends instead."""

    status: int
    body: str = "{}"
    taken: bool = False
    cut: bool = False


def limited(seconds: float | None = None) -> Answer:
    """M_LIMIT_EXCEEDED, with or without a time to wait."""
    wait = {} if seconds is None else {"retry_after_ms": round(seconds * 1000)}
    return Answer(429, json.dumps({"errcode": "M_LIMIT_EXCEEDED", "error": "Too Many Requests", **wait}))


@dataclass(frozen=True)
class Request:
    """One PUT of an event as it arrived; `time` is the event loop's clock in seconds."""

    room: str
    type: str
    transaction: str
    content: dict[str, Any]
    authorization: str
    time: float


@dataclass
class Homeserver:
    """Takes events; a transaction ID that it knows gets the event ID that it got before, as the specification says.

    Attributes:
        spoilt: the answers to the next requests; where there is none, events are sent.
        held: while it is set to an event, requests wait for that before they are answered.
        documents: answers to other requests, by method and path.
        prefix: the path below which it is served, as by a proxy.
    """

    requests: list[Request] = field(default_factory=list)
    sent: dict[str, Request] = field(default_factory=dict)
    spoilt: deque[Answer] = field(default_factory=deque)
    held: asyncio.Event | None = None
    documents: dict[tuple[str, str], Callable[[Any], Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    prefix: str = ""
    port: int = 0

    async def __aenter__(self) -> Homeserver:  # noqa: PYI034 - typing.Self came with Python 3.11
        self._runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def contents(self) -> list[dict[str, Any]]:
        """What was sent, in its order, each event once."""
        return [request.content for request in self.sent.values()]

    @property
    def bodies(self) -> list[str]:
        """The texts that were sent; of an edit the new one."""
        return [content.get("m.new_content", content).get("body", "") for content in self.contents]

    def client(self) -> Client:
        """A client of this homeserver; whoever asked closes its session."""
        url = f"http://127.0.0.1:{self.port}{self.prefix}"
        return Client(mxid=BOT, device_id="BOT", base_url=url, token=TOKEN, state_store=MemoryStateStore())

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path.removeprefix(self.prefix)
        body = json.loads(await request.read() or b"null")
        if request.method != "PUT" or not path.startswith(_SEND):
            return self._document(request.method, unquote(path), body)
        room, _, kind, transaction = map(unquote, path.removeprefix(_SEND).split("/"))
        now = asyncio.get_running_loop().time()
        arrived = Request(room, kind, transaction, body, request.headers.get("Authorization", ""), now)
        self.requests.append(arrived)
        answer = self.spoilt.popleft() if self.spoilt else Answer(200, taken=True)
        if self.held is not None:
            await self.held.wait()
        return self._answer(request, arrived, answer)

    def _document(self, method: str, path: str, body: Any) -> web.Response:
        self.asked.append(f"{method} {path}")
        make = self.documents.get((method, path))
        if make is None:
            return web.json_response({"errcode": "M_NOT_FOUND", "error": "not here"}, status=404)
        return web.json_response(make(body))

    def _answer(self, request: web.BaseRequest, arrived: Request, answer: Answer) -> web.Response:
        if answer.taken:
            self.sent.setdefault(arrived.transaction, arrived)
        if answer.cut and request.transport is not None:
            request.transport.abort()
        if answer.status == 200 and answer.taken:
            return web.json_response({"event_id": f"${list(self.sent).index(arrived.transaction)}"})
        return web.Response(status=answer.status, text=answer.body, content_type="application/json")
