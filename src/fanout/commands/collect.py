"""The verb ``collect``: the outcomes of a run's Event calls, from destinations and dead-letter queues."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, ExitStack
from datetime import datetime
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from fanout.commands.collect_executions import collect_executions
from fanout.commands.collection import Collection, CollectionStop, journaled
from fanout.commands.options import RunOptions, options_of
from fanout.commands.outcome_completer import OutcomeCompleter
from fanout.commands.result_sources import Sources, open_sources
from fanout.commands.run_state import write_page
from fanout.errors import ConfigError
from fanout.journal import OUTCOMES_FILE, Journal, RunDir, replay
from fanout.quantities import seconds
from fanout.queues.accepted import AcceptedCalls
from fanout.queues.collector import Collector, Counts
from fanout.queues.event_config import EventConfig
from fanout.report.summary import RunReport
from fanout.runs.audience import Audience
from fanout.runs.result import Stop, state_and_exit_code

_SAY_EVERY_S = 10.0


async def collect(path: Path, asked: Collection, audience: Audience) -> RunReport:
    """Collect the results of a run that has ended. Raises as ``resume`` does."""
    run_dir = RunDir.open(path)
    with run_dir.lock():
        options = options_of(run_dir.state)
        if options.calls.invocation_type != "Event":
            raise ConfigError(f"{path} made no Event calls: there is nothing to collect")
        async with AsyncExitStack() as stack:
            sources = await open_sources(stack, asked, options, audience)
            return await collect_into(run_dir, options, sources, asked, audience)


async def collected(
    report: RunReport,
    run_dir: RunDir | None,
    options: RunOptions,
    sources: Sources | None,
    audience: Audience,
) -> RunReport:
    """The report of a run after the collection that it asked for, if it has come to its end."""
    if sources is None or run_dir is None or run_dir.state.get("state") != "finished":
        return report
    return await collect_into(run_dir, options, sources, Collection(), audience)


async def collect_into(
    run_dir: RunDir, options: RunOptions, sources: Sources, asked: Collection, audience: Audience
) -> RunReport:
    """Collect into a run directory whose lock the caller holds; the journal is closed."""
    path = run_dir.path
    if not sources.queues:
        return await _collect_executions(run_dir, options, sources, asked, audience)
    stop = CollectionStop()
    failure: Exception | None = None
    with ExitStack() as stack:
        if audience.attach is not None:
            stack.callback(audience.attach(stop))
        calls = await anyio.to_thread.run_sync(AcceptedCalls, path / OUTCOMES_FILE)
        stack.callback(calls.close)
        wait_s = await anyio.to_thread.run_sync(_wait_s, calls, sources.config, asked.wait_s)
        deadline_s = time.monotonic() + wait_s
        said = _Said(audience, deadline_s)
        collector = Collector(
            sources.queues,
            calls,
            complete=OutcomeCompleter(options.calls),
            carries_successes=sources.carries_successes,
            allow_strangers=asked.allow_strangers,
            deadline_s=deadline_s,
            should_stop=lambda: stop.is_stopping,
            on_progress=said.on_progress,
        )
        journal = await Journal.open(
            path, generation=int(run_dir.state.get("generation", 0)), sync_listener=collector
        )
        try:
            failure = await journaled(journal, partial(collector.run, journal))
        finally:
            with anyio.CancelScope(shield=True):
                failure = await collector.finish() or failure
        said.at_the_end(collector)
    report = await _report(run_dir, audience, stop)
    if failure is not None:
        raise failure
    return report


async def _collect_executions(
    run_dir: RunDir, options: RunOptions, sources: Sources, asked: Collection, audience: Audience
) -> RunReport:
    stop = CollectionStop()
    with ExitStack() as stack:
        if audience.attach is not None:
            stack.callback(audience.attach(stop))
        await collect_executions(
            run_dir,
            sources.session,
            function=options.function,
            qualifier=options.calls.qualifier,
            with_outputs=asked.outputs,
            wait_s=asked.wait_s,
            say=audience.note,
            should_stop=lambda: stop.is_stopping,
        )
    return await _report(run_dir, audience, stop)


async def _report(run_dir: RunDir, audience: Audience, stop: CollectionStop) -> RunReport:
    """The report of the run as it is now, and its page. A signal gives the exit code, not the run's state."""
    report = await anyio.to_thread.run_sync(_settle, run_dir)
    if stop.reason is not None:
        report.exit_code = state_and_exit_code(Stop(stop.reason), {})[1]
    problem = write_page(report)
    if problem is not None:
        audience.say(problem)
    return report


def _wait_s(calls: AcceptedCalls, config: EventConfig, wait_s: float | None) -> float:
    """The seconds to wait from now: as asked, or until the newest call's result must have come."""
    if wait_s is not None:
        return wait_s
    newest = calls.newest_line()
    started_at = None if newest is None else newest.started_at
    try:
        since_s = time.time() - datetime.fromisoformat(started_at or "").timestamp()
    except ValueError:
        since_s = 0.0
    return max(30.0, config.latest_s - since_s)


def _settle(run_dir: RunDir) -> RunReport:
    """Set run.json right by the journal, and make the report."""
    known = replay(run_dir.path, accepts_lost_mark=True)
    counts = known.counts
    is_finished = run_dir.state.get("state") == "finished"
    run_dir.write_state(
        {"counts": counts, **({"exit_code": state_and_exit_code(None, counts)[1]} if is_finished else {})}
    )
    return RunReport.from_run_dir(run_dir.path, is_held_here=True, superseded=known.superseded)


class _Said:
    """Messages about the progress of a collection, now and then."""

    def __init__(self, audience: Audience, deadline_s: float) -> None:
        self._audience = audience
        self._deadline_s = deadline_s
        self._next_s = 0.0

    def on_progress(self, counts: Counts) -> None:
        now_s = time.monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + _SAY_EVERY_S
            left_s = max(0.0, self._deadline_s - now_s)
            self._audience.note(
                f"collecting: {counts.out:,} still out, {counts.collected:,} collected; "
                f"{seconds(left_s)} more at the most (--wait)"
            )

    def at_the_end(self, collector: Collector) -> None:
        counts = collector.counts
        more = [
            f"{count:,} {what}"
            for count, what in (
                (counts.duplicates, "duplicate" + "s" * (counts.duplicates != 1) + " deleted"),
                (counts.strangers, "message" + "s" * (counts.strangers != 1) + " of others put back"),
                (counts.out, "still out"),
            )
            if count
        ]
        self._audience.note(
            "; ".join([f"{counts.collected:,} result{'s' * (counts.collected != 1)} collected", *more])
        )
