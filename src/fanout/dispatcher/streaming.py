"""A streamed reply for one consumer: chunks as they come, then the outcome."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from fanout.dispatcher.call import Call
from fanout.dispatcher.call_maker import CallMaker
from fanout.dispatcher.engine import Engine
from fanout.dispatcher.feed import CallFeed
from fanout.errors import FanoutError
from fanout.model import OnChunk, Outcome
from fanout.stats import CallTrace


class StreamFeed(CallFeed):
    """One call of ``Dispatcher.stream``. A slow consumer holds the reply back, chunk by chunk."""

    def __init__(
        self,
        engine: Engine,
        calls: CallMaker,
        seq: int,
        payload: Any,
        key: str | None,
        *,
        trace: CallTrace | None = None,
        deadline_s: float | None = None,
    ) -> None:
        super().__init__(engine, calls, seq, payload, key, template=calls.stream_template())
        self.trace, self.deadline_s = trace, deadline_s
        self.is_cut = False  # the dispatcher was left before the consumer had taken every chunk
        self._has_begun = False
        self._chunks = _Channel()
        self.future.add_done_callback(lambda _: self._on_done())

    @property
    def may_repeat(self) -> bool:  # type: ignore[override]
        return not self._has_begun  # a second attempt's chunks would follow the first one's

    def chunk_writer(self, call: Call) -> OnChunk:  # noqa: ARG002
        return self._write

    async def take(self) -> bytes | None:
        """The next chunk; None when there are no more, or nobody wants more."""
        return await self._chunks.receive()

    def abandon(self) -> None:
        """Take no more chunks: the rest of the reply is read and dropped."""
        self._chunks.drop()

    def close(self) -> None:
        super().close()
        if not self.future.done():
            self.is_cut = True
            self.abandon()  # the worker must not wait for a consumer who may be the one that leaves

    async def _write(self, chunk: bytes) -> None:
        self._has_begun = True
        await self._chunks.send(chunk)

    def _on_done(self) -> None:
        if not self.future.cancelled():
            self.future.exception()  # the consumer may have left: nobody else asks for it
        self._chunks.end()
        self.engine.forget(self)


class _Channel:
    """One chunk between a reply and its consumer; holds nothing that would have to be closed."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._has_ended = False
        self._is_dropped = False
        self._changed = asyncio.Event()

    async def send(self, chunk: bytes) -> None:
        """Hand over a chunk, once the one before it was taken; nothing waits when nobody takes any."""
        while self._chunks and not self._is_dropped:
            await self._next_change()
        if not self._is_dropped:
            self._chunks.append(chunk)
            self._change()

    async def receive(self) -> bytes | None:
        while not self._chunks:
            if self._has_ended or self._is_dropped:
                return None
            await self._next_change()
        chunk = self._chunks.popleft()
        self._change()
        return chunk

    def end(self) -> None:
        """No more chunks; those that are there are still taken."""
        self._has_ended = True
        self._change()

    def drop(self) -> None:
        """Nobody takes another chunk."""
        self._is_dropped = True
        self._chunks.clear()
        self._change()

    async def _next_change(self) -> None:
        await self._changed.wait()

    def _change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


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
