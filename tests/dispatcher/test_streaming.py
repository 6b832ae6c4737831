"""Streamed replies: chunks as they come, then the outcome; leaving early holds nothing up."""

from __future__ import annotations

import asyncio

import pytest

from fanout import Dispatcher, FanoutError
from fanout.model import InvokeTemplate, OnChunk, Reply
from tests.scripted import UNAVAILABLE, Scripted, function_error, lost, ok

pytestmark = [pytest.mark.looptime, pytest.mark.usefixtures("no_task_left")]


async def test_chunks_come_before_the_outcome() -> None:
    """Each as it arrives; then ``outcome`` says how it ended."""
    async with Dispatcher("f", transport=Scripted(), concurrency=1) as dispatcher:
        stream = dispatcher.stream("abc")
        chunks = [chunk async for chunk in stream]
    assert b"".join(chunks) == b'"abc"'
    assert len(chunks) == 5
    assert stream.outcome is not None
    assert (stream.outcome.status, stream.outcome.seq) == ("succeeded", 0)


async def test_a_slow_consumer_holds_the_reply_back() -> None:
    """At most one chunk waits beside the one being written."""
    written: list[float] = []

    class Slow(Scripted):
        async def send(self, template: InvokeTemplate, body: bytes, on_chunk: OnChunk | None = None) -> Reply:
            assert on_chunk is not None
            for _ in range(5):
                await on_chunk(b"x")
                written.append(asyncio.get_running_loop().time())
            return Reply(200)

    start_s = asyncio.get_running_loop().time()
    async with Dispatcher("f", transport=Slow(), concurrency=1) as dispatcher:
        async for _ in dispatcher.stream(1):
            await asyncio.sleep(1)
    assert [round(s - start_s) for s in written] == [0, 0, 1, 2, 3]


async def test_a_function_error_ends_the_chunks() -> None:
    """It stands in the outcome."""
    async with Dispatcher("f", transport=Scripted([function_error("E")]), concurrency=1) as dispatcher:
        stream = dispatcher.stream(1)
        assert [chunk async for chunk in stream] == []
    assert stream.outcome is not None
    assert (stream.outcome.status, stream.outcome.error and stream.outcome.error.type) == (
        "function_error",
        "E",
    )


async def test_a_stream_is_repeated_only_before_its_first_chunk() -> None:
    """Chunks of a second attempt after those of the first would be a reply that nobody sent."""

    class Broken(Scripted):
        async def send(self, template: InvokeTemplate, body: bytes, on_chunk: OnChunk | None = None) -> Reply:
            assert on_chunk is not None
            self.count += 1
            if self.count == 1:
                return UNAVAILABLE
            await on_chunk(b"half")
            raise lost()

    transport = Broken()
    async with Dispatcher("f", transport=transport, concurrency=1, idempotent=True) as dispatcher:
        stream = dispatcher.stream(1)
        assert [chunk async for chunk in stream] == [b"half"]
    assert transport.count == 2
    assert stream.outcome is not None
    assert stream.outcome.status == "unknown"


@pytest.mark.parametrize("how", ["break", "aclose"])
async def test_leaving_a_stream_lets_its_call_finish(how: str) -> None:
    """Its permit comes back, and the dispatcher can be left."""
    async with Dispatcher("f", transport=Scripted(), concurrency=1) as dispatcher:
        stream = dispatcher.stream("long" * 100)
        async for _ in stream:
            break
        if how == "aclose":
            await stream.aclose()
        else:
            del stream
        async with asyncio.timeout(10):
            assert (await dispatcher.invoke(1)).ok


async def test_leaving_the_dispatcher_ends_a_stream_that_is_half_read() -> None:
    """Leaving does not wait for a consumer; reading on tells that the rest is missing."""
    async with asyncio.timeout(10):
        async with Dispatcher("f", transport=Scripted(lambda _: ok(b"0123456789")), concurrency=1) as d:
            stream = d.stream(1)
            assert await anext(stream) == b"0"
    with pytest.raises(FanoutError, match="was left before the streamed reply had ended"):
        await anext(stream)
