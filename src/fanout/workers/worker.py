"""A worker: the engine of one process, which works under leases and reports when it is asked.

``exchange`` is all that the coordinator calls. An order that comes again gets the report it had.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections import Counter
from contextlib import suppress

import msgspec
from msgspec.structs import replace

from fanout.aws import ServiceClients
from fanout.config import Options
from fanout.dispatcher import Hooks, InputRecord, IntakeDispatcher, RecordFeed
from fanout.dispatcher.budget import Budget
from fanout.errors import FanoutError
from fanout.inputs import Selector
from fanout.runs.item_records import as_suspect, record_of_item
from fanout.transports import Transport
from fanout.version import version
from fanout.workers.budgets import LeasedBudget
from fanout.workers.dask_logs import pass_on_exceptions, pass_on_logs
from fanout.workers.handed_intake import HandedIntake
from fanout.workers.lane_reader import LaneReader
from fanout.workers.line_receiver import LineReceiver
from fanout.workers.messages import Greeting, HandedWindow, Order, Report, Settings, unpacked, unpacked_lines

_ALONE_S = 30.0  # without an order for so long, the coordinator is gone


class _Reasons(Hooks):
    """Counts throttles by reason, for the next report."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def on_throttle(self, reason: str) -> None:
        self._counts[reason] += 1

    def take(self) -> dict[str, int]:
        """The throttles since the last report."""
        counts, self._counts = self._counts, Counter()
        return counts


