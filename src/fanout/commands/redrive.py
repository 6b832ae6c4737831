"""The verb ``redrive``: the records of a run that did not succeed are sent again, as a new generation."""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
from msgspec.structs import replace

from fanout import exit_codes
from fanout.commands.bookkeeping import Did, State, report_of_stats
from fanout.commands.changes import Changes, changed_options
from fanout.commands.checks import check_durable, check_options
from fanout.commands.history import search
from fanout.commands.local import local_function
from fanout.commands.on_finish import conclude
from fanout.commands.options import OF_WHOLE_RUNS, RunOptions
from fanout.commands.recorded_input import location_of
from fanout.commands.run_state import records_read
from fanout.commands.session import RunSession
from fanout.cost import CostEstimate, CostMeter, Prices
from fanout.errors import ConfigError, JournalError
from fanout.journal import Replay, RunDir, SeqSet, command_of_same, replay, shell_word
from fanout.journal.seqs import runs_of
from fanout.model import Outcome
from fanout.quantities import count_of
from fanout.queues import is_queue
from fanout.report.summary import RunReport
from fanout.report.totals import SessionTotals
from fanout.runs import Intake, Redrive, RedriveSearch, Run, RunResult, Spending, statuses_of
from fanout.runs.audience import Audience
from fanout.runs.redrive_counts import RedriveCounts
from fanout.runs.result import state_and_exit_code
from fanout.stats import Stats


async def redrive(
    path: Path,
    changes: Changes,
    audience: Audience,
    *,
    statuses: Collection[str] = (),
    error_types: Collection[str] = (),
) -> RunReport:
    """Send the records that did not succeed again, from the journal alone, as a new generation.

    ``statuses`` and ``error_types`` choose among them. Raises as ``resume`` does.
    """
    chosen = sorted(statuses_of(statuses))
    if strange := sorted(OF_WHOLE_RUNS & set(changes.given)):
        raise ConfigError(
            f"{strange[0]} is said of a whole run, and a redrive sends a part of it: leave it out"
        )
    run_dir = RunDir.open(path)
    with ExitStack() as stack:
        stack.enter_context(run_dir.lock())
        state = run_dir.state
        cut_off = state.get("redrive") or {}
        generation = int(state.get("generation", 0)) + 1
        find = partial(
            RedriveSearch, path, statuses=chosen, error_types=error_types, before_generation=generation
        )
        searches = [find()]
        if is_queue(location_of(state)):
            searches.append(find(collected_only=True))
        known, meter = await _search(run_dir, searches, changes)
        if cut_off:
            if _has_sent(known, generation - 1):
                command = f"fanout resume {shell_word(path)}"
                raise ConfigError(f"a redrive of {path} was cut off: go on with `{command}` first")
            generation -= 1  # nothing was sent in it: it begins again
        options = changed_options(state, changes)
        check_options(options)
        check_durable(options, path)
        filters = {
            "statuses": chosen,
            "error_types": sorted(error_types),
            # What is known of the run itself must outlive the redrive.
            "before": str(state.get("state")),
            "not_sent": state.get("not_sent") or [],
            "refused": state.get("refused") or [],
            **{name: cut_off[name] for name in ("before", "not_sent", "refused") if name in cut_off},
        }
        found = _redrivable(run_dir, [each.found() for each in searches], audience)
        if not len(found):
            audience.say(f"{path}: {_nothing_to_send(path, chosen, searches[0].faults)}")
            return RunReport.from_run_dir(path, is_held_here=True)
        local = stack.enter_context(local_function(options))
        audience.heed_signals(run_dir.path)
        run_dir.begin_generation(generation, {"redrive": filters, "state": "running"})
        report = await _send_again(run_dir, known, meter, filters, found, options, local, changes, audience)
        return await conclude(report, options, audience, run_dir)


def _nothing_to_send(path: Path, chosen: Sequence[str], faults: int) -> str:
    """Why, in words. ``faults``: records that were asked for, and stand in the input as nothing to send."""
    if not faults:
        return f"no record to send again among {', '.join(chosen)}"
    count = "1 record" if faults == 1 else f"{faults:,} records"
    command = f"fanout export {shell_word(path)} --outcomes --status failed"
    return f"no record to send again: {count} can never be sent (`{command}` has them): mend and run those"


async def _search(
    run_dir: RunDir, searches: Sequence[RedriveSearch], changes: Changes
) -> tuple[Replay, CostMeter]:
    return await anyio.to_thread.run_sync(
        partial(search, run_dir, searches, accepts_lost_mark=changes.accepts_lost_mark)
    )


async def go_on_redriving(
    run_dir: RunDir, options: RunOptions, local: RunOptions, changes: Changes, audience: Audience
) -> RunReport:
    """Go on with the redrive that was cut off, of a run whose lock the caller holds.

    ``local`` are the options with the emulator of ``--local``.
    """
    filters = run_dir.state["redrive"]
    wanted = RedriveSearch(
        run_dir.path,
        statuses=filters["statuses"],
        error_types=filters["error_types"],
        before_generation=int(run_dir.state.get("generation", 0)),
        collected_only=is_queue(location_of(run_dir.state)),
    )
    known, meter = await _search(run_dir, [wanted], changes)
    return await _send_again(
        run_dir, known, meter, filters, wanted.found(), options, local, changes, audience
    )


