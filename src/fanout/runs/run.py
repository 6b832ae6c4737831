"""One run from its first record to its last outcome: an intake, a dispatcher, a ledger, and why it stops."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import ceil, inf
from typing import Any

import anyio

from fanout import exit_codes
from fanout.dispatcher import Hooks, IntakeDispatcher
from fanout.dispatcher.feed import RunFeed
from fanout.errors import ConfigError, JournalError, SourceError, WorkersLost
from fanout.journal import OutcomeBlock
from fanout.model import OK_STATUSES, Outcome
from fanout.outputs.files import OutputFiles
from fanout.runs.audience import Audience
from fanout.runs.gauges import Gauges
from fanout.runs.intake import MAY_HAVE_RUN, RunIntake
from fanout.runs.ledger import Ledger, OnCommit, OnFailure
from fanout.runs.preflight import check_before_flight
from fanout.runs.receiver import RunReceiver
from fanout.runs.result import PENDING, RunResult, Shortfall, Stop, state_and_exit_code
from fanout.runs.spending import Spending
from fanout.runs.stop_rules import StopRules, enough_said
from fanout.runs.tuning import TuneInbox, tuning_of
from fanout.stats import Stats, TimelineWriter

_log = logging.getLogger("fanout")

SAMPLE_EVERY_S = 1.0
CLOSING_S = 3.0
FINELY_S = 5.0  # at the beginning a sample every tick, so that short runs have a course too
TICK_S = 0.1


class ThrottleCount(Hooks):
    """Counts a run's throttles by their reasons."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats

    def on_throttle(self, reason: str) -> None:
        self._stats.note_throttle(reason)


