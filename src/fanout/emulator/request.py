"""One HTTP request and its answer: bounded body, headers, and connections that break."""

from __future__ import annotations

import os
import socket
import struct
from typing import Any
from urllib.parse import parse_qs

import msgspec

from fanout.emulator.call import new_request_id
from fanout.emulator.payloads import decode
from fanout.emulator.replies import Headers, Refusal

_JSON = (b"content-type", b"application/json")


class Disconnected(Exception):
    """The client left before its request was whole: nothing runs."""


class Request:
    """One request and its answer, over ASGI."""

    __slots__ = ("_receive", "_send", "headers", "request_id", "scope")

    def __init__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.request_id = new_request_id()

    def header(self, name: bytes) -> str:
        """Read a request header; empty if it is not there."""
        return self.headers.get(name, b"").decode("latin-1")

    def query(self, name: str) -> str:
        """Read a query parameter; empty if it is not there."""
        raw: bytes = self.scope["query_string"]
        if not raw:
            return ""
        return parse_qs(raw.decode("latin-1"), keep_blank_values=True).get(name, [""])[0]

    def queries(self, name: str) -> list[str]:
        """Read every value of a query parameter."""
        raw: bytes = self.scope["query_string"]
        return parse_qs(raw.decode("latin-1")).get(name, [])

    async def body(self, limit: int) -> bytes | None:
        """Read the whole body; None if it was larger than ``limit`` bytes; Disconnected if it never came."""
        pieces, size = [], 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            piece: bytes = message["body"]
            size += len(piece)
            if size <= limit:
                pieces.append(piece)
            if not message["more_body"]:
                break
        if size > limit:
            return None
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def json(self) -> Any:
        """Read the body as a JSON object."""
        body = await self.body(1 << 20)
        try:
            value = decode(body) if body else {}
        except (ValueError, RecursionError) as error:
            raise Refusal(
                400, "InvalidRequestContentException", f"Could not parse request body into json: {error}"
            ) from error
        return value if isinstance(value, dict) else {}

    async def reply(self, status: int, body: bytes, headers: Headers | None = None) -> None:
        """Answer."""
        all_headers = [
            (b"x-amzn-requestid", self.request_id.encode()),
            (b"content-length", str(len(body)).encode()),
        ]
        if headers:
            all_headers += headers
        if status == 204:
            del all_headers[1]
        await self._send({"type": "http.response.start", "status": status, "headers": all_headers})
        await self._send({"type": "http.response.body", "body": body})

    async def reply_json(self, status: int, value: Any) -> None:
        """Answer with JSON, or with nothing for a 204."""
        await self.reply(status, b"" if status == 204 else msgspec.json.encode(value), [_JSON])

    async def refuse(self, refusal: Refusal) -> None:
        """Answer with one of the API's errors."""
        headers = [_JSON]
        if refusal.code:
            headers.append((b"x-amzn-errortype", refusal.code.encode()))
        await self.reply(refusal.status, refusal.body, headers)

    async def start_stream(self, headers: Headers) -> None:
        """Begin an answer whose length is not known."""
        all_headers = [(b"x-amzn-requestid", self.request_id.encode()), *headers]
        await self._send({"type": "http.response.start", "status": 200, "headers": all_headers})

    async def send_chunk(self, chunk: bytes, *, is_last: bool = False) -> None:
        """Send a piece of a streamed answer."""
        await self._send({"type": "http.response.body", "body": chunk, "more_body": not is_last})

    async def hang_up(self, *, reset: bool = False) -> None:
        """Close the connection without an answer; ``reset`` sends RST instead of FIN."""
        transport = self.scope["fanout.transport"]
        if reset:
            descriptor = os.dup(transport.get_extra_info("socket").fileno())
            with socket.socket(fileno=descriptor) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        else:
            transport.close()
        while (await self._receive())["type"] != "http.disconnect":
            pass
