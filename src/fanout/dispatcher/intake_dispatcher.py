"""A dispatcher of intakes: the records of any number of intakes, sent under one shared budget."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.abc import TaskGroup
from msgspec.structs import replace

from fanout.config import Options, check_hedge
from fanout.dispatcher.assembly import OnOutcome, assemble
from fanout.dispatcher.batcher import Batcher, batcher_of, plan_of
from fanout.dispatcher.budget import Budget
from fanout.dispatcher.call_maker import CallMaker
from fanout.dispatcher.engine import Engine
from fanout.dispatcher.events import EventLog
from fanout.dispatcher.feed import Receiver, RecordFeed
from fanout.dispatcher.hooks import Hooks
from fanout.dispatcher.intake import EngineIntake
from fanout.dispatcher.load import Load, WorkerLoad
from fanout.dispatcher.ownership import check_loop, check_process
from fanout.errors import ConfigError, FanoutError
from fanout.stats.telemetry import CallTrace, Telemetry
from fanout.transports import Transport


class IntakeDispatcher:
    """Sends the records of intakes to one function, within its limits. An async context manager.

    A run has one, made of checked options. ``transport`` is the caller's own; then no AWS session is opened
    and no limit is read. ``run_id`` and ``generation`` are those of the run whose records are sent: the
    names of records in batches are built on them, and with ``names_calls`` those of durable executions.

    Entering reads the limits (one round trip) and raises ConfigError for invalid options and FatalRefusal
    when no call can succeed. Leaving waits for the calls in flight, ``grace`` seconds at the most; then, or
    by an exception or cancellation, it cuts them off (their outcomes are ``unknown``). No task outlives it.
    """

    def __init__(
        self,
        options: Options,
        *,
        transport: Transport | None = None,
        hooks: Hooks | None = None,
        on_outcome: OnOutcome | None = None,
        run_id: str | None = None,
        generation: int = 0,
        names_calls: bool = False,
        budget: Callable[[Options], Budget] | None = None,
        grace: float | None = None,
    ) -> None:
        self.options = options
        self._grace_s = _checked_seconds("grace", grace)
        self._events = EventLog(options.function)
        self.run_id = run_id or secrets.token_urlsafe(16)
        self.names_calls = names_calls
        self.calls = CallMaker(options, run=(self.run_id, generation) if names_calls else None)
        self._batch_plan = plan_of(options)
        self._own_transport = transport
        self._make_budget = budget
        self._hooks = hooks or Hooks()
        self._on_outcome = on_outcome
        self._generation = generation
        self.workers: list[WorkerLoad] = []  # that took part; none where calls are made here
        self._stack = AsyncExitStack()
        self._group: TaskGroup | None = None
        self._leaving = asyncio.Event()
        self._is_left = False
        self._closed = asyncio.Event()
        self._opening: asyncio.Task[Self] | None = None
        self._pid = 0  # of the process that opened it
        self._background: asyncio.Task[None] | None = None
        self._engine: Engine | None = None
        self._budget: Budget | None = None
        self._telemetry: Telemetry | None = None

    # --- life --------------------------------------------------------------------------------

    async def open(self) -> Self:
        """Enter without ``async with``; ``aclose`` is to follow. What is open already is left as it is.

        For start-up hooks, and for handlers that are called again and again: any number of tasks may
        call it at once, and the first opens.
        """
        if self._engine is not None and not self._is_left:
            self._check_place()
            return self
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self.__aenter__())
        return await asyncio.shield(self._opening)

    async def __aenter__(self) -> Self:
        if self._engine is not None or self._is_left:
            raise FanoutError("this dispatcher has been used already: make a new one")
        options = self.options
        check_hedge(is_hedged=options.hedge, may_repeat=options.idempotent or self.names_calls)
        async with AsyncExitStack() as stack:
            budget = (
                Budget(options, self._own_transport, must_ask=self.names_calls)
                if self._make_budget is None
                else self._make_budget(options)
            )
            await stack.enter_async_context(budget)
            self._budget = budget
            assembled = assemble(
                options,
                budget,
                calls=self.calls,
                batcher=self._batcher(),
                hooks=self._hooks,
                on_outcome=self._on_outcome,
                on_refusal=lambda: self._start_soon(budget.reread_credentials),
                generation=self._generation,
                names_calls=self.names_calls,
            )
            engine, self._telemetry = assembled.engine, assembled.telemetry
            self._pid = os.getpid()
            started = asyncio.Event()
            background = asyncio.create_task(self._work_in_background(budget, engine, started))
            try:
                await started.wait()
            except BaseException:
                background.cancel()
                with anyio.CancelScope(shield=True):
                    await asyncio.wait([background])
                raise
            self._background = background
            self._engine = engine  # from here on it is open
            self._stack = stack.pop_all()
        return self

    async def _work_in_background(self, budget: Budget, engine: Engine, started: asyncio.Event) -> None:
        # A task of its own, so that the caller's exceptions do not come back in an ExceptionGroup.
        async with anyio.create_task_group() as group:
            self._group = group
            group.start_soon(budget.pacer.run, engine.pump)
            group.start_soon(budget.watch, engine)
            started.set()
            await self._leaving.wait()
            group.cancel_scope.cancel()

    def _start_soon(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        assert self._group is not None
        self._group.start_soon(work)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._close(is_cut=exc_type is not None, within_s=self._grace_s)

    async def aclose(self, timeout_s: float | None = None) -> None:
        """Refuse new calls at once, wait for those in flight, and cut them off after ``timeout_s``.

        Without it the ``grace`` of the dispatcher holds; without either it waits as long as calls may
        take. What was cut off is ``unknown``, what was not out yet ``undelivered``. Closing again waits
        for the first.
        """
        within_s = _checked_seconds("timeout_s", timeout_s)
        if self._engine is None:
            self._is_left = True
            return
        self._check_place()
        if self._is_left:
            await self._closed.wait()
            return
        await self._close(is_cut=False, within_s=self._grace_s if within_s is None else within_s)

    async def _close(self, *, is_cut: bool, within_s: float | None) -> None:
        engine = self.engine
        self._is_left = True
        timer = None if is_cut or within_s is None else engine.loop.call_later(within_s, self._cut_off)
        try:
            if not is_cut:
                await engine.aclose()
        except BaseException:
            is_cut = True  # cancelled while it waited
            raise
        finally:
            if timer is not None:
                timer.cancel()
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
                        self._closed.set()

    def _cut_off(self) -> None:
        calls = self.engine.cut_off()
        text = "closing cut off %d calls: they may have run"
        self._events.warning("cut_off", text, calls, calls=calls)

    @property
    def engine(self) -> Engine:
        """The loop. Raises FanoutError outside of ``async with``."""
        if self._engine is None:
            how = 'use it inside "async with fanout.Dispatcher(…) as dispatcher:", or after "await open()"'
            raise FanoutError(f"this dispatcher is not open: {how}")
        return self._engine

    @property
    def budget(self) -> Budget:
        """The budget: limits, their sources, and the transport."""
        self.engine  # noqa: B018 - raises outside of ``async with``
        assert self._budget is not None
        return self._budget

    def tune(
        self,
        *,
        concurrency: int | str | None = None,
        rate: float | None = None,
        retries: int | None = None,
        pause: bool | None = None,
    ) -> dict[str, Any]:
        """Change options while calls go on; returns what is in force. What is left out stays.

        Where Lambda allows less than was asked for, ``bounded`` in what is returned says why.
        ``pause`` holds new attempts, ``pause=False`` lets them go on; calls in flight finish. Raises
        ConfigError for values that are wrong, and changes nothing then.
        """
        engine = self._open_engine()
        if not isinstance(pause, bool | None):
            raise ConfigError(f"pause is {pause!r}: give True or False")
        options = self.options
        options = replace(
            options,
            concurrency=options.concurrency if concurrency is None else concurrency,
            rate=options.rate if rate is None else rate,
            retries=options.retries if retries is None else retries,
        )
        if concurrency is not None or rate is not None:
            self.budget.tune(engine, concurrency=concurrency, rate=rate)
        self.options = options
        if retries is not None:
            engine.set_retries(retries)
        if pause is not None:
            engine.set_paused(pause)
        in_force: dict[str, Any] = {
            "concurrency": self.budget.quotas.budget,
            "rate": self.budget.pacer.rate_now,
            "retries": options.retries,
            "pause": engine.is_paused,
        }
        if bounded := self.budget.bounds():
            in_force["bounded"] = bounded
        return in_force

    # --- for feeds of other layers -----------------------------------------------------------

    def start_feed(
        self,
        intake: EngineIntake,
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
            trace=self._trace(),
            deadline_s=deadline_s,
            priority=priority,
        )
        engine.register(feed)
        self._group.start_soon(feed.fill)
        engine.queue(feed)
        return feed

    def load(self) -> Load:
        """The calls in flight now, and the cause that holds others back."""
        engine = self.engine
        gate, limit, now_s = engine.gate, engine.limit, engine.clock()
        lingering, linger_until_s = gate.lingering_at(now_s)
        return Load(
            in_flight=gate.in_flight,
            lingering=lingering,
            linger_until_s=linger_until_s,
            ceiling=limit.ceiling(now_s),
            cause=limit.cause(now_s),
            rate_per_s=engine.pacer.rate_now,
            is_outage=engine.outage.is_on,
        )

    def _open_engine(self) -> Engine:
        engine = self.engine
        self._check_open()
        self._check_place()
        return engine

    def _check_open(self) -> None:
        self._check_process()
        if self._is_left:
            raise FanoutError("this dispatcher is closed: make a new one")

    def _check_process(self) -> None:
        check_process(self._pid)

    def _check_place(self) -> None:
        self._check_process()
        check_loop(self.engine.loop)

    def _batcher(self) -> Batcher | None:
        """One of its own for each feed; None where a call carries one record."""
        region = None if self._budget is None else self._budget.region
        return batcher_of(self._batch_plan, self.calls, self.run_id, self.options.function, region)

    def _trace(self) -> CallTrace | None:
        """The current trace, if the option asks to pass it on."""
        return self._telemetry.trace() if self.options.trace and self._telemetry is not None else None


def _checked_seconds(name: str, value: Any) -> float | None:
    if value is not None and (
        isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0
    ):
        raise ConfigError(f"{name} is {value!r}: give seconds, 0 or more")
    return None if value is None else float(value)
