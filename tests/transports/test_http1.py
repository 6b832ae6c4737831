"""One connection: whatever the cuts, the same reply; nobody gets another call's; timeouts are kept."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Any

import pytest
import trustme
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fanout.transports.http.gathered_writes import GatheredWrites
from fanout.transports.http.http1 import Connection, NotWritten
from tests.example_counts import examples


class Socket(asyncio.Transport):
    """What asyncio would be: keeps what is written, and is told to pause, resume, close."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = False
        self.is_reading_paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = True

    def pause_reading(self) -> None:
        self.is_reading_paused = True

    def resume_reading(self) -> None:
        self.is_reading_paused = False


class Kept:
    """What would be the pool."""

    watch_at_s = float("inf")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.writes = GatheredWrites(loop)
        self.released: list[Connection] = []
        self.forgotten: list[Connection] = []
        self.deadlines_s: list[float] = []
        self.sessions: list[ssl.SSLSession | None] = []

    def release(self, connection: Connection) -> None:
        self.released.append(connection)

    def forget(self, connection: Connection) -> None:
        self.forgotten.append(connection)

    def expect_within(self, deadline_s: float) -> None:
        self.deadlines_s.append(deadline_s)

    def remember(self, session: ssl.SSLSession | None) -> None:
        self.sessions.append(session)


class Line:
    """A connection, both its ends in the test's hand."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.kept, self.socket = Kept(loop), Socket()
        self.connection = Connection(self.kept, loop)
        self.connection.connection_made(self.socket)
        self.connection.begin()

    async def asked(self, body: bytes = b"{}", *, streamed: bool = False) -> asyncio.Task[Any]:
        """A task that waits for a reply; its request is written."""
        ask = self.connection.ask_streamed if streamed else self.connection.ask
        task: asyncio.Task[Any] = asyncio.ensure_future(ask(b"POST / HTTP/1.1\r\n\r\n", body, 5.0))
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # a request that is not the first of its turn
        return task

    def start_behind_another(self) -> asyncio.Future[Any]:
        """Start a request that waits for the end of the turn to be written."""
        self.kept.writes._turn_s = now_s = 7.0
        self.connection._loop = FixedTime(now_s)  # type: ignore[assignment]
        waiter: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.connection.start(b"POST / HTTP/1.1\r\n\r\n", b"{}", 5.0, 5.0, waiter)
        return waiter

    def deadline_s(self) -> float | None:
        """Of the request under way."""
        return self.connection.deadline_s

    def is_held_back(self) -> bool:
        """Whether the sender is."""
        return self.socket.is_reading_paused


COUNTED = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Amzn-RequestId: r\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Amzn-RequestId: r\r\n\r\n"
    b"2\r\nhe\r\n3;note=x\r\nllo\r\n0\r\nX-Amzn-RequestId: from a trailer\r\n\r\n"
)
INTERIM = b"HTTP/1.1 103 Early Hints\r\nX-Amzn-RequestId: early\r\n\r\n"
UNTIL_CLOSED = b"HTTP/1.1 200 OK\r\nX-Amzn-RequestId: r\r\n\r\nhello"


@settings(max_examples=examples(200), deadline=None)
@given(
    wire=st.sampled_from([COUNTED, CHUNKED, INTERIM + COUNTED, b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED]),
    cuts=st.lists(st.integers(0, 300), max_size=12),
)
@example(wire=INTERIM + COUNTED, cuts=list(range(300)))
def test_a_reply_is_the_same_however_it_is_cut(wire: bytes, cuts: list[int]) -> None:
    """Status, headers and body; interim replies are passed over; the connection is free again at the end."""

    async def ask() -> None:
        line = Line(asyncio.get_running_loop())
        for _ in range(2):  # on the same connection
            task = await line.asked()
            places = sorted({cut for cut in cuts if 0 < cut < len(wire)})
            for begin, end in zip([0, *places], [*places, len(wire)], strict=True):
                assert not task.done()
                line.connection.data_received(wire[begin:end])
            status, headers, body = await task
            assert (status, headers.get("x-amzn-requestid"), body) == (200, "r", b"hello")
        assert len(line.kept.released) == 2
        assert not line.socket.is_closed

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(ask())


@pytest.mark.parametrize(
    ("wire", "is_kept"),
    [
        (COUNTED, True),
        (b"HTTP/1.1 204 X\r\n\r\n", True),
        (b"HTTP/1.1 304 X\r\nContent-Length: 9\r\n\r\n", True),
        (COUNTED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), False),
        (COUNTED.replace(b"/1.1", b"/1.0"), False),
    ],
)
async def test_only_a_clean_end_keeps_a_connection(wire: bytes, is_kept: bool) -> None:
    """Where more may come than the next reply, the connection is closed."""
    line = Line(asyncio.get_running_loop())
    task = await line.asked()
    line.connection.data_received(wire)
    status, _, body = await task
    assert (status, body) in ((200, b"hello"), (204, b""), (304, b""))
    assert (bool(line.kept.released), line.socket.is_closed) == (is_kept, not is_kept)


@pytest.mark.parametrize(
    "surplus", [b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad", b"surplus", b"HTTP", b"}"]
)
async def test_a_length_shorter_than_the_body_loses_the_reply(surplus: bytes) -> None:
    """Which of the bytes are the function's nobody can tell: cut short, a number is another number."""
    line = Line(asyncio.get_running_loop())
    task = await line.asked()
    line.connection.data_received(COUNTED + surplus)
    with pytest.raises(ConnectionError, match="sent more than its reply"):
        await task
    assert line.socket.is_closed
    assert not line.kept.released


