"""The verb ``resume``: a run goes on with the records that have no outcome yet."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Container, Sequence
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread

from fanout.commands.bookkeeping import Did, State, counted, report_of_stats
from fanout.commands.changes import Ask, Changes, MayHaveRun, changed_options
from fanout.commands.checks import check_durable, check_no_queue, check_options
from fanout.commands.collect import collected
from fanout.commands.history import History, read_history
from fanout.commands.local import local_function
from fanout.commands.on_finish import conclude, upload_if_due
from fanout.commands.options import RunOptions, kept_in
from fanout.commands.queue import (
    check_queue_run,
    noted_messages,
    open_queue,
    queue_intake,
    settled_with,
)
from fanout.commands.recorded_input import location_of
from fanout.commands.redrive import go_on_redriving
from fanout.commands.result_sources import sources_of
from fanout.commands.run_input import DialectNote, another_input, reopen_input
from fanout.commands.run_state import records_read
from fanout.commands.session import RunSession
from fanout.commands.start import say_without_key
from fanout.cost import CostEstimate
from fanout.errors import ConfigError
from fanout.journal import Replay, RunDir, check_samples
from fanout.journal.seqs import runs_of
from fanout.model import Outcome
from fanout.quantities import count_of
from fanout.queues import is_queue
from fanout.report.summary import RunReport
from fanout.report.totals import SessionTotals
from fanout.runs import Intake, Run, RunResult, Spending
from fanout.runs.audience import Audience
from fanout.runs.result import state_and_exit_code

__all__ = ["Ask", "Changes", "MayHaveRun", "resume"]


async def resume(path: Path, changes: Changes, audience: Audience, *, payloads: Any = None) -> RunReport:
    """Send every record that has no outcome yet. A finished run is left as it is.

    ``payloads``: the same iterable again, where the records came from a program.

    Raises JournalError for what is no run or is in use, SourceError when the input is not the same,
    ConfigError for options that cannot be changed.
    """
    run_dir = RunDir.open(path)
    with ExitStack() as stack:
        stack.enter_context(run_dir.lock())
        state = run_dir.state
        if state.get("state") == "finished" and not _takes_more(state, changes):
            options = changed_options(state, changes)
            audience.say(f"{path} is finished: there is nothing to resume")
            report = RunReport.from_run_dir(path)
            await upload_if_due(report, options, audience, run_dir)
            return report
        if state.get("halted_by") == "enough" and "enough" not in changes.given:
            raise ConfigError(
                f"{path} stopped because enough records had succeeded: give another --enough, or --all"
            )
        options = changed_options(state, changes)
        check_options(options)
        check_durable(options, path)
        local = stack.enter_context(local_function(options))
        if isinstance(state.get("redrive"), dict):
            report = await go_on_redriving(run_dir, options, local, changes, audience)
            if run_dir.state.get("redrive") or run_dir.state.get("state") == "finished":
                return await conclude(report, options, audience, run_dir)  # cut off again, or all done
        report = await _Resume(run_dir, options, local, changes, audience).go(payloads)
        return await conclude(report, options, audience, run_dir)


def _takes_more(state: State, changes: Changes) -> bool:
    """True if a finished run ended by its ``take``, and more is asked for now."""
    before, now = kept_in(state)[1].get("take"), changes.given.get("take")
    is_more = isinstance(before, int) and isinstance(now, int) and now > before
    return is_more and not state.get("is_input_exhausted")


def _check_take(state: State, take: int | None, known: Replay) -> None:
    """Raise ConfigError where ``take`` would now leave out records that were read already."""
    before = kept_in(state)[1].get("take")
    if take is None or (isinstance(before, int) and take >= before):
        return
    windows = known.windows[0] if known.windows else ()
    read = max(records_read(state, known), known.mark, *(end for _, end in windows), 0)
    if take < read:
        raise ConfigError(
            f"take is {take}, and the first {read:,} records were read already: give --take {read} or more"
        )


class _Resume:
    """One resume of a locked run. ``local`` are the options with the emulator of ``--local``."""

    def __init__(
        self, run_dir: RunDir, options: RunOptions, local: RunOptions, changes: Changes, audience: Audience
    ) -> None:
        self._run_dir = run_dir
        self._options = options
        self._local = local
        self._changes = changes
        self._audience = audience
        self._location = location_of(run_dir.state) or ""

    async def go(self, payloads: Any) -> RunReport:
        reads_queue = is_queue(self._location) and payloads is None
        read = partial(read_history, self._run_dir, wants_endings=reads_queue)
        history = await anyio.to_thread.run_sync(
            partial(read, accepts_lost_mark=self._changes.accepts_lost_mark)
        )
        _check_take(self._run_dir.state, self._options.take, history.known)
        if reads_queue:
            check_queue_run(self._location, self._options)
            return await self._go_on_with_queue(history)
        check_no_queue(self._options)
        return await self._go_on_with_input(history, payloads)

    async def _go_on_with_input(self, history: History, payloads: Any) -> RunReport:
        run_dir, options, known = self._run_dir, self._options, history.known
        refused = self._refused
        source, reading = None, options.reading(samples=True)
        if payloads is None:
            wanted_from = _wanted_from(known, refused)
            note = DialectNote(run_dir)
            source = reopen_input(
                run_dir,
                options,
                say=self._audience.say,
                wanted_from=wanted_from,
                note=note,
                by_rows=reading is not None,
            )
        skips_suspects = self._skips_suspects(known, known.may_have_run_count)
        selector = options.selector()
        samples, location = check_samples(run_dir.path), "" if source is None else source.location
        self._begin(known)
        session = self._session(history)

        def note_record(seq: int, payload: bytes) -> None:
            if samples.differs(seq, payload):
                raise another_input(location, f"record {seq} is another")
            session.note_record(seq, payload)

        intake = Intake(
            source=source,
            payloads=payloads,
            selector=selector,
            take=options.take,
            skip=_Finished(known, refused),
            suspects=_Suspects(known) if skips_suspects else (),
            on_record=note_record,
            records_read_before=records_read(run_dir.state, known),
            reading=reading,
        )
        report = await session.go(intake)
        say_without_key(selector, options.key, self._audience)
        return await self._collected(report)

    async def _go_on_with_queue(self, history: History) -> RunReport:
        run_dir, options, known = self._run_dir, self._options, history.known
        noted = noted_messages(run_dir.path, known)
        # The mark is ahead of what there was to send.
        count = known.may_have_run_count - max(0, known.mark - noted)
        skips_suspects = self._skips_suspects(known, count)
        self._begin(known)
        settled = settled_with(history.settled, known, noted, skips_suspects=skips_suspects)
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(open_queue(self._location, options))
            intake = await stack.enter_async_context(
                queue_intake(
                    client,
                    run_dir.path,
                    options,
                    say=self._audience.say,
                    settled=settled,
                    at_least=known.finished.max + 1,
                )
            )
            session = self._session(history, intake)
            try:
                report = await session.go(intake)
            finally:
                intake.release(session.not_sent)
        return await self._collected(report)

    @property
    def _refused(self) -> frozenset[int]:
        return frozenset(self._run_dir.state.get("refused") or ())

    def _skips_suspects(self, known: Replay, count: int) -> bool:
        """Decide whether records that may have run are given up, and say so."""
        skips = self._changes.decide(count, self._options, self._run_dir.state) == "skip"
        if count and not (known.is_mark_lost and skips):
            verb = "not sent again: they become unknown" if skips else "sent again"
            self._audience.say(f"{count_of(count, 'record')} may have run before the run was cut off; {verb}")
        return skips and (count > 0 or known.is_mark_lost)

    def _begin(self, known: Replay) -> None:
        """run.json says that the run goes on, and with what."""
        run_dir, given = self._run_dir, self._changes.given
        kept = {**(run_dir.state.get("options") or {})}
        if "take" in given:  # which records are asked for: the next resume asks for the same
            kept["take"] = given["take"]
        if "enough" in given:
            kept["enough"] = given["enough"]
        if "results" in given:
            kept["results"] = given["results"]
        self._audience.heed_signals(run_dir.path)
        if run_dir.has_windows or self._options.uses_workers:
            run_dir.begin_windows(0, runs_of(list(known.suspects())))
        is_planned = {"is_planned": False} if run_dir.state.get("is_planned") else {}  # a canary no more
        named: dict[str, object] = {"name": given["name"]} if "name" in given else {}
        if "label" in given:
            named["labels"] = self._options.label_map()
        run_dir.write_state({"state": "running", "finished_at": None, "options": kept, **is_planned, **named})

    def _session(self, history: History, intake: Any = None) -> RunSession:
        return RunSession(
            self._local,
            self._audience,
            _ResumeSession(history),
            spending=Spending(self._options.price_table(), before=history.meter),
            run_dir=self._run_dir,
            sync_listener=intake,
        )

    async def _collected(self, report: RunReport) -> RunReport:
        """The report after the collection that the run asked for."""
        run_dir, audience = self._run_dir, self._audience
        async with AsyncExitStack() as stack:
            sources = await sources_of(stack, self._options, out=run_dir.path, audience=audience)
            return await collected(report, run_dir, self._options, sources, audience)


class _ResumeSession:
    """Goes on from what is known; records refused before and not sent again count as they were."""

    generation = 0

    def __init__(self, history: History) -> None:
        self.stats = history.stats
        self.finished = history.known.finished if history.is_sent_once else None
        self._refused_left = dict(history.refused)

    def hear(self, outcomes: Sequence[Outcome]) -> None:
        if self._refused_left:
            for outcome in outcomes:
                self._refused_left.pop(outcome.seq, None)

    def counts(self, run_dir: RunDir) -> dict[str, int]:  # noqa: ARG002 - for redrives
        counts = counted(self.stats)
        for status in self._refused_left.values():
            counts[status] = counts.get(status, 0) + 1
        return counts

    def settle(self, run_dir: RunDir, result: RunResult) -> None:
        result.counts = self.counts(run_dir)
        if result.stop is None:
            result.state, result.exit_code = state_and_exit_code(None, result.counts, 0, result.shortfalls)

    def own_state(self, run: Run, result: RunResult) -> State:  # noqa: ARG002 - for redrives
        return {}

    def report(
        self, run_dir: RunDir, state: State, result: RunResult, cost: CostEstimate | None, did: Did
    ) -> RunReport:
        succeeded, failed = did
        totals = SessionTotals("resume", succeeded=succeeded, failed=failed)
        return report_of_stats(run_dir, state, result, cost, totals)


class _Finished:
    """Records that have an outcome, but for those of the refusal that stopped the run: none of them ran."""

    def __init__(self, known: Replay, refused: frozenset[int]) -> None:
        self._finished = known.finished
        self._refused = refused

    def __contains__(self, seq: object) -> bool:
        return isinstance(seq, int) and seq in self._finished and seq not in self._refused


class _Suspects(Container[int]):
    """Records that may have run before the run was cut off."""

    def __init__(self, known: Replay) -> None:
        self._known = known

    def __contains__(self, seq: object) -> bool:
        return isinstance(seq, int) and self._known.may_have_run(seq)


def _wanted_from(known: Replay, refused: frozenset[int]) -> Callable[[int], int]:
    """Finds the first record from a given one on that has no outcome, or one that is taken back."""
    again = sorted(refused)

    def wanted_from(seq: int) -> int:
        missing = known.finished.first_missing(seq)
        i = bisect_left(again, seq)
        return min(missing, again[i]) if i < len(again) else missing

    return wanted_from
