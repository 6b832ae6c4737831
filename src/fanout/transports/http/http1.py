"""One HTTP/1.1 connection: a request at a time, and its one whole reply cut out of the bytes that come.

asyncio calls it with what arrived, httptools (llhttp, the parser of Node.js) with what that means. A
call costs no task, no stream and no queue: the reply ends the future that the caller waits for.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import Callable
from typing import Any, Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from fanout.interrupts import raise_soon
from fanout.transports.http.gathered_writes import GatheredWrites
from fanout.transports.http.plain_reply import Answer, read_plain_reply
from fanout.transports.http.tls import TlsLayer, in_words

PIECE_BYTES = 65_536  # a larger body is written as fast as it is taken off, and the timeout waits for it
_STREAM_BUFFER_BYTES = 1_048_576
MAX_HEAD_BYTES = 65_536
MAX_REPLY_BYTES = 7 * 1_048_576  # of a reply that is read whole: Lambda's 6 MiB, its head and framing
_NEVER = float("inf")
_NAMES: dict[bytes, str] = {}  # header names as they came, and in lower case
_NAMES_KEPT = 256


class NotWritten(ConnectionError):
    """The connection ended before any of the request was written."""


class Waiter(Protocol):
    """Whom a request's end is told, once: a future, or what acts on it at once."""

    def done(self) -> bool:
        """True once it was told, or waits no longer."""

    def set_result(self, result: Answer, /) -> None:
        """The whole reply. The connection is free for another request already."""

    def set_exception(self, exception: Exception, /) -> None:
        """The failure. The connection is of no use any more, or will be closed by who waits."""


class ConnectionOwner(Protocol):
    """Whom a connection tells that it is free for the next request, or that it has ended.

    ``watch_at_s`` is when it looks after deadlines next; ``expect_within`` asks it to come sooner.
    """

    watch_at_s: float
    writes: GatheredWrites

    def release(self, connection: Connection) -> None: ...

    def forget(self, connection: Connection) -> None: ...

    def expect_within(self, deadline_s: float) -> None: ...

    def remember(self, session: ssl.SSLSession | None) -> None: ...


