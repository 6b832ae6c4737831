"""The engine, a loop: it chooses the call that goes out next, and acts on the one that comes back.

One synchronous pump decides (permit, token, due retry or next feed) and hands attempts to workers. A
worker is a task that sends its call, settles it and takes the next one itself; so in the steady
state a record costs no task, no queue and no wake-up. Only when nothing may go out does a worker
wait; a timer, a token or a new feed then makes the pump hand it a call, or start another worker.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from fanout.batching import RecordResult, read_reply
from fanout.breaker import Breaker
from fanout.classify import classify
from fanout.dispatcher.batcher import Batcher
from fanout.dispatcher.call import Attempt, Call, Feed
from fanout.dispatcher.events import EventLog
from fanout.dispatcher.hedges import Hedges, part
from fanout.dispatcher.outcomes import OutcomeMaker
from fanout.dispatcher.pause import Pause
from fanout.dispatcher.record import InputRecord
from fanout.dispatcher.retries import Retries
from fanout.dispatcher.send_errors import classify_error
from fanout.dispatcher.turns import Turns
from fanout.errors import FatalRefusal, OutageError
from fanout.gate import Gate, Release
from fanout.limit import Limit
from fanout.model import (
    SUPERSEDED,
    Classification,
    ErrorDetail,
    InvokeTemplate,
    Outcome,
    Reply,
    ThrottleKind,
    Verdict,
)
from fanout.outage import Outage
from fanout.pacer import Pacer
from fanout.retry import RetryPolicy, ThrottlePatience
from fanout.transports import Transport

_SYNC_FAULTS = 256  # records rejected unsent before the event loop gets a turn
_LEAST_WAIT_S = 0.001
_CLOSED_AT_ONCE = 32  # feeds that are closed before the event loop gets a turn
_TURNS_MASK = 63  # a worker yields once in 64 calls
_PARKED_MOST = 1_000  # workers that wait for a call instead of ending; a new one costs three times as much
_FAILED = ErrorDetail("Stopped")
_SUPERSEDED = ErrorDetail(SUPERSEDED, "the other attempt of this call succeeded first")


class Hooks:
    """What others want to hear of; every method is called on the event loop and must be quick."""

    def on_throttle(self, reason: str) -> None:
        """One call was throttled; ``reason`` is Lambda's, or its error code."""


