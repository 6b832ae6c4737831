"""One session of a run: it executes an intake, and leaves run.json and the report behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import anyio
import anyio.to_thread
from msgspec.structs import replace

from fanout import exit_codes
from fanout.commands.bookkeeping import Bookkeeping, State
from fanout.commands.checkpointer import Checkpointer
from fanout.commands.options import RunOptions
from fanout.commands.run_state import function_state, last_state, messages, write_page
from fanout.commands.workers import make_dispatcher
from fanout.dispatcher import IntakeDispatcher
from fanout.errors import FanoutError, FatalRefusal, JournalError, SourceError
from fanout.journal import Journal, RunDir, SyncListener
from fanout.model import Outcome
from fanout.outputs.stdout import StdoutSink
from fanout.quantities import iso
from fanout.report.summary import RunReport
from fanout.runs import (
    Ledger,
    OnCommit,
    OutputFiles,
    PassingLedger,
    Run,
    RunIntake,
    RunResult,
    Spending,
    ThrottleCount,
)
from fanout.runs.audience import Audience
from fanout.runs.tuning import TuneInbox, Tuning, in_words
from fanout.stats import TimelineWriter
from fanout.stats.timeline import NAME as TIMELINE

_NO_STOP_OF_BEFORE: State = {"halted_by": None, "exit_code": None}  # a session before this one had it


class RunSession:
    """One execution of work: in a run directory, to standard output, or for listeners alone.

    ``options`` are checked, ``run_dir`` is made and locked by the caller. ``discards_unread``: an input
    that fails before its first record raises SourceError, and leaves no run.
    """

    def __init__(
        self,
        options: RunOptions,
        audience: Audience,
        bookkeeping: Bookkeeping,
        *,
        spending: Spending,
        run_dir: RunDir | None = None,
        to_stdout: bool = False,
        sync_listener: SyncListener | None = None,
        discards_unread: bool = False,
    ) -> None:
        self._options = options
        self._audience = audience
        self._bookkeeping = bookkeeping
        self._spending = spending
        self._run_dir = run_dir
        self._to_stdout = to_stdout
        self._sync_listener = sync_listener
        self._discards_unread = discards_unread
        self._journal: Journal | None = None
        self._checkpointer: Checkpointer | None = None
        self._run: Run | None = None
        self._intake: RunIntake | None = None

    @property
    def has_read(self) -> bool:
        """True once a record was read: what is raised from then on comes from a callback."""
        return self._intake is not None and self._intake.records_read > 0

    @property
    def not_sent(self) -> list[int]:
        """Records that were read but certainly did not run, and have no outcome."""
        return [] if self._run is None else self._run.not_sent

    def note_record(self, seq: int, payload: bytes) -> None:
        """A record was read: its hash may be kept, so that a resume can notice a changed input."""
        if self._journal is not None:
            self._journal.sample(seq, payload)

    async def go(self, intake: RunIntake) -> RunReport:
        """Execute, and leave run.json and the page behind."""
        self._intake = intake
        with ExitStack() as stack:
            try:
                self._run = run = self._make_run(stack, time.time())
                if self._audience.attach is not None:
                    stack.callback(self._audience.attach(run))
                result = await self._execute(run, intake)
                with anyio.CancelScope(shield=True):
                    await intake.settle(run.not_sent)
            finally:
                await intake.aclose()
                await self._close_checkpointer()
        stop = result.stop
        if self._discards_unread and not result.records_read and stop is not None and stop.reason == "source":
            raise SourceError(stop.message)
        return self._report(run, result)

    def _make_run(self, stack: ExitStack, started_s: float) -> Run:
        options, bookkeeping, run_dir = self._options, self._bookkeeping, self._run_dir
        run_id = outputs = timeline = inbox = None
        if run_dir is not None:
            run_id = run_dir.state.get("id")
            outputs = OutputFiles(run_dir.path) if options.calls.stream else None
            inbox = TuneInbox(run_dir.path)
            stack.callback(inbox.close)
            timeline = stack.enter_context(TimelineWriter(run_dir.path / TIMELINE, begun_s=started_s))
            if timeline.fault is not None:
                self._audience.say(timeline.fault)
        return Run(
            make_dispatcher(
                options,
                hooks=ThrottleCount(bookkeeping.stats),
                run_id=run_id,
                generation=bookkeeping.generation,
                audience=self._audience,
            ),
            open_ledger=self._open_ledger,
            stats=bookkeeping.stats,
            spending=self._spending,
            rules=options.rules(),
            audience=replace(
                self._audience,
                on_outcomes=bookkeeping.hear,
                on_started=self._on_started,
                on_tuned=self._on_tuned,
            ),
            deadline_s=options.calls.deadline,
            grace_s=options.grace,
            preflight=options.preflight,
            outputs=outputs,
            timeline=timeline,
            inbox=inbox,
            started_s=started_s,
        )

    async def _execute(self, run: Run, intake: RunIntake) -> RunResult:
        try:
            return await run.execute(intake)
        except BaseException as error:
            state: State = {
                "state": "interrupted",
                "message": type(error).__name__,
                "records_read": intake.records_read,
                "finished_at": iso(time.time()),
                **_NO_STOP_OF_BEFORE,
            }
            if self._run_dir is not None:
                with suppress(JournalError):  # it cannot be read: what raised is to be told
                    state = {**state, "counts": self._bookkeeping.counts(self._run_dir)}
            if isinstance(error, FatalRefusal) and not intake.handed_out:  # later it is a callback's
                stop = {"state": "fatal", "halted_by": "fatal", "exit_code": exit_codes.FATAL}
                state = {**(state if self.has_read else {}), **stop, "message": str(error)}
            self._write_state(state)
            raise

    async def _open_ledger(self, on_commit: OnCommit, on_failure: Callable[[Exception], None]) -> Ledger:
        options, run_dir, generation = self._options, self._run_dir, self._bookkeeping.generation
        if run_dir is not None:
            if options.uses_workers and not run_dir.has_windows:
                run_dir.begin_windows(generation, [])
            checkpointer = self._make_checkpointer(run_dir)

            def commit(outcomes: Sequence[Outcome]) -> None:
                on_commit(outcomes)
                if checkpointer is not None:
                    checkpointer.add(outcomes)

            self._journal = await Journal.open(
                run_dir.path,
                generation=generation,
                fsync=options.fsync,
                on_commit=commit,
                on_failure=on_failure,
                sync_listener=self._sync_listener,
                on_batch=None if checkpointer is None else checkpointer.on_batch,
            )
            return self._journal
        if self._to_stdout:
            return StdoutSink(keep_order=options.keep_order, on_commit=on_commit, on_failure=on_failure)
        return PassingLedger(on_commit, keep_order=options.keep_order)

    def _make_checkpointer(self, run_dir: RunDir) -> Checkpointer | None:
        books = self._bookkeeping
        if books.finished is not None:
            self._checkpointer = Checkpointer(run_dir, books.stats, self._spending, books.finished)
        return self._checkpointer

    async def _close_checkpointer(self) -> None:
        checkpointer, self._checkpointer = self._checkpointer, None
        if checkpointer is not None:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(checkpointer.close)

    # --- what run.json hears of ----------------------------------------------------------------

    def _on_started(self, dispatcher: IntakeDispatcher) -> None:
        quotas = dispatcher.budget.quotas
        if quotas.is_above_allowed:
            self._audience.say(f"concurrency is {quotas.budget:,}: {quotas.budget_source}")
        if self._options.durable:
            # A resume must know how long a name brings back what it started.
            self._write_state({"durable_retention_days": quotas.durable_retention_days or 1})

    def _on_tuned(self, tuning: Tuning, in_force: Mapping[str, Any]) -> None:
        """run.json keeps what was changed when; a resume goes on with it, but for a pause."""
        changes = tuning.changes()
        self._audience.say(f"in force now: {in_words(in_force)}")
        if self._run_dir is not None:
            state = self._run_dir.state
            kept = {name: value for name, value in changes.items() if name != "pause"}
            self._write_state(
                {
                    "options": {**(state.get("options") or {}), **kept},
                    "tuned": [*state.get("tuned", ()), {"at": iso(time.time()), **changes}],
                }
            )

    def _write_state(self, changes: State) -> None:
        if self._run_dir is None:
            return
        if "counts" in changes:
            changes = {**changes, "pending": changes["records_read"] - sum(changes["counts"].values())}
        try:
            self._run_dir.write_state({**changes})
        except FanoutError as error:
            self._audience.say(str(error))

    def _report(self, run: Run, result: RunResult) -> RunReport:
        run_dir, cost = self._run_dir, self._spending.estimate()
        if run_dir is None:
            return RunReport.from_stats(result.stats, self._state_without_directory(run, result), cost=cost)
        books = self._bookkeeping
        books.settle(run_dir, result)
        changes = {**function_state(result.meta), **last_state(result, run), **books.own_state(run, result)}
        self._write_state(changes)
        report = books.report(run_dir, {**run_dir.state, **changes}, result, cost, run.session_counts)
        if run.is_cut:
            report.run["was_cut"] = True
        if self._options.report:
            problem = write_page(report)
            if problem is not None:
                self._audience.say(problem)
        return report

    def _state_without_directory(self, run: Run, result: RunResult) -> State:
        return {
            "function": self._options.function,
            "state": result.state,
            "exit_code": result.exit_code,
            "halted_by": None if result.stop is None else result.stop.reason,
            "message": "; ".join(messages(result)),
            "records_read": result.records_read,
            "records_total": result.records_total,
            "thresholds": run.thresholds,
            "workers": run.workers,
            "input_share": result.input_share,
            "options": {"invocation_type": result.meta.get("invocation_type")},
            "started_at": result.started_s,
        }