class Worker:
    """Works from ``begin`` until an order says ``finish``, or no order comes for half a minute."""

    def __init__(self, transport: Transport | None = None) -> None:
        self._transport = transport  # in place of the one that the settings name
        self._settings: Settings | None = None
        self._dispatcher: IntakeDispatcher | None = None
        self._budget: LeasedBudget | None = None
        self._feed: RecordFeed | None = None
        self._intake = HandedIntake()
        self._lanes: LaneReader | None = None
        self._selector: Selector | None = None
        self._receiver = LineReceiver()
        self._reasons = _Reasons()
        self._not_sent: list[int] = []
        self._answer = Report(number=0)
        self._ordered = asyncio.Event()
        self._finish = asyncio.Event()
        self._opened: asyncio.Future[str] | None = None
        self._task: asyncio.Task[None] | None = None
        self._command = "go"
        self._is_batching = False

    async def begin(self, settings: Settings) -> Greeting:
        """Open the transport with this machine's own credentials. Takes no work when it says why not."""
        own_version = version()
        if (refusal := _version_refusal(settings.version)) is not None:
            return Greeting(own_version, os.getpid(), refusal)
        if self._task is None:
            if settings.is_child and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, signal.SIG_IGN)
            self._settings = settings
            self._is_batching = bool(settings.options.batch)
            self._opened = asyncio.get_running_loop().create_future()
            self._task = asyncio.create_task(self._work(settings))
        assert self._opened is not None
        refusal = await asyncio.shield(self._opened)
        if self._budget is not None and not refusal:
            self._budget.limit.ask(self._now_s())
        most = sys.maxsize if self._budget is None else self._budget.connections
        return Greeting(own_version, os.getpid(), refusal or None, most)

    async def exchange(self, order: Order) -> Report:
        """Do what an order says, and report."""
        if order.number == self._answer.number:
            return self._answer
        self._ordered.set()
        feed, budget, dispatcher = self._feed, self._budget, self._dispatcher
        if feed is None or budget is None or dispatcher is None:
            return Report(number=order.number, failure="it has stopped")
        self._receiver.acknowledge(order.acknowledged)
        self._take(order, budget, dispatcher)
        await asyncio.sleep(0)  # what may go out now goes out first, so that the report counts it
        self._answer = self._report(order, budget, dispatcher, feed)
        if order.command == "finish":
            self._finish.set()
        return self._answer

    def _take(self, order: Order, budget: LeasedBudget, dispatcher: IntakeDispatcher) -> None:
        engine = dispatcher.engine
        if order.lease is not None:
            budget.limit.take(order.lease, engine.clock())
            budget.pacer.lease(order.lease.rate_per_s)
        if engine.linger_s:
            engine.set_linger(order.function_timeout_s)
        if self._feed is not None and order.deadline_s is not None:
            self._feed.set_deadline(engine.clock() + order.deadline_s)
        if order.retries is not None:
            engine.set_retries(order.retries)
        self._intake.add([unpacked(record) for record in order.records])
        for handed_lines in order.handed_lines:
            self._intake.add(unpacked_lines(handed_lines))
        self._take_lanes(order)
        if order.command != self._command:
            self._command = order.command
            self._obey(order, dispatcher)
        engine.pump()

    def _take_lanes(self, order: Order) -> None:
        settings, lanes = self._settings, self._lanes
        if order.reading is not None and lanes is None:
            assert settings is not None
            self._lanes = lanes = LaneReader(order.reading, lambda: ServiceClients.of(settings.options))
            self._selector = order.reading.selector()
        if lanes is None:
            return
        for handed_lane in order.lanes:
            lanes.add(handed_lane)
        for window in order.windows:
            self._intake.add(self._of_window(lanes, window))
        for cut in order.cuts:
            lanes.cut(cut.number, cut.from_seq, cut.end_seq)

    def _of_window(self, lanes: LaneReader, window: HandedWindow) -> list[InputRecord]:
        items = lanes.take(window.number, window.first_seq, window.end_seq)
        self._not_sent.extend(range(window.first_seq + len(items), window.end_seq))
        records = [
            record_of_item(self._selector, seq, item) for seq, item in enumerate(items, window.first_seq)
        ]
        return [as_suspect(record) for record in records] if window.is_suspect else records

    def _obey(self, order: Order, dispatcher: IntakeDispatcher) -> None:
        feed = self._feed
        assert feed is not None
        self._not_sent.extend(self._intake.take_back())
        self._intake.end()
        if self._lanes is not None:
            self._lanes.drop()
        if order.command == "expire":
            feed.expire()
        elif order.command == "drain":
            feed.close()
            dispatcher.engine.give_up_retries(feed)

    def _report(
        self, order: Order, budget: LeasedBudget, dispatcher: IntakeDispatcher, feed: RecordFeed
    ) -> Report:
        now_s = dispatcher.engine.clock()
        gate, limit, receiver, intake = dispatcher.engine.gate, budget.limit, self._receiver, self._intake
        gate.has_room(now_s)  # lets lingering permits whose time has passed go
        receiver.cut_block()
        lingering, until_s = gate.lingering_at(now_s)
        if feed.is_closed:
            self._not_sent.extend(intake.take_back())
        noted = limit.take_noted()
        has_work = intake.waiting > 0 or feed.forming > 0 or feed.outstanding > gate.in_flight
        report = Report(
            number=order.number,
            in_flight=gate.in_flight,
            lingering=lingering,
            linger_for_s=0.0 if until_s is None else until_s - now_s,
            held=intake.waiting + (0 if self._is_batching else max(0, feed.outstanding - gate.in_flight)),
            forming=feed.forming,
            started=intake.take_started(),
            succeeded=noted.succeeded,
            is_full=noted.is_full and has_work,
            is_paced=noted.is_paced and has_work,
            cuts=limit.cuts,
            throttles=noted.throttles,
            reasons=self._reasons.take(),
            first_block=receiver.first_block,
            blocks=list(receiver.blocks),
            not_sent=[*self._not_sent, *receiver.take_not_sent()],
            refused=receiver.take_refused(),
            fatal=None if feed.fatal is None else str(feed.fatal),
            fatal_code="" if feed.fatal is None or feed.fatal.code is None else feed.fatal.code,
            failure=receiver.failure,
            outage=None if feed.outage is None else str(feed.outage),
            is_outage=dispatcher.engine.outage.is_on,
        )
        if self._lanes is not None:
            report.lanes, report.samples = self._lanes.progress()
        if self._selector is not None:
            report.without_key, self._selector.without_key = self._selector.without_key, 0
        self._not_sent.clear()
        limit.ask(now_s)
        return report

    def _now_s(self) -> float:
        assert self._dispatcher is not None
        return self._dispatcher.engine.clock()

    # --- the engine ----------------------------------------------------------------------------

    async def _work(self, settings: Settings) -> None:
        assert self._opened is not None
        try:
            self._dispatcher = dispatcher = IntakeDispatcher(
                replace(
                    settings.options,
                    concurrency=1000,  # the leases say how many
                    function_timeout=settings.function_timeout_s,
                ),
                hooks=self._reasons,
                run_id=settings.run_id,
                generation=settings.generation,
                names_calls=settings.names_calls,
                budget=self._open_budget,
            )
            async with dispatcher:
                assert self._budget is not None
                await self._budget.check_credentials()
                deadline_s = settings.deadline_s
                self._feed = dispatcher.start_feed(
                    self._intake,
                    self._receiver,
                    deadline_s=None if deadline_s is None else dispatcher.engine.clock() + deadline_s,
                )
                self._opened.set_result("")
                await self._until_finished()
                self._feed = None
        except (FanoutError, TypeError, OSError) as error:
            if not self._opened.done():
                self._opened.set_result(str(error))
        finally:
            self._feed = None
            if self._lanes is not None:
                await self._lanes.aclose()
            if not self._opened.done():
                self._opened.set_result("it was stopped")

    def _open_budget(self, options: Options) -> Budget:
        self._budget = LeasedBudget(options, self._transport)
        return self._budget

    async def _until_finished(self) -> None:
        """Wait for the end; without orders the lease has ended, and what is in flight is let go on."""
        while not self._finish.is_set():
            self._ordered.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_ALONE_S):
                    waiting = [asyncio.ensure_future(e.wait()) for e in (self._ordered, self._finish)]
                    try:
                        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        for each in waiting:
                            each.cancel()
            if not self._ordered.is_set():
                return


class _Version(msgspec.Struct):
    version: str


def _version_refusal(coordinators: str) -> str | None:
    own = version()
    return None if coordinators == own else f"it has fanout {own}, the coordinator {coordinators}"


def encode(message: msgspec.Struct) -> bytes:
    """A message as bytes, for whatever carries it."""
    return msgspec.msgpack.encode(message)


class WorkerActor:
    """A worker behind bytes: what is placed on a machine. Both methods run on its event loop."""

    def __init__(self) -> None:
        self._worker: Worker | None = None

    async def begin(self, settings: bytes) -> bytes:
        """See Worker."""
        refusal = _version_refusal(msgspec.msgpack.decode(settings, type=_Version).version)
        if refusal is not None:  # its other members may be of another shape
            return encode(Greeting(version(), os.getpid(), refusal))
        decoded = msgspec.msgpack.decode(settings, type=Settings)
        if self._worker is None:
            self._worker = Worker()
            if decoded.is_child:  # its terminal is the coordinator's
                pass_on_logs()
                pass_on_exceptions(asyncio.get_running_loop())
        return encode(await self._worker.begin(decoded))

    async def exchange(self, order: bytes) -> bytes:
        """See Worker."""
        assert self._worker is not None
        return encode(await self._worker.exchange(msgspec.msgpack.decode(order, type=Order)))
