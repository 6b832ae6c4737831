"""Lambda's Runtime API for one environment's runtime client.

One port per environment, as each has its own on Lambda: clients know it by AWS_LAMBDA_RUNTIME_API
alone, which has room for a host and a port but not for a path.
"""

from __future__ import annotations

import asyncio
import base64
from typing import Protocol, cast

import httptools

_PREFIX = "/2018-06-01/runtime/"
_MAX_RESPONSE_BYTES = 6_291_556


class Listener(Protocol):
    """The listener of an environment to its runtime client."""

    def on_next(self, connection: Connection) -> None:
        """Take the connection that waits for the next call."""

    def on_response(self, request_id: str, body: bytes) -> bool:
        """Take a response; False if no such call is running."""

    def on_chunk(self, request_id: str, body: bytes) -> None:
        """Take a piece of a streamed response."""

    def on_stream_end(self, request_id: str, error_type: str, error_body: bytes) -> bool:
        """Take the end of a streamed response; a type means that it failed midway."""

    def on_error(self, request_id: str, body: bytes, error_type: str) -> bool:
        """Take a function error."""

    def on_init_error(self, body: bytes, error_type: str) -> None:
        """Take the word that the function could not be initialised."""


class Connection(asyncio.Protocol):
    """One connection of a runtime client."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._size_bytes = 0
        self._stream_id = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the interface's name
        """Forget the transport: the environment's exit is reported elsewhere."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Feed the parser; what is no HTTP ends the connection."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if self._transport is not None:
                self._transport.close()

    def on_message_begin(self) -> None:
        """Start a request."""
        self._url, self._headers, self._body, self._size_bytes, self._stream_id = b"", {}, [], 0, ""

    def on_url(self, url: bytes) -> None:
        """Collect the path."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header, or a trailer."""
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Note whether the response comes as a stream."""
        if self._headers.get(b"lambda-runtime-function-response-mode", b"").lower() == b"streaming":
            parts = self._url.decode("latin-1").split("/")
            self._stream_id = parts[4] if len(parts) > 5 and parts[5] == "response" else ""

    def on_body(self, body: bytes) -> None:
        """Collect or pass on a piece of a body; what is over the limit is counted, not kept."""
        if self._stream_id:
            self._listener.on_chunk(self._stream_id, body)
            return
        self._size_bytes += len(body)
        if self._size_bytes <= _MAX_RESPONSE_BYTES:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """Act on the request."""
        path = self._url.decode("latin-1")
        error_type = self._headers.get(b"lambda-runtime-function-error-type", b"").decode("latin-1")
        operation = path.removeprefix(_PREFIX).split("?", 1)[0].split("/")
        body = b"".join(self._body)
        match operation:
            case ["invocation", "next"]:
                self._listener.on_next(self)
            case ["invocation", request_id, "response"] if self._stream_id:
                detail = base64.b64decode(self._headers.get(b"lambda-runtime-function-error-body", b""))
                self._acknowledge(known=self._listener.on_stream_end(request_id, error_type, detail))
            case ["invocation", request_id, "response"] if self._size_bytes > _MAX_RESPONSE_BYTES:
                allowed = f"maximum allowed payload size ({_MAX_RESPONSE_BYTES} bytes)"
                message = f"Response payload size exceeded {allowed}."
                refusal = (
                    f'{{"errorType":"Function.ResponseSizeTooLarge","errorMessage":"{message}"}}'.encode()
                )
                self._listener.on_error(request_id, refusal, "Function.ResponseSizeTooLarge")
                self.reply(413, refusal)
            case ["invocation", request_id, "response"]:
                self._acknowledge(known=self._listener.on_response(request_id, body))
            case ["invocation", request_id, "error"]:
                self._acknowledge(known=self._listener.on_error(request_id, body, error_type))
            case ["init", "error"]:
                self._listener.on_init_error(body, error_type)
                self.reply(202, b'{"status":"OK"}\n')
            case _:
                self.reply(404, b'{"errorMessage":"no such operation","errorType":"NotFound"}')

    def reply(self, status: int, body: bytes, headers: str = "") -> None:
        """Write a whole reply; a client that has gone is none of our concern."""
        if self._transport is not None and not self._transport.is_closing():
            headers += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            self._transport.write(f"HTTP/1.1 {status} \r\n{headers}".encode("latin-1") + body)

    @property
    def is_open(self) -> bool:
        """True while a reply would still reach the client."""
        return self._transport is not None and not self._transport.is_closing()

    def _acknowledge(self, *, known: bool) -> None:
        if known:
            self.reply(202, b'{"status":"OK"}\n')
        else:
            self.reply(400, b'{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}')
