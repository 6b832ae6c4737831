"""The dispatcher: calls under one shared budget, one at a time or from an iterable."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Any, Self, Unpack, cast

import anyio
from anyio.abc import TaskGroup

from fanout.batching import SqsAttributes
from fanout.breaker import Breaker
from fanout.config import OptionKeywords, Options, check_hedge
from fanout.dispatcher.batcher import Batcher, plan_of
from fanout.dispatcher.budget import Budget
from fanout.dispatcher.call import Call, Feed
from fanout.dispatcher.calls import CallMaker
from fanout.dispatcher.engine import Engine, Hooks
from fanout.dispatcher.feed import CallFeed, Receiver, RecordFeed
from fanout.dispatcher.health import Health, Tally
from fanout.dispatcher.intake import Intake, PayloadIntake
from fanout.dispatcher.located import check_locations, open_locations
from fanout.dispatcher.mapping import Mapping, MapReceiver, Outcomes
from fanout.dispatcher.outcomes import OutcomeMaker
from fanout.dispatcher.record import InputRecord, record_of
from fanout.dispatcher.requests import Requests
from fanout.dispatcher.streaming import ReplyStream, StreamFeed
from fanout.dispatcher.supply import AsyncSupply, SyncSupply
from fanout.errors import ConfigError, FanoutError
from fanout.function_name import parse_function_name
from fanout.gate import Gate
from fanout.inputs import Input, locations_of
from fanout.limit.protocol import Cause
from fanout.model import Outcome
from fanout.outage import DEFAULT_PATIENCE_S, Outage
from fanout.retry import RetryPolicy, ThrottlePatience
from fanout.stats.telemetry import CallTrace, Telemetry
from fanout.transports import Transport

_log = logging.getLogger("fanout")
_NO_REGION = "us-east-1"  # in events of shape sqs, where the transport is the caller's own

__all__ = [
    "Call",
    "Dispatcher",
    "Health",
    "Hooks",
    "InputRecord",
    "Intake",
    "Load",
    "Outcomes",
    "Receiver",
    "RecordFeed",
    "ReplyStream",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a dispatcher has in flight, and what holds it back. ``linger_until_s``: of the engine's clock."""

    in_flight: int
    lingering: int
    linger_until_s: float | None
    ceiling: int
    cause: Cause
    rate_per_s: float | None
    is_outage: bool = False
    is_paced: bool | None = None  # the rate holds calls back, where the feed itself does not say


