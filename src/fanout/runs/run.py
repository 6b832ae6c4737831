"""One run from its first record to its last outcome: an intake, a dispatcher, a ledger, and why it stops."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from math import inf
from typing import Any

import anyio

from fanout.dispatcher import Hooks, IntakeDispatcher
from fanout.dispatcher.feed import RunFeed
from fanout.errors import ConfigError
from fanout.model import Outcome
from fanout.outputs.files import OutputFiles
from fanout.runs.audience import Audience
from fanout.runs.gauges import Gauges
from fanout.runs.intake import RunIntake
from fanout.runs.ledger import Ledger, OnCommit, OnFailure
from fanout.runs.preflight import check_before_flight, check_options_hold, function_meta
from fanout.runs.receiver import RunReceiver
from fanout.runs.result import PENDING, RunResult, Stop, state_and_exit_code, stop_of
from fanout.runs.sampler import Sampler
from fanout.runs.session_figures import SessionFigures
from fanout.runs.spending import Spending
from fanout.runs.stop_rules import StopRules
from fanout.runs.tuning import TuneInbox, tuning_of
from fanout.stats import Stats, TimelineWriter

_log = logging.getLogger("fanout")
_BOUNDS = ("deadline", "cost")

CLOSING_S = 3.0


class ThrottleCount(Hooks):
    """Counts a run's throttles by their reasons."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats

    def on_throttle(self, reason: str) -> None:
        self._stats.note_throttle(reason)


class _CutOff(Exception):
    """Leaves the dispatcher without waiting for the calls in flight."""