@pytest.mark.parametrize("piece_bytes", [1_000, 200_000])
@pytest.mark.parametrize("is_streamed", [False, True])
async def test_heads_and_replies_are_bounded(piece_bytes: int, is_streamed: bool) -> None:
    """An endpoint that never ends fills no memory: 64 KiB of head, 7 MiB of a reply that is read whole."""
    head = b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"v" * 200) for n in range(1_000))
    body = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"ffff\r\n%s\r\n" % (b"v" * 65_535) * 120
    )
    for wire, why in ((head, "head is larger"), (body, "the reply is larger")):
        if is_streamed and wire is body:
            continue
        line = Line(asyncio.get_running_loop())
        task = await line.asked(streamed=is_streamed)
        for at in range(0, len(wire), piece_bytes):
            line.connection.data_received(wire[at : at + piece_bytes])
            if line.socket.is_closed:
                break
        with pytest.raises(ConnectionError, match=why):
            await task


async def test_a_head_in_one_piece_is_bounded_alike() -> None:
    """Of headers that are known already, too: 64 KiB."""
    line = Line(asyncio.get_running_loop())
    task = await line.asked()
    line.connection.data_received(COUNTED)  # its header names are known from now on
    await task
    task = await line.asked()
    line.connection.data_received(COUNTED.replace(b": r\r\n", b": %s\r\n" % (b"r" * 70_000)))
    with pytest.raises(ConnectionError, match="head is larger"):
        await task


async def test_a_reply_of_unstated_length_ends_with_the_connection() -> None:
    """By a close in good order; not by a break, and never where a length was stated."""
    for wire, end, is_whole in (
        (UNTIL_CLOSED, "eof", True),
        (UNTIL_CLOSED, "break", False),
        (COUNTED[:-1], "eof", False),
        (CHUNKED[:-1], "eof", False),
        (UNTIL_CLOSED[:-12], "eof", False),
    ):
        line = Line(asyncio.get_running_loop())
        task = await line.asked()
        line.connection.data_received(wire)
        if end == "eof":
            line.connection.eof_received()
        line.connection.connection_lost(None if end == "eof" else ConnectionResetError(104, "reset"))
        if is_whole:
            assert (await task)[2] == b"hello"
        else:
            with pytest.raises(ConnectionError):
                await task
        assert line.kept.released == []


async def test_a_cancelled_call_leaves_its_connection_to_nobody() -> None:
    """Even when the reply comes between the cancelling and the call's hearing of it."""
    for is_late in (False, True):
        line = Line(asyncio.get_running_loop())
        task = await line.asked()
        task.cancel()
        if is_late:
            line.connection.data_received(COUNTED)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert line.socket.is_closed
        assert not line.connection.is_open
        assert line.kept.released == []


