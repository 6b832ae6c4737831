"""A streamed reply for one consumer: chunks as they come, then the outcome."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import anyio

from fanout.dispatcher.call import Call
from fanout.dispatcher.calls import CallMaker
from fanout.dispatcher.engine import Engine
from fanout.dispatcher.feed import CallFeed
from fanout.dispatcher.record import InputRecord
from fanout.errors import FanoutError
from fanout.model import OnChunk, Outcome


class StreamFeed(CallFeed):
    """One call of ``Dispatcher.stream``. A slow consumer holds the reply back, chunk by chunk."""

    def __init__(self, engine: Engine, calls: CallMaker, record: InputRecord) -> None:
        super().__init__(engine, calls, record, calls.stream_template())
        self.is_cut = False  # the dispatcher was left before the consumer had taken every chunk
        self._has_begun = False
        self._sender, self._chunks = anyio.create_memory_object_stream[bytes](max_buffer_size=1)
        self.future.add_done_callback(lambda _: self._on_done())

    @property
    def may_repeat(self) -> bool:  # type: ignore[override]
        return not self._has_begun  # a second attempt's chunks would follow the first one's

    def chunk_writer(self, call: Call) -> OnChunk:  # noqa: ARG002
        return self._write

    async def take(self) -> bytes | None:
        """The next chunk; None when there are no more, or nobody wants more."""
        try:
            return await self._chunks.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            return None

    def abandon(self) -> None:
        """Take no more chunks: the rest of the reply is read and dropped."""
        self._chunks.close()

    def close(self) -> None:
        super().close()
        if not self.future.done():
            self.is_cut = True
            self.abandon()  # the worker must not wait for a consumer who may be the one that leaves

    async def _write(self, chunk: bytes) -> None:
        self._has_begun = True
        try:
            await self._sender.send(chunk)
        except anyio.BrokenResourceError:
            return

    def _on_done(self) -> None:
        self._sender.close()
        self.engine.forget(self)


class ReplyStream(AsyncIterator[bytes]):
    """The chunks of one streamed reply; ``outcome`` is set when they have ended.

    A function error ends the chunks and stands in the outcome, as with ``invoke``. Raises FanoutError
    when the dispatcher is left before the last chunk was taken.
    """

    def __init__(self, start: Callable[[], StreamFeed]) -> None:
        self._start = start
        self._feed: StreamFeed | None = None
        self.outcome: Outcome | None = None

    def __aiter__(self) -> ReplyStream:
        return self

    async def __anext__(self) -> bytes:
        if self._feed is None:
            self._feed = self._start()
        chunk = await self._feed.take()
        if chunk is not None:
            return chunk
        self.outcome = await asyncio.shield(self._feed.future)
        if self._feed.is_cut and self.outcome.ok:
            raise FanoutError("the dispatcher was left before the streamed reply had ended")
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Take no more chunks; the call itself is left to finish."""
        if self._feed is not None:
            self._feed.abandon()

    def __del__(self) -> None:
        if self._feed is not None:
            self._feed.engine.call(self._feed.abandon)
