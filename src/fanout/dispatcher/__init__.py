"""The dispatcher: calls under one shared budget, one at a time or from an iterable."""

from __future__ import annotations

import asyncio
import os
from asyncio import _get_running_loop as _running_loop  # None in a thread, no error
from collections.abc import AsyncIterable, Iterable
from functools import partial
from os import getpid
from typing import Any, Unpack, cast

from fanout.config import OptionKeywords, Options
from fanout.dispatcher.call import Call
from fanout.dispatcher.feed import CallFeed, Receiver, RecordFeed
from fanout.dispatcher.health import Health, HealthCount
from fanout.dispatcher.hooks import Hooks
from fanout.dispatcher.intake import EngineIntake, PayloadIntake
from fanout.dispatcher.intake_dispatcher import IntakeDispatcher
from fanout.dispatcher.load import Load, WorkerLoad
from fanout.dispatcher.location_intake import check_locations, open_locations
from fanout.dispatcher.mapping import MapReceiver, MapSession, Outcomes
from fanout.dispatcher.record import InputRecord, record_of
from fanout.dispatcher.streaming import ReplyStream, StreamFeed
from fanout.dispatcher.supply import AsyncSupply, SyncSupply
from fanout.dispatcher.waiting_callers import WaitingCallers
from fanout.errors import ConfigError, FanoutError
from fanout.inputs import Input, locations_of
from fanout.model import Outcome
from fanout.transports import Transport

__all__ = [
    "Call",
    "Dispatcher",
    "EngineIntake",
    "Health",
    "Hooks",
    "InputRecord",
    "IntakeDispatcher",
    "Load",
    "Outcomes",
    "Receiver",
    "RecordFeed",
    "ReplyStream",
    "WorkerLoad",
]