@dataclass(frozen=True, slots=True)
class Done:
    """Records that have an outcome, the calls that carried them, and how many did not succeed."""

    records: int = 0
    calls: int = 0
    failed: int = 0


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
        self._rules = rules
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
        self._gauges: Gauges | None = None
        self._is_cut = False
        self._timer: asyncio.TimerHandle | None = None
        self._done = anyio.Event()
        self._before = Done()  # what earlier sessions had done
        self._suspects = 0  # committed ones that may have run in an earlier session, and were not sent
        self._ended_well = 0  # records that have succeeded, committed or not
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
        if self._receiver is not None:
            self._receiver.cut()
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
        self._rules = tuning.apply_to(self._rules)
        if self._receiver is not None:
            self._receiver.cap_calls(self._cap())
        if tuning.deadline is not None:
            self._deadline_s = tuning.deadline
            deadline_s = dispatcher.engine.clock() + tuning.deadline
            self._feed.set_deadline(deadline_s)
            self._set_timer(deadline_s)
        if self._rules.is_needed:
            self._check_rules()
        ends_at_s = self._feed.deadline_s
        in_force.update(
            deadline=None if ends_at_s is None else round(ends_at_s - dispatcher.engine.clock(), 1),
            max_cost=self._rules.max_cost_usd,
            tolerated_failure_count=self._rules.tolerated_failure_count,
            tolerated_failure_percentage=self._rules.tolerated_failure_percentage,
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
        return [threshold.measured(self.stats) for threshold in self._rules.thresholds]

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
        done = self._of_session()
        return done.records - done.failed, done.failed

    def _of_session(self) -> Done:
        """The committed records and calls of this session."""
        stats, before = self.stats, self._before
        records = stats.done
        return Done(
            records=records - before.records,
            calls=records - stats.carried - before.calls,
            failed=stats.failed - before.failed,
        )

    async def execute(self, intake: RunIntake) -> RunResult:
        """Run to the end, whichever it is.

        Before the first call alone, raises FatalRefusal, and ConfigError for options that cannot hold:
        durable names for a function that is not known to be durable, among them. Once all is written it
        raises what a callback raised, and what an iterable did if that is no Exception, as SystemExit.
        """
        self._intake = intake
        dispatcher = self._dispatcher
        meta: dict[str, object] = {}
        self._before = self._of_session()
        self.stats.begin_session(self.started_s)  # a pause since an earlier session has no length
        try:
            with suppress(_CutOff):
                async with dispatcher:
                    meta = _meta(dispatcher)
                    if dispatcher.names_calls and not dispatcher.budget.quotas.is_durable:
                        raise ConfigError(
                            f"{dispatcher.options.function} is not known to be durable (GetFunction shows no "
                            "DurableConfig for this qualifier): leave durable out, or name a durable version"
                        )
                    self._spending.begin(dispatcher)
                    if (
                        unpriced := dispatcher.budget.quotas.unpriced
                    ) and self._rules.max_cost_usd is not None:
                        raise ConfigError(
                            f"max_cost cannot be kept: the function has {unpriced}, whose cost is not known "
                            "here: leave it out"
                        )
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
        if self._gauges is not None and self._audience.on_snapshot is not None:
            self._audience.on_snapshot(self._gauges.snapshot(time.time(), draining=self.is_stopping))
        return self._result(meta)

    async def _drive(self, dispatcher: IntakeDispatcher, intake: RunIntake) -> None:
        self._ledger = ledger = await self._open_ledger(self._on_commit, self._on_ledger_failure)
        self._ended_well = self._succeeded  # of earlier sessions
        self._stop_if_enough()  # they may have been enough
        self._receiver = receiver = RunReceiver(
            ledger,
            self._outputs,
            self._close_feed,
            self._cap(),
            None if self._rules.enough is None else self._successes_left,
            None if self._rules.enough is None else self._on_delivered,
            is_cut=self._is_cut,
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
                self._gauges = gauges = Gauges(
                    dispatcher,
                    self.stats,
                    intake=intake,
                    ledger=ledger,
                    feed=self._feed,
                    spending=self._spending,
                    timeline=self._timeline,
                )
                group.start_soon(self._tick, gauges)
                if self._feed is not None:
                    await self._done.wait()
                group.cancel_scope.cancel()
        except BaseException as error:  # noqa: BLE001 - raised again
            receiver.cut()  # cancelled, or a listener's error: what is in flight may have run
            raise _only(error) from None
        finally:
            if self._timer is not None:
                self._timer.cancel()
        gauges.sample(time.time(), draining=self.is_stopping)
        self._note_failures(receiver)
        if self._listener_error is not None:
            receiver.cut()
            raise self._listener_error
        if self._is_cut:
            raise _CutOff

    def _cap(self) -> Callable[[], int] | None:
        """A function that returns the number of calls that may yet start; None without a spending cap."""
        return None if self._rules.max_cost_usd is None else self._calls_left

    def _calls_left(self) -> int:
        assert self._intake is not None
        done = self._of_session()
        out = self._intake.handed_out - done.records - (0 if self._feed is None else self._feed.forming)
        calls = done.calls - self._suspects
        size = (done.records - self._suspects) / calls if calls else self._dispatcher.options.batch or 1
        return self._rules.calls_left(
            spent_usd=self._spending.usd or 0.0,
            in_flight=ceil(out / max(1.0, size)),
            call_usd=self._spending.call_usd,
        )

    def _close_feed(self) -> None:
        if self._feed is not None:
            self._feed.close()

    async def _await_end(self, receiver: RunReceiver) -> None:
        await receiver.finished.wait()
        self._done.set()

    async def _tick(self, gauges: Gauges) -> None:
        """A sample once a second, a snapshot as often as asked; a feed that its ledger held back goes on."""
        audience = self._audience
        next_sample_s = next_snapshot_s = 0.0
        while True:
            now_s = time.time()
            if now_s >= next_sample_s:
                is_young = now_s - self.started_s < FINELY_S
                next_sample_s = now_s + (TICK_S if is_young else SAMPLE_EVERY_S)
                gauges.sample(now_s, draining=self.is_stopping)
            if audience.on_snapshot is not None and now_s >= next_snapshot_s:
                next_snapshot_s = now_s + audience.snapshot_every_s
                try:
                    audience.on_snapshot(gauges.snapshot(now_s, draining=self.is_stopping))
                except BaseException as error:  # noqa: BLE001 - raised once the journal is closed
                    self._heard_wrong(error)
            self._wake_feed()
            if self._inbox is not None:
                self._inbox.poll(self.tune)
            await anyio.sleep(TICK_S)

    def _wake_feed(self) -> None:
        if self._feed is not None:
            self._feed.wake()

    def _on_commit(self, outcomes: Sequence[Outcome]) -> None:
        others = outcomes
        failed = self.stats.failed
        if isinstance(outcomes, OutcomeBlock):
            others = outcomes.special()
            self.stats.add_plain(outcomes.plain, outcomes.durations_ms, outcomes.plain_at)
        self.stats.add_many(others)
        if self.stats.failed > failed:  # a suspect is unknown
            self._suspects += sum(_is_suspect(outcome) for outcome in others)
        self._spending.add(outcomes)
        try:
            if self._listener_error is None:
                self._audience.hear(outcomes)
        except BaseException as error:  # noqa: BLE001 - a callback's; the ledger must not break of it
            self._heard_wrong(error)
        if self._rules.is_needed and self._stop is None:
            self._check_rules()
        self._wake_feed()

    def _heard_wrong(self, error: BaseException) -> None:
        """A callback raised: that ends the run."""
        self._listener_error = self._listener_error or error
        self._done.set()

    def _on_delivered(self, outcomes: Sequence[Outcome]) -> None:
        """Stop when enough have succeeded: outcomes that wait to be committed count too."""
        if type(outcomes) is OutcomeBlock:
            self._ended_well += len(outcomes.durations_ms)
            outcomes = outcomes.special()
        for outcome in outcomes:
            self._ended_well += outcome.status in OK_STATUSES
        self._stop_if_enough()

    def _stop_if_enough(self) -> None:
        enough = self._rules.enough
        if enough is not None and self._ended_well >= enough and self._stop is None:
            self.stop("enough", enough_said(enough))

    def _successes_left(self) -> int:
        """The number of further successes until there are enough."""
        return (self._rules.enough or 0) - self._ended_well

    def _check_rules(self) -> None:
        done, suspects = self._of_session(), self._suspects  # which say nothing of the function now
        broken = self._rules.broken_by(
            failed=done.failed - suspects,
            finished=done.records - suspects,
            cost_usd=self._spending.usd,
            calls=done.calls - suspects,
        )
        broken = broken or self._rules.stop_for(self.stats)
        if broken is not None:
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
            if isinstance(failure, JournalError):
                self._stop = Stop("journal", str(failure))
            elif isinstance(failure, WorkersLost):
                self._stop = Stop("workers", str(failure))
            elif isinstance(failure, SourceError):
                self._stop = Stop("source", str(failure))
            else:
                self._stop = Stop("source", f"the input raised {type(failure).__name__}: {failure}")

    # --- the end -------------------------------------------------------------------------------

    def _result(self, meta: dict[str, object]) -> RunResult:
        counts = {status: count for status, count in self.stats.counts.items() if count}
        intake = self._intake
        assert intake is not None
        if self._is_cut and self._stop is None:
            self._stop = Stop("sigint")
        pending = self._pending()
        is_short = self._rules.enough is not None and self._succeeded < self._rules.enough
        if self._stop is not None and self._stop.reason == "enough" and is_short:
            self._stop = Stop("sigint") if self._is_cut else PENDING
        if self._stop is None and pending:
            self._stop = PENDING
        shortfalls = self._shortfalls()
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

    def _shortfalls(self) -> tuple[Shortfall, ...]:
        rules, stats = self._rules, self.stats
        found = [Shortfall(exit_codes.THRESHOLD, said) for said in rules.broken_thresholds(stats)]
        succeeded = self._succeeded
        if rules.enough is not None and succeeded < rules.enough and self._stop is None:
            said = f"{succeeded:,} records succeeded, and {rules.enough:,} were to be enough"
            found.append(Shortfall(exit_codes.FAILURES, said))
        return tuple(found)

    @property
    def _succeeded(self) -> int:
        return self.stats.done - self.stats.failed

    def _pending(self) -> int:
        """The number of records of this session that were handed out and have no outcome in the ledger."""
        assert self._intake is not None
        return self._intake.handed_out - self._of_session().records


def _is_suspect(outcome: Outcome) -> bool:
    return outcome.error is not None and outcome.error.type == MAY_HAVE_RUN.type


def _only(error: BaseException) -> BaseException:
    """The error itself, where a task group has wrapped a single one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _meta(dispatcher: IntakeDispatcher) -> dict[str, object]:
    quotas = dispatcher.budget.quotas
    return {
        "memory_mb": quotas.memory_mb,
        "architecture": quotas.architecture,
        "ephemeral_mb": quotas.ephemeral_mb,
        "unpriced": quotas.unpriced,
        "function_timeout_s": quotas.function_timeout_s,
        "budget": quotas.budget,
        "budget_cause": quotas.cause,
        "rate_per_s": quotas.rate_per_s,
        "region": dispatcher.budget.region,
        "invocation_type": dispatcher.options.invocation_type,
    }
