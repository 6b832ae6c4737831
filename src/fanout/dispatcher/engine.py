"""The engine of a dispatcher: it puts the parts together, and starts whatever may go out.

One synchronous pump takes attempts from the schedule and hands them to senders. A timer, a token, a
permit or a new feed makes it look again.

    feeds → Schedule → Senders → transport → Settlement ─┬─→ Feedback     permit, limit, pacer
              ↑                                          ├─→ Repeats ─→ RetryQueue ─→ Schedule
              └── Outages, Hedges                        └─→ Completion   outcomes
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from fanout.breaker import Breaker
from fanout.dispatcher.batch_settlement import BatchSettlement
from fanout.dispatcher.batcher import Batcher
from fanout.dispatcher.call import CALLS_A_TURN, Attempt, Call, Feed
from fanout.dispatcher.completion import Completion
from fanout.dispatcher.events import EventLog
from fanout.dispatcher.feedback import Feedback
from fanout.dispatcher.hedges import Hedges
from fanout.dispatcher.hooks import Hooks
from fanout.dispatcher.outages import Outages
from fanout.dispatcher.outcomes import OutcomeMaker
from fanout.dispatcher.record import InputRecord
from fanout.dispatcher.repeats import Repeats
from fanout.dispatcher.retry_queue import RetryQueue
from fanout.dispatcher.schedule import Schedule
from fanout.dispatcher.senders import Senders
from fanout.dispatcher.settlement import Settlement
from fanout.dispatcher.waiting_room import WaitingRoom
from fanout.gate import Gate
from fanout.limit import Limit
from fanout.model import ErrorDetail, InvokeTemplate, Outcome
from fanout.outage import Outage
from fanout.pacer import Pacer
from fanout.retry import RetryPolicy, ThrottlePatience
from fanout.transports import Transport


class Engine:
    """Sends the calls of feeds. All its methods run on one event loop; none blocks.

    ``linger_s``: how long a function whose reply was lost may run on. ``batcher`` says how batches are
    read and taken apart. ``is_durable``, ``renamed``: as for ``Repeats``. ``on_outcome`` gets each outcome
    with its call's span. ``on_refusal`` is called when calls that were accepted are refused.
    """

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
        on_refusal: Callable[[], object] = lambda: None,
        linger_s: float = 0.0,
        hedges: bool = False,
        is_durable: bool = False,
        renamed: Callable[[Call], InvokeTemplate] | None = None,
        function: str = "",
    ) -> None:
        log = EventLog(function)
        self.loop = loop = asyncio.get_running_loop()
        # uvloop's own clock is CLOCK_MONOTONIC in steps of 1 ms, so the finer one fits its timers. Any other
        # loop (virtual time) keeps its clock.
        self.clock = clock = time.monotonic if type(loop).__module__.startswith("uvloop") else loop.time
        self.limit = limit
        self.gate = gate
        self.pacer = pacer
        self.outage = outage = outage or Outage()
        self.is_paused = False
        self._is_pumping = False
        self._is_closed = False
        self._feeds: set[Feed] = set()  # those that outlive one call
        self._log = log
        self._policy = policy
        self._retries, self._waiting_room = retries, waiting_room = RetryQueue(), WaitingRoom()
        self._completion = completion = Completion(
            outcomes,
            retries=retries,
            waiting_room=waiting_room,
            breaker=breaker,
            on_outcome=on_outcome,
            clock=clock,
            log=log,
        )
        self._feedback = Feedback(gate, pacer, patience, hooks or Hooks(), linger_s=linger_s)
        repeats = Repeats(
            policy,
            patience,
            retries=retries,
            completion=completion,
            breaker=breaker,
            is_durable=is_durable,
            renamed=renamed,
            outage_patience_s=outage.patience_s,
        )
        copies = Hedges(repeats.may_run_twice) if hedges else None
        self._schedule = schedule = Schedule(
            gate=gate,
            pacer=pacer,
            outage=outage,
            breaker=breaker,
            hedges=copies,
            retries=retries,
            waiting_room=waiting_room,
            completion=completion,
            clock=clock,
            loop=loop,
            pump=self.pump,
            log=log,
        )
        outages = Outages(
            outage,
            waiting_room=waiting_room,
            schedule=schedule,
            retries=retries,
            repeats=repeats,
            completion=completion,
            breaker=breaker,
            feeds=self._feeds,
            on_refusal=on_refusal,
            wake=self._pump_soon,
            clock=clock,
            log=log,
        )
        settlement = Settlement(
            gate=gate,
            pacer=pacer,
            feedback=self._feedback,
            completion=completion,
            repeats=repeats,
            outages=outages,
            hedges=copies,
            batches=None
            if batcher is None
            else BatchSettlement(batcher, completion=completion, repeats=repeats, retries=retries),
            cut_off=self._cut_off_one,
            clock=clock,
        )
        self._senders = Senders(
            transport,
            schedule=schedule,
            settlement=settlement,
            completion=completion,
            hedges=copies,
            retry_budget=policy.budget,
            clock=clock,
            loop=loop,
            pump=self.pump,
            on_broken=self._on_broken,
            log=log,
        )

    # --- what feeds call ---------------------------------------------------------------------

    def queue(self, feed: Feed) -> None:
        """Give a feed its place at the end of the queue, if it has none, and go on."""
        if not feed.is_queued and not feed.is_closed and not self._is_closed:
            if self._feedback.is_troubled and self._schedule.is_idle:
                self._feedback.note_idle()
                self.outage.on_idle(self.clock())
            self._schedule.add(feed)
        self.pump()

    def start(self, feed: Feed) -> None:
        """Send the one call of a feed at once, if it need not wait for its turn; else queue it."""
        if not (self._is_pumping or self._is_closed or self._feedback.is_troubled):
            attempt = self._schedule.take_at_once(feed)
            if attempt is not None:
                if self._senders.begin((attempt,)):  # it would have to wait
                    self._senders.start_task(attempt)
                return
        self.queue(feed)

    def undelivered(self, call: Call, error: ErrorDetail) -> list[Outcome]:
        """The outcomes of a call that is given up before it ran."""
        return self._completion.undelivered(call, error)

    def give_up_retries(self, feed: Feed | None = None, *, error: ErrorDetail | None = None) -> None:
        """End the calls that wait for another attempt (of one feed, or all).

        A call that may have run, or did, gets the outcome of its last attempt. One that certainly
        did not is given up without an outcome, or with ``error`` becomes undelivered.
        """
        self._completion.give_up_retries(feed, error=error)

    def expire(self, feed: Feed, record: InputRecord, error: ErrorDetail) -> None:
        """A record's own deadline has passed: its call, if it waits for another attempt, gets none."""
        self._completion.expire(feed, record, error)

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

    # --- figures and settings ----------------------------------------------------------------

    @property
    def queued(self) -> int:
        """Feeds that wait for their turn: single calls that are not out, and inputs."""
        return len(self._schedule)

    @property
    def waiting(self) -> int:
        """Calls that wait for another attempt."""
        return len(self._retries)

    @property
    def is_closing(self) -> bool:
        """Nothing new goes out, and nothing is repeated."""
        return self._completion.is_closing

    def set_retries(self, retries: int) -> None:
        """Extra attempts from now on."""
        self._policy.set_retries(retries)

    @property
    def linger_s(self) -> float:
        """The time for which a function whose reply was lost may run on, from the sending of its call."""
        return self._feedback.linger_s

    def set_linger(self, seconds: float) -> None:
        """Another ``linger_s``, for calls that are lost from now on."""
        self._feedback.set_linger(seconds)

    def set_paused(self, is_paused: bool) -> None:
        """Hold new attempts, or let them go on; what is in flight goes on."""
        self.is_paused = self._schedule.is_held = is_paused
        self.pump()

    # --- the pump ----------------------------------------------------------------------------

    def pump(self) -> None:
        """Start every call that may go out now."""
        if self._is_pumping or self._is_closed:
            return
        self._is_pumping = True
        attempts: list[Attempt] = []
        try:
            try:
                self._schedule.take_several(attempts, CALLS_A_TURN)
            finally:
                self._senders.start(attempts)
        finally:
            self._is_pumping = False
        if len(attempts) == CALLS_A_TURN:
            self._pump_soon()

    def _pump_soon(self) -> None:
        self.loop.call_soon(self.pump)

    def _on_broken(self, error: BaseException) -> None:
        self._log.unexpected("a call ended in an unexpected error", error)
        for feed in list(self._feeds):
            feed.close()
            feed.on_broken(error)
        self._pump_soon()  # single calls go on: the sender that would have is gone

    # --- stopping ----------------------------------------------------------------------------

    def _cut_off_one(self, attempt: Attempt) -> None:
        self._senders.cut_off(attempt)

    def cut_off(self) -> int:
        """Wait no longer for the calls in flight; returns how many there were. They may run on."""
        self._schedule.is_held = True
        try:
            self._senders.settle_replies()
        finally:
            self._schedule.is_held = self.is_paused  # as it is now: who hears of an outcome may pause
        in_flight = self.gate.in_flight
        self._senders.cut_off()
        return in_flight

    async def aclose(self, *, cut_off: bool = False) -> None:
        """End every task: after the calls in flight, or at once with ``cut_off``, even while that waits."""
        self._completion.close()
        self.set_paused(True)
        # A hundred thousand callers may be waiting: their answers must not hold up the loop at once.
        count = 0
        while (feed := self._schedule.pop_waiting()) is not None:
            feed.close()
            count += 1
            if count % CALLS_A_TURN == 0 and not cut_off:
                await asyncio.sleep(0)
        for feed in list(self._feeds):
            feed.close()
        self.give_up_retries()
        if cut_off:
            self.cut_off()
        await self._senders.aclose()
        self._is_closed = True
        self._schedule.close()
