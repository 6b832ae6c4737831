"""The default transport: the request signed and put into bytes here, and sent over connections of its own.

aiobotocore is asked once where the endpoint is and as whom to sign. What arrives is the request that
botocore would have sent.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from itertools import takewhile
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from fanout.errors import ReplyLost, RequestNotSent, TransportError
from fanout.model import InvokeTemplate, OnChunk, Reply
from fanout.transports.http.gathered_writes import Writer
from fanout.transports.http.http1 import MAX_REPLY_BYTES, PIECE_BYTES, Connection, NotWritten
from fanout.transports.http.plain_reply import Answer
from fanout.transports.prompt import Flight, OnEnd
from fanout.transports.replies import StreamedReply, make_reply, reply_of
from fanout.transports.signed_http import CREDENTIALS_READ_EVERY_S, SignedHttp, host_header
from fanout.transports.sigv4 import Credentials, RequestSigner
from fanout.version import version

_TEMPLATES_KEPT = 1024
_PATH = "/%:@!$&'()*+,;=~"  # what a path may hold as it is
_USER_AGENT = f"lambda-fanout/{version()}"


class _Prepared:
    """The part that all calls of one template share: their signer, and the head of their request."""

    __slots__ = (
        "_authorization",
        "_begin",
        "_headers",
        "_lines",
        "_signer",
        "asked_at_s",
        "credentials",
        "template",
    )

    def __init__(self, template: InvokeTemplate, http: SignedHttp) -> None:
        base_url, pool = http.endpoint.base_url, http.pool
        parts = urlsplit(base_url)
        host = host_header(base_url)
        path = f"{quote(parts.path, safe=_PATH)}{template.path}"
        query = f"?{template.query}" if template.query else ""
        self.template = template
        self._signer = RequestSigner(
            http.keys, host=host, path=path, query=template.query, headers=template.headers
        )
        self._begin = (
            f"POST {pool.forwarded_target}{path}{query} HTTP/1.1\r\nhost: {host}\r\n"
            f"user-agent: {_USER_AGENT}\r\naccept-encoding: identity\r\n{pool.forwarded_headers}"
        )
        self._headers: dict[str, str] = {}
        self._lines = self._authorization = ""
        self.credentials = Credentials("", "")
        self.asked_at_s = float("-inf")  # when the session was asked for them

    def heads(self, bodies: Sequence[bytes], now_s: float, trace_id: str | None) -> list[bytes]:
        """The heads of requests for these bodies, signed."""
        signer = self._signer
        signatures = signer.signatures(bodies, now_s, self.credentials)
        if signer.static is not self._headers:
            self._renew_lines(signer)
        trace = "" if trace_id is None else f"x-amzn-trace-id: {trace_id}\r\n"
        lines, authorization = f"{self._lines}{trace}content-length: ", self._authorization
        heads: list[bytes] = []
        for body, signature in zip(bodies, signatures, strict=True):
            head = f"{lines}{len(body)}{authorization}{signature}\r\n\r\n"
            heads.append(head.encode("latin-1"))
        return heads

    def _renew_lines(self, signer: RequestSigner) -> None:
        self._headers = signer.static
        lines = "".join(f"{name}: {value}\r\n" for name, value in signer.static.items())
        self._lines = f"{self._begin}{lines}"
        self._authorization = f"\r\nauthorization: {signer.prefix}"


class DirectTransport:
    """``Transport`` over connections of its own, signing with the session's credentials."""

    def __init__(
        self,
        http: SignedHttp,
        *,
        max_connections: int,
        read_timeout_s: float,
        call_timeout_s: float | None = None,
    ) -> None:
        self._http = http
        self._pool = http.pool
        self._pool.keep_idle(max_connections)
        self._prepared: dict[int, _Prepared] = {}
        self._read_timeout_s = read_timeout_s
        self._call_timeout_s = call_timeout_s
        self._in_lambda = "AWS_LAMBDA_FUNCTION_NAME" in os.environ
        self._loop = asyncio.get_running_loop()

    async def send(self, template: InvokeTemplate, body: bytes, on_chunk: OnChunk | None = None) -> Reply:
        """See ``Transport.send``."""
        prepared = self._prepared.get(id(template))
        if prepared is None or prepared.template is not template:
            prepared = self._prepare(template)
        now_s = time.time()
        if not 0 <= now_s - prepared.asked_at_s < CREDENTIALS_READ_EVERY_S:
            prepared.credentials = await self._http.credentials(now_s)
            prepared.asked_at_s = self._http.read_at_s
        trace_id = template.trace_id
        if trace_id is None and self._in_lambda:
            trace_id = _trace_id()
        (head,) = prepared.heads((body,), now_s, trace_id)
        if template.streaming:
            return await self._stream(head, body, on_chunk)
        pool = self._pool
        connection = pool.take() or await pool.open()
        # A reply that drips is bounded too: by the user's word, or generously by the function's timeout.
        timeout_s = self._read_timeout_s
        waiter: asyncio.Future[Answer] = self._loop.create_future()
        connection.start(head, body, timeout_s, self._call_timeout_s or 2 * timeout_s, waiter)
        try:
            answer = await waiter
        except (ConnectionError, TimeoutError) as error:
            connection.leave(waiter)
            raise self._failure(error) from error
        except BaseException:
            connection.leave(waiter)
            raise
        return reply_of(answer)

    def begin(
        self,
        template: InvokeTemplate,
        bodies: Sequence[bytes],
        tokens: Sequence[Any],
        wall_s: float,
        on_end: OnEnd,
        begun: list[Flight],
    ) -> None:
        """See ``PromptTransport.begin``."""
        pool = self._pool
        if template.streaming or not pool.idle:
            return
        if max(map(len, bodies)) > PIECE_BYTES:
            # One that is large is begun on the spot, whatever else its connection has to tell.
            bodies = list(takewhile(lambda body: len(body) <= PIECE_BYTES, bodies))
        prepared = self._prepared.get(id(template))
        if prepared is None or prepared.template is not template:
            prepared = self._prepare(template)
        if not 0 <= wall_s - prepared.asked_at_s < CREDENTIALS_READ_EVERY_S:
            credentials = self._http.kept_credentials(wall_s)
            if credentials is None:
                return
            prepared.credentials, prepared.asked_at_s = credentials, self._http.read_at_s
        trace_id = template.trace_id
        if trace_id is None and self._in_lambda:
            trace_id = _trace_id()
        heads = prepared.heads(bodies[: len(pool.idle)], wall_s, trace_id)
        connections = pool.take_several(len(heads))
        now_s, timeout_s = self._loop.time(), self._read_timeout_s
        end_s = now_s + (self._call_timeout_s or 2 * timeout_s)
        deadline_s = min(now_s + timeout_s, end_s)
        if deadline_s < pool.watch_at_s:
            pool.expect_within(deadline_s)
        requests: list[tuple[Writer, bytes]] = []
        try:
            for connection, head, body, token in zip(connections, heads, bodies, tokens, strict=False):
                flight = _DirectFlight(self, connection, token, on_end)
                connection.expect(flight, timeout_s, deadline_s, end_s)
                begun.append(flight)
                requests.append((connection, head + body))
        finally:
            if len(requests) == 1:
                pool.writes.add(*requests[0], now_s)
            elif requests:
                pool.writes.add_several(requests)

    def fail(self, flight: _DirectFlight, on_end: OnEnd, error: Exception) -> None:
        """Tell a flight's failure, when what is being done with its connection is done."""
        failure = self._failure(error)
        failure.__cause__ = error
        self._loop.call_soon(on_end, flight, None, failure)

    def set_max_connections(self, connections: int) -> None:
        """Another number of idle connections that are kept."""
        self._pool.keep_idle(connections)

    def set_read_timeout(self, seconds: float) -> None:
        """See ``Transport.set_read_timeout``. Calls in flight keep the timeout that they started with."""
        self._read_timeout_s = seconds

    async def aclose(self) -> None:
        """See ``Transport.aclose``."""
        await self._http.aclose()

    async def _stream(self, head: bytes, body: bytes, on_chunk: OnChunk | None) -> Reply:
        connection = self._pool.take() or await self._pool.open()
        try:
            return await self._read_stream(connection, head, body, on_chunk)
        except BaseException:
            connection.abort()
            raise

    async def _read_stream(
        self, connection: Connection, head: bytes, body: bytes, on_chunk: OnChunk | None
    ) -> Reply:
        try:
            silence_s = min(self._call_timeout_s or self._read_timeout_s, self._read_timeout_s)
            status, headers = await connection.ask_streamed(head, body, silence_s)
        except (ConnectionError, TimeoutError) as error:
            raise self._failure(error) from error
        if status != 200:
            parts, size_bytes = [], 0
            while (data := await self._next_chunk(connection)) is not None:
                parts.append(data)
                size_bytes += len(data)
                if size_bytes > MAX_REPLY_BYTES:
                    raise self._lost(f"the reply is larger than {MAX_REPLY_BYTES:,} bytes")
            return make_reply(status, b"".join(parts), headers.get)
        from fanout.transports.event_stream import EventStream

        streamed = StreamedReply(make_reply(status, b"", headers.get), on_chunk)
        events = EventStream(streamed)
        while (data := await self._next_chunk(connection)) is not None:
            await events.feed(data)
        return streamed.finish()

    async def _next_chunk(self, connection: Connection) -> bytes | None:
        try:
            return await connection.read_chunk()
        except (ConnectionError, TimeoutError) as error:
            raise self._lost(error) from error

    def _failure(self, error: Exception) -> TransportError:
        """The failure of a request that was handed to a connection."""
        if isinstance(error, NotWritten):
            return RequestNotSent(
                f"not sent to {self._http.endpoint.base_url}, as the connection ended first: {error}"
            )
        return self._lost(error)

    def _lost(self, why: Exception | str) -> ReplyLost:
        return ReplyLost(f"no whole reply from {self._http.endpoint.base_url}: {why}")

    def _prepare(self, template: InvokeTemplate) -> _Prepared:
        # The template is kept along with its id, so that no other can come to have it.
        if len(self._prepared) >= _TEMPLATES_KEPT:
            self._prepared.clear()
        prepared = _Prepared(template, self._http)
        self._prepared[id(template)] = prepared
        return prepared


class _DirectFlight(msgspec.Struct, eq=False):
    """A call on its way: its connection's waiter, which acts on the reply at once."""

    transport: DirectTransport
    connection: Connection
    token: Any
    on_end: OnEnd
    is_done: bool = False

    def done(self) -> bool:
        return self.is_done

    def set_result(self, answer: Answer) -> None:
        self.is_done = True
        try:
            reply = reply_of(answer)
        except ReplyLost as error:
            self.on_end(self, None, error)
            return
        self.on_end(self, reply, None)

    def set_exception(self, error: Exception) -> None:
        self.is_done = True
        self.transport.fail(self, self.on_end, error)

    def cut_off(self) -> None:
        """See ``Flight``."""
        self.is_done = True
        self.connection.abort()


def _trace_id() -> str | None:
    """Lambda's recursion detection: inside a function, its trace id goes along, as botocore does it."""
    trace_id = os.environ.get("_X_AMZN_TRACE_ID")
    return quote(trace_id, safe="-=;:+&[]{}\"',") if trace_id else None
