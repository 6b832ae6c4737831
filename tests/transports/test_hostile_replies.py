"""Whatever the other end does, a call ends in a whole reply or in an error that says if it may have run."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fanout.classify import classify, classify_failure
from fanout.errors import ReplyLost, TransportError
from fanout.invoke_request import build_template
from fanout.log_tail import decode_tail, parse_report
from fanout.model import Classification, Reply, Verdict
from fanout.transports import Transport
from tests.example_counts import examples
from tests.transports.wire import Script, Wire, chunk, complete, frame, http, stream, transport_to, wire

SYNC = build_template(function="f", log_type="Tail")
STREAM = build_template(function="f", stream=True)
BODY = b'{"answer": 42, "text": "\xc3\xbc"}'
WHOLE = http(200, BODY, {"x-amzn-RequestId": "r-1", "X-Amz-Executed-Version": "1"})
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nx-amzn-RequestId: r-1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"10\r\n" + BODY[:16] + b"\r\n%x\r\n" % len(BODY[16:]) + BODY[16:] + b"\r\n0\r\n\r\n"
)
STREAMED = stream(chunk(b"one"), chunk(b"two"), complete())


class Bench:
    """An endpoint and one transport on one event loop, called from a synchronous test."""

    def __init__(self, runner: asyncio.Runner, endpoint: Wire, transport: Transport) -> None:
        self.runner, self.endpoint, self.transport = runner, endpoint, transport

    def call(self, script: Script, *, streaming: bool = False) -> Reply | TransportError:
        """What one call to an endpoint with this script ends in. Any other exception fails the test."""
        self.endpoint.respond = lambda _: script
        return self.runner.run(self._call(streaming=streaming))

    async def _call(self, *, streaming: bool) -> Reply | TransportError:
        template = STREAM if streaming else SYNC
        try:
            async with asyncio.timeout(10):
                return await self.transport.send(template, b"{}")
        except TransportError as error:
            return error


@pytest.fixture(scope="module", params=["direct", "direct on uvloop", "sdk"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Either transport, with a read timeout short enough to wait for."""
    kind, _, loop = request.param.partition(" on ")
    factory = pytest.importorskip(loop).new_event_loop if loop else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        stack = contextlib.AsyncExitStack()
        endpoint = runner.run(stack.enter_async_context(wire()))
        transport = runner.run(
            stack.enter_async_context(transport_to(endpoint.url, kind, read_timeout_s=1.0))
        )
        yield Bench(runner, endpoint, transport)
        runner.run(stack.aclose())


def meaning(end: Reply | TransportError, *, streaming: bool = False) -> Classification:
    """The verdict of an end, with everything that reads it run over it."""
    if isinstance(end, TransportError):
        assert "\n" not in str(end)
        return classify_failure(end)
    if end.log_result is not None:
        parse_report(decode_tail(end.log_result), end.request_id)
    return classify(end, STREAM if streaming else SYNC)


ends = st.sampled_from(["close", "reset"])
pieces = st.sampled_from([1, 2, 7])


@settings(max_examples=examples(60), deadline=None)
@given(whole=st.sampled_from([WHOLE, CHUNKED]), cut=st.integers(0, 400), end=ends, pieces=pieces)
@example(whole=WHOLE, cut=0, end="close", pieces=1)
@example(whole=WHOLE, cut=0, end="reset", pieces=1)
@example(whole=WHOLE, cut=len(WHOLE) - 1, end="close", pieces=1)
@example(whole=CHUNKED, cut=len(CHUNKED) - 1, end="close", pieces=1)
@example(whole=CHUNKED, cut=len(CHUNKED) - 6, end="close", pieces=1)
def test_a_reply_cut_anywhere_is_lost(bench: Bench, whole: bytes, cut: int, end: str, pieces: int) -> None:
    """At any byte, by a close or a reset: no part of a reply is taken for the whole, and it may have run."""
    cut %= len(whole)
    result = bench.call(Script(whole[:cut], end=end, pieces=pieces))
    assert isinstance(result, ReplyLost)
    assert meaning(result).verdict is Verdict.AMBIGUOUS


@settings(max_examples=examples(40), deadline=None)
@given(cut=st.integers(0, len(STREAMED) - 1), end=ends, pieces=pieces)
@example(cut=len(STREAMED) - 5, end="close", pieces=1)
def test_a_stream_cut_anywhere_is_lost(bench: Bench, cut: int, end: str, pieces: int) -> None:
    """Half a chunk or half a frame is no reply; nor is a stream without its InvokeComplete."""
    result = bench.call(Script(STREAMED[:cut], end=end, pieces=pieces), streaming=True)
    assert isinstance(result, ReplyLost)