class Connection(asyncio.Protocol):
    """A connection from its making to its end, after which ``is_open`` is False.

    Failures are ``ConnectionError`` (ended or broken before the reply was whole) and ``TimeoutError``.
    ``deadline_s``, of the loop's clock, is when a request under way has been silent for too long, or
    has taken too long altogether; None when none is under way. Whoever keeps the connection looks at it
    and calls ``give_up``. Heads are bounded by ``MAX_HEAD_BYTES``, replies that are read whole by
    ``MAX_REPLY_BYTES``.
    """

    __slots__ = (
        "_buffered_bytes",
        "_chunks",
        "_end_s",
        "_has_headers",
        "_has_more",
        "_has_new_session",
        "_headers",
        "_is_awaited",
        "_is_paused",
        "_is_reading_paused",
        "_is_streamed",
        "_is_whole",
        "_is_written",
        "_keeps_alive",
        "_layers",
        "_loop",
        "_owner",
        "_parser",
        "_received",
        "_received_bytes",
        "_status",
        "_timeout_s",
        "_transport",
        "_unsent",
        "_waiter",
        "_write",
        "deadline_s",
        "idle_since_s",
        "is_open",
    )

    _transport: asyncio.Transport
    _write: Callable[[bytes | memoryview], None]
    _status: int
    _headers: dict[str, str]
    _is_whole: bool
    _has_more: bool
    _received_bytes: int

    def __init__(self, owner: ConnectionOwner, loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._loop = loop
        self._layers: tuple[TlsLayer, ...] = ()
        self._parser: HttpResponseParser | None = None  # None while the connection is being made
        self._received = b""
        self._waiter: asyncio.Future[Any] | Waiter | None = None
        self._unsent: memoryview | None = None
        self._is_paused = False
        self._is_reading_paused = False
        self._is_streamed = False
        self._is_written = True  # no small request waits to be
        self._is_awaited = False
        self._timeout_s = 0.0
        self._end_s = _NEVER
        self.deadline_s: float | None = None
        self._has_new_session = False
        self.idle_since_s = 0.0
        self.is_open = False

    # 1. While it is being made: bytes as they are

    async def receive(self) -> bytes:
        """The next bytes from the other end, before ``begin``."""
        while not self._received:
            if not self.is_open:
                raise ConnectionError("the connection was closed")
            self._waiter = waiter = self._loop.create_future()
            await waiter
        data, self._received = self._received, b""
        return data

    def send(self, data: bytes) -> None:
        """Write bytes, before ``begin``."""
        self._write(data)

    async def shake_hands(
        self, context: ssl.SSLContext, host: str, session: ssl.SSLSession | None = None
    ) -> None:
        """Put TLS over what there is, as ``host``'s client. Raises ``ssl.SSLError``."""
        layer = TlsLayer(context, host, self._write, session)
        done = layer.shake_hands(b"")
        while not done:
            done = layer.shake_hands(await self.receive())
        self._layers = (*self._layers, layer)
        self._write = layer.write

    def begin(self) -> None:
        """From now on requests and replies."""
        if not self.is_open:
            raise ConnectionError("the connection was closed")
        self._reset()
        self._parser = HttpResponseParser(self)
        self._has_new_session = bool(self._layers) and not self._layers[-1].is_resumed

    # 2. A request and its reply

    async def ask(
        self, head: bytes, body: bytes, timeout_s: float, whole_timeout_s: float = _NEVER
    ) -> Answer:
        """Send a request and return its whole reply. Cancelling closes the connection.

        ``timeout_s`` bounds each silence, ``whole_timeout_s`` the time from here to the reply's end.
        """
        waiter: asyncio.Future[Answer] = self._loop.create_future()
        self.start(head, body, timeout_s, whole_timeout_s, waiter)
        try:
            return await waiter
        except BaseException:
            self.leave(waiter)
            raise

    def start(
        self,
        head: bytes,
        body: bytes,
        timeout_s: float,
        whole_timeout_s: float,
        waiter: asyncio.Future[Any] | Waiter,
    ) -> None:
        """``ask`` without a coroutine: send a request, whose end is told to ``waiter``.

        Whoever awaits a future calls ``leave`` when that raises.
        """
        self._waiter = waiter
        self._timeout_s = timeout_s
        now_s = self._loop.time()
        self._end_s = now_s + whole_timeout_s
        self._set_deadline()
        if len(body) <= PIECE_BYTES:
            self._is_written = False
            self._owner.writes.add(self, head + body, now_s)
            return
        try:
            self._write(head)
        except Exception as error:  # noqa: BLE001 - whatever is raised is this request's end
            self._break_off(_unwritable(error))
            return
        self._unsent = memoryview(body)
        self._pump()

    def expect(self, waiter: Waiter, timeout_s: float, deadline_s: float, end_s: float) -> None:
        """Wait for the reply to a request of at most ``PIECE_BYTES``, which ``write_request`` will write.

        ``deadline_s``: of the first silence; whoever calls this sees that the owner looks by then.
        """
        self._waiter = waiter
        self._timeout_s = timeout_s
        self.deadline_s = deadline_s
        self._end_s = end_s
        self._is_written = False

    def write_request(self, data: bytes) -> None:
        """Write a request that ``start`` handed on; one that is awaited no longer is not written."""
        if not self.is_open:
            self._break_off(ConnectionError("the connection was closed"))
            return
        self._is_written = True
        self._is_awaited = not self._is_streamed
        try:
            self._write(data)
        except Exception as error:  # noqa: BLE001 - the other requests of this turn go out all the same
            self._break_off(_unwritable(error))

    def leave(self, waiter: asyncio.Future[Any]) -> None:
        """The reply is awaited no longer: close, unless it has come."""
        # One that came in the same moment is read, and the connection may be another's already.
        if not waiter.done() or waiter.cancelled() or waiter.exception() is not None:
            self.abort()

    async def ask_streamed(self, head: bytes, body: bytes, timeout_s: float) -> tuple[int, dict[str, str]]:
        """Send a request and return status and headers; ``read_chunk`` brings the body.

        Whoever does not read the body to its end must ``abort``.
        """
        self._is_streamed = True
        waiter: asyncio.Future[Any] = self._loop.create_future()
        self.start(head, body, timeout_s, _NEVER, waiter)
        await waiter
        return self._status, self._headers

    async def read_chunk(self) -> bytes | None:
        """The next part of a streamed reply's body; None at its end."""
        while not self._chunks:
            if self._is_whole:
                self._free()
                return None
            if not self.is_open:
                raise ConnectionError("the connection was closed before the reply was whole")
            self._waiter = waiter = self._loop.create_future()
            self._set_deadline()
            await waiter
        chunk = self._chunks.pop(0)
        self._buffered_bytes -= len(chunk)
        if self._is_reading_paused and not self._chunks:
            self._is_reading_paused = False
            self._transport.resume_reading()
        return chunk

    def give_up(self) -> None:
        """The request under way has been silent, or has taken, for too long."""
        is_over = self._loop.time() >= self._end_s
        self._break_off(TimeoutError("the call timed out as a whole" if is_over else "the read timed out"))

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        self.is_open = False
        self.deadline_s = None
        self._transport.abort()

    def close(self) -> None:
        """Close an idle connection."""
        self.is_open = False
        self._transport.close()

    def has_news(self) -> bool:
        """True if bytes or an end wait on an idle connection, unread: either way it is of no use."""
        descriptor = self._transport.get_extra_info("socket").fileno()
        if not hasattr(select, "poll"):  # Windows
            return bool(select.select([descriptor], [], [], 0)[0])
        watched = select.poll()
        watched.register(descriptor, select.POLLIN)
        return bool(watched.poll(0))

    # 3. asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._write = self._transport.write
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        try:
            if self._layers:
                self._receive_encrypted(data)
            elif self._parser is None:
                self._received += data
                self._wake()
            else:
                self._feed(self._parser, data)
        except (KeyboardInterrupt, SystemExit) as interrupt:
            self._interrupt(interrupt)

    def _receive_encrypted(self, data: bytes) -> None:
        failure: ssl.SSLError | None = None
        for layer in self._layers:
            data = layer.receive(data)
            failure = failure or layer.failure
            if layer.is_ended or failure is not None:
                self.is_open = False  # known before its last reply is told
        if failure is not None and not data:
            self._break_off(ConnectionError(in_words(failure)))
            return
        if self._has_new_session:  # TLS 1.3 sends what resumes it right after the handshake
            self._has_new_session = False
            self._owner.remember(self._layers[-1].session)
        parser = self._parser
        if parser is None:
            self._received += data
            self._wake()
        elif data:
            self._feed(parser, data)
        if failure is not None:
            self._break_off(ConnectionError(in_words(failure)))
            return
        for layer in self._layers:
            if layer.is_ended:
                self._end()

    def eof_received(self) -> None:
        self.is_open = False
        try:
            # Without TLS's own goodbye nobody knows who ended it.
            if not self._layers:
                self._end()
        except (KeyboardInterrupt, SystemExit) as interrupt:
            self._interrupt(interrupt)

    def _interrupt(self, interrupt: BaseException) -> None:
        raise_soon(self._loop, interrupt)
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self._parser = None  # it refers to us
        self._owner.forget(self)
        self.deadline_s = None
        self._fail(ConnectionError(str(exc or "the connection was closed before the reply was whole")))

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        if self._unsent is not None:
            self._pump()

    # 4. httptools' side

    def on_message_begin(self) -> None:
        # More than the one reply that was asked for: it is nobody's.
        if self._is_whole:
            self.is_open = False
            self._has_more = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._has_headers:  # a trailer
            return
        known = _NAMES.get(name)
        if known is None:
            known = name.decode("latin-1").lower()
            if len(_NAMES) < _NAMES_KEPT:
                _NAMES[name] = known
        self._headers[known] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._is_whole:
            return
        assert self._parser is not None
        self._has_headers = True
        self._status = self._parser.get_status_code()
        if self._is_streamed and self._status >= 200:
            self._wake()

    def on_body(self, data: bytes) -> None:
        if self._is_whole:
            return
        self._chunks.append(data)
        if self._is_streamed:
            self._buffered_bytes += len(data)
            self._wake()
            if self._buffered_bytes > _STREAM_BUFFER_BYTES and not self._is_reading_paused:
                self._is_reading_paused = True
                self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if self._is_whole:
            return
        if self._status < 200:  # an interim reply: the one that counts comes after it, or has begun
            received_bytes = self._received_bytes
            self._reset()
            self._received_bytes = received_bytes
            return
        assert self._parser is not None
        self._is_whole = True
        self._keeps_alive = self._parser.should_keep_alive()

    # 5. What happens between

    def _pump(self) -> None:
        while self._unsent and not self._is_paused:
            piece, self._unsent = self._unsent[:PIECE_BYTES], self._unsent[PIECE_BYTES:]
            try:
                self._write(piece)
            except Exception as error:  # noqa: BLE001 - as above
                self._break_off(_unwritable(error))
                return
        if not self._unsent:
            self._unsent = None
        self._set_deadline()

    def _set_deadline(self) -> None:
        self.deadline_s = deadline_s = min(self._loop.time() + self._timeout_s, self._end_s)
        if deadline_s < self._owner.watch_at_s:
            self._owner.expect_within(deadline_s)

    def _feed(self, parser: HttpResponseParser, data: bytes) -> None:
        waiter = self._waiter
        if self._is_awaited:  # nothing of a small request's reply has come yet
            self._is_awaited = False
            answer = read_plain_reply(data, _NAMES)  # the parser stands between two messages still
            if answer is not None and waiter is not None and not waiter.done():
                self.deadline_s = self._waiter = None
                if self.is_open:
                    self._owner.release(self)
                else:
                    self.close()
                writes = self._owner.writes  # as ``_tell``, without the call
                writes.is_held = True
                try:
                    waiter.set_result(answer)
                finally:
                    writes.is_held = False
                return
        if waiter is None or not self._is_written or (self._is_streamed and self._has_reply()):
            # Unasked for: there is no request, it is not written yet, or its reply has been read.
            self._break_off(ConnectionError("the endpoint sent more than its reply"))
            return
        self._received_bytes += len(data)
        try:
            parser.feed_data(data)
        except HttpParserUpgrade:
            self._break_off(ConnectionError("the endpoint switched protocols"))
            return
        except HttpParserError as error:
            if not self._has_reply():
                self._break_off(ConnectionError(f"the reply is not HTTP ({error})"))
                return
            self._has_more = True
        if self._received_bytes > MAX_HEAD_BYTES and self._is_too_large():
            return
        if self._is_whole:
            if self._has_more and not self._is_streamed:
                # Which of the bytes are the reply nobody can tell: its stated length is wrong.
                self._break_off(ConnectionError("the endpoint sent more than its reply"))
                return
            self._finish()
        elif not waiter.done():
            self._set_deadline()

    def _is_too_large(self) -> bool:
        """Break off a reply that is larger than any of Lambda's."""
        head_bytes = (
            sum(len(name) + len(value) + 4 for name, value in self._headers.items())
            if self._has_headers
            else self._received_bytes
        )
        if head_bytes > MAX_HEAD_BYTES:
            self._break_off(ConnectionError(f"the reply's head is larger than {MAX_HEAD_BYTES:,} bytes"))
            return True
        if self._received_bytes > MAX_REPLY_BYTES and not self._is_streamed:
            self._break_off(ConnectionError(f"the reply is larger than {MAX_REPLY_BYTES:,} bytes"))
            return True
        return False

    def _has_reply(self) -> bool:
        return self._is_whole

    def _end(self) -> None:
        """The other end has closed in good order: which ends a reply of unstated length as well."""
        self.is_open = False
        if (
            self._parser is not None
            and self._has_headers
            and not self._is_whole
            and not self._headers.keys() & {"content-length", "transfer-encoding"}
        ):
            self._is_whole = True
            self._finish()
        self._transport.close()

    def _finish(self) -> None:
        if self._is_streamed:
            self._wake()
            return
        waiter, chunks = self._waiter, self._chunks
        assert waiter is not None
        if waiter.done():  # cancelled, and its caller has not yet heard of it
            self.abort()
            return
        answer = self._status, self._headers, chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._free()
        self._tell(waiter, answer)

    def _tell(self, waiter: asyncio.Future[Any] | Waiter, answer: Answer) -> None:
        # Who is told may send the next request at once, over this connection as well: it is written when
        # the turn is over, and with it everything that came together with this reply was seen.
        writes = self._owner.writes
        writes.is_held = True
        try:
            waiter.set_result(answer)
        finally:
            writes.is_held = False

    def _free(self) -> None:
        self.deadline_s = None
        self._waiter = None
        self._is_streamed = False
        # A request that was answered before it was whole cannot be followed by another.
        if self.is_open and self._unsent is None and self._keeps_alive:
            self._reset()
            self._owner.release(self)
        else:
            self.close()

    def _reset(self) -> None:
        self._status = 0
        self._headers = {}
        self._chunks: list[bytes] = []
        self._buffered_bytes = 0
        self._received_bytes = 0
        self._has_headers = self._is_whole = self._keeps_alive = self._has_more = False

    def _break_off(self, error: Exception) -> None:
        self._fail(error)
        self.abort()

    def _fail(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error if self._is_written else NotWritten(str(error)))

    def _wake(self) -> None:
        """Let whoever reads piece by piece go on."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            self.deadline_s = None
            cast("asyncio.Future[None]", waiter).set_result(None)


def _unwritable(error: Exception) -> ConnectionError:
    words = in_words(error) if isinstance(error, ssl.SSLError) else f"{type(error).__name__}: {error}"
    return ConnectionError(f"the request could not be written: {words}")
