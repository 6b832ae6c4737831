"""How a new run begins, goes and ends: the directory, the source, the run itself, the report."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from fanout.commands.audience import Audience
from fanout.commands.collect import collected, sources_of
from fanout.commands.local import local_function
from fanout.commands.queue import check_no_queue, check_queue_run, open_queue, queue_intake
from fanout.commands.request import Request, RunOptions, is_batched
from fanout.commands.run_input import open_input
from fanout.commands.run_state import (
    default_directory,
    discard,
    first_state,
    function_state,
    iso,
    last_state,
    messages,
    missing,
    write_page,
)
from fanout.commands.workers import dispatcher_class, uses_workers
from fanout.config import check_hedge
from fanout.cost import CostMeter, load_prices
from fanout.dispatcher import Dispatcher
from fanout.errors import ConfigError, FanoutError, FatalRefusal, SourceError
from fanout.function_name import split_qualifier
from fanout.inputs import Selector
from fanout.invoke_request import build_template
from fanout.journal import Journal, RunDir, SyncListener
from fanout.model import Outcome
from fanout.outputs.stdout import StdoutSink
from fanout.queues import is_queue
from fanout.report.summary import RunReport
from fanout.report.totals import SessionTotals
from fanout.runs import Intake, Ledger, OutputFiles, PassingLedger, Run, RunIntake, RunResult, Watchers
from fanout.runs.tuning import TuneInbox, Tuning, in_words
from fanout.stats import Stats, TimelineWriter
from fanout.stats.timeline import NAME as TIMELINE


async def start(request: Request, audience: Audience) -> RunReport:
    """Do a whole new run. What goes wrong after its first call stands in the report.

    Before it, raises ConfigError, SourceError, JournalError, EmulatorError and FatalRefusal.
    """
    options = request.run_options
    if len(request.locations) > 1 and any(is_queue(location) for location in request.locations):
        raise ConfigError("a queue is the only input of its run: run it by itself")
    if is_queue(request.location):
        return await _start_with_queue(request, audience)
    check_no_queue(options)
    if request.canary is not None:
        options = replace(options, take=request.canary, preflight=True, report=False)
    async with AsyncExitStack() as stack:
        local = stack.enter_context(local_function(request.function, options, request.options))
        source = None if request.location is None else open_input(request, request.out, audience.say)
        if source is not None:
            stack.push_async_callback(source.aclose)  # what follows may refuse
        selector = Selector(options.key, options.select, options.durable_expr)
        session = RunSession(
            request.function,
            {**request.options, **local},
            options,
            audience,
            transport=request.transport,
            records_planned=request.records_planned,
        )
        sources = await sources_of(
            stack,
            options,
            function=request.function,
            out=request.out,
            options=request.options,
            audience=audience,
        )
        run_dir: RunDir | None = None
        made: list[Path] = []
        if request.out is not None:
            made = missing(request.out)
            run_dir = RunDir.create(request.out, first_state(request))
            stack.enter_context(run_dir.lock())
        intake = Intake(
            source=source,
            payloads=request.payloads,
            selector=selector,
            take=options.take,
            on_record=None if run_dir is None else session.note_record,
        )
        session.is_discarded_unread = request.location is not None
        try:
            report = await session.go(intake, run_dir, to_stdout=request.to_stdout)
        except (ConfigError, FatalRefusal, SourceError):  # only before the first record is read
            if run_dir is not None:
                discard(run_dir, made)
            raise
        say_without_key(selector, options.key, audience)
        return await collected(report, run_dir, sources, audience)


def say_without_key(selector: Selector, key: str | None, audience: Audience) -> None:
    """Say how many records have no key, though one was asked for."""
    if selector.without_key:
        audience.say(f"{selector.without_key:,} records have no key: {key!r} found nothing in them")


async def _start_with_queue(request: Request, audience: Audience) -> RunReport:
    location, options = request.location, request.run_options
    assert location is not None
    if request.out is None:
        raise ConfigError(
            f"{location} is a queue: its run needs a directory, for the numbers of its messages"
        )
    check_queue_run(location, request.options, options)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            open_queue(location, function=request.function, options=request.options)
        )
        local = stack.enter_context(local_function(request.function, options, request.options))
        session = RunSession(
            request.function,
            {**request.options, **local},
            options,
            audience,
            transport=request.transport,
        )
        sources = await sources_of(
            stack,
            options,
            function=request.function,
            out=request.out,
            options=request.options,
            audience=audience,
        )
        made = missing(request.out)
        run_dir = RunDir.create(request.out, first_state(request))
        stack.enter_context(run_dir.lock())
        try:
            async with queue_intake(
                client,
                run_dir.path,
                options,
                say=audience.say,
                not_sent=lambda: session.run.not_sent,
                as_event=request.options.get("batch_shape") == "sqs",
            ) as intake:
                session.sync_listener = intake
                report = await session.go(intake, run_dir)
        except (ConfigError, FatalRefusal):  # only before the first record is read
            discard(run_dir, made)
            raise
        return await collected(report, run_dir, sources, audience)


class RunSession:
    """One execution of work: in a run directory, to standard output, or for listeners alone."""

    _verb: Literal["resume", "redrive"] | None = None

    def __init__(
        self,
        function: str,
        options: dict[str, Any],
        run_options: RunOptions,
        audience: Audience,
        *,
        stats: Stats | None = None,
        generation: int = 0,
        transport: Any = "direct",
        records_planned: int | None = None,
    ) -> None:
        self._records_planned = records_planned
        self._function = function
        self._run_options = run_options
        self._audience = audience
        self._generation = generation
        self._meter: CostMeter | None = None
        self._timeout_s = 0.0
        self._prices = load_prices(None if run_options.prices is None else Path(run_options.prices))
        self._journal: Journal | None = None
        self.sync_listener: SyncListener | None = None
        self.is_discarded_unread = False  # an input that fails before its first record leaves no run
        self._run_dir: RunDir | None = None
        self._to_stdout = False
        self._finished = self._failed = 0
        self._is_streaming = bool(options.get("stream")) or options.get("invocation") == "stream"
        may_repeat = bool(options.get("idempotent")) or run_options.durable
        check_hedge(is_hedged=bool(options.get("hedge")), may_repeat=may_repeat)
        if run_options.durable and is_batched(options):
            raise ConfigError("durable names the call of one record: leave batch out")
        if run_options.durable_expr is not None and is_batched(options):
            raise ConfigError("durable_name names the call of one record: leave batch out")
        if run_options.durable_expr is not None and run_options.durable:
            raise ConfigError("durable names each call itself: leave durable_name out")
        if run_options.durable_expr is not None or run_options.durable:
            build_template(  # raises ConfigError for calls that no durable name goes with
                function=function,
                invocation_type=options.get("invocation_type", "RequestResponse"),
                durable_name="any",
                stream=self._is_streaming,
            )
        self._watchers = watchers = Watchers(
            on_tuned=self._note_tuned,
            on_snapshot=audience.on_snapshot,
            snapshot_every_s=audience.snapshot_every_s,
            on_started=self._on_started,
            cost_usd=lambda: None if self._meter is None else self._meter.usd,
            call_usd=self._call_usd,
        )
        watchers.on_outcomes.append(self._on_outcomes)
        self.run = Run(
            function,
            options,
            open_ledger=self._open_ledger,
            rules=run_options.rules(),
            watchers=watchers,
            stats=stats,
            generation=generation,
            grace_s=run_options.grace,
            preflight=run_options.preflight,
            transport=transport,
            dispatcher_class=dispatcher_class(options, run_options, transport),
        )

    def note_record(self, seq: int, payload: bytes) -> None:
        """A record was read: its hash may be kept, so that a resume can notice a changed input."""
        if self._journal is not None:
            self._journal.sample(seq, payload)

    async def go(self, intake: RunIntake, run_dir: RunDir | None, *, to_stdout: bool = False) -> RunReport:
        """Execute, and leave run.json and the page behind."""
        self._run_dir = run_dir
        self._to_stdout = to_stdout
        if self._run_options.durable:
            if run_dir is None:
                raise ConfigError("durable names calls by their run's id: give --out DIR to keep the run in")
            if split_qualifier(self._function, self.run.qualifier)[1] is None:
                raise ConfigError(
                    "a durable function is called with a qualifier: give $LATEST, a version or an alias"
                )
            self.run.name_calls(str(run_dir.state["id"]))
        if run_dir is not None and run_dir.state.get("id"):
            self.run.run_id = str(run_dir.state["id"])
        detach = self._audience.attach(self.run) if self._audience.attach is not None else None
        try:
            if run_dir is not None:
                if self._is_streaming:
                    self.run.outputs = OutputFiles(run_dir.path)
                inbox = TuneInbox(run_dir.path, self.run.tune)
                self._watchers.on_tick = inbox.poll
                with TimelineWriter(run_dir.path / TIMELINE, begun_s=self.run.started_s) as timeline:
                    if timeline.fault is not None:
                        self._audience.say(timeline.fault)
                    self.run.timeline = timeline
                    result = await self._execute(intake, run_dir)
                inbox.close()
            else:
                result = await self._execute(intake, None)
        finally:
            if detach is not None:
                detach()
            await intake.aclose()
        stop = result.stop
        is_unread = self.is_discarded_unread and not result.records_read
        if is_unread and stop is not None and stop.reason == "source":
            raise SourceError(stop.message)
        return self._report(run_dir, result)

    async def _execute(self, intake: RunIntake, run_dir: RunDir | None) -> RunResult:
        try:
            return await self.run.execute(intake)
        except FatalRefusal as error:
            if run_dir is None:
                raise
            self._write_state(
                run_dir, {"state": "fatal", "halted_by": "fatal", "message": str(error), "exit_code": 4}
            )
            raise
        except BaseException as error:
            if run_dir is not None:
                self._write_state(run_dir, {"state": "interrupted", "message": type(error).__name__})
            raise

    async def _open_ledger(
        self, on_commit: Callable[[list[Outcome]], None], on_failure: Callable[[Exception], None]
    ) -> Ledger:
        if self._run_dir is not None:
            if uses_workers(self._run_options) and not self._run_dir.has_windows:
                self._run_dir.begin_windows(self._generation, [])
            self._journal = await Journal.open(
                self._run_dir.path,
                generation=self._generation,
                fsync=self._run_options.fsync,
                on_commit=on_commit,
                on_failure=on_failure,
                sync_listener=self.sync_listener,
            )
            return self._journal
        if self._to_stdout:
            return StdoutSink(
                keep_order=self._run_options.keep_order, on_commit=on_commit, on_failure=on_failure
            )
        return PassingLedger(on_commit, keep_order=self._run_options.keep_order)

    def _on_started(self, dispatcher: Dispatcher) -> None:
        quotas = dispatcher.budget.quotas
        self._timeout_s = dispatcher.budget.call_timeout_s
        if quotas.is_above_allowed:
            self._audience.say(f"concurrency is {quotas.budget:,}: {quotas.budget_source}")
        if self._run_options.durable and self._run_dir is not None:
            # A resume must know how long a name brings back what it started.
            self._write_state(self._run_dir, {"durable_retention_days": quotas.durable_retention_days or 1})
        self._meter = CostMeter(
            region=dispatcher.budget.region,
            architecture=quotas.architecture or "x86_64",
            memory_mb=quotas.memory_mb,
            storage_mb=quotas.ephemeral_mb or 512,
            invocation_type=dispatcher.options.invocation_type,
            prices=self._prices,
        )

    def _call_usd(self) -> float:
        """What one more call is likely to cost; before the first reply, the most that it can."""
        meter = self._meter
        if meter is None:
            return 0.0
        mean_usd = meter.mean_usd
        return meter.most_usd(self._timeout_s) if mean_usd is None else mean_usd

    def _on_outcomes(self, outcomes: list[Outcome]) -> None:
        self._finished += len(outcomes)
        self._failed += sum(not outcome.ok for outcome in outcomes)
        if self._meter is not None:
            add = self._meter.add
            for outcome in outcomes:
                add(outcome)
        if self._audience.on_outcome is not None:
            for outcome in outcomes:
                self._audience.on_outcome(outcome)

    def _note_tuned(self, tuning: Tuning, in_force: dict[str, Any]) -> None:
        """run.json keeps what was changed when; a resume goes on with it, but for a pause."""
        changes = tuning.changes()
        self._audience.say(f"in force now: {in_words(in_force)}")
        run_dir = self._run_dir
        if run_dir is not None:
            kept = {name: value for name, value in changes.items() if name != "pause"}
            self._write_state(
                run_dir,
                {
                    "options": {**(run_dir.state.get("options") or {}), **kept},
                    "tuned": [*run_dir.state.get("tuned", ()), {"at": iso(time.time()), **changes}],
                },
            )

    def _write_state(self, run_dir: RunDir, changes: dict[str, Any]) -> None:
        try:
            run_dir.write_state(changes)
        except FanoutError as error:
            self._audience.say(str(error))

    def _report(self, run_dir: RunDir | None, result: RunResult) -> RunReport:
        cost = None if self._meter is None else self._meter.estimate()
        if run_dir is None:
            meta = {
                "function": self._function,
                "state": result.state,
                "exit_code": result.exit_code,
                "halted_by": None if result.stop is None else result.stop.reason,
                "message": "; ".join(messages(result)),
                "records_read": result.records_read,
                "records_total": result.records_total,
                "thresholds": self.run.thresholds,
                "input_share": result.input_share,
                "options": {"invocation_type": result.meta.get("invocation_type")},
                "started_at": result.started_s,
            }
            return RunReport.from_stats(result.stats, meta, cost=cost)
        self._settle(run_dir, result)
        changes = {**function_state(result.meta), **last_state(result, self.run), **self._own_state(result)}
        self._write_state(run_dir, changes)
        report = self._report_of(run_dir, {**run_dir.state, **changes}, result, cost)
        if self.run.is_cut:
            report.run["was_cut"] = True
        if self._run_options.report:
            problem = write_page(report)
            if problem is not None:
                self._audience.say(problem)
        return report

    def _session(self) -> SessionTotals | None:
        """What this command did, where the run had begun before it."""
        if self._verb is None:
            return None
        return SessionTotals(self._verb, succeeded=self._finished - self._failed, failed=self._failed)

    def _settle(self, run_dir: RunDir, result: RunResult) -> None:
        """Where the directory knows of more records than this session, state and counts are set right."""

    def _own_state(self, result: RunResult) -> dict[str, Any]:
        """What else run.json says at the end. A canary leaves a run that goes on, as if interrupted."""
        planned = self._records_planned
        if planned is None or result.stop is not None:
            return {}
        is_whole = result.records_read >= planned
        return {"is_planned": False} if is_whole else {"state": "interrupted"}

    def _report_of(self, run_dir: RunDir, state: dict[str, Any], result: RunResult, cost: Any) -> RunReport:
        return RunReport.from_stats(
            result.stats, {**state, "run_dir": str(run_dir.path)}, cost=cost, session=self._session()
        )


__all__ = ["RunSession", "default_directory", "start"]