class Engine:
    """The loop. All its methods run on one event loop; none blocks."""

    def __init__(
        self,
        *,
        transport: Transport,
        limit: Limit,
        gate: Gate,
        pacer: Pacer,
        policy: RetryPolicy,
        patience: ThrottlePatience,
        outcomes: OutcomeMaker,
        breaker: Breaker | None = None,
        outage: Outage | None = None,
        batcher: Batcher | None = None,
        hooks: Hooks | None = None,
        on_outcome: Callable[[Outcome, Any], None] | None = None,
        linger_s: float = 0.0,
        hedges: bool = False,
        function: str = "",
    ) -> None:
        self._log = EventLog(function)
        self.transport = transport
        self.limit = limit
        self.gate = gate
        self.pacer = pacer
        self.outcomes = outcomes
        self.linger_s = linger_s  # how long a function whose reply was lost may run on
        self._policy = policy
        self._hedges = Hedges(self._may_run_twice) if hedges else None
        self.is_paused = False  # holds every new attempt; what is in flight goes on
        self._patience = patience
        self._breaker = breaker
        self.outage = outage or Outage()
        self.batcher = batcher  # how batches are read and taken apart
        self._pause = Pause()  # what waits for the end of an outage
        self._has_succeeded = False
        self._is_troubled = self.outage.is_on  # some end since the last progress was no success
        self._hooks = hooks or Hooks()
        self._on_outcome = on_outcome  # telemetry, where it is set up
        self.loop = asyncio.get_running_loop()
        # uvloop's own clock has steps of 1 ms and stands still within an iteration; it is CLOCK_MONOTONIC
        # all the same, so the finer one fits its timers. Any other loop (virtual time) keeps its clock.
        self.clock = time.monotonic if type(self.loop).__module__.startswith("uvloop") else self.loop.time
        self.on_refusal: Callable[[], object] = lambda: None  # calls that were accepted are refused now
        self.is_durable = False  # the function is known to start a named execution once
        self.renamed: Callable[[Call], InvokeTemplate] | None = None  # after a function error
        self._has_answered = False  # whether any reply ever came, whatever it said
        self._queue: deque[Feed] | Turns = deque()  # Turns once a feed has a priority
        self._retries = Retries()
        self._taken_s = 0.0  # when a call was looked for last
        self._workers: set[asyncio.Task[None]] = set()
        self._starting: dict[asyncio.Task[Any], Attempt] = {}  # workers whose attempt they have not begun
        self._parked: list[tuple[asyncio.Task[Any], asyncio.Future[Attempt | None]]] = []  # without one
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s = 0.0
        self._is_pumping = False
        self.is_closing = False  # nothing new goes out, and nothing is repeated
        self._is_closed = False
        self._feeds: set[Feed] = set()

    # --- what feeds call ---------------------------------------------------------------------

    def queue(self, feed: Feed) -> None:
        """Give a feed its place at the end of the queue, if it has none, and go on."""
        if not feed.is_queued and not feed.is_closed and not self._is_closed:
            feed.is_queued = True
            if self._is_troubled and self._is_idle:
                self._patience.note_progress()  # it is not used up while nobody asks
                self.outage.on_idle(self.clock())
            if feed.priority and isinstance(self._queue, deque):
                self._queue = Turns(self._queue)
            self._queue.append(feed)
        self.pump()

    @property
    def _is_idle(self) -> bool:
        return not (self._queue or self._retries or self._pause or self.gate.in_flight)

    def _forget_trouble(self) -> None:
        """Something went forward: patience begins anew, and an outage is over."""
        self._is_troubled = False
        self._patience.note_progress()
        if self.outage.on_progress():
            self._end_outage()

    def undelivered(self, call: Call, error: ErrorDetail) -> list[Outcome]:
        """The outcomes of a call that fanout itself gives up before it ran."""
        failure = Classification(Verdict.TRANSIENT, error=error)
        return self.outcomes.of_failure(call, call.last, None, failure, self.clock())

    @property
    def queued(self) -> int:
        """How many feeds wait for their turn: single calls that are not out, and inputs."""
        return len(self._queue)

    @property
    def waiting(self) -> int:
        """How many calls wait for another attempt."""
        return len(self._retries)

    def new_future(self) -> asyncio.Future[None]:
        """A future of the engine's event loop."""
        return self.loop.create_future()

    def call(self, function: Callable[[], None]) -> None:
        """Call on the event loop: now, if this is its thread. The garbage collector may run in any."""
        try:
            is_here = asyncio.get_running_loop() is self.loop
        except RuntimeError:
            is_here = False
        if is_here:
            function()
        else:
            with suppress(RuntimeError):  # the loop is closed, and nothing is left to do
                self.loop.call_soon_threadsafe(function)

    def register(self, feed: Feed) -> None:
        """Keep a feed that outlives one call, so that stopping the engine ends it too."""
        self._feeds.add(feed)

    def forget(self, feed: Feed) -> None:
        """The feed is finished."""
        self._feeds.discard(feed)

    # --- the pump ----------------------------------------------------------------------------

    def set_retries(self, retries: int) -> None:
        """Extra attempts from now on."""
        self._policy.set_retries(retries)

    def set_paused(self, is_paused: bool) -> None:
        """Hold new attempts, or let them go on."""
        self.is_paused = is_paused
        self.pump()

    def pump(self) -> None:
        """Start every call that may go out now."""
        if self._is_pumping or self._is_closed:
            return
        self._is_pumping = True
        try:
            while (attempt := self._take()) is not None:
                worker = self._unpark(attempt)
                if worker is None:
                    worker = self.loop.create_task(self._work(attempt))
                    self._workers.add(worker)
                    worker.add_done_callback(self._on_worker_done)
                self._starting[worker] = attempt
        finally:
            self._is_pumping = False

    def _unpark(self, attempt: Attempt | None) -> asyncio.Task[Any] | None:
        """Hand an attempt to a worker that waits for one; None when none does."""
        while self._parked:
            worker, future = self._parked.pop()
            if not future.done():  # cancelled ones are
                future.set_result(attempt)
                return worker
        return None

    def _take(self) -> Attempt | None:
        """An attempt of the next call that may go out now, with its permit and its token; else None."""
        now_s = self._taken_s = self.clock()
        if self.is_paused:
            return None
        faults = 0
        breaker, gate, outage, retries = self._breaker, self.gate, self.outage, self._retries.heap
        while True:
            is_retry_due = bool(retries) and retries[0][0] <= now_s
            is_probing = outage.is_on and outage.admits(now_s) and bool(self._pause)
            if not is_retry_due and not self._queue and not is_probing:
                copy = None if self._hedges is None else self._take_copy(self._hedges, now_s)
                if copy is None:
                    self._arm(now_s)
                return copy
            if breaker is not None and not breaker.admits(now_s):
                self._arm(now_s)
                return None
            if not gate.has_room(now_s) or not self.pacer.try_take():
                self._arm(now_s)
                return None
            gate.acquire(now_s)
            if is_probing:
                call = self._next_probe(now_s)
            else:
                call = self._due_retry() if is_retry_due else self._next_of_feeds(now_s)
            if call is None or call.records[0].fault is not None:
                gate.release(Release.IGNORED, 0, now_s, now_s)
                self.pacer.give_back()
                if call is None:
                    continue
                self._reject(call, now_s)
                faults += 1
                if faults >= _SYNC_FAULTS:
                    self.loop.call_soon(self.pump)
                    return None
                continue
            n_bytes = len(call.body)
            gate.add_bytes(n_bytes)
            if is_probing:
                outage.on_probe_sent()
                self._pause.on_probe_sent(call)
            return Attempt(call, n_bytes, breaker is not None and breaker.on_sent(), is_probing)

    def _take_copy(self, hedges: Hedges, now_s: float) -> Attempt | None:
        """A second attempt of a call that is late, with a permit and a token of its own."""
        is_troubled = self.outage.is_on or (self._breaker is not None and self._breaker.is_open)
        if is_troubled or self.is_closing or (late := hedges.late(now_s)) is None:
            return None
        if not self.gate.has_room(now_s) or not self.pacer.try_take():
            return None
        self.gate.acquire(now_s)
        self.gate.add_bytes(late.n_bytes)
        return hedges.copy(late)

    def _may_run_twice(self, call: Call) -> bool:
        return self._policy.is_idempotent or self._starts_once(call)

    def _starts_once(self, call: Call) -> bool:
        return self.is_durable and call.template.durable_name is not None

    def _due_retry(self) -> Call | None:
        call = self._retries.pop()
        if call.feed.is_abandoned:
            self._give_up(call, self.clock())
            return None
        if self.outage.is_on and call.feed.waits_out_outages:
            self._pause.calls.append(call)
            return None
        call.is_waiting = False
        return call

    def _next_probe(self, now_s: float) -> Call | None:
        """The call that probes: another record each time, where there is one."""
        call = self._pause.probe()
        if call is None:
            return self._turn_of(self._pause.feeds.popleft(), now_s, self._pause.feeds)
        if call.feed.is_abandoned:
            self._give_up(call, now_s)
            return None
        call.is_waiting = False
        return call

    def _end_outage(self) -> None:
        """Something answered: what waited goes on."""
        now_s = self.clock()
        if self.outage.announces_end(now_s):
            self._log.warning("outage_ended", "going on: there is an answer again")
        for call in self._pause.take(None):
            self._retries.add(call, now_s)
        self._release_feeds()
        self.loop.call_soon(self.pump)

    def _release_feeds(self) -> None:
        """Give paused feeds their places again; closed ones will give nothing more."""
        for feed in self._pause.feeds:
            self._queue.append(feed)
        self._pause.feeds.clear()

    def _stop_for_outage(self) -> None:
        """The patience is used up, or a refusal was confirmed: stop whoever waits."""
        outage = self.outage
        waiting = [feed for feed in self._feeds if feed.waits_out_outages]
        is_refusal, cause = outage.stops_by_refusal, outage.cause
        outage.on_progress()
        self._release_feeds()
        for feed in waiting:
            if is_refusal:
                feed.on_fatal(FatalRefusal(cause, code=cause.partition(":")[0]))
            else:
                feed.on_outage(OutageError(f"nothing was answered for too long ({cause})"))
            self.give_up_retries(feed)
        self.loop.call_soon(self.pump)

    def _next_of_feeds(self, now_s: float) -> Call | None:
        """One turn of the feed at the head of the queue, which then goes to its end."""
        feed = self._queue.popleft()
        if self.outage.is_on and feed.waits_out_outages:
            self._pause.feeds.append(feed)
            return None
        return self._turn_of(feed, now_s, self._queue)

    def _turn_of(self, feed: Feed, now_s: float, queue: deque[Feed] | Turns) -> Call | None:
        """The next call of a feed, which then goes to the end of ``queue`` if it may have more."""
        try:
            call = feed.pull(now_s)
        except Exception as error:  # noqa: BLE001 - an unexpected error, reported to the waiter
            self._log.unexpected("a record could not be read", error)
            feed.close()
            feed.on_broken(error)
            call = None
        if call is None:
            feed.is_queued = False
            return None
        feed.outstanding += len(call.records)
        if feed.is_single:
            feed.is_queued = False
        else:
            queue.append(feed)
        return call

    def _arm(self, now_s: float) -> None:
        """Set the timer for the next moment at which the pump may do more without an event."""
        at_s = self._retries.heap[0][0] if self._retries else None
        if self._queue or at_s is not None:
            change_s = self.gate.next_change_s(now_s)
            if change_s is not None and (at_s is None or change_s < at_s or at_s <= now_s):
                at_s = max(change_s, now_s + _LEAST_WAIT_S)
            if self._breaker is not None and not self._breaker.admits(now_s):
                at_s = self._breaker.probe_at_s  # None while a probe is out, whose end pumps
        if self.outage.is_on and self._pause:
            probe_at_s = self.outage.probe_at_s
            if probe_at_s is not None and probe_at_s <= now_s:  # due, and waits for a permit
                change_s = self.gate.next_change_s(now_s)
                probe_at_s = None if change_s is None else max(change_s, now_s + _LEAST_WAIT_S)
            if probe_at_s is not None and (at_s is None or at_s <= now_s or probe_at_s < at_s):
                at_s = probe_at_s
        if self._hedges is not None and not self._queue and (late_s := self._hedges.late_at_s()) is not None:
            if late_s <= now_s:  # it is late, and waits for a permit
                late_s = self.gate.next_change_s(now_s) or late_s
            if at_s is None or late_s < at_s:
                at_s = late_s
        if at_s is None or at_s <= now_s:
            # Due already and still held back: by a permit or a token, whose coming back pumps.
            return
        # A little later, so that no rounding keeps it from being due at its own moment.
        at_s = max(at_s, now_s + _LEAST_WAIT_S)
        if self._timer is not None:
            if self._timer_at_s <= at_s and self._timer_at_s > now_s:
                return
            self._timer.cancel()
        self._timer_at_s = at_s
        self._timer = self.loop.call_at(at_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.pump()

    # --- one call ----------------------------------------------------------------------------

    async def _work(self, attempt: Attempt | None) -> None:
        worker = asyncio.current_task()
        assert worker is not None
        self._starting.pop(worker, None)
        send = self.transport.send
        clock = self.clock
        gate = self.gate
        turns = 0
        while attempt is not None:
            call = attempt.call
            call.attempts += 1
            now_s = attempt.sent_s = clock()
            if call.first_sent_s == 0.0:
                call.first_sent_s = now_s
                self._policy.budget.on_fresh_call()
            attempt.sent_wall_s = time.time()
            if self._hedges is not None:
                self._hedges.begin(attempt, worker)
            template = call.template
            if call.feed.trace is not None:
                template = call.feed.traced(call, template, call.feed.trace)
            try:
                if template.streaming:
                    reply = await send(template, call.body, call.feed.chunk_writer(call))
                else:
                    reply = await send(template, call.body)
                classification = classify(reply, template)
            except Exception as error:  # noqa: BLE001 - whatever is raised is this call's end
                self._settle(attempt, None, classify_error(error, self._log))
            except BaseException as error:
                if self._abandon(attempt, error):
                    return
                raise
            else:
                self._has_answered = True
                self._settle(attempt, reply, classification)
            turns += 1
            if not turns & _TURNS_MASK:
                await asyncio.sleep(0)  # a transport that never waits must not starve the loop
            attempt = self._take()
            if attempt is not None:
                if gate.has_room(self._taken_s):
                    self.pump()
            elif len(self._parked) < _PARKED_MOST and not self.is_closing:
                future: asyncio.Future[Attempt | None] = self.loop.create_future()
                self._parked.append((worker, future))
                attempt = await future
                self._starting.pop(worker, None)

    def _on_worker_done(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        attempt = self._starting.pop(worker, None)
        if attempt is not None:  # cancelled before it began: nothing was sent
            now_s = self.clock()
            self.gate.release(Release.IGNORED, attempt.n_bytes, now_s, now_s)
            if attempt.is_copy:
                if not attempt.is_superseded:
                    attempt.call.copies, attempt.call.spared = 0, attempt.call.spared - 1
                self._drop(attempt, now_s)
                return
            if attempt.is_outage_probe:
                self.outage.on_probe_over(now_s)
            attempt.call.is_waiting = attempt.call.last is not None
            self._give_up(attempt.call, now_s)
        if not worker.cancelled() and (error := worker.exception()) is not None:
            self._break(error)

    def _settle(self, attempt: Attempt, reply: Reply | None, classification: Classification) -> None:
        """Give the permit back, let limit and pacer learn, and end or repeat the call."""
        now_s = self.clock()
        verdict = classification.verdict
        if self._hedges is not None:
            has_run = verdict is Verdict.SUCCESS or verdict is Verdict.FUNCTION_ERROR
            self._hedges.end(attempt, ran_s=now_s - attempt.sent_s if has_run else None)
            if attempt.is_superseded:  # it ended while it was being cut off
                self.gate.linger(attempt.sent_s + self.linger_s, attempt.n_bytes, now_s)
                return
        if verdict is Verdict.SUCCESS:
            assert reply is not None
            if attempt.twin is not None:
                self._supersede(attempt, now_s)
            self._settle_success(attempt, reply, now_s)
            return
        self._release(attempt, classification, now_s)
        if attempt.is_copy:
            self._on_copy_failed(attempt, reply, classification, now_s)
        elif attempt.twin is not None:
            attempt.end, attempt.ended_s = (reply, classification), now_s  # its copy may succeed yet
        else:
            self._end(attempt, reply, classification, now_s)

    def _supersede(self, winner: Attempt, now_s: float) -> None:
        """The first success of two attempts is the call's: the other is waited for no longer."""
        other = part(winner)
        assert other is not None
        call = winner.call
        if other.end is not None:
            reply, end = other.end
            call.note_attempt(self.outcomes.attempt_end(other, end, reply, other.ended_s or now_s))
            return
        other.is_superseded = True
        if other.worker is None:  # a copy that is not out yet
            call.copies, call.spared = 0, call.spared - 1
            next(worker for worker, starting in self._starting.items() if starting is other).cancel()
            return
        lost = Classification(Verdict.AMBIGUOUS, error=_SUPERSEDED)
        call.note_attempt(self.outcomes.attempt_end(other, lost, None, now_s))
        other.worker.cancel()

    def _on_copy_failed(self, copy: Attempt, reply: Reply | None, end: Classification, now_s: float) -> None:
        """A copy that fails is dropped; what it did to the record is remembered."""
        call = copy.call
        call.note_attempt(self.outcomes.attempt_end(copy, end, reply, now_s))
        if end.verdict is Verdict.THROTTLED:
            call.spared -= 1
        elif end.verdict is Verdict.FUNCTION_ERROR and call.ran is None:
            assert reply is not None
            call.ran = reply, end.error
        self._drop(copy, now_s)

    def _drop(self, copy: Attempt, now_s: float) -> None:
        """Go on without a copy: with the end of the original, if that came first."""
        original = part(copy)
        if original is not None and original.end is not None:
            self._end(original, *original.end, now_s)

    def _release(self, attempt: Attempt, classification: Classification, now_s: float) -> None:
        """Give the permit of an attempt that did not succeed back, and let limit and pacer learn."""
        call = attempt.call
        verdict = classification.verdict
        n_bytes = attempt.n_bytes
        self._is_troubled = True
        if verdict is not Verdict.THROTTLED:
            self._patience.note_progress()  # not nothing but throttles; an outage has a patience of its own
        if verdict is Verdict.THROTTLED:
            self._on_throttle(attempt, classification, now_s)
        elif verdict is Verdict.AMBIGUOUS:
            call.may_have_run = True
            until_s = attempt.sent_s + self.linger_s
            if until_s > now_s:
                self.gate.linger(until_s, n_bytes, now_s)
            else:
                self.gate.release(Release.IGNORED, n_bytes, attempt.sent_s, now_s)
        elif verdict is Verdict.FUNCTION_ERROR:
            self.gate.release(Release.SUCCESS, n_bytes, attempt.sent_s, now_s)
            self.pacer.on_success(now_s)
        else:
            self.gate.release(Release.IGNORED, n_bytes, attempt.sent_s, now_s)

    def _end(
        self, attempt: Attempt, reply: Reply | None, classification: Classification, now_s: float
    ) -> None:
        """End or repeat the call of an attempt that did not succeed; its permit is given back."""
        call = attempt.call
        verdict = classification.verdict
        call.last_http_status = None if reply is None else reply.status
        if self._is_held(attempt, reply, classification, now_s):
            return
        if call.batch is not None and self._is_split(attempt, reply, classification, now_s):
            return
        if verdict is Verdict.FATAL:
            self._on_fatal(call, classification)
        delay_s = None if verdict is Verdict.FATAL else self._delay_of_retry(call, classification, now_s)
        if delay_s is None:
            if verdict is Verdict.TRANSIENT and reply is None and not self._has_answered:
                self._on_unreachable(call, classification)
            outcomes = self.outcomes.of_failure(call, attempt, reply, classification, now_s)
            self._finish(call, outcomes, now_s, attempt)
        else:
            self._retry(attempt, reply, classification, delay_s, now_s)

    def _settle_success(self, attempt: Attempt, reply: Reply, now_s: float) -> None:
        call = attempt.call
        if reply.durable_execution_arn is not None:
            self.is_durable = True
        self.gate.release(Release.SUCCESS, attempt.n_bytes, attempt.sent_s, now_s)
        self.pacer.on_success(now_s)
        if call.attempts > 1:
            self._policy.budget.on_recovery(call.attempts - 1)
        self._has_succeeded = True
        if self._is_troubled:
            self._forget_trouble()
        if call.batch is not None:
            self._settle_batch(attempt, reply, now_s)
            return
        try:
            outcomes = [self.outcomes.of_success(attempt, reply, now_s)]
        except Exception as error:  # noqa: BLE001 - the reply cannot be kept, whatever the reason
            outcomes = self._unreadable(attempt, error, now_s)
        self._finish(call, outcomes, now_s, attempt)

    def _settle_batch(self, attempt: Attempt, reply: Reply, now_s: float) -> None:
        """A batch's reply: an outcome for each record, but for those that are sent again."""
        call = attempt.call
        assert call.batch is not None
        assert self.batcher is not None
        count = len(call.records)
        results = [RecordResult()] * count
        try:
            if call.template.invocation_type == "RequestResponse":
                results = read_reply(self.batcher.plan.reads, reply.body, call.batch.identifiers, count)
            outcomes = self.outcomes.of_batch(attempt, reply, results, now_s)
        except Exception as error:  # noqa: BLE001 - as for a single call
            self._finish(call, self._unreadable(attempt, error, now_s), now_s, attempt)
            return
        failed = [index for index, result in enumerate(results) if result.error is not None]
        if failed:
            end = Classification(Verdict.FUNCTION_ERROR, error=results[failed[0]].error)
            delay_s = self._delay_of_retry(call, end, now_s)
            if delay_s is None or call.feed.is_closed or self.is_closing:
                outcomes += self.outcomes.of_failure(call, attempt, reply, end, now_s, failed)
                outcomes.sort(key=lambda outcome: outcome.batch.index if outcome.batch else 0)
            else:
                self._send_part(attempt, reply, end, failed, now_s + delay_s, now_s)
        self._finish(call, outcomes, now_s, attempt)

    def _is_split(self, attempt: Attempt, reply: Reply | None, end: Classification, now_s: float) -> bool:
        """Halve a batch that was too large, or whose function failed where that is asked for."""
        call = attempt.call
        assert self.batcher is not None
        error = end.error
        is_too_large = end.verdict is Verdict.REJECTED and error is not None and "TooLarge" in error.type
        is_bisected = end.verdict is Verdict.FUNCTION_ERROR and self.batcher.plan.bisect
        count = len(call.records)
        if count == 1 or not (is_too_large or is_bisected) or call.feed.is_closed or self.is_closing:
            return False
        if is_too_large:  # it did not run
            call.attempts -= 1
            end = Classification(Verdict.TRANSIENT, error=error)
        else:
            call.spared += 1
        half = count // 2
        for indexes in (range(half), range(half, count)):
            self._send_part(attempt, reply, end, indexes, now_s, now_s, is_repeated=False)
        if attempt.is_probe:
            self._on_probe_repeated(attempt, end.verdict, now_s)
        return True

    def _send_part(
        self,
        attempt: Attempt,
        reply: Reply | None,
        end: Classification,
        indexes: Sequence[int],
        at_s: float,
        now_s: float,
        *,
        is_repeated: bool = True,
    ) -> None:
        """Send some records of a batch again, as a batch of their own."""
        assert self.batcher is not None
        part = self.batcher.part(attempt.call, indexes)
        part.note_attempt(self.outcomes.attempt_end(attempt, end, reply, now_s))
        part.last, part.last_end, part.is_waiting = attempt, end, True
        if end.verdict is Verdict.FUNCTION_ERROR:
            assert reply is not None
            part.ran = reply, end.error
            part.function_error_retries += is_repeated
        self._retries.add(part, at_s)

    def _unreadable(self, attempt: Attempt, error: Exception, now_s: float) -> list[Outcome]:
        self._log.unexpected("a reply could not be read", error)
        detail = ErrorDetail("UnreadableReply", f"{type(error).__name__}: {error}"[:1000])
        unread = Classification(Verdict.AMBIGUOUS, error=detail)
        return self.outcomes.of_failure(attempt.call, attempt, None, unread, now_s)

    def _is_held(self, attempt: Attempt, reply: Reply | None, end: Classification, now_s: float) -> bool:
        """Let the outage learn from an end that is no success. Whether the call waits for its end now."""
        outage, call = self.outage, attempt.call
        verdict = end.verdict
        is_like_every_other = verdict is Verdict.FATAL and self._has_succeeded and not call.has_own_target
        if verdict is not Verdict.TRANSIENT and not is_like_every_other:
            if verdict is Verdict.AMBIGUOUS:
                if attempt.is_outage_probe:
                    outage.on_probe_over(now_s)
                    if outage.is_exhausted(now_s):
                        self._stop_for_outage()
            elif outage.on_answer() if verdict is Verdict.THROTTLED else outage.on_progress():
                self._end_outage()
            return False
        if not call.feed.waits_out_outages or not self._has_answered:
            return False
        was_on = outage.is_on
        record = (id(call.feed), call.records[0].seq)
        if not outage.on_failure(record, end, now_s, is_probe=attempt.is_outage_probe):
            return False
        if verdict is Verdict.FATAL and (not was_on or attempt.is_outage_probe):
            self.on_refusal()
        if outage.announces_pause(now_s):
            text = "pausing, as nothing is answered: %s"
            self._log.warning("outage_began", text, outage.cause, cause=outage.cause)
        call.attempts -= 1  # nothing ran: it spends no attempt
        call.note_attempt(self.outcomes.attempt_end(attempt, end, reply, now_s))
        call.last, call.last_end = attempt, end
        call.is_waiting = True
        if attempt.is_probe and self._breaker is not None:
            self._breaker.on_silent_probe()
            attempt.is_probe = False
        if call.feed.is_closed or self.is_closing:
            self._give_up(call, now_s)
        else:
            self._pause.calls.append(call)
            if outage.is_exhausted(now_s):
                self._stop_for_outage()
            else:
                self._arm(now_s)
        return True

    def _on_throttle(self, attempt: Attempt, classification: Classification, now_s: float) -> None:
        attempt.call.attempts -= 1  # a throttle ran nothing: it costs no attempt
        attempt.call.throttles += 1
        self._patience.note_throttle(now_s)
        kind = classification.throttle or ThrottleKind.UNKNOWN
        retry_after_s = self._bounded(classification.retry_after_s, attempt.call, now_s)
        if kind is ThrottleKind.RATE:
            self.gate.release(Release.IGNORED, attempt.n_bytes, attempt.sent_s, now_s)
        else:
            self.gate.release(Release.DROPPED, attempt.n_bytes, attempt.sent_s, now_s, kind, retry_after_s)
        if kind in (ThrottleKind.RATE, ThrottleKind.UNKNOWN):
            self.pacer.on_throttle(now_s, retry_after_s, attempt.sent_s)
        error = classification.error
        self._hooks.on_throttle("" if error is None else error.reason or error.type)

    def _on_fatal(self, call: Call, classification: Classification) -> None:
        if call.has_own_target:
            return  # asked for by this record alone: its fault, not the run's
        error = classification.error or _FAILED
        message = f"{error.type}: {error.message}" if error.message else error.type
        call.feed.on_fatal(FatalRefusal(message, code=error.type, http_status=call.last_http_status))
        self.give_up_retries(call.feed)

    def _on_unreachable(self, call: Call, classification: Classification) -> None:
        """No connection at any attempt, and nothing ever answered: the others would fail alike."""
        error = classification.error or _FAILED
        call.feed.on_fatal(FatalRefusal(error.message or error.type, code=error.type))
        self.give_up_retries(call.feed)

    def _delay_of_retry(self, call: Call, classification: Classification, now_s: float) -> float | None:
        if not call.feed.may_repeat:
            return None
        is_throttle = classification.verdict is Verdict.THROTTLED
        if is_throttle and self._patience.is_exhausted(now_s):
            error = classification.error or _FAILED
            reason = error.reason or error.type
            call.feed.on_fatal(
                FatalRefusal(f"nothing but throttles ({reason})", code=error.type, http_status=429)
            )
            self.give_up_retries(call.feed)
            return None
        delay_s = self._policy.decide(
            classification,
            attempts=call.attempts - call.spared,
            function_error_retries=call.function_error_retries,
            throttles=call.throttles,
            throttled_since_s=self._patience.since_s,
            starts_once=self._starts_once(call),
            now_s=now_s,
        )
        deadline_s = call.deadline_s
        if delay_s is not None and deadline_s is not None and now_s + delay_s >= deadline_s:
            return None
        return self._bounded(delay_s, call, now_s)

    def _bounded(self, wait_s: float | None, call: Call, now_s: float) -> float | None:
        """No wait is longer than what is left of patience or deadline, whatever a Retry-After says."""
        if wait_s is None:
            return None
        wait_s = min(wait_s, max(0.0, self._patience.left_s(now_s)))
        deadline_s = call.deadline_s
        return wait_s if deadline_s is None else min(wait_s, max(0.0, deadline_s - now_s))

    def _retry(
        self,
        attempt: Attempt,
        reply: Reply | None,
        classification: Classification,
        delay_s: float,
        now_s: float,
    ) -> None:
        call = attempt.call
        verdict = classification.verdict
        call.note_attempt(self.outcomes.attempt_end(attempt, classification, reply, now_s))
        call.last, call.last_end = attempt, classification
        call.is_waiting = True
        if attempt.is_probe:
            self._on_probe_repeated(attempt, verdict, now_s)
        if call.feed.is_closed or self.is_closing:
            self._give_up(call, now_s)
            return
        if verdict is Verdict.FUNCTION_ERROR:
            assert reply is not None
            call.ran = reply, classification.error
            call.function_error_retries += 1
            if self.renamed is not None:  # under the old name the failed execution would come back
                call.template = self.renamed(call)
        self._retries.add(call, now_s + delay_s)

    def _on_probe_repeated(self, attempt: Attempt, verdict: Verdict, now_s: float) -> None:
        assert self._breaker is not None
        if verdict is Verdict.THROTTLED:
            self._breaker.on_silent_probe()
        else:
            self._breaker.on_outcome(False, now_s, is_probe=True)
        attempt.is_probe = False

    def _reject(self, call: Call, now_s: float) -> None:
        record = call.records[0]
        fault = Classification(record.fault_verdict, error=record.fault)
        self._finish(call, self.outcomes.of_failure(call, None, None, fault, now_s), now_s)

    def _finish(
        self, call: Call, outcomes: list[Outcome], now_s: float, attempt: Attempt | None = None
    ) -> None:
        if self._breaker is not None and attempt is not None:
            is_ok = any(outcome.ok for outcome in outcomes)
            self._breaker.on_outcome(is_ok, now_s, is_probe=attempt.is_probe)
        feed = call.feed
        feed.outstanding -= len(outcomes)
        if self._on_outcome is not None:
            for outcome in outcomes:
                self._on_outcome(outcome, None if call.span is None else call.span[0])
        if outcomes:
            feed.deliver(call, outcomes)
        if not feed.outstanding:
            feed.settled()

    # --- stopping ----------------------------------------------------------------------------

    def give_up_retries(self, feed: Feed | None = None, *, error: ErrorDetail | None = None) -> None:
        """End the calls that wait for another attempt (of one feed, or all).

        A call that may have run, or did, gets the outcome of its last attempt. One that certainly
        did not is given up without an outcome, or with ``error`` becomes undelivered.
        """
        now_s = self.clock()
        ended = self._retries.take(feed)
        for call in self._pause.take(feed):
            self._give_up(call, now_s)  # an outage's: pending, also when a deadline passes meanwhile
        for call in ended:
            self._give_up(call, now_s, error)

    def expire(self, feed: Feed, record: InputRecord, error: ErrorDetail) -> None:
        """A record's own deadline has passed: its call, if it waits for another attempt, gets none."""
        now_s = self.clock()
        call = self._retries.take_call_of(feed, record) or self._pause.take_call_of(feed, record)
        if call is not None:
            self._give_up(call, now_s, error)

    def _give_up(self, call: Call, now_s: float, error: ErrorDetail | None = None) -> None:
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
        self._finish(call, self.outcomes.of_failure(call, call.last, None, last, now_s), now_s, call.last)

    def _abandon(self, attempt: Attempt, error: BaseException) -> bool:
        """A call was cut off: the function may have run. Returns whether its twin's success did that."""
        now_s = self.clock()
        if attempt.is_outage_probe:
            self.outage.on_probe_over(now_s)
        self.gate.linger(attempt.sent_s + self.linger_s, attempt.n_bytes, now_s)
        if self._hedges is not None:
            self._hedges.end(attempt)
        if attempt.is_superseded:
            return isinstance(error, asyncio.CancelledError)  # its call has its outcome
        if attempt.is_copy:
            attempt.call.may_have_run = True
            self._drop(attempt, now_s)
            return False
        if (copy := part(attempt)) is not None:
            copy.is_superseded = True
        kind = "Cancelled" if isinstance(error, asyncio.CancelledError) else type(error).__name__
        detail = ErrorDetail(kind, "the call was cut off: the function may have run")
        lost = Classification(Verdict.AMBIGUOUS, error=detail)
        self._finish(
            attempt.call,
            self.outcomes.of_failure(attempt.call, attempt, None, lost, now_s),
            now_s,
            attempt,
        )
        return False

    def _break(self, error: BaseException) -> None:
        self._log.unexpected("a call ended in an unexpected error", error)
        for feed in list(self._feeds):
            feed.close()
            feed.on_broken(error)
        self.loop.call_soon(self.pump)  # single calls go on: the worker that would have is gone

    def cut_off(self) -> int:
        """Wait no longer for the calls in flight; returns how many there were. They may run on."""
        in_flight = self.gate.in_flight
        for worker in list(self._workers):
            worker.cancel()
        return in_flight

    async def aclose(self, *, cut_off: bool = False) -> None:
        """End every task: after the calls in flight, or at once with ``cut_off``, even while that waits."""
        self.is_closing = self.is_paused = True
        # A hundred thousand callers may be waiting: their answers must not hold up the loop at once.
        for feeds in (self._queue, self._pause.feeds):
            while feeds:
                feeds.popleft().close()
                if len(feeds) % _CLOSED_AT_ONCE == 0 and not cut_off:
                    await asyncio.sleep(0)
        for feed in list(self._feeds):
            feed.close()
        self.give_up_retries()
        if cut_off:
            self.cut_off()
        while self._unpark(None) is not None:
            pass
        while self._workers:
            await asyncio.wait(list(self._workers))
        self._is_closed = True
        self._queue.clear()
        self._pause.feeds.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
