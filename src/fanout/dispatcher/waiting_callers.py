"""Callers who wait for single calls of a dispatcher with batches: their records, and the answers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

import anyio

from fanout.dispatcher.call import Call
from fanout.dispatcher.feed import PAST_DEADLINE, RecordFeed
from fanout.dispatcher.record import InputRecord
from fanout.errors import FanoutError, FatalRefusal
from fanout.model import ErrorDetail, OnChunk, Outcome


class WaitingCallers:
    """Records of callers who wait, in order of asking: both the intake and the receiver of one feed.

    A caller who was cancelled before the batch is formed leaves it. ``start_feed`` starts the feed of an
    intake and a receiver.
    """

    failure = None
    has_room = True
    is_abandoned = False

    def __init__(self, start_feed: Callable[[WaitingCallers, WaitingCallers], RecordFeed]) -> None:
        self.records_read = 0
        self._waiting: deque[InputRecord] = deque()
        self._futures: dict[int, asyncio.Future[Outcome]] = {}
        self.has_ended = False
        self.feed = start_feed(self, self)

    def ask(self, record: InputRecord) -> asyncio.Future[Outcome]:
        """Queue a record; the future gets its outcome."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._futures[record.seq] = future
        self._waiting.append(record)
        return future

    def withdraw(self, record: InputRecord) -> bool:
        """Take a record back whose call is not made. False: it is out, or has its outcome."""
        if record.seq not in self._futures:
            return False
        if record in self._waiting:
            self._waiting.remove(record)
        elif not self.feed.withdraw(record):
            return False
        del self._futures[record.seq]
        return True

    def expire(self, record: InputRecord) -> None:
        """Its deadline has passed: what is not out, or waits for another attempt, is sent no more."""
        future = self._futures.get(record.seq)
        if future is None:
            return
        feed = self.feed
        if self.withdraw(record):
            if not future.done():
                future.set_result(feed.undelivered(record, PAST_DEADLINE))
        else:
            feed.engine.expire(feed, record, PAST_DEADLINE)

    def is_wanted(self, record: InputRecord) -> bool:
        """True if the caller still waits; otherwise the record is forgotten."""
        if not self._futures[record.seq].cancelled():
            return True
        del self._futures[record.seq]
        return False

    def next(self, now_s: float) -> InputRecord | None:  # noqa: ARG002 - for those with a clock
        while self._waiting:
            record = self._waiting.popleft()
            if self.is_wanted(record):
                self.records_read += 1
                return record
        return None

    async def fill(self, on_ready: Callable[[], None]) -> None:  # noqa: ARG002 - for those that read
        """Wait for the feed's end: callers queue it themselves."""
        await anyio.sleep_forever()

    async def aclose(self) -> None:
        self._turn_away()

    def admit(self, record: InputRecord) -> bool:  # noqa: ARG002 - nothing is kept of it
        return True

    def deliver(self, call: Call, outcomes: list[Outcome]) -> None:
        fatal = call.feed.fatal
        if fatal is None or outcomes[0].status != "rejected":
            self.deliver_block(outcomes)
            return
        for outcome in outcomes:
            future = self._futures.pop(outcome.seq, None)
            if future is not None and not future.done():
                future.set_exception(fatal)

    def deliver_block(self, outcomes: Sequence[Outcome]) -> None:
        """Take outcomes that are no refusal of all."""
        for outcome in outcomes:
            future = self._futures.pop(outcome.seq, None)
            if future is not None and not future.done():
                future.set_result(outcome)

    def give_up(self, call: Call, undelivered: Callable[[ErrorDetail], list[Outcome]]) -> None:
        if call.feed.fatal is None:
            self.deliver(call, undelivered(call.feed.stopped))
            return
        for record in call.records:
            self._refuse(record, call.feed.fatal)

    def end(self) -> None:
        self._turn_away()

    def _turn_away(self) -> None:
        """The feed is closed: answer those who wait for a turn, as they get none."""
        feed = self.feed
        while (record := self.next(0.0)) is not None:
            if feed.fatal is not None:
                self._refuse(record, feed.fatal)
            elif not (future := self._futures.pop(record.seq)).done():
                future.set_result(feed.undelivered(record, feed.stopped))

    def _refuse(self, record: InputRecord, fatal: FatalRefusal) -> None:
        future = self._futures.pop(record.seq, None)
        if future is not None and not future.done():
            future.set_exception(fatal)

    def break_off(self, error: BaseException) -> None:
        self._waiting.clear()
        for future in self._futures.values():
            if not future.done():
                future.set_exception(FanoutError(f"the dispatcher stopped: {error!r}"))
        self._futures.clear()

    def chunk_writer(self, call: Call) -> OnChunk | None:  # noqa: ARG002 - replies are joined
        return None
