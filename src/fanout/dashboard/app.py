"""The requests of the live page: who may ask, and what is answered.

Every address needs the token that was printed. A request that another page's script sent is refused
by its Origin, and so is one of another site by its Sec-Fetch-Site; a Host that is no name of this machine
is another site's name for it. Nothing here may be framed or kept.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from fanout.errors import ConfigError
from fanout.stats import printable

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Tune = Callable[[Mapping[str, Any]], Mapping[str, Any]]

_LOOPBACK = re.compile(r"(127(\.\d+){3}|localhost|\[::1\])(:\d+)?", re.IGNORECASE)
_MOST_BYTES = 10_000  # of changes
_MOST_WAITING = 64  # events that a slow reader may be behind, then it is let go and comes again
_ALWAYS = (
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)


class App:
    """An ASGI application. ``page`` makes the page, ``first_events`` what a new reader is sent at once."""

    def __init__(
        self,
        *,
        page: Callable[[], str],
        first_events: Callable[[], list[bytes]],
        tune: Callable[[], Tune | None],
    ) -> None:
        self.token = secrets.token_urlsafe(24)
        self._page = page
        self._first_events = first_events
        self._tune = tune
        self._readers: set[asyncio.Queue[bytes | None]] = set()
        self.emptied = asyncio.Event()  # nobody has the page open
        self.emptied.set()

    @property
    def has_readers(self) -> bool:
        """True while anybody has the page open."""
        return bool(self._readers)

    def publish(self, event: bytes | None) -> None:
        """Send an event to every reader; None ends them."""
        for queue in list(self._readers):
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:
                self._readers.discard(queue)
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _answer(send, 403, refusal)
            return
        route = (scope["method"], scope["path"])
        if route == ("GET", "/"):
            await _answer(send, 200, self._page(), b"text/html; charset=utf-8")
        elif route == ("GET", "/events"):
            await self._stream(receive, send)
        elif route == ("POST", "/tune"):
            await self._change(receive, send)
        else:
            await _answer(send, 404, "there is nothing here")

    def _refusal(self, scope: Scope, headers: Mapping[bytes, str]) -> str | None:
        if not _LOOPBACK.fullmatch(headers.get(b"host", "")):
            return "this page is only for names of this machine: open it at 127.0.0.1 or localhost"
        origin = headers.get(b"origin")
        if origin is not None and urlsplit(origin).netloc != headers.get(b"host"):
            return "a page of another origin may not ask"
        if headers.get(b"sec-fetch-site") == "cross-site" and scope["path"] != "/":
            return "a page of another site may not ask"
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if not secrets.compare_digest(given.encode(), self.token.encode()):
            return "the token is missing or wrong: open the address that fanout printed"
        return None

    async def _stream(self, receive: Receive, send: Send) -> None:
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(_MOST_WAITING)
        for event in self._first_events():
            queue.put_nowait(event)
        self._readers.add(queue)
        self.emptied.clear()
        await _begin(send, 200, b"text/event-stream")
        leaving = asyncio.ensure_future(_left(receive))
        try:
            while True:
                coming = asyncio.ensure_future(queue.get())
                await asyncio.wait((coming, leaving), return_when=asyncio.FIRST_COMPLETED)
                if leaving.done():
                    coming.cancel()
                    return
                latest = coming.result()
                is_last = latest is None
                await send({"type": "http.response.body", "body": latest or b"", "more_body": not is_last})
                if is_last:
                    return
        finally:
            leaving.cancel()
            self._readers.discard(queue)
            if not self._readers:
                self.emptied.set()

    async def _change(self, receive: Receive, send: Send) -> None:
        tune = self._tune()
        if tune is None:
            await _answer(send, 409, "this run cannot be changed")
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > _MOST_BYTES or message["type"] != "http.request":
                await _answer(send, 413, "the changes are too long")
                return
            if not message.get("more_body"):
                break
        try:
            changes = msgspec.json.decode(body, type=dict[str, Any])
            now = tune(changes)
        except (msgspec.DecodeError, ConfigError) as error:
            await _answer(send, 400, printable(str(error), 500))
            return
        await _answer(send, 200, msgspec.json.encode(dict(now)).decode(), b"application/json")


async def _left(receive: Receive) -> None:
    """Until the reader has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _begin(send: Send, status: int, kind: bytes, *more: tuple[bytes, bytes]) -> None:
    headers = [(b"content-type", kind), *_ALWAYS, *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _answer(send: Send, status: int, text: str, kind: bytes = b"text/plain; charset=utf-8") -> None:
    body = text.encode()
    await _begin(send, status, kind, (b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.body", "body": body})