async def _send_again(
    run_dir: RunDir,
    known: Replay,
    meter: CostMeter,
    filters: State,
    found: Redrive,
    options: RunOptions,
    local: RunOptions,
    changes: Changes,
    audience: Audience,
) -> RunReport:
    generation = int(run_dir.state.get("generation", 0))
    suspects: Container[int] = ()
    allowed = _Allowed(known, generation)
    sent_before = [seq for seq in found.seqs if seq in allowed]
    if sent_before and changes.decide(len(sent_before), options, run_dir.state) == "skip":
        suspects = allowed
    audience.heed_signals(run_dir.path)
    if run_dir.has_windows or options.uses_workers:
        run_dir.begin_windows(generation, runs_of(sorted(set(sent_before))))
    run_dir.write_state({"state": "running", "finished_at": None})
    prices = options.price_table()
    session = RunSession(
        # What is enough, or slow, is said of a whole run, not of what is sent again.
        replace(local, enough=None, threshold=(), threshold_abort=False),
        audience,
        _RedriveSession(generation, filters, prices, _counts_before(known, generation, found)),
        spending=Spending(prices, before=meter),
        run_dir=run_dir,
    )
    return await session.go(
        Intake(again=found.records(suspects), records_read_before=records_read(run_dir.state, known))
    )


def _counts_before(known: Replay, generation: int, found: Redrive) -> RedriveCounts:
    redone = known.redone if known.generation == generation else SeqSet()
    return RedriveCounts(known, found, redone)


def _redrivable(run_dir: RunDir, found: Sequence[Redrive], audience: Audience) -> Redrive:
    """The records to send again. Of a queue only those whose message was deleted, when it was accepted.

    ``found``: all of them, and where the input is a queue those of deleted messages. Raises ConfigError
    where all of them were left in their queue: there they are sent again.
    """
    left = len(found[0]) - len(found[-1])
    if left:
        location = location_of(run_dir.state)
        command = command_of_same(run_dir.state, location or "")
        records = count_of(left, "record")
        message = f"the messages of {records} were left in {location}: run it again with `{command}`"
        if not len(found[-1]):
            raise ConfigError(message)
        audience.say(message)
    return found[-1]


def _has_sent(known: Replay, generation: int) -> bool:
    """True if anything may have been sent in this generation."""
    windows = known.windows or ()
    marked = generation < len(known.marks) and known.marks[generation] > 0
    marked = marked or (generation < len(windows) and bool(windows[generation]))
    return marked or (known.generation == generation and len(known.redone) > 0)


class _Allowed:
    """Records that may have been sent in a generation, but for those known not to have run."""

    def __init__(self, known: Replay, generation: int) -> None:
        self._known = known
        self._generation = generation

    def __contains__(self, seq: object) -> bool:
        known = self._known
        if not isinstance(seq, int) or seq in known.not_sent:
            return False
        return known.is_mark_lost or known.was_allowed(self._generation, seq)


class _RedriveSession:
    """Afterwards the run is as finished as it was before. ``filters`` are those that run.json has of it."""

    def __init__(
        self, generation: int, filters: State, prices: dict[str, Prices], counts: RedriveCounts
    ) -> None:
        self.generation = generation
        self.stats = Stats()
        self.finished: SeqSet | None = None
        self._prices = prices
        self._before = filters["before"]
        self._not_sent = frozenset(filters.get("not_sent") or ())
        self._refused = frozenset(filters.get("refused") or ())
        self._counts = counts
        self._has_enough = False  # by which the run was stopped before

    def hear(self, outcomes: Sequence[Outcome]) -> None:
        self._counts.add(outcomes)

    def counts(self, run_dir: RunDir) -> dict[str, int]:
        return replay(run_dir.path).counts  # after an error: some may have been committed unheard

    def settle(self, run_dir: RunDir, result: RunResult) -> None:
        result.counts = self._counts.counts
        result.is_input_exhausted = bool(run_dir.state.get("is_input_exhausted"))
        if result.stop is None:
            _, result.exit_code = state_and_exit_code(None, result.counts)
            result.state = "interrupted" if self._before == "running" else self._before
            self._has_enough = result.state == "halted" and run_dir.state.get("halted_by") == "enough"
            if result.exit_code == exit_codes.OK and result.state != "finished" and not self._has_enough:
                result.exit_code = exit_codes.BOUND  # the rest of the run is left for a resume

    def own_state(self, run: Run, result: RunResult) -> State:
        refused = {seq for seq in self._refused if seq not in self._counts.redone}
        state: dict[str, Any] = {
            "not_sent": sorted(self._not_sent.union(run.not_sent)),
            "refused": sorted(refused.union(run.refused)),
        }
        if self._has_enough:
            state["halted_by"] = "enough"
        return state if result.stop is not None else {**state, "redrive": None}

    def report(
        self, run_dir: RunDir, state: State, result: RunResult, cost: CostEstimate | None, did: Did
    ) -> RunReport:
        totals = SessionTotals("redrive", succeeded=did[0], failed=did[1])
        try:
            # One pass: which outcomes count is known. Statistics cannot give back those that no longer do.
            return RunReport.from_run_dir(
                run_dir.path, prices=self._prices, session=totals, superseded=self._counts.superseded
            )
        except JournalError:  # the directory has gone: what this session saw is all there is
            return report_of_stats(run_dir, state, result, cost, totals)
