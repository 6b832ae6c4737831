"""The completion of calls: an outcome for each record, or none for what never ran when a run stops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fanout.breaker import Breaker
from fanout.dispatcher.call import Attempt, Call, Feed
from fanout.dispatcher.events import EventLog
from fanout.dispatcher.outcomes import OutcomeMaker
from fanout.dispatcher.record import InputRecord
from fanout.dispatcher.retry_queue import RetryQueue
from fanout.dispatcher.waiting_room import WaitingRoom
from fanout.errors import FatalRefusal
from fanout.model import Classification, ErrorDetail, Outcome, Reply, Verdict


class Completion:
    """Ends calls, in flight or waiting. Each call ends by exactly one of its methods, once."""

    def __init__(
        self,
        outcomes: OutcomeMaker,
        *,
        retries: RetryQueue,
        waiting_room: WaitingRoom,
        breaker: Breaker | None,
        on_outcome: Callable[[Outcome, Any], None] | None,
        clock: Callable[[], float],
        log: EventLog,
    ) -> None:
        self.outcomes = outcomes
        self.is_closing = False  # nothing new goes out, and nothing is repeated
        self._retries = retries
        self._waiting_room = waiting_room
        self._breaker = breaker
        self._on_outcome = on_outcome
        self._has_deaf_listener = False
        self._clock = clock
        self._log = log

    def close(self) -> None:
        """From now on nothing new goes out, and nothing is repeated."""
        self.is_closing = True

    def is_stopped(self, call: Call) -> bool:
        """No further attempt of a call is made: its feed was closed, or the engine is being closed."""
        return call.feed.is_closed or self.is_closing

    def finish(
        self, call: Call, outcomes: list[Outcome], now_s: float, attempt: Attempt | None = None
    ) -> None:
        """Deliver outcomes of a call: for all its records, or those that are not sent again."""
        if self._breaker is not None and attempt is not None:
            is_ok = any(outcome.ok for outcome in outcomes)
            self._breaker.on_outcome(is_ok, now_s, is_probe=attempt.is_probe)
        feed = call.feed
        feed.outstanding -= len(outcomes)
        if self._on_outcome is not None:
            self._tell(self._on_outcome, call, outcomes)
        if outcomes:
            feed.deliver(call, outcomes)
        if not feed.outstanding and not feed.is_single:
            feed.settled()

    def finish_block(
        self, feed: Feed, outcomes: list[Outcome], ends: Sequence[tuple[Attempt, Reply]], now_s: float
    ) -> None:
        """``finish`` for calls of one record each that succeeded together."""
        try:
            if self._breaker is not None or self._on_outcome is not None:
                for (attempt, _), outcome in zip(ends, outcomes, strict=True):
                    if self._breaker is not None:
                        self._breaker.on_outcome(outcome.ok, now_s, is_probe=attempt.is_probe)
                    if self._on_outcome is not None:
                        self._tell(self._on_outcome, attempt.call, [outcome])
        finally:  # an interrupt may come while the listener works
            feed.outstanding -= len(outcomes)
            feed.deliver_block(outcomes)
            if not feed.outstanding:
                feed.settled()

    def _tell(
        self, on_outcome: Callable[[Outcome, Any], None], call: Call, outcomes: Sequence[Outcome]
    ) -> None:
        try:
            for outcome in outcomes:
                on_outcome(outcome, None if call.span is None else call.span[0])
        except Exception as error:  # noqa: BLE001 - a tracer's own code; whoever waits is told all the same
            if not self._has_deaf_listener:  # once: it may fail at every call
                self._has_deaf_listener = True
                self._log.unexpected("an outcome could not be told to its listener", error)

    def fail(
        self, call: Call, attempt: Attempt | None, reply: Reply | None, end: Classification, now_s: float
    ) -> None:
        """Every record of a call ends as its last attempt did. Without an attempt it was never sent."""
        self.finish(call, self.outcomes.of_failure(call, attempt, reply, end, now_s), now_s, attempt)

    def fail_unreadable(self, attempt: Attempt, error: Exception, now_s: float) -> None:
        """A reply came that cannot be kept, whatever the reason: its records may have run."""
        self._log.unexpected("a reply could not be read", error)
        detail = ErrorDetail("UnreadableReply", f"{type(error).__name__}: {error}"[:1000])
        self.fail(attempt.call, attempt, None, Classification(Verdict.AMBIGUOUS, error=detail), now_s)

    def reject(self, call: Call, now_s: float) -> None:
        """The record has a fault: nothing is sent."""
        record = call.records[0]
        self.fail(call, None, None, Classification(record.fault_verdict, error=record.fault), now_s)

    def undelivered(self, call: Call, error: ErrorDetail) -> list[Outcome]:
        """The outcomes of a call that is given up before it ran."""
        failure = Classification(Verdict.TRANSIENT, error=error)
        return self.outcomes.of_failure(call, call.last, None, failure, self._clock())

    def give_up(self, call: Call, now_s: float, error: ErrorDetail | None = None) -> None:
        """End a call that waits for another attempt.

        If it may have run, or did, it gets the outcome of its last attempt. If it certainly did not, it
        ends without an outcome, or with ``error`` becomes undelivered.
        """
        last = call.last_end
        did_not_run = last is None or (
            last.verdict in (Verdict.THROTTLED, Verdict.TRANSIENT, Verdict.FATAL)
            and not call.may_have_run
            and call.ran is None
        )
        if did_not_run and error is None:
            feed = call.feed
            feed.outstanding -= len(call.records)
            feed.give_up(call)
            if not feed.outstanding:
                feed.settled()
            return
        if did_not_run or last is None:
            last = Classification(Verdict.TRANSIENT, error=error)
        self.fail(call, call.last, None, last, now_s)

    def give_up_retries(self, feed: Feed | None = None, *, error: ErrorDetail | None = None) -> None:
        """Give up the calls that wait for another attempt (of one feed, or all)."""
        now_s = self._clock()
        ended = self._retries.take(feed)
        for call in self._waiting_room.take(feed):
            self.give_up(call, now_s)  # an outage's: pending, also when a deadline passes meanwhile
        for call in ended:
            self.give_up(call, now_s, error)

    def expire(self, feed: Feed, record: InputRecord, error: ErrorDetail) -> None:
        """A record's own deadline has passed: its call, if it waits for another attempt, gets none."""
        call = self._retries.take_call_of(feed, record) or self._waiting_room.take_call_of(feed, record)
        if call is not None:
            self.give_up(call, self._clock(), error)

    def stop(self, feed: Feed, refusal: FatalRefusal) -> None:
        """Every record of a feed would be refused alike: end what waits, and pull nothing more."""
        feed.on_fatal(refusal)
        self.give_up_retries(feed)
