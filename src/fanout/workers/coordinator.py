"""The coordinator: a dispatcher whose calls are made by workers, under one budget and into one ledger.

It stands where a run has its dispatcher. It owns limit and pacer, reads the input, keeps the ledger, and
exchanges an order for a report with each worker ten times a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Self

import anyio
from msgspec.structs import replace

from fanout.aws import ServiceClients
from fanout.config import Options
from fanout.dispatcher import EngineIntake, Hooks, IntakeDispatcher, Load
from fanout.dispatcher.feed import RunFeed
from fanout.errors import WorkersLost
from fanout.quantities import count_of
from fanout.version import version
from fanout.workers.adaptation import adapt
from fanout.workers.budgets import CoordinatorBudget
from fanout.workers.crew import Crew
from fanout.workers.crew_feed import CrewFeed
from fanout.workers.exchange import exchange
from fanout.workers.lease_book import LeaseBook
from fanout.workers.member import Member
from fanout.workers.messages import Order, Report, Settings
from fanout.workers.roster import Roster

_log = logging.getLogger("fanout")

LOOK_EVERY_S = 1.0  # for workers that join
NO_WORKERS = "no worker came: start some, such as with `dask worker ADDRESS`"
ALONE_S = 20.0  # without any worker for so long, the run stops
_LEAVE_S = 2.0
_PACE_S = 1.0  # over which a worker's rate is smoothed


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
        super().__init__(
            options,
            hooks=hooks,
            run_id=run_id,
            generation=generation,
            names_calls=names_calls,
            budget=partial(CoordinatorBudget, must_ask=names_calls, in_use=self._in_use),
        )
        self.crew = crew
        self._say = say
        self._note = note
        self.hooks = hooks or Hooks()
        self.book = LeaseBook()
        self.roster = Roster(
            crew,
            clock=self._now_s,
            settings=self._settings,
            say=self.say,
            on_join=self._welcome,
        )
        self.members = self.roster.members
        self._feed: CrewFeed | None = None
        self._retries: int | None = None
        self._serving = 0
        self._all_left = asyncio.Event()

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        try:
            self.note(self.crew.start_message)
            await self.crew.open()
            await self.roster.meet()
            if self.members:
                self.roster.compare_files(self.budget.quotas.budget)
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
            await self.roster.aclose()
            try:
                await super().__aexit__(exc_type, exc, traceback)
            finally:
                await self.crew.aclose()

    def start_feed(
        self,
        intake: EngineIntake,
        receiver: Any,
        *,
        deadline_s: float | None = None,
        waits: bool = True,  # noqa: ARG002 - a Dispatcher's
        priority: int = 0,  # noqa: ARG002 - a run has one feed
    ) -> Any:
        """Let an intake take part, its records made calls of by the workers."""
        assert self._group is not None
        self._feed = feed = CrewFeed(
            intake,
            receiver,
            members=self.members,
            book=self.book,
            is_idempotent=bool(self.options.idempotent),
            records_per_call=self.options.batch or 1,
            deadline_s=deadline_s,
            clients=partial(ServiceClients.of, self.options),
            say=self.say,
        )
        self._group.start_soon(feed.fill)
        self._group.start_soon(self._look_for_members)
        for member in self.members.values():
            self._start_serving(member)
        as_a_run_asks: RunFeed = feed
        return as_a_run_asks

    def say(self, text: str) -> None:
        """A message for people: to who listens, else to the log."""
        if self._say is None:
            _log.warning(text)
        else:
            self._say(text)

    def note(self, text: str) -> None:
        """A message for those who watch the progress."""
        _log.info(text)
        if self._note is not None:
            self._note(text)

    def load(self) -> Load:
        """The calls in flight on all workers, and the cause that holds others back."""
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

    def _now_s(self) -> float:
        return self.engine.clock()

    def _in_use(self) -> int:
        return sum(each.report.in_flight + each.report.lingering for each in self.members.values())

    def _ceiling(self, now_s: float) -> int:
        return 0 if self.engine.is_paused else self.budget.limit.ceiling(now_s)

    # --- members -------------------------------------------------------------------------------

    def _settings(self) -> Settings:
        """Of a worker that is greeted now."""
        feed = self._feed
        deadline_s = None if feed is None else feed.deadline_s
        return Settings(
            version=version(),
            options=replace(self.options, rate=None, deadline=None),
            generation=self._generation,
            function_timeout_s=self.budget.quotas.function_timeout_s,
            deadline_s=None if deadline_s is None else deadline_s - self.engine.clock(),
            run_id=self.run_id,
            names_calls=self.names_calls,
            is_child=self.crew.is_child,
        )

    def _welcome(self, member: Member) -> None:
        """Take in a worker that has answered its greeting."""
        self.book.join(member.name, member.connections)
        self.workers.append(member.load)
        if self._feed is not None and not self._feed.is_finished:
            self.note(f"worker {member.load.name} joined")
            self._start_serving(member)
            self.roster.compare_files(self.budget.quotas.budget)

    async def _look_for_members(self) -> None:
        """Take in workers that join; stop the run when there has been none for long."""
        alone_since_s: float | None = None
        while True:
            await anyio.sleep(LOOK_EVERY_S)
            feed, now_s = self._feed, self.engine.clock()
            if feed is None or feed.is_finished:
                return
            await self.roster.look()
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
                self.book.set_linger(self.budget.linger_s)
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
                report = await exchange(member.name, member.link, order, self.engine.clock)
                if report is None or report.failure is not None:
                    self._lose(member, feed, "" if report is None else report.failure or "")
                    return
                self._take(member, report, feed)
                if command == "finish":
                    self.book.leave(member.name)
                    member.load.in_flight, member.load.per_s = 0, 0.0
                    self.roster.leave(member)
                    return
                if feed.command != "finish":
                    await feed.pause(member.window.order_every_s - (self.engine.clock() - now_s))
        except Exception as error:  # noqa: BLE001 - the run must not wait for ever
            _log.exception("worker %s", member.name)
            if member.name in self.members:
                self._lose(member, feed, f"unexpected error: {type(error).__name__}: {error}")
        finally:
            self._serving -= 1
            if not self._serving:
                self._all_left.set()

    def _lose(self, member: Member, feed: CrewFeed, why: str) -> None:
        load, lost = member.load, len(member.out)
        load.is_lost, load.in_flight, load.per_s, load.lost_records = True, 0, 0.0, lost
        after = "are sent again" if feed.is_idempotent and not feed.is_closed else "are unknown"
        self.say(
            f"worker {load.name} was lost{': ' if why else ''}{why}: "
            f"{count_of(lost, 'record')} may have run and {after}; its permits are free again in "
            f"{self.book.lease_s + self.book.linger_s:.0f} s"
        )
        self.roster.lose(member)
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
        feed.take(member, report)
        wanted = member.window.records if feed.has_records_for(member) else 0
        self.book.answered(member.name, report, elapsed_s=elapsed_s, wanted=wanted, out=len(member.out))
        adapt(report, self.budget.limit, self.budget.pacer, self.book, in_use=self._in_use(), now_s=now_s)
        for reason, count in report.reasons.items():
            for _ in range(count):
                self.hooks.on_throttle(reason)