async def test_a_call_cancelled_after_its_reply_spares_the_connection() -> None:
    """It is free by then, and may be another call's already."""
    line = Line(asyncio.get_running_loop())
    task = await line.asked()
    line.connection.data_received(COUNTED)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    other = await line.asked()
    line.connection.data_received(COUNTED)
    assert (await other)[2] == b"hello"


async def test_bytes_that_nobody_asked_for_end_the_connection() -> None:
    """A reply to no request would be taken for the next one's."""
    line = Line(asyncio.get_running_loop())
    line.connection.data_received(COUNTED)
    assert line.socket.is_closed
    assert not line.connection.is_open


async def test_a_large_body_is_written_as_fast_as_it_is_taken_off() -> None:
    """It waits while the socket is full, the timeout counts from the last byte taken, and all of it goes."""
    line = Line(asyncio.get_running_loop())
    body = bytes(range(256)) * 2_000
    line.connection.pause_writing()
    task = await line.asked(body)
    assert len(line.socket.written) < 1_000
    before = len(line.kept.deadlines_s)
    line.connection.resume_writing()
    assert len(line.kept.deadlines_s) > before
    assert line.socket.written.endswith(body)
    line.connection.data_received(COUNTED)
    await task
    assert line.kept.released == [line.connection]


async def test_a_reply_before_the_request_is_whole_ends_the_connection() -> None:
    """A 413, say: it counts, but the rest of the body would be taken for the next request."""
    line = Line(asyncio.get_running_loop())
    line.connection.pause_writing()
    task = await line.asked(b"x" * 200_000)
    line.connection.data_received(b"HTTP/1.1 413 X\r\nContent-Length: 0\r\n\r\n")
    assert (await task)[0] == 413
    assert line.socket.is_closed
    assert line.kept.released == []


async def test_a_deadline_is_there_while_a_reply_is_waited_for() -> None:
    """Each byte that comes moves it; with the reply it is gone; ``give_up`` ends the call."""
    line = Line(asyncio.get_running_loop())
    assert line.deadline_s() is None
    task = await line.asked()
    first_s = line.deadline_s()
    assert first_s is not None
    await asyncio.sleep(0.02)
    line.connection.data_received(COUNTED[:10])
    assert (line.deadline_s() or 0) > first_s
    line.connection.data_received(COUNTED[10:])
    assert line.deadline_s() is None
    await task
    task = await line.asked()
    line.connection.give_up()
    with pytest.raises(TimeoutError, match="timed out"):
        await task
    assert line.socket.is_closed


