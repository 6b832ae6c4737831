"""A streamed reply for one consumer: chunks as they come, then the outcome."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import anyio

from fanout.dispatcher.engine import Engine
from fanout.dispatcher.feeds import CallFeed, Feed
from fanout.dispatcher.job import Job
from fanout.model import Outcome
from fanout.transports import OnChunk


class StreamFeed(CallFeed):
    """One call of ``Dispatcher.stream``. A slow consumer holds the reply back, chunk by chunk."""

    def __init__(self, engine: Engine, make_job: Callable[[Feed], Job]) -> None:
        super().__init__(engine, make_job)
        self._sender, self.chunks = anyio.create_memory_object_stream[bytes](max_buffer_size=1)
        self.future.add_done_callback(lambda _: self._sender.close())

    def chunk_writer(self, job: Job) -> OnChunk:  # noqa: ARG002
        return self._write

    async def _write(self, chunk: bytes) -> None:
        try:
            await self._sender.send(chunk)
        except anyio.BrokenResourceError:
            return  # the consumer left: the rest of the reply is read and dropped


class ReplyStream(AsyncIterator[bytes]):
    """The chunks of one streamed reply; ``outcome`` is set when they have ended.

    A function error ends the chunks and stands in the outcome, as with ``invoke``.
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
        try:
            return await self._feed.chunks.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            self.outcome = await asyncio.shield(self._feed.future)
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        """Take no more chunks; the call itself is left to finish."""
        if self._feed is not None:
            self._feed.chunks.close()
