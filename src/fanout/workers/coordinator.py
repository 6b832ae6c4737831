"""The coordinator: a dispatcher whose calls are made by workers, under one budget and into one ledger.

It stands where a run has its dispatcher. It owns limit and pacer, reads the input, keeps the ledger, and
exchanges an order for a report with each worker ten times a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import anyio
import msgspec

from fanout.config import Options
from fanout.dispatcher import Hooks, InputRecord, Intake, IntakeDispatcher, Load, WorkerLoad
from fanout.dispatcher.feed import RunFeed
from fanout.errors import ConfigError, FatalRefusal, OutageError, WorkersLost
from fanout.inputs import Item
from fanout.journal import OutcomeBlock
from fanout.journal.windows import ranges_of
from fanout.limit import Limit
from fanout.model import ErrorDetail, ThrottleKind, Verdict
from fanout.pacer import Pacer
from fanout.runs.intake import Intake as RunIntake
from fanout.runs.intake import record_of_item
from fanout.runs.receiver import RunReceiver
from fanout.version import version
from fanout.workers.crew import Crew, Link
from fanout.workers.lease_book import LeaseBook
from fanout.workers.messages import Command, Greeting, Order, Report, Settings, handed, lines_of
from fanout.workers.windows import MOST_BYTES, ORDER_EVERY_S, Window

_log = logging.getLogger("fanout")

LOOK_EVERY_S = 1.0  # for workers that join
NO_WORKERS = "no worker came: start some, such as with `dask worker ADDRESS`"
ALONE_S = 20.0  # without any worker for so long, the run stops
SILENT_S = 25.0  # a worker that does not answer for so long is lost
_TRY_AGAIN_S = 0.2
_LEAVE_S = 2.0
_PACE_S = 1.0  # over which a worker's rate is smoothed
READ_AHEAD_BYTES = 32 * 1024 * 1024  # of payloads
_ENOUGH_SUCCESSES = 64  # of one report: what more of them say to a limit
WORKER_LOST = ErrorDetail(
    "WorkerLost", "the worker that had it was lost: it may have run, and was not sent again"
)


def shown(name: str) -> str:
    """A worker's name without the scheme of its address."""
    return name.rpartition("://")[2]


class Member:
    """The coordinator's view of one worker."""

    def __init__(self, name: str, link: Link, load: WorkerLoad, now_s: float) -> None:
        self.name = name
        self.load = load
        self.link = link
        self.window = Window()
        self.out: dict[int, InputRecord | Item] = {}  # handed over, and without an outcome
        self.report = Report(number=0)
        self.reported_s = now_s
        self.orders = 0
        self.blocks = 0  # of outcomes that have arrived