class Dispatcher:
    """Invokes one function, within its limits, for any number of callers at once.

    An async context manager. Options have the command's names (``concurrency``, ``rate``,
    ``retries``, ``idempotent``, ``qualifier``, ``invocation_type``, ``region`` …): see
    ``docs/reference.md``. ``transport`` may also be an object of the ``Transport`` Protocol; then no
    AWS session is opened and no limit is read.

    Entering reads the limits (one round trip) and raises ConfigError for invalid options and
    FatalRefusal when no call can succeed. Leaving waits for the calls in flight; leaving by an
    exception or cancellation cuts them off (their outcomes are ``unknown``). No task outlives it.
    """

    def __init__(
        self,
        function: str,
        *,
        transport: str | Transport = "direct",
        hooks: Hooks | None = None,
        generation: int = 0,
        budget: Callable[[Options], Budget] | None = None,
        **options: Unpack[OptionKeywords],
    ) -> None:
        self._make_budget = budget
        self._own_transport = None if isinstance(transport, str) else transport
        sent_by = {"transport": transport} if isinstance(transport, str) else {}
        self.options = make_options(function, {**options, **sent_by})
        self.calls = CallMaker(self.options)
        self._batch_plan = plan_of(self.options)
        self.run_id = secrets.token_urlsafe(16)  # the names of records in batches; a run sets its own
        self._hooks = hooks
        self._generation = generation
        self.durable_run: str | None = None  # a run's id, by which each call is named; set before entering
        self._call_count = 0
        self._tally = Tally()
        self._stack = AsyncExitStack()
        self._group: TaskGroup | None = None
        self._leaving = asyncio.Event()
        self._is_left = False
        self._background: asyncio.Task[None] | None = None
        self._engine: Engine | None = None
        self._budget: Budget | None = None
        self._telemetry: Telemetry | None = None
        self._requests: dict[int, tuple[Requests, RecordFeed]] = {}  # single calls that share batches

    # --- life --------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._engine is not None:
            raise FanoutError("this dispatcher has been used already: make a new one")
        options = self.options
        check_hedge(is_hedged=options.hedge, may_repeat=options.idempotent or self.durable_run is not None)
        async with AsyncExitStack() as stack:
            budget = (
                Budget(options, self._own_transport, must_ask=self.durable_run is not None)
                if self._make_budget is None
                else self._make_budget(options)
            )
            if self.durable_run is not None:
                self.calls.name_calls(self.durable_run, self._generation)
            await stack.enter_async_context(budget)
            self._budget = budget
            self._telemetry = telemetry = Telemetry(
                options.function, region=budget.region, in_flight=lambda: gate.in_flight
            )
            # A run counts for itself.
            hooks: Hooks = self._hooks or self._tally
            listeners: list[Callable[[Outcome, Any], None]] = []
            if self._hooks is None:
                listeners.append(self._tally.on_outcome)
            if telemetry.is_enabled:
                hooks = _Telling(hooks, telemetry)
                listeners.append(telemetry.on_outcome)
            gate = Gate(budget.limit, max_bytes_in_flight=options.max_bytes_in_flight)
            self._engine = engine = Engine(
                transport=budget.transport,
                limit=budget.limit,
                gate=gate,
                pacer=budget.pacer,
                policy=RetryPolicy(
                    retries=options.retries,
                    # To name error types is to ask for their retry.
                    retry_function_errors=options.retry_function_errors or int(bool(options.retry_on)),
                    retry_on=options.retry_on,
                    idempotent=options.idempotent,
                    throttle_patience_s=options.throttle_patience,
                    rng=random.Random(options.seed),  # noqa: S311 - jitter, no secret
                ),
                patience=ThrottlePatience(options.throttle_patience),
                outcomes=OutcomeMaker(
                    keeps_tail_of_successes=options.log_type == "Tail", generation=self._generation
                ),
                outage=self._outage(budget),
                batcher=self._batcher(),
                breaker=None if options.breaker is None else Breaker(options.breaker),
                hooks=hooks,
                on_outcome=_joined(listeners),
                linger_s=budget.linger_s,
                hedges=options.hedge,
            )
            engine.is_durable = budget.quotas.is_durable
            if self.durable_run is not None:
                engine.renamed = self.calls.renamed
            started = asyncio.Event()
            self._background = asyncio.create_task(self._work_in_background(budget, engine, started))
            await started.wait()
            self._stack = stack.pop_all()
        return self

    async def _work_in_background(self, budget: Budget, engine: Engine, started: asyncio.Event) -> None:
        # A task of its own, so that the caller's exceptions do not come back in an ExceptionGroup.
        async with anyio.create_task_group() as group:
            self._group = group
            group.start_soon(budget.pacer.run, engine.pump)
            group.start_soon(budget.watch, engine)
            engine.on_refusal = partial(group.start_soon, budget.reread_credentials)
            started.set()
            await self._leaving.wait()
            group.cancel_scope.cancel()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        engine = self.engine
        self._is_left = True
        is_cut = exc_type is not None
        try:
            if not is_cut:
                await engine.aclose()
        except BaseException:
            is_cut = True  # cancelled while it waited
            raise
        finally:
            with anyio.CancelScope(shield=True):
                try:
                    if is_cut:
                        await engine.aclose(cut_off=True)
                finally:
                    self._leaving.set()
                    try:
                        if self._background is not None:
                            await self._background
                    finally:
                        await self._stack.aclose()

    @property
    def engine(self) -> Engine:
        """The loop. Raises FanoutError outside of ``async with``."""
        if self._engine is None:
            raise FanoutError('use the dispatcher inside "async with fanout.Dispatcher(…) as dispatcher:"')
        return self._engine

    @property
    def budget(self) -> Budget:
        """What the limits allow, and where each figure came from."""
        self.engine  # noqa: B018 - raises outside of ``async with``
        assert self._budget is not None
        return self._budget

    # --- calls -------------------------------------------------------------------------------

    async def invoke(self, payload: Any, *, key: str | None = None, priority: int = 0) -> Outcome:
        """One call, under the shared budget. A failure is an outcome, never an exception.

        Cancelling gives up the wait: a call that is not out yet is never sent, one that is out
        keeps its permit until its reply comes, as the function runs on. Under a full budget calls of a
        lower ``priority`` number go first; no priority starves.
        """
        engine = self._open_engine()
        seq = self._next_seq()
        if self._batch_plan is not None:
            return await self._invoke_in_batch(record_of(seq, payload, key=key), priority)
        feed = CallFeed(engine, self.calls, record_of(seq, payload, key=key))
        feed.priority = priority
        feed.waits_out_outages = bool(self.options.outage_patience)
        if feed.waits_out_outages:
            engine.register(feed)
        feed.trace = self._trace()
        self._expire_later(feed, feed.expire)
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
        if self._is_left:
            raise FanoutError("this dispatcher has been left: make a new one")
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
        """How the dispatcher stands now, for health checks and dashboards. From any thread."""
        engine, tally = self.engine, self._tally
        now_s = engine.clock()
        lingers_until_s = engine.gate.linger_until_s
        return Health(
            in_flight=engine.gate.in_flight,
            lingering=engine.gate.lingering,
            lingering_for_s=None if lingers_until_s is None else max(0.0, lingers_until_s - now_s),
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
        found = self._requests.get(priority)
        if found is None or found[1].is_closed:
            requests = Requests()
            found = requests, self.start_feed(requests, requests, waits=False, priority=priority)
            self._requests[priority] = found
        requests, feed = found
        engine = self.engine
        future = requests.ask(record)
        timer: asyncio.TimerHandle | None = None
        if self.options.deadline is not None:
            record.deadline_s = engine.clock() + self.options.deadline
            timer = engine.loop.call_at(record.deadline_s, requests.expire, record, feed)
        engine.queue(feed)
        try:
            return await future
        finally:
            if timer is not None:
                timer.cancel()
            if future.cancelled():
                requests.withdraw(record, feed)

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
        elif isinstance(payloads, (bytes, bytearray, memoryview)) or not isinstance(
            payloads, (AsyncIterable, Iterable)
        ):
            raise TypeError(
                f"payloads is {type(payloads).__name__}: give an iterable of payloads, a path or an Input"
            )

        def open_intake() -> Intake:
            if locations:
                return open_locations(locations, self.options)
            if isinstance(payloads, AsyncIterable):
                return PayloadIntake(AsyncSupply(aiter(payloads)))
            return PayloadIntake(SyncSupply(iter(cast("Iterable[Any]", payloads))))

        def start() -> Mapping:
            engine = self._open_engine()
            intake = open_intake()
            receiver = MapReceiver(engine, intake, is_ordered=ordered)
            feed = self.start_feed(intake, receiver, priority=priority)
            self._expire_later(feed, feed.expire)
            return Mapping(feed, receiver)

        return Outcomes(start)

    def stream(self, payload: Any, *, key: str | None = None) -> ReplyStream:
        """One call with a streamed reply: an async iterator of chunks, then ``.outcome``."""
        if self._batch_plan is not None:
            raise ConfigError("stream and batch exclude each other: use a dispatcher without batch")
        seq = self._next_seq()

        def start() -> StreamFeed:
            engine = self._open_engine()
            feed = StreamFeed(engine, self.calls, record_of(seq, payload, key=key))
            feed.trace = self._trace()
            self._expire_later(feed, feed.expire)
            engine.register(feed)
            engine.queue(feed)
            return feed

        return ReplyStream(start)

    def tune(
        self,
        *,
        concurrency: int | str | None = None,
        rate: float | None = None,
        retries: int | None = None,
        pause: bool | None = None,
    ) -> dict[str, Any]:
        """Change options while calls go on; returns what is in force. What is left out stays.

        ``pause`` holds new attempts, ``pause=False`` lets them go on; calls in flight finish. Raises
        ConfigError for values that are wrong, and changes nothing then.
        """
        engine = self._open_engine()
        changes = {"concurrency": concurrency, "rate": rate, "retries": retries}
        given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
        options = replace(self.options, **given)
        if concurrency is not None or rate is not None:
            self.budget.tune(engine, concurrency=concurrency, rate=rate)
        self.options = options
        if retries is not None:
            engine.set_retries(retries)
        if pause is not None:
            engine.set_paused(pause)
        return {
            "concurrency": self.budget.quotas.budget,
            "rate": self.budget.pacer.rate_now,
            "retries": options.retries,
            "pause": engine.is_paused,
        }

    # --- for feeds of other layers -----------------------------------------------------------

    def start_feed(
        self,
        intake: Intake,
        receiver: Receiver,
        *,
        deadline_s: float | None = None,
        waits: bool = True,
        priority: int = 0,
    ) -> RecordFeed:
        """Let an intake take part, until it has ended or the dispatcher is left."""
        assert self._group is not None
        engine = self.engine
        patience_s = self.options.outage_patience
        feed = RecordFeed(
            engine,
            self.calls,
            intake,
            receiver,
            waits_out_outages=waits if patience_s is None else patience_s > 0,
            batcher=self._batcher(),
        )
        feed.trace = self._trace()
        feed.deadline_s = deadline_s
        feed.priority = priority
        engine.register(feed)
        self._group.start_soon(feed.fill)
        engine.queue(feed)
        return feed

    def load(self) -> Load:
        """What is in flight now, and what holds calls back."""
        engine = self.engine
        gate, limit, now_s = engine.gate, engine.limit, engine.clock()
        return Load(
            in_flight=gate.in_flight,
            lingering=gate.lingering,
            linger_until_s=gate.linger_until_s,
            ceiling=limit.ceiling(now_s),
            cause=limit.cause(now_s),
            rate_per_s=engine.pacer.rate_now,
            is_outage=engine.outage.is_on,
        )

    def _open_engine(self) -> Engine:
        engine = self.engine
        if self._is_left:
            raise FanoutError("this dispatcher has been left: make a new one")
        if asyncio.get_running_loop() is not engine.loop:
            raise FanoutError("this dispatcher belongs to another event loop: use it where it was entered")
        return engine

    def _batcher(self) -> Batcher | None:
        plan = self._batch_plan
        if plan is None:
            return None
        function = self.options.function
        parsed = parse_function_name(function)
        sqs = SqsAttributes.of_function(
            function if parsed is None else parsed["name"],
            region=(parsed and parsed["region"]) or (self._budget and self._budget.region) or _NO_REGION,
            account=parsed and parsed["account"],
        )
        return Batcher(plan, self.calls, self.run_id, sqs)

    def _outage(self, budget: Budget) -> Outage:
        patience_s = self.options.outage_patience
        outage = Outage(DEFAULT_PATIENCE_S if patience_s is None else patience_s)
        if budget.quotas.state in ("Pending", "Inactive"):
            _log.warning("%s is %s: waiting for it", self.options.function, budget.quotas.state)
            now_s = asyncio.get_running_loop().time()
            outage.begin(f"the function is {budget.quotas.state}", now_s, wait_s=0.0)
            outage.announces_pause(now_s)  # done
        return outage

    def _trace(self) -> CallTrace | None:
        """The current trace, if the option asks to pass it on."""
        return self._telemetry.trace() if self.options.trace and self._telemetry is not None else None

    def _expire_later(self, feed: Feed, expire: Callable[[], None]) -> None:
        if self.options.deadline is not None:
            feed.deadline_s = self.engine.clock() + self.options.deadline
            feed.timer = asyncio.get_running_loop().call_at(feed.deadline_s, expire)

    def _next_seq(self) -> int:
        seq = self._call_count
        self._call_count = seq + 1
        return seq


def make_options(function: str, options: dict[str, Any]) -> Options:
    """Checked options; an unknown name is a TypeError that lists the ones there are."""
    if "invocation" in options:  # the field's word for a streamed reply
        if options["invocation"] != "stream":
            raise ConfigError(
                f"invocation is {options['invocation']!r}: give 'stream', or use invocation_type"
            )
        options = {**options, "stream": True}
        del options["invocation"]
    unknown = sorted(set(options) - Options.names())
    if unknown:
        known = ", ".join(sorted(Options.names() - {"function"}))
        raise TypeError(f"unknown option {unknown[0]!r}: there are {known}")
    return Options(function=function, **options)


def _joined(listeners: Sequence[Callable[[Outcome, Any], None]]) -> Callable[[Outcome, Any], None] | None:
    if len(listeners) < 2:
        return listeners[0] if listeners else None

    def call(outcome: Outcome, span: Any) -> None:
        for listener in listeners:
            listener(outcome, span)

    return call


class _Telling(Hooks):
    """The caller's hooks, and OpenTelemetry's."""

    def __init__(self, hooks: Hooks, telemetry: Telemetry) -> None:
        self._hooks = hooks
        self._telemetry = telemetry

    def on_throttle(self, reason: str) -> None:
        self._hooks.on_throttle(reason)
        self._telemetry.on_throttle(reason)
