"""Outcomes of many payloads for one consumer: as they finish or in order, never piling up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

from fanout.dispatcher.call import CLOSED, Call
from fanout.dispatcher.engine import Engine
from fanout.dispatcher.feed import RecordFeed
from fanout.dispatcher.intake import EngineIntake
from fanout.dispatcher.record import InputRecord
from fanout.errors import FanoutError
from fanout.model import ErrorDetail, OnChunk, Outcome

_LEAST_BACKLOG = 16
_ORDERED_WINDOW = 10  # times the ceiling: how far a slow record lets the others run ahead


class MapReceiver:
    """The consumer's side of one ``Dispatcher.map``.

    As-completed, pulling stops while as many outcomes wait for the consumer as calls may be in
    flight. Ordered, it stops ten times that many records ahead of the one the consumer waits for.
    """

    def __init__(self, engine: Engine, intake: EngineIntake, *, is_ordered: bool) -> None:
        self._engine = engine
        self._intake = intake
        self._is_ordered = is_ordered
        self._finished: deque[Outcome] = deque()
        self._early: dict[int, Outcome] = {}  # ordered: finished before their turn
        self._taken = 0
        self._waiters: list[asyncio.Future[None]] = []
        self.is_abandoned = False
        self.is_ended = False
        self.failure: BaseException | None = None

    @property
    def has_room(self) -> bool:
        ceiling = max(self._engine.limit.ceiling(self._engine.clock()), _LEAST_BACKLOG)
        if self._is_ordered:
            return self._intake.records_read - self._taken < ceiling * _ORDERED_WINDOW
        return len(self._finished) < ceiling

    def admit(self, record: InputRecord) -> bool:  # noqa: ARG002 - nothing is kept of it
        return True

    def deliver(self, call: Call, outcomes: list[Outcome]) -> None:  # noqa: ARG002 - outcomes say it all
        self.deliver_block(outcomes)

    def deliver_block(self, outcomes: Sequence[Outcome]) -> None:
        """Take outcomes, of whatever calls."""
        if self.is_abandoned:
            return
        for outcome in outcomes:
            if not self._is_ordered:
                self._finished.append(outcome)
            elif outcome.seq == self._taken + len(self._finished):
                self._finished.append(outcome)
                while (following := self._early.pop(self._taken + len(self._finished), None)) is not None:
                    self._finished.append(following)
            else:
                self._early[outcome.seq] = outcome
        self._wake()

    def give_up(self, call: Call, undelivered: Callable[[ErrorDetail], list[Outcome]]) -> None:
        self.deliver(call, undelivered(call.feed.stopped))

    def end(self) -> None:
        self.is_ended = True
        self._wake()

    def break_off(self, error: BaseException) -> None:
        self.failure = self.failure or FanoutError(f"the dispatcher stopped: {error!r}")
        self._wake()

    def chunk_writer(self, call: Call) -> OnChunk | None:  # noqa: ARG002 - replies are joined
        return None

    def abandon(self) -> None:
        """Nobody will take another outcome."""
        self.is_abandoned = True
        self._finished.clear()
        self._early.clear()

    async def take(self) -> Outcome | None:
        """The next outcome; None when there will be no more."""
        while not self._finished:
            if self.is_ended or self.failure is not None:
                return None
            waiter = self._engine.new_future()
            self._waiters.append(waiter)
            await waiter
        self._taken += 1
        return self._finished.popleft()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class MapSession:
    """One ``Dispatcher.map`` under way: the feed, and the consumer's side of it."""

    def __init__(self, feed: RecordFeed, receiver: MapReceiver) -> None:
        self.feed = feed
        self._receiver = receiver
        self._is_left = False  # by its consumer

    async def take(self) -> Outcome | None:
        """The next outcome; None when there will be no more."""
        outcome = await self._receiver.take()
        self.feed.wake()
        return outcome

    def failure(self) -> BaseException | None:
        """The error by which it ended before its input did, if it did. A deadline is none."""
        feed = self.feed
        failure = self._receiver.failure or feed.failure or feed.fatal or feed.outage
        is_cut = feed.engine.is_closing and feed.stopped is CLOSED and not feed.has_input_ended
        if failure is None and is_cut and not self._is_left:
            return FanoutError("the dispatcher was closed before the end of the payloads")
        return failure

    def close(self) -> None:
        """The consumer wants no more than what is out: pull nothing more."""
        self._is_left = True
        self.feed.close()

    def abandon(self) -> None:
        """Nobody will take another outcome: pull nothing more, repeat nothing."""
        self._receiver.abandon()
        self.feed.close()
        self.feed.engine.give_up_retries(self.feed)


class Outcomes(AsyncIterator[Outcome]):
    """The result of ``Dispatcher.map``: outcomes, pulled from the payloads as the limits allow.

    Nothing is pulled before the first outcome is asked for. Leaving the loop early, or dropping the
    iterator, stops pulling; calls in flight finish unheard. After the last outcome an error of the
    payload iterator is raised as it was, FatalRefusal when every record would be refused, and FanoutError
    when the dispatcher was closed before the payloads had ended.
    """

    def __init__(self, start: Callable[[], MapSession]) -> None:
        self._start = start
        self._mapping: MapSession | None = None
        self._is_over = False

    def __aiter__(self) -> Outcomes:
        return self

    async def __anext__(self) -> Outcome:
        if self._mapping is None:
            self._mapping = self._start()
        outcome = await self._mapping.take()
        if outcome is not None:
            return outcome
        failure = self._mapping.failure()
        if failure is not None and not self._is_over:
            self._is_over = True
            raise failure
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Pull nothing more. What is in flight finishes in the background."""
        if self._mapping is not None:
            self._mapping.close()

    def __del__(self) -> None:
        if self._mapping is not None:
            self._mapping.feed.engine.call(self._mapping.abandon)