class Coordinator(IntakeDispatcher):
    """Invokes one function through workers. As an IntakeDispatcher, but for ``start_feed`` and ``load``."""

    def __init__(
        self,
        options: Options,
        *,
        crew: Crew,
        hooks: Hooks | None = None,
        run_id: str | None = None,
        generation: int = 0,
        names_calls: bool = False,
        say: Callable[[str], None] | None = None,
        note: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(options, hooks=hooks, run_id=run_id, generation=generation, names_calls=names_calls)
        self.crew = crew
        self._say = say
        self._note = note
        self.hooks = hooks or Hooks()
        self.book = LeaseBook()
        self.members: dict[str, Member] = {}
        self._feed: CrewFeed | None = None
        self._known: set[str] = set()
        self._retries: int | None = None
        self._serving = 0
        self._all_left = asyncio.Event()

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.budget.used_elsewhere = self._in_use
        try:
            self.note(self.crew.start_message)
            await self.crew.open()
            await self._meet()
            if self.members:
                count = len(self.members)
                self.note(f"{count} worker{'s' if count > 1 else ''} take{'' if count > 1 else 's'} work")
            else:
                self.say(f"no worker is there yet: waiting {ALONE_S:.0f} s for one")
        except BaseException as error:
            await self.__aexit__(type(error), error, None)
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            if exc_type is None and self._serving:
                with anyio.move_on_after(_LEAVE_S):
                    await self._all_left.wait()
            try:
                await super().__aexit__(exc_type, exc, traceback)
            finally:
                await self.crew.aclose()

    def start_feed(
        self,
        intake: Intake,
        receiver: Any,
        *,
        deadline_s: float | None = None,
        waits: bool = True,  # noqa: ARG002 - a Dispatcher's
        priority: int = 0,  # noqa: ARG002 - a run has one feed
    ) -> Any:
        """Let an intake take part, its records made calls of by the workers."""
        assert self._group is not None
        self._feed = feed = CrewFeed(self, intake, receiver)
        feed.deadline_s = deadline_s
        self._group.start_soon(feed.fill)
        self._group.start_soon(self._look_for_members)
        for member in self.members.values():
            self._start_serving(member)
        as_a_run_asks: RunFeed = feed
        return as_a_run_asks

    def say(self, text: str) -> None:
        """A message for people, always shown."""
        _log.warning(text)
        if self._say is not None:
            self._say(text)

    def note(self, text: str) -> None:
        """A message for those who watch the progress."""
        _log.info(text)
        if self._note is not None:
            self._note(text)

    def load(self) -> Load:
        """What is in flight on all workers, and what holds calls back."""
        now_s = self.engine.clock()
        limit, members = self.budget.limit, self.members.values()
        lost = self.book.lost_permits(now_s)
        until_s = [now_s + each.report.linger_for_s for each in members if each.report.lingering]
        lost_until_s = self.book.lost_until_s()
        if lost and lost_until_s is not None:
            until_s.append(lost_until_s)
        is_paced = any(each.report.is_paced for each in members)
        return Load(
            in_flight=sum(each.report.in_flight for each in members),
            lingering=lost + sum(each.report.lingering for each in members),
            linger_until_s=max(until_s, default=None),
            ceiling=limit.ceiling(now_s),
            cause=limit.cause(now_s),
            rate_per_s=self.budget.pacer.rate_now,
            is_outage=bool(members) and all(each.report.is_outage for each in members),
            is_paced=is_paced and self.budget.pacer.rate_now is not None,
            workers=tuple(self.workers),
        )

    def tune(self, **changes: Any) -> dict[str, Any]:
        """As a Dispatcher's; the workers hear of it with their next orders."""
        in_force = super().tune(**changes)
        if changes.get("retries") is not None:
            self._retries = changes["retries"]
        return in_force

    def _in_use(self) -> int:
        return sum(each.report.in_flight + each.report.lingering for each in self.members.values())

    def _ceiling(self, now_s: float) -> int:
        return 0 if self.engine.is_paused else self.budget.limit.ceiling(now_s)

    # --- members -------------------------------------------------------------------------------

    async def _meet(self) -> None:
        """Greet the workers that are there. Raises when every one of them refuses."""
        names = await self.crew.members()
        refusals: list[str] = []

        async def greet(name: str) -> None:
            refusal = await self._greet(name)
            if refusal is not None:
                refusals.append(f"worker {name}: {refusal}")

        async with anyio.create_task_group() as group:
            for name in names:
                group.start_soon(greet, name)
        if refusals and not self.members:
            if "fanout" in refusals[0] and "coordinator" in refusals[0]:
                raise ConfigError(f"{refusals[0]}: install the same version on all workers")
            raise FatalRefusal(refusals[0], code="NoCredentials")

    async def _greet(self, name: str) -> str | None:
        """Place a worker; returns why it cannot work."""
        self._known.add(name)
        feed = self._feed
        deadline_s = None if feed is None else feed.deadline_s
        settings = Settings(
            version=version(),
            options=replace(self.options, rate=None, deadline=None),
            generation=self._generation,
            function_timeout_s=self.budget.quotas.function_timeout_s,
            max_connections=max(16, min(self.budget.quotas.budget, 10_000)),
            deadline_s=None if deadline_s is None else deadline_s - self.engine.clock(),
            run_id=self.run_id,
            names_calls=self.names_calls,
            is_child=self.crew.is_child,
        )
        try:
            link = await self.crew.link(name)
            answer = await link.begin(msgspec.msgpack.encode(settings))
        except Exception as error:  # noqa: BLE001 - the carrier's; the others go on
            return f"it was lost: {error}"
        greeting = msgspec.msgpack.decode(answer, type=Greeting)
        if greeting.refusal is not None:
            self.say(f"worker {shown(name)} takes no work: {greeting.refusal}")
            return greeting.refusal
        self.book.join(name)
        load = WorkerLoad(name=shown(name))
        self.workers.append(load)
        self.members[name] = Member(name, link, load, self.engine.clock())
        return None

    async def _look_for_members(self) -> None:
        """Take in workers that join; stop the run when there has been none for long."""
        alone_since_s: float | None = None
        while True:
            await anyio.sleep(LOOK_EVERY_S)
            feed, now_s = self._feed, self.engine.clock()
            if feed is None or feed.is_finished:
                return
            try:
                names = await self.crew.members()
            except Exception:  # noqa: BLE001 - the scheduler is not reached: workers go on without it
                names = []
            for name in names:
                if name not in self._known and await self._greet(name) is None:
                    self.note(f"worker {shown(name)} joined")
                    self._start_serving(self.members[name])
            alone_since_s = None if self.members else alone_since_s or now_s
            if alone_since_s is not None and now_s - alone_since_s >= ALONE_S:
                feed.fail(WorkersLost("all workers were lost" if self.workers else NO_WORKERS))

    def _start_serving(self, member: Member) -> None:
        assert self._group is not None
        self._serving += 1
        self._group.start_soon(self._serve, member)

    async def _serve(self, member: Member) -> None:
        feed = self._feed
        assert feed is not None
        try:
            while True:
                now_s = self.engine.clock()
                command = feed.command
                member.orders += 1
                self.book.linger_s = self.budget.linger_s
                order = Order(
                    number=member.orders,
                    lease=self.book.lease(
                        member.name, self._ceiling(now_s), self.budget.pacer.rate_now, now_s
                    ),
                    acknowledged=member.blocks,
                    command=command,
                    function_timeout_s=self.budget.quotas.function_timeout_s,
                    deadline_s=None if feed.deadline_s is None else feed.deadline_s - now_s,
                    retries=self._retries,
                )
                feed.hand_over(member, order, now_s)
                report = await self._exchange(member, msgspec.msgpack.encode(order))
                if report is None or report.failure is not None:
                    self._lose(member, feed, "" if report is None else report.failure or "")
                    return
                self._take(member, report, feed)
                if command == "finish":
                    self.book.leave(member.name)
                    member.load.in_flight, member.load.per_s = 0, 0.0
                    self.members.pop(member.name, None)
                    return
                if feed.command != "finish":
                    await feed.pause(ORDER_EVERY_S - (self.engine.clock() - now_s))
        finally:
            self._serving -= 1
            if not self._serving:
                self._all_left.set()

    async def _exchange(self, member: Member, order: bytes) -> Report | None:
        """The report to an order; None when the worker is lost. Sent again, an order has one effect."""
        deadline_s = self.engine.clock() + SILENT_S
        tries = 0
        while True:
            try:
                with anyio.fail_after(max(0.0, deadline_s - self.engine.clock())):
                    answer = await member.link.exchange(order)
                return msgspec.msgpack.decode(answer, type=Report)
            except TimeoutError:
                return None
            except Exception as error:  # noqa: BLE001 - whatever the carrier raises
                tries += 1
                _log.info("worker %s: %s", member.name, error)
                if tries >= 3:
                    return None
                await anyio.sleep(_TRY_AGAIN_S)

    def _lose(self, member: Member, feed: CrewFeed, why: str) -> None:
        load, lost = member.load, len(member.out)
        load.is_lost, load.in_flight, load.per_s, load.lost_records = True, 0, 0.0, lost
        after = "are sent again" if feed.is_idempotent and not feed.is_closed else "are unknown"
        self.say(
            f"worker {load.name} was lost{': ' if why else ''}{why}: "
            f"{lost:,} records may have run and {after}; its permits are free again in "
            f"{self.book.lease_s + self.book.linger_s:.0f} s"
        )
        self.members.pop(member.name, None)
        self.book.lose(member.name)
        feed.take_back(member)

    # --- reports -------------------------------------------------------------------------------

    def _take(self, member: Member, report: Report, feed: CrewFeed) -> None:
        now_s = self.engine.clock()
        elapsed_s, member.reported_s = now_s - member.reported_s, now_s
        member.report = report
        load = member.load
        load.in_flight = report.in_flight + report.lingering
        if elapsed_s > 0:
            load.per_s += (report.started / elapsed_s - load.per_s) * min(1.0, elapsed_s / _PACE_S)
        member.window.note(report.started, elapsed_s)
        wanted = member.window.records if feed.has_records else 0
        self.book.answered(member.name, report, elapsed_s=elapsed_s, wanted=wanted)
        self._learn(report, now_s)
        for reason, count in report.reasons.items():
            for _ in range(count):
                self.hooks.on_throttle(reason)
        feed.take(member, report)

    def _learn(self, report: Report, now_s: float) -> None:
        """Let limit and pacer learn; throttles under one lease cut once, on whichever workers they were."""
        limit: Limit = self.budget.limit
        pacer: Pacer = self.budget.pacer
        used = self._in_use()
        if used > limit.peak or now_s >= limit.peak_until_s:
            limit.on_peak(used, now_s)
        if report.succeeded:
            for _ in range(min(report.succeeded, _ENOUGH_SUCCESSES)):
                limit.on_success(now_s, now_s, max(0, used - 1))
            pacer.on_success(now_s, report.succeeded)
        ceiling = limit.ceiling(now_s)
        if report.is_full and self.book.committed(now_s) >= ceiling:
            limit.on_full(ceiling, now_s)
        if not report.throttles or report.cuts != self.book.cuts:
            return
        for throttle in report.throttles:
            if throttle.kind == ThrottleKind.RATE.value:
                pacer.on_throttle(now_s, throttle.retry_after_s, now_s)
            else:
                kind = ThrottleKind(throttle.kind)
                limit.on_throttle(kind, now_s, now_s, throttle.retry_after_s, used)
        self.book.cuts += 1


class CrewFeed:
    """The records of a run on their way to workers and back. ``fill`` reads the input."""

    def __init__(self, coordinator: Coordinator, intake: Intake, receiver: RunReceiver) -> None:
        self.command: Command = "go"
        self.deadline_s: float | None = None
        self.outstanding = 0
        self.is_finished = False
        self.is_queued = False  # of an engine's queue: there is none
        self.forming = 0  # batches form with the workers
        self.fatal: FatalRefusal | None = None
        self.outage: OutageError | None = None
        self._coordinator = coordinator
        self._intake = intake
        self._receiver = receiver
        self._failure: BaseException | None = None
        self._again: deque[InputRecord] = deque()  # of workers that were lost
        self._filling: anyio.CancelScope | None = None
        self._hurry = asyncio.Event()
        self._mean_bytes = 0.0  # of a record
        self.is_idempotent = bool(coordinator.options.idempotent)

    # --- as a run's feed -----------------------------------------------------------------------

    @property
    def failure(self) -> BaseException | None:
        """What ended the input, or the workers, before the end."""
        return self._failure or self._intake.failure

    @property
    def is_closed(self) -> bool:
        """Whether no further record is handed out."""
        return self.command != "go"

    def close(self) -> None:
        """Hand out nothing more; what workers hold unsent comes back."""
        if self.command == "go":
            self.command = "drain"
        self._again.clear()  # they stay without an outcome: a resume finds that they may have run
        if self._filling is not None:
            self._filling.cancel()
        self._hurry.set()
        self._check_finished()

    def expire(self) -> None:
        """The deadline has passed: what waits for another attempt becomes undelivered."""
        if self.command != "finish":
            self.command = "expire"
        self.close()

    def give_up_retries(self) -> None:
        """Part of ``close`` here: the workers do so when they drain."""

    def wake(self) -> None:
        """Nothing sleeps here for longer than an order takes."""

    def fail(self, error: BaseException) -> None:
        """Workers cannot go on."""
        self._failure = self._failure or error
        self.close()

    async def fill(self) -> None:
        """Run the intake, until it has ended or the feed is closed."""
        with anyio.CancelScope() as self._filling:
            if self.is_closed:
                self._filling.cancel()
            await self._intake.fill(self._on_ready)
        with anyio.CancelScope(shield=True):
            await self._intake.aclose()

    def _on_ready(self) -> None:
        self._hurry.set()
        self._check_finished()

    # --- records -------------------------------------------------------------------------------

    @property
    def has_records(self) -> bool:
        """Whether more can come."""
        return not self.is_closed and (bool(self._again) or not self._intake.has_ended)

    def hand_over(self, member: Member, order: Order, now_s: float) -> None:
        """Add the records that a worker may send from now on; the ledger has them before it does."""
        if self.is_closed or not self._receiver.has_room:
            return
        permits = self._coordinator.book.permits_of(member.name)
        room, room_bytes = member.window.room(member.report.held, permits), MOST_BYTES
        handed_over: dict[int, InputRecord | Item] = {}
        self._read_ahead()
        calls_left = self._receiver.calls_left  # where there is a spending cap
        while len(handed_over) < room and room_bytes > 0:
            most = room - len(handed_over)
            if calls_left is not None:
                most = min(most, calls_left())
            if most <= 0:
                break
            taken, n_bytes = self._take_plain(order, most, room_bytes)
            if not taken:
                record = self._again.popleft() if self._again else self._intake.next(now_s)
                if record is None:
                    break
                order.records.append(handed(record))
                taken, n_bytes = {record.seq: record}, len(record.body)
            handed_over.update(taken)
            self.outstanding += len(taken)
            room_bytes -= n_bytes
        if not handed_over:
            self._check_finished()
            return
        self._mean_bytes = (MOST_BYTES - room_bytes) / len(handed_over)
        if not self._receiver.admit_window(ranges_of(sorted(handed_over))):
            order.records, order.handed_lines = [], []
            self._receiver.not_sent.extend(_certainly_unsent(handed_over, handed_over))
            self.outstanding -= len(handed_over)
            self._check_finished()
            return
        member.out.update(handed_over)

    def _take_plain(self, order: Order, most: int, most_bytes: int) -> tuple[dict[int, Any], int]:
        if self._again or not isinstance(self._intake, RunIntake):
            return {}, 0
        seq, items = self._intake.next_plain(most, most_bytes)
        if not items:
            return {}, 0
        if items[0].source == items[-1].source:
            order.handed_lines.append(lines_of(seq, items))
        else:
            order.records += [handed(record_of_item(None, seq + at, item)) for at, item in enumerate(items)]
        return dict(enumerate(items, seq)), sum(len(item.payload) for item in items)

    def _read_ahead(self) -> None:
        """Have ready what all workers take at once, within reason of memory."""
        if isinstance(self._intake, RunIntake):
            wanted = sum(each.window.records for each in self._coordinator.members.values())
            self._intake.read_ahead(min(wanted, int(READ_AHEAD_BYTES / max(1.0, self._mean_bytes))))

    def take(self, member: Member, report: Report) -> None:
        """Hand on the outcomes of a report."""
        blocks = report.blocks[max(0, member.blocks - report.first_block) :]
        member.blocks = max(member.blocks, report.first_block + len(report.blocks))
        if report.fatal is not None and self.fatal is None:
            self.fatal = FatalRefusal(report.fatal, code=report.fatal_code)
            self.close()
        if report.outage is not None and self.outage is None:
            self.outage = OutageError(report.outage)
            self.close()
        if report.not_sent:
            came_back = [seq for seq in report.not_sent if seq in member.out]
            self._receiver.not_sent.extend(_certainly_unsent(came_back, member.out))
            for seq in came_back:
                del member.out[seq]
            self.outstanding -= len(came_back)
        self._receiver.refused.extend(report.refused)
        for block in blocks:
            outcomes, out = OutcomeBlock(block), member.out
            expected = {seq for seq in outcomes.seqs if out.pop(seq, None) is not None}
            self.outstanding -= len(expected)
            member.load.records += len(expected)
            if len(expected) == len(outcomes):
                self._receiver.deliver_block(outcomes)
            else:  # some are of records that were taken back from it
                self._receiver.deliver_block([each for each in outcomes if each.seq in expected])
        self._check_finished()

    def take_back(self, member: Member) -> None:
        """A worker was lost: what it held may have run. It goes to others, to be sent or to be given up."""
        records = [
            record_of_item(None, seq, each) if isinstance(each, Item) else each
            for seq, each in member.out.items()
        ]
        member.out.clear()
        self.outstanding -= len(records)
        if self.is_closed:
            self._check_finished()
            return
        for record in records:
            if record.fault is None:
                if self.is_idempotent:
                    record.may_have_run = True
                else:
                    record.fault, record.fault_verdict = WORKER_LOST, Verdict.AMBIGUOUS
        self._again.extend(records)
        self._hurry.set()

    async def pause(self, seconds: float) -> None:
        """Wait for the next order's time, or until there is a reason to hurry."""
        self._hurry.clear()
        with anyio.move_on_after(max(0.02, seconds)):
            if seconds > 0.05:
                await anyio.sleep(0.05)
            await self._hurry.wait()

    def _check_finished(self) -> None:
        if self.is_finished or self.outstanding or self._again:
            return
        if self.is_closed or self._intake.has_ended:
            self.is_finished = True
            self.command = "finish"
            self._hurry.set()
            self._receiver.end()


def _certainly_unsent(seqs: Iterable[int], records: Mapping[int, InputRecord | Item]) -> list[int]:
    """Those that no worker can have sent: a lost one may have sent what it had, whoever has it now."""
    return [
        seq
        for seq in seqs
        if isinstance(record := records[seq], Item)
        or not (record.may_have_run or record.fault_verdict is Verdict.AMBIGUOUS)
    ]


__all__ = ["Coordinator", "CrewFeed"]
