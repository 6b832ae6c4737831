"""Outcomes of many payloads for one consumer: as they finish or in order, never piling up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

from fanout.dispatcher.feeds import DEADLINE_MESSAGE, Feed, PullFeed
from fanout.dispatcher.job import Job
from fanout.errors import FanoutError
from fanout.model import ErrorDetail, Outcome

if TYPE_CHECKING:
    from fanout.dispatcher.engine import Engine

_LEAST_BACKLOG = 16
_ORDERED_WINDOW = 10  # times the ceiling: how far a slow record lets the others run ahead


class MapFeed(PullFeed):
    """The feed of one ``Dispatcher.map``.

    As-completed, pulling stops while as many outcomes wait for the consumer as calls may be in
    flight. Ordered, it stops ten times that many records ahead of the one the consumer waits for.
    """

    def __init__(
        self,
        engine: Engine,
        source: Iterator[Any] | AsyncIterator[Any],
        make_job: Callable[[Feed, int, Any], Job],
        *,
        is_ordered: bool,
    ) -> None:
        super().__init__(engine, source, make_job)
        self._is_ordered = is_ordered
        self._finished: deque[Outcome] = deque()
        self._early: dict[int, Outcome] = {}  # ordered: finished before their turn
        self._taken = 0
        self._is_abandoned = False
        self._waiters: list[asyncio.Future[None]] = []

    def has_room(self) -> bool:
        ceiling = max(self.engine.limit.ceiling(self.engine.clock()), _LEAST_BACKLOG)
        if self._is_ordered:
            return self.pulled - self._taken < ceiling * _ORDERED_WINDOW
        return len(self._finished) < ceiling

    def deliver(self, job: Job, outcome: Outcome) -> None:
        if self._is_abandoned:
            return
        if not self._is_ordered:
            self._finished.append(outcome)
        elif job.seq == self._taken + len(self._finished):
            self._finished.append(outcome)
            while (following := self._early.pop(self._taken + len(self._finished), None)) is not None:
                self._finished.append(following)
        else:
            self._early[job.seq] = outcome
        self._wake()

    def give_up(self, job: Job) -> None:
        self.deliver(job, self.engine.undelivered(job, "Stopped", "stopped before another attempt"))

    def expire(self) -> None:
        """The deadline has passed: pull nothing more, and end what waits for another attempt."""
        self.close()
        self.engine.give_up_retries(self, error=ErrorDetail("DeadlineExceeded", DEADLINE_MESSAGE))

    @property
    def is_abandoned(self) -> bool:
        return self._is_abandoned

    def abandon(self) -> None:
        """Nobody will take another outcome."""
        self._is_abandoned = True
        self._finished.clear()
        self._early.clear()
        self.close()
        self.engine.give_up_retries(self)

    def on_finished(self) -> None:
        super().on_finished()
        self.engine.forget(self)
        self._wake()

    def on_broken(self, error: BaseException) -> None:
        self.failure = self.failure or FanoutError(f"the dispatcher stopped: {error!r}")
        self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def take(self) -> Outcome | None:
        """The next outcome; None when there will be no more."""
        while not self._finished:
            if self.is_finished:
                return None
            waiter = self.engine.new_future()
            self._waiters.append(waiter)
            await waiter
        outcome = self._finished.popleft()
        self._taken += 1
        if not self.is_queued and not self.is_closed and self.has_room():
            self.engine.queue(self)
        return outcome


class Outcomes(AsyncIterator[Outcome]):
    """What ``Dispatcher.map`` returns: outcomes, pulled from the payloads as the limits allow.

    Nothing is pulled before the first outcome is asked for. Leaving the loop early, or dropping the
    iterator, stops pulling; calls in flight finish unheard. After the last outcome an error of the
    payload iterator is raised as it was, and FatalRefusal when every record would be refused.
    """

    def __init__(self, start: Callable[[], MapFeed]) -> None:
        self._start = start
        self._feed: MapFeed | None = None

    def __aiter__(self) -> Outcomes:
        return self

    async def __anext__(self) -> Outcome:
        if self._feed is None:
            self._feed = self._start()
        outcome = await self._feed.take()
        if outcome is not None:
            return outcome
        feed = self._feed
        if feed.failure is not None:
            failure, feed.failure = feed.failure, None
            raise failure
        if feed.fatal is not None:
            fatal, feed.fatal = feed.fatal, None
            raise fatal
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Pull nothing more. What is in flight finishes in the background."""
        if self._feed is not None:
            self._feed.close()

    def __del__(self) -> None:
        if self._feed is not None:
            self._feed.engine.call(self._feed.abandon)