class Dispatcher(IntakeDispatcher):
    """Invokes one function, within its limits, for any number of callers at once.

    An async context manager, or ``await open()`` and ``await aclose()``. It may be made anywhere, at
    module level too, and belongs to the event loop and the process that open it.

    Options have the command's names (``concurrency``, ``rate``, ``retries``, ``idempotent``, ``qualifier``,
    ``invocation_type``, ``region`` …): see ``docs/reference.md``. ``transport`` may also be an object of the
    ``Transport`` Protocol; then no AWS session is opened and no limit is read.

    Entering reads the limits (one round trip) and raises ConfigError for invalid options and
    FatalRefusal when no call can succeed. Leaving waits for the calls in flight, ``grace`` seconds at the
    most; then, or by an exception or cancellation, it cuts them off (their outcomes are ``unknown``). No
    task outlives it.
    """

    def __init__(
        self,
        function: str,
        *,
        transport: str | Transport = "direct",
        grace: float | None = None,
        **options: Unpack[OptionKeywords],
    ) -> None:
        self._tally = HealthCount()
        super().__init__(
            Options.of(function, options, transport=transport if isinstance(transport, str) else "direct"),
            transport=None if isinstance(transport, str) else transport,
            hooks=self._tally,
            on_outcome=self._tally.on_outcome,
            grace=grace,
        )
        self._call_count = 0
        # As nearly always: a call has no batch to share, nothing to trace or wait out, and no deadline.
        asked = self.options
        self._is_plain = self._batch_plan is None and not (
            asked.trace or asked.outage_patience or asked.deadline is not None
        )
        self._waiting_callers: dict[int, WaitingCallers] = {}  # by priority: single calls that share batches

    # --- calls -------------------------------------------------------------------------------

    async def invoke(self, payload: Any, *, key: str | None = None, priority: int = 0) -> Outcome:
        """One call, under the shared budget. A failure is an outcome, never an exception.

        Cancelling gives up the wait: a call that is not out yet is never sent, one that is out
        keeps its permit until its reply comes, as the function runs on. Under a full budget calls of a
        lower ``priority`` number go first; no priority starves.
        """
        engine = self._engine
        if engine is None or engine.loop is not _running_loop() or self._is_left or self._pid != getpid():
            engine = self._open_engine()  # or says what is wrong
        seq = self._call_count
        self._call_count = seq + 1
        if self._is_plain:
            feed = CallFeed(engine, self.calls, seq, payload, key, priority)
            engine.start(feed)
            return await feed.future
        if self._batch_plan is not None:
            record = record_of(seq, payload, key=key, deadline_s=self._deadline_s())
            return await self._invoke_in_batch(record, priority)
        feed = CallFeed(engine, self.calls, seq, payload, key, priority)
        feed.waits_out_outages = bool(self.options.outage_patience)
        feed.trace, feed.deadline_s = self._trace(), self._deadline_s()
        if feed.waits_out_outages:
            engine.register(feed)
        feed.expire_at_deadline(engine.loop)
        engine.queue(feed)
        try:
            return await feed.future
        finally:
            feed.disarm()
            engine.forget(feed)

    def invoke_sync(self, payload: Any, *, key: str | None = None, priority: int = 0) -> Outcome:
        """``invoke`` for another thread than the dispatcher's: blocks until the outcome is there.

        Raises FanoutError in the dispatcher's own thread, which it would block for ever.
        """
        loop = self.engine.loop
        self._check_open()
        try:
            is_here = asyncio.get_running_loop() is loop
        except RuntimeError:
            is_here = False
        if is_here:
            raise FanoutError("invoke_sync would block the event loop of the dispatcher: await invoke(…)")
        if not loop.is_running():
            raise FanoutError("the dispatcher's event loop does not run: nothing can be invoked")
        return asyncio.run_coroutine_threadsafe(
            self.invoke(payload, key=key, priority=priority), loop
        ).result()

    def snapshot(self) -> Health:
        """The state of the dispatcher now, for health checks and dashboards. From any thread."""
        engine, tally = self.engine, self._tally
        self._check_process()
        now_s = engine.clock()
        lingering, lingers_until_s = engine.gate.lingering_at(now_s)
        return Health(
            in_flight=engine.gate.in_flight,
            lingering=lingering,
            lingering_for_s=None if lingers_until_s is None else lingers_until_s - now_s,
            limit=engine.limit.ceiling(now_s),
            cause=engine.limit.cause(now_s),
            rate_per_s=engine.pacer.rate_now,
            queued=engine.queued,
            waiting=engine.waiting,
            counts=dict(tally.counts),
            throttles=tally.throttles,
        )

    async def _invoke_in_batch(self, record: InputRecord, priority: int) -> Outcome:
        """One record, in a batch with those of other callers of its priority."""
        callers = self._waiting_callers.get(priority)
        if callers is None or callers.feed.is_closed:
            callers = WaitingCallers(partial(self.start_feed, waits=False, priority=priority))
            self._waiting_callers[priority] = callers
        engine = self.engine
        future = callers.ask(record)
        timer: asyncio.TimerHandle | None = None
        if record.deadline_s is not None:
            timer = engine.loop.call_at(record.deadline_s, callers.expire, record)
        engine.queue(callers.feed)
        try:
            return await future
        finally:
            if timer is not None:
                timer.cancel()
            if future.cancelled():
                callers.withdraw(record)

    def map(
        self,
        payloads: Iterable[Any] | AsyncIterable[Any] | str | os.PathLike[str] | Input,
        *,
        ordered: bool = False,
        priority: int = 0,
    ) -> Outcomes:
        """Outcomes of many payloads: as they finish, or with ``ordered`` in their order.

        Pulls a payload only when a permit is free and the consumer keeps up, so any iterable will
        do, endless ones too. A string or a path is the location of an input (a file, a URL, ``s3://…``,
        ``-``), ``fanout.Input`` names several; the format follows from the name. ``seq`` counts from 0;
        ``priority`` is as with ``invoke``.
        """
        locations = locations_of(payloads)
        if locations:
            check_locations(locations)

        def open_intake() -> EngineIntake:
            if locations:
                return open_locations(locations, self.options)
            if isinstance(payloads, AsyncIterable):
                return PayloadIntake(AsyncSupply(aiter(payloads)))
            return PayloadIntake(SyncSupply(iter(cast("Iterable[Any]", payloads))))

        def start() -> MapSession:
            engine = self._open_engine()
            intake = open_intake()
            receiver = MapReceiver(engine, intake, is_ordered=ordered)
            feed = self.start_feed(intake, receiver, priority=priority, deadline_s=self._deadline_s())
            feed.expire_at_deadline(engine.loop)
            return MapSession(feed, receiver)

        return Outcomes(start)

    def stream(self, payload: Any, *, key: str | None = None) -> ReplyStream:
        """One call with a streamed reply: an async iterator of chunks, then ``.outcome``."""
        if self._batch_plan is not None:
            raise ConfigError("stream and batch exclude each other: use a dispatcher without batch")
        seq = self._next_seq()

        def start() -> StreamFeed:
            engine = self._open_engine()
            feed = StreamFeed(
                engine,
                self.calls,
                seq,
                payload,
                key,
                trace=self._trace(),
                deadline_s=self._deadline_s(),
            )
            feed.expire_at_deadline(engine.loop)
            engine.register(feed)
            engine.queue(feed)
            return feed

        return ReplyStream(start)

    def _deadline_s(self) -> float | None:
        """The deadline of a call that is asked for now, of the engine's clock."""
        return None if self.options.deadline is None else self.engine.clock() + self.options.deadline

    def _next_seq(self) -> int:
        seq = self._call_count
        self._call_count = seq + 1
        return seq