@settings(max_examples=examples(40), deadline=None)
@given(position=st.integers(0, 300), bit=st.integers(0, 7))
def test_a_frame_with_a_flipped_bit_is_lost(bench: Bench, position: int, bit: int) -> None:
    """Checksums of the event stream are checked; a damaged frame never passes for data."""
    frames = bytearray(chunk(b"one") + chunk(b"two") + complete())
    frames[position % len(frames)] ^= 1 << bit
    result = bench.call(Script(stream(bytes(frames)), end="close"), streaming=True)
    assert isinstance(result, ReplyLost)


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [chunk(b"x")],
        [complete(), chunk(b"x")],
        [complete(b"{")],
        [complete(b"[]")],
        [complete(b"\xff")],
        [frame({":message-type": "exception", ":exception-type": "ServiceException"}, b"{}")],
        [frame({":message-type": "error", ":error-code": "500", ":error-message": "x"}, b"")],
        [b"{}"],
    ],
    ids=[
        "empty",
        "no-end",
        "after-end",
        "half-end",
        "list-end",
        "byte-end",
        "exception",
        "error",
        "no-frame",
    ],
)
def test_a_stream_that_does_not_end_well_is_lost(bench: Bench, frames: list[bytes]) -> None:
    """The one good end of a stream is one InvokeComplete, and nothing after it."""
    result = bench.call(Script(stream(*frames), end="close"), streaming=True)
    assert isinstance(result, ReplyLost)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    data=st.one_of(
        st.binary(max_size=120), st.binary(max_size=60).map(lambda tail: b"HTTP/1.1 200 OK\r\n" + tail)
    )
)
@example(data=b"")
@example(data=b"HTTP/1.1 200 OK\r\n\r")
@example(data=b"HTTP/1.1 OK\r\n\r\n")
@example(data=b"SSH-2.0-OpenSSH_9\r\n")
@example(data=b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nabcdefg")
@example(data=b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}")
@example(data=b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n{}")
@example(data=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n{}")
@example(data=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n{}")
@example(data=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}XX0\r\n\r\n")
def test_random_bytes_are_no_success(bench: Bench, data: bytes) -> None:
    """Bytes that are no HTTP reply are a lost one; random bytes never make a success."""
    result = bench.call(Script(data, end="close"))
    if isinstance(result, Reply):
        # HTTP allows a body that ends with the connection, so a random tail may be a whole reply.
        assert b"\n\r\n" in data or b"\n\n" in data
        assert meaning(result).verdict in (Verdict.SUCCESS, Verdict.AMBIGUOUS, Verdict.FUNCTION_ERROR)
    else:
        assert isinstance(result, ReplyLost)


@settings(max_examples=examples(60), deadline=None)
@given(
    status=st.integers(200, 599).filter(lambda status: status not in (204, 304)),
    body=st.binary(max_size=40),
    headers=st.dictionaries(
        st.sampled_from(
            [
                "X-Amz-Function-Error",
                "X-Amz-Log-Result",
                "x-amzn-ErrorType",
                "Retry-After",
                "x-amzn-RequestId",
            ]
        ),
        st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f"), max_size=12),
        max_size=4,
    ),
)
@example(status=200, body=b"{}", headers={"X-Amz-Function-Error": "\xff"})
@example(status=200, body=b"{}", headers={"X-Amz-Log-Result": "\xff%%"})
def test_odd_headers_and_bodies_get_the_verdict_of_their_status(
    bench: Bench, status: int, body: bytes, headers: dict[str, str]
) -> None:
    """Broken base64, broken JSON, header values in no encoding: never a wrong success, never an exception."""
    result = bench.call(Script(http(status, body, headers)))
    verdict = meaning(result).verdict
    if isinstance(result, Reply):
        assert result.status == status
        assert result.body == body
    clean = status == 200 and "X-Amz-Function-Error" not in headers
    if verdict is Verdict.SUCCESS:
        assert clean
    if clean and all(value.isascii() for value in headers.values()):
        assert verdict is Verdict.SUCCESS


def test_a_silent_endpoint_is_given_up_after_the_read_timeout(bench: Bench) -> None:
    """Its function may be running."""
    for script in (Script(WHOLE, wait_s=3.0), Script(WHOLE[:-5], end="keep")):
        result = bench.call(script)
        assert isinstance(result, ReplyLost)
        assert "timed out" in str(result)
    bench.runner.run(_abort(bench.endpoint))


async def _abort(endpoint: Wire) -> None:
    for writer in list(endpoint.writers):
        writer.transport.abort()
    await asyncio.sleep(0)


def test_after_any_failure_the_next_call_works(bench: Bench) -> None:
    """A broken connection is thrown away, never used again."""
    for bad in (WHOLE[:-3], WHOLE + b"surplus", b"garbage\r\n\r\n", CHUNKED[:-3]):
        bench.call(Script(bad, end="close"))
        good = bench.call(Script(WHOLE))
        assert isinstance(good, Reply)
        assert json.loads(good.body)["answer"] == 42