class Run:
    """Executes an intake's records once. ``stop`` drains it, ``cut`` ends it at once, at any time.

    ``open_ledger`` makes the ledger, given what to call with each batch of committed outcomes and with
    a failure to write. The caller holds the run directory and keeps its run.json; ``outputs``, ``timeline``
    and ``inbox`` are in it. ``deadline_s`` counts from the start of ``execute``.
    """

    draining = "no new calls; waiting for those in flight"

    def __init__(
        self,
        dispatcher: IntakeDispatcher,
        *,
        open_ledger: Callable[[OnCommit, OnFailure], Awaitable[Ledger]],
        stats: Stats,
        spending: Spending,
        rules: StopRules,
        audience: Audience,
        deadline_s: float | None = None,
        grace_s: float | None = None,
        preflight: bool = False,
        outputs: OutputFiles | None = None,
        timeline: TimelineWriter | None = None,
        inbox: TuneInbox | None = None,
        started_s: float,
    ) -> None:
        self.stats = stats
        self.started_s = started_s  # Unix time
        self._dispatcher = dispatcher
        self._open_ledger = open_ledger
        self._spending = spending
        self._figures = SessionFigures(stats, spending, rules)
        self._audience = audience
        self._deadline_s = deadline_s
        self._grace_s = grace_s
        self._preflight = preflight
        self._outputs = outputs
        self._timeline = timeline
        self._inbox = inbox
        self._intake: RunIntake | None = None
        self._stop: Stop | None = None
        self._feed: RunFeed | None = None
        self._receiver: RunReceiver | None = None
        self._ledger: Ledger | None = None
        self._sampler: Sampler | None = None
        self._is_cut = False
        self._timer: asyncio.TimerHandle | None = None
        self._done = anyio.Event()
        self._listener_error: BaseException | None = None  # of a callback: it ends the run
        self._input_error: BaseException | None = None  # of an iterable: raised once all is written

    # --- from outside --------------------------------------------------------------------------

    def stop(self, reason: str, message: str = "") -> None:
        """Start no new call; those in flight finish. The first reason stays."""
        if self._stop is not None:
            return
        self._stop = Stop(reason, message)
        _log.info("stopping: %s", message or reason)
        feed, dispatcher = self._feed, self._dispatcher
        if feed is None:
            return  # not begun: ``execute`` looks
        feed.close()
        if reason == "deadline":
            feed.expire()
        else:
            feed.give_up_retries()
        if self._grace_s is not None or reason.startswith("sig"):
            grace_s = dispatcher.budget.call_timeout_s if self._grace_s is None else self._grace_s
            asyncio.get_running_loop().call_later(grace_s, self.cut)

    @property
    def is_cut(self) -> bool:
        """True if it was ended at once."""
        return self._is_cut

    def cut(self) -> None:
        """End at once: records in flight stay without an outcome, as ones that may have run."""
        self._is_cut = True
        self._done.set()

    def tune(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Change options of the run while it goes on; returns those in force. Raises ConfigError.

        ``deadline`` counts from now. In the run's event loop.
        """
        tuning = tuning_of(changes)
        if self._feed is None or self._stop is not None:
            raise ConfigError("the run is about to end, or has not begun: nothing can be changed")
        if tuning.max_cost is not None and self._spending.usd is None:
            raise ConfigError("max_cost cannot be kept: what this function costs is not known: leave it out")
        dispatcher = self._dispatcher
        in_force = dispatcher.tune(
            concurrency=tuning.concurrency, rate=tuning.rate, retries=tuning.retries, pause=tuning.pause
        )
        self._figures.tune(tuning)
        rules = self._figures.rules
        if self._receiver is not None:
            self._receiver.cap_calls(self._cap())
        if tuning.deadline is not None:
            self._deadline_s = tuning.deadline
            deadline_s = dispatcher.engine.clock() + tuning.deadline
            self._feed.set_deadline(deadline_s)
            self._set_timer(deadline_s)
        self._check_rules()
        ends_at_s = self._feed.deadline_s
        in_force.update(
            deadline=None if ends_at_s is None else round(ends_at_s - dispatcher.engine.clock(), 1),
            max_cost=rules.max_cost_usd,
            tolerated_failure_count=rules.tolerated_failure_count,
            tolerated_failure_percentage=rules.tolerated_failure_percentage,
        )
        _log.info("tuned: %s", tuning.changes())
        if self._audience.on_tuned is not None:
            self._audience.on_tuned(tuning, in_force)
        return in_force

    def _set_timer(self, deadline_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(
            deadline_s, self.stop, "deadline", "the deadline passed"
        )

    @property
    def is_stopping(self) -> bool:
        """True once ``stop`` was called, by whomever."""
        return self._stop is not None

    @property
    def thresholds(self) -> list[dict[str, object]]:
        """Each threshold with what was measured, and whether it holds."""
        return self._figures.measured_thresholds()

    @property
    def workers(self) -> list[dict[str, Any]]:
        """Each worker that took part, and what became of it; none where one process made the calls."""
        return [
            {
                "name": each.name,
                "records": each.records,
                "lost": each.is_lost,
                "lost_records": each.lost_records,
            }
            for each in self._dispatcher.workers
        ]

    @property
    def not_sent(self) -> list[int]:
        """Records that were read but certainly did not run, and have no outcome."""
        unread = [] if self._intake is None else self._intake.not_sent
        return [*([] if self._receiver is None else self._receiver.not_sent), *unread]

    @property
    def refused(self) -> list[int]:
        """Records whose outcome is the refusal that stopped the run: a resume sends them again."""
        return [] if self._receiver is None else self._receiver.refused

    # --- the run -------------------------------------------------------------------------------

    @property
    def session_counts(self) -> tuple[int, int]:
        """The numbers of records of this session that have ended well, and that have not."""
        done = self._figures.done
        return done.records - done.failed, done.failed

    async def execute(self, intake: RunIntake) -> RunResult:
        """Run to the end, whichever it is.

        Before the first call alone, raises FatalRefusal, and ConfigError for options that cannot hold:
        durable names for a function that is not known to be durable, among them. Once all is written it
        raises what a callback raised, and what an iterable did if that is no Exception, as SystemExit.
        """
        self._intake = intake
        dispatcher = self._dispatcher
        meta: dict[str, object] = {}
        self._figures.begin(self.started_s)
        try:
            with suppress(_CutOff):
                async with dispatcher:
                    self._start_clock(dispatcher)
                    meta = function_meta(dispatcher)
                    self._spending.begin(dispatcher)
                    check_options_hold(dispatcher, self._figures.rules)
                    if self._audience.on_started is not None:
                        self._audience.on_started(dispatcher)
                    if self._preflight or dispatcher.budget.quotas.function_missing:
                        await check_before_flight(dispatcher, asks_lambda_first=not self._preflight)
                    await self._drive(dispatcher, intake)
        finally:
            if self._ledger is not None:
                # A reader of standard output who never reads must not hold up who wants to stop at once.
                with anyio.move_on_after(CLOSING_S if self._is_cut else inf, shield=True):
                    await self._ledger.aclose()
        if self._listener_error is not None:
            raise self._listener_error
        if self._input_error is not None:
            raise self._input_error
        if self._sampler is not None:
            self._sampler.show()
        return self._result(meta)

    def _start_clock(self, dispatcher: IntakeDispatcher) -> None:
        """Begin anew when workers are ready: their start, when nothing can be sent, is no running time."""
        if not dispatcher.workers:
            return
        now_s = time.time()
        self.stats.begin_session(now_s)
        if self._timeline is not None:
            self._timeline.begin(now_s)

    async def _drive(self, dispatcher: IntakeDispatcher, intake: RunIntake) -> None:
        self._ledger = ledger = await self._open_ledger(self._on_commit, self._on_ledger_failure)
        self._stop_if_enough()  # earlier sessions may have had enough
        self._receiver = receiver = RunReceiver(
            ledger,
            self._outputs,
            self._close_feed,
            self._cap(),
            None if self._figures.rules.enough is None else self._figures.successes_left,
            None if self._figures.rules.enough is None else self._on_delivered,
        )
        deadline_s: float | None = None
        if self._deadline_s is not None:
            deadline_s = dispatcher.engine.clock() + self._deadline_s
            self._set_timer(deadline_s)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(ledger.run)
                if self._stop is None:
                    group.start_soon(self._await_end, receiver)
                    self._feed = dispatcher.start_feed(intake, receiver, deadline_s=deadline_s)
                    if receiver.failure is not None:
                        self._feed.close()
                gauges = Gauges(
                    dispatcher,
                    self.stats,
                    intake=intake,
                    ledger=ledger,
                    feed=self._feed,
                    spending=self._spending,
                    timeline=self._timeline,
                )
                self._sampler = sampler = Sampler(
                    gauges, self._audience, is_draining=lambda: self.is_stopping
                )
                group.start_soon(sampler.run, self._on_tick, self._on_listener_error)
                if self._feed is not None:
                    await self._done.wait()
                group.cancel_scope.cancel()
        except BaseException as error:  # noqa: BLE001 - raised again
            raise _only(error) from None
        finally:
            if self._timer is not None:
                self._timer.cancel()
        sampler.sample()
        self._note_failures(receiver)
        if self._listener_error is not None:
            raise self._listener_error
        if self._is_cut:
            raise _CutOff

    def _cap(self) -> Callable[[], int] | None:
        """A function that returns the number of calls that may yet start; None without a spending cap."""
        return None if self._figures.rules.max_cost_usd is None else self._calls_left

    def _calls_left(self) -> int:
        assert self._intake is not None
        return self._figures.calls_left(
            handed_out=self._intake.handed_out,
            forming=0 if self._feed is None else self._feed.forming,
            batch=self._dispatcher.options.batch,
        )

    def _close_feed(self) -> None:
        if self._feed is not None:
            self._feed.close()

    async def _await_end(self, receiver: RunReceiver) -> None:
        await receiver.finished.wait()
        self._done.set()

    def _on_tick(self) -> None:
        """A feed that its ledger held back goes on; what ``tune`` asks for is done."""
        self._wake_feed()
        if self._inbox is not None:
            self._inbox.poll(self.tune)

    def _wake_feed(self) -> None:
        if self._feed is not None:
            self._feed.wake()

    def _on_commit(self, outcomes: Sequence[Outcome]) -> None:
        self._figures.commit(outcomes)
        try:
            if self._listener_error is None:
                self._audience.hear(outcomes)
        except BaseException as error:  # noqa: BLE001 - a callback's; the ledger must not break of it
            self._on_listener_error(error)
        self._check_rules()
        self._wake_feed()

    def _on_listener_error(self, error: BaseException) -> None:
        """A callback raised: that ends the run."""
        self._listener_error = self._listener_error or error
        self._done.set()

    def _on_delivered(self, outcomes: Sequence[Outcome]) -> None:
        """Stop when enough have succeeded: outcomes that wait to be committed count too."""
        self._figures.deliver(outcomes)
        self._stop_if_enough()

    def _stop_if_enough(self) -> None:
        if self._stop is None and self._figures.has_enough:
            self.stop("enough", self._figures.enough_said())

    def _check_rules(self) -> None:
        if self._stop is None and (broken := self._figures.broken_rule()) is not None:
            self.stop(*broken)

    def _on_ledger_failure(self, error: Exception) -> None:
        if self._stop is not None and self._stop.reason == "enough":
            self._stop = None  # it was not enough: some of them cannot be kept
        self.stop("pipe" if isinstance(error, BrokenPipeError) else "journal", str(error))

    def _note_failures(self, receiver: RunReceiver) -> None:
        """Keep why the feed ended early, if nobody else has said so: a fatal refusal, or its input."""
        feed = self._feed
        if feed is None:
            return
        failure = receiver.failure or feed.failure
        if failure is not None and not isinstance(failure, Exception):
            self._input_error = failure
        if feed.fatal is not None and (self._stop is None or self._stop.reason.startswith("sig")):
            self._stop = Stop("fatal", str(feed.fatal))
        elif feed.outage is not None and self._stop is None:
            self._stop = Stop("outage", str(feed.outage))
        elif failure is not None and self._stop is None:
            read = 0 if self._intake is None else self._intake.records_read
            self._stop = stop_of(failure, records_read=read)

    # --- the end -------------------------------------------------------------------------------

    def _result(self, meta: dict[str, object]) -> RunResult:
        counts = {status: count for status, count in self.stats.counts.items() if count}
        intake = self._intake
        assert intake is not None
        if self._is_cut and self._stop is None:
            self._stop = Stop("sigint")
        pending = self._pending()
        if self._stop is not None and self._stop.reason == "enough" and self._figures.is_short:
            self._stop = Stop("sigint") if self._is_cut else PENDING
        is_all_done = intake.has_ended and intake.failure is None and not (pending or self.not_sent)
        if is_all_done and self._stop is not None and self._stop.reason in _BOUNDS:
            self._stop = None  # it came too late to stop anything
        if self._stop is None and pending:
            self._stop = PENDING
        shortfalls = self._figures.shortfalls(was_stopped=self._stop is not None)
        state, exit_code = state_and_exit_code(self._stop, counts, pending, shortfalls)
        _log.info("%s: %s", state, ", ".join(f"{count} {status}" for status, count in counts.items()))
        return RunResult(
            state=state,
            exit_code=exit_code,
            stop=self._stop,
            counts=counts,
            records_read=intake.records_read,
            pending=pending,
            is_input_exhausted=intake.is_exhausted,
            records_total=intake.records_total,
            input_share=intake.finished_share(pending),
            started_s=self.started_s,
            elapsed_s=time.time() - self.started_s,
            stats=self.stats,
            meta=meta,
            shortfalls=shortfalls,
        )

    def _pending(self) -> int:
        """The number of records of this session that were handed out and have no outcome in the ledger."""
        assert self._intake is not None
        return self._intake.handed_out - self._figures.done.records


def _only(error: BaseException) -> BaseException:
    """The error itself, where a task group has wrapped a single one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