async def test_a_slow_reader_of_a_stream_holds_back_the_sender() -> None:
    """Above a megabyte unread, reading stops till it is read; the reader's silence is not the endpoint's."""
    line = Line(asyncio.get_running_loop())
    task = await line.asked(streamed=True)
    line.connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n")
    assert (await task)[0] == 200
    piece = b"x" * 100_000
    sent = read = 0
    while not line.is_held_back():
        line.connection.data_received(piece)
        sent += len(piece)
    assert 1_000_000 < sent < 1_300_000
    assert line.deadline_s() is None
    while line.is_held_back():
        read += len(await line.connection.read_chunk() or b"")
    for _ in range((3_000_000 - sent) // len(piece)):
        line.connection.data_received(piece)
    while (chunk := await line.connection.read_chunk()) is not None:
        read += len(chunk)
    assert read == 3_000_000
    assert line.kept.released == [line.connection]


async def test_a_protocol_switch_is_no_reply() -> None:
    """101 was not asked for."""
    line = Line(asyncio.get_running_loop())
    task = await line.asked()
    line.connection.data_received(b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
    with pytest.raises(ConnectionError):
        await task


class Server:
    """TLS's other end, in memory."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)

    def take(self, data: bytes) -> bytes:
        """Bytes of the client's; what is to be said in turn."""
        self.incoming.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()


async def secured() -> tuple[Server, Connection, Kept]:
    """A connection in TLS, its handshake cut after every byte, and its other end."""
    authority = trustme.CA()
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("example.com").configure_cert(theirs)
    ours = ssl.create_default_context()
    authority.configure_trust(ours)
    server, kept, socket = Server(theirs), Kept(asyncio.get_running_loop()), Socket()
    connection = Connection(kept, asyncio.get_running_loop())
    connection.connection_made(socket)
    shaking = asyncio.ensure_future(connection.shake_hands(ours, "example.com"))
    while not shaking.done():
        await asyncio.sleep(0)
        said, socket.written = socket.written, b""
        for byte in server.take(said):
            connection.data_received(bytes([byte]))
            await asyncio.sleep(0)
    await shaking
    connection.begin()
    connection.data_received(server.take(socket.written))
    return server, connection, kept


async def test_tls_survives_every_cut() -> None:
    """Handshake and reply byte by byte; and a TCP end without TLS's own is no end of a reply."""
    for is_polite in (True, False):
        server, connection, kept = await secured()
        (session,) = kept.sessions
        assert session is not None
        assert session.has_ticket
        task = asyncio.ensure_future(connection.ask(b"POST / HTTP/1.1\r\n\r\n", b"{}", 5.0))
        await asyncio.sleep(0)
        server.tls.write(UNTIL_CLOSED)
        if is_polite:
            with pytest.raises(ssl.SSLWantReadError):
                server.tls.unwrap()
        for byte in server.outgoing.read():
            connection.data_received(bytes([byte]))
        connection.eof_received()
        connection.connection_lost(None)
        if is_polite:
            assert (await task)[2] == b"hello"
        else:
            with pytest.raises(ConnectionError):
                await task


@pytest.mark.parametrize("reply", [COUNTED, CHUNKED, UNTIL_CLOSED])
async def test_a_reply_before_what_breaks_tls_counts(reply: bytes) -> None:
    """A whole reply that came in one piece with a broken record is one; of unstated length it is none."""
    server, connection, kept = await secured()
    task = asyncio.ensure_future(connection.ask(b"POST / HTTP/1.1\r\n\r\n", b"{}", 5.0))
    await asyncio.sleep(0)
    server.tls.write(reply)
    connection.data_received(server.outgoing.read() + b"\x17\x03\x03\x00\x10" + b"x" * 16)
    assert not connection.is_open
    assert not kept.released
    if reply is UNTIL_CLOSED:
        # In the words of OpenSSL 3.0, and of later ones.
        with pytest.raises(ConnectionError, match=r"TLS failed: (DECRYPTION_FAILED|RECORD_LAYER_FAILURE)"):
            await task
    else:
        assert (await task)[2] == b"hello"


async def test_what_tls_refuses_to_send_ends_the_call_and_the_connection() -> None:
    """At once, or in the midst of a large body: no exception of OpenSSL's, no wait for nothing."""

    def refuse(data: bytes | memoryview) -> None:
        raise ssl.SSLError(1, "bad write retry")

    for size in (2, 200_000):
        line = Line(asyncio.get_running_loop())
        line.connection._write = refuse
        with pytest.raises(ConnectionError, match="bad write retry"):
            await (await line.asked(b"x" * size))
        assert line.socket.is_closed
    line = Line(asyncio.get_running_loop())
    line.connection.pause_writing()
    task = await line.asked(b"x" * 200_000)
    line.connection._write = refuse
    line.connection.resume_writing()
    with pytest.raises(ConnectionError, match="bad write retry"):
        await task


async def test_a_reply_that_drips_ends_with_the_whole_calls_timeout() -> None:
    """No silence is too long, and yet the call takes no longer than its timeout."""
    loop = asyncio.get_running_loop()
    line = Line(loop)
    began_s = loop.time()
    task: asyncio.Task[Any] = asyncio.ensure_future(
        line.connection.ask(b"POST / HTTP/1.1\r\n\r\n", b"{}", 5.0, 0.05)
    )
    await asyncio.sleep(0)
    for byte in COUNTED[:-1]:
        line.connection.data_received(bytes([byte]))
        deadline_s = line.deadline_s()
        assert deadline_s is not None
        assert deadline_s <= began_s + 0.1
    await asyncio.sleep(0.06)
    line.connection.give_up()  # as the pool does at the deadline
    with pytest.raises(TimeoutError, match="the call timed out as a whole"):
        await task


async def test_a_request_that_is_awaited_no_longer_is_not_written() -> None:
    """It waits for the end of the turn when its caller is cancelled: the function need not run."""
    line = Line(loop := asyncio.get_running_loop())
    line.kept.writes.add(line.connection, b"first of the turn", loop.time())
    waiter = line.connection._loop.create_future()
    line.kept.writes._turn_s = now_s = 1.0
    line.kept.writes.add(line.connection, b"second", now_s)
    waiter.cancel()
    line.connection.leave(waiter)
    await asyncio.sleep(0)
    assert line.socket.written == b"first of the turn"


class FixedTime:
    """A loop whose clock stands still, as uvloop's does within a turn."""

    def __init__(self, now_s: float) -> None:
        self.create_future = asyncio.get_running_loop().create_future
        self._now_s = now_s

    def time(self) -> float:
        return self._now_s


@pytest.mark.parametrize("unasked", [COUNTED, CHUNKED, COUNTED[:30]])
async def test_what_comes_before_the_request_is_written_is_not_its_reply(unasked: bytes) -> None:
    """The function never ran: the call fails, is not written, and no other call gets that connection."""
    line = Line(asyncio.get_running_loop())
    waiter = line.start_behind_another()
    line.connection.data_received(unasked)
    assert isinstance(waiter.exception(), ConnectionError)
    line.kept.writes._write()
    assert line.socket.written == b""
    assert line.kept.released == []
    assert line.socket.is_closed


async def test_a_body_that_looks_like_a_reply_is_none_after_an_interim_one() -> None:
    """The head came with the interim reply; what follows is the body, whatever it says."""
    line = Line(asyncio.get_running_loop())
    task = await line.asked()
    line.connection.data_received(COUNTED)  # its header names are known from now on
    await task
    task = await line.asked()
    line.connection.data_received(INTERIM + b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(COUNTED))
    line.connection.data_received(COUNTED)
    assert (await task)[2] == COUNTED


@pytest.mark.parametrize("end", ["lost", "ended", "timed out"])
async def test_a_request_that_waited_while_its_connection_ended_was_not_sent(end: str) -> None:
    """Not a byte of it went out, so that the function cannot have run: no lost reply, whatever ended it."""
    line = Line(asyncio.get_running_loop())
    waiter = line.start_behind_another()
    if end == "lost":
        line.connection.connection_lost(None)
    elif end == "ended":
        line.connection.eof_received()
    else:
        line.connection.give_up()
    line.kept.writes._write()
    assert isinstance(waiter.exception(), NotWritten)
    assert line.socket.written == b""


async def test_a_write_that_raises_is_the_end_of_its_own_request_alone() -> None:
    """Those that wait behind it go out all the same; and of the one that failed a part may have."""
    line, next_line = (Line(asyncio.get_running_loop()) for _ in range(2))
    next_line.connection._owner = line.kept

    def refuse(data: bytes | memoryview) -> None:
        raise RuntimeError("no such buffer")

    line.connection._write = refuse
    waiter, next_waiter = line.start_behind_another(), next_line.start_behind_another()
    line.kept.writes._write()
    error = waiter.exception()
    assert isinstance(error, ConnectionError)
    assert not isinstance(error, NotWritten)
    assert "no such buffer" in str(error)
    assert line.socket.is_closed
    assert next_line.socket.written.endswith(b"{}")
    assert not next_waiter.done()


async def test_a_call_that_follows_a_reply_on_the_spot_waits_for_what_came_with_it() -> None:
    """The connection is free when its reply is told; if its end came too, the next call was not sent."""
    loop = asyncio.get_running_loop()
    line = Line(loop)
    next_waiter = loop.create_future()

    class Next:
        answer: Any = None

        def done(self) -> bool:
            return self.answer is not None

        def set_result(self, answer: Any) -> None:
            self.answer = answer
            assert line.kept.released == [line.connection]
            line.connection.start(b"POST /next HTTP/1.1\r\n\r\n", b"{}", 5.0, 5.0, next_waiter)

        def set_exception(self, exception: Exception) -> None:
            raise exception

    for reply in (COUNTED, CHUNKED):
        line, told = Line(loop), Next()
        next_waiter = loop.create_future()
        line.connection.start(b"POST / HTTP/1.1\r\n\r\n", b"{}", 5.0, 5.0, told)
        line.kept.writes._write()
        line.connection.data_received(reply)
        assert told.answer[0] == 200
        line.connection.connection_lost(None)
        await asyncio.sleep(0)
        assert isinstance(next_waiter.exception(), NotWritten)
        assert b"/next" not in line.socket.written
