"""How a run goes on: the records without an outcome (resume), or those that failed once more (redrive)."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Container, Sequence
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import anyio
import anyio.to_thread

from fanout.commands.audience import Audience
from fanout.commands.collect import collected, sources_of
from fanout.commands.history import History, read_history, spent
from fanout.commands.local import local_function
from fanout.commands.on_finish import conclude, upload_if_due
from fanout.commands.queue import (
    check_no_queue,
    check_queue_run,
    known_of,
    noted_messages,
    open_queue,
    queue_intake,
)
from fanout.commands.request import KEPT_ON_RESUME, RunOptions, is_batched
from fanout.commands.run_input import another_input, reopen_input
from fanout.commands.run_state import counts_of
from fanout.commands.start import RunSession, say_without_key
from fanout.commands.workers import uses_workers
from fanout.config import Options
from fanout.cost import CostMeter
from fanout.dispatcher import Dispatcher
from fanout.errors import ConfigError, JournalError
from fanout.inputs import Selector
from fanout.journal import Replay, RunDir, Samples, SeqSet, check_samples, replay, shell_word
from fanout.journal.windows import ranges_of
from fanout.model import Outcome
from fanout.queues import is_queue
from fanout.report.summary import RunReport
from fanout.runs import Intake, Redrive, RunResult, statuses_of
from fanout.runs.result import ending
from fanout.stats.replay import unix_s

MayHaveRun = Literal["send", "skip"]
Ask = Callable[[int], MayHaveRun]

_RUN_OPTIONS = frozenset(f.name for f in fields(RunOptions))


@dataclass(slots=True, kw_only=True)
class Changes:
    """What the person wants otherwise than in run.json, and what to do with records that may have run.

    ``ask`` is called with their number when nothing else decides; without it they are skipped.
    """

    options: dict[str, Any]  # the dispatcher's
    run_options: dict[str, Any]
    # From the environment or --config: they hold where run.json says nothing.
    fallback_options: dict[str, Any] = field(default_factory=dict)
    fallback_run_options: dict[str, Any] = field(default_factory=dict)
    may_have_run: MayHaveRun | None = None
    ask: Ask | None = None


class _Finished:
    """Records that have an outcome, but for those of the refusal that stopped the run: none of them ran."""

    def __init__(self, known: Replay, refused: frozenset[int]) -> None:
        self._finished = known.finished
        self._refused = refused

    def __contains__(self, seq: object) -> bool:
        return isinstance(seq, int) and seq in self._finished and seq not in self._refused


def _wanted_from(known: Replay, refused: frozenset[int]) -> Callable[[int], int]:
    """Finds the first record from a given one on that has no outcome, or one that is taken back."""
    again = sorted(refused)

    def wanted_from(seq: int) -> int:
        missing = known.finished.first_missing(seq)
        i = bisect_left(again, seq)
        return min(missing, again[i]) if i < len(again) else missing

    return wanted_from


class _Suspects:
    """Records that may have run before the run was cut off."""

    def __init__(self, known: Replay) -> None:
        self._known = known

    def __contains__(self, seq: object) -> bool:
        return isinstance(seq, int) and self._known.may_have_run(seq)


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
            audience.say(f"{path} is finished: there is nothing to resume")
            report, asked = RunReport.from_run_dir(path), _Asked(state, changes)
            await upload_if_due(report, asked.run_options, audience, asked.options, run_dir)
            return report
        if state.get("halted_by") == "enough" and "enough" not in changes.run_options:
            raise ConfigError(
                f"{path} stopped because enough records had succeeded: give another --enough, or --all"
            )
        asked = _Asked(state, changes)
        local = stack.enter_context(local_function(asked.function, asked.run_options, asked.options))
        options = {**asked.options, **local}
        redrive = state.get("redrive")
        if isinstance(redrive, dict):
            known = await anyio.to_thread.run_sync(_replay, path, changes)
            report = await _redrive(run_dir, known, redrive, asked, options, changes, audience)
            if run_dir.state.get("redrive") or run_dir.state.get("state") == "finished":
                return await conclude(
                    report, asked.run_options, audience, asked.options, run_dir
                )  # cut off again, or all done
        report = await _resume(run_dir, asked, options, changes, audience, payloads)
        return await conclude(report, asked.run_options, audience, asked.options, run_dir)


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
    run_dir = RunDir.open(path)
    with ExitStack() as stack:
        stack.enter_context(run_dir.lock())
        known = replay(path, accepts_lost_mark=changes.may_have_run is not None)
        state = run_dir.state
        cut_off = state.get("redrive") or {}
        generation = int(state.get("generation", 0)) + 1
        if cut_off:
            if _has_sent(known, generation - 1):
                command = f"fanout resume {shell_word(path)}"
                raise ConfigError(f"a redrive of {path} was cut off: go on with `{command}` first")
            generation -= 1  # nothing was sent in it: it begins again
        asked = _Asked(state, changes)
        filters = {
            "statuses": chosen,
            "error_types": sorted(error_types),
            # What is known of the run itself must outlive the redrive.
            "before": str(state.get("state")),
            "not_sent": state.get("not_sent") or [],
            "refused": state.get("refused") or [],
            **{name: cut_off[name] for name in ("before", "not_sent", "refused") if name in cut_off},
        }
        found = _redrivable(run_dir, chosen, error_types, generation, audience)
        if not len(found):
            audience.say(f"{path}: no record to send again among {', '.join(chosen)}")
            return RunReport.from_run_dir(path)
        local = stack.enter_context(local_function(asked.function, asked.run_options, asked.options))
        run_dir.begin_generation(generation, {"redrive": filters, "state": "running"})
        report = await _redrive(
            run_dir, known, filters, asked, {**asked.options, **local}, changes, audience, found=found
        )
        return await conclude(report, asked.run_options, audience, asked.options, run_dir)


def _redrivable(
    run_dir: RunDir,
    statuses: Collection[str],
    error_types: Collection[str],
    generation: int,
    audience: Audience,
) -> Redrive:
    """The records to send again. Of a queue only those whose message was deleted, when it was accepted.

    Raises ConfigError where all of them were left in their queue: there they are sent again.
    """
    location = (run_dir.state.get("input") or {}).get("location")
    found = Redrive(
        run_dir.path,
        statuses=statuses,
        error_types=error_types,
        before_generation=generation,
        collected_only=is_queue(location),
    )
    if not is_queue(location):
        return found
    all_of_them = Redrive(
        run_dir.path, statuses=statuses, error_types=error_types, before_generation=generation
    )
    left = len(all_of_them) - len(found)
    if left:
        command = f"fanout run {run_dir.state.get('function')} {location}"
        message = f"the messages of {left:,} records were left in {location}: run it again with `{command}`"
        if not len(found):
            raise ConfigError(message)
        audience.say(message)
    return found


def _takes_more(state: dict[str, Any], changes: Changes) -> bool:
    """Whether a finished run ended by its ``take``, and more is asked for now."""
    before = (state.get("options") or {}).get("take")
    now = changes.run_options.get("take")
    is_more = isinstance(before, int) and isinstance(now, int) and now > before
    return is_more and not state.get("is_input_exhausted")


def _check_take(state: dict[str, Any], take: int | None, known: Replay) -> None:
    """Raise ConfigError where ``take`` would now leave out records that were read already."""
    before = (state.get("options") or {}).get("take")
    if take is None or (isinstance(before, int) and take >= before):
        return
    read = max(int(state.get("records_read") or 0), known.mark, *(end for _, end in _windows_of(known)), 0)
    if take < read:
        raise ConfigError(
            f"take is {take}, and the first {read:,} records were read already: give --take {read} or more"
        )


def _windows_of(known: Replay) -> Sequence[tuple[int, int]]:
    return known.windows[0] if known.windows else ()


def _has_sent(known: Replay, generation: int) -> bool:
    """Whether anything may have been sent in this generation."""
    windows = known.windows or ()
    marked = generation < len(known.marks) and known.marks[generation] > 0
    marked = marked or (generation < len(windows) and bool(windows[generation]))
    return marked or (known.generation == generation and len(known.redone) > 0)


def _below(fallback: dict[str, Any]) -> dict[str, Any]:
    """What may come from elsewhere: nothing that changes what is sent, as the run has begun without it."""
    return {name: value for name, value in fallback.items() if name not in KEPT_ON_RESUME}


class _Asked:
    """Function and options of the run, as they were and as they are changed now."""

    def __init__(self, state: dict[str, Any], changes: Changes) -> None:
        function = state.get("function")
        kept = state.get("options")
        if not isinstance(function, str) or not isinstance(kept, dict):
            raise JournalError("run.json: is damaged: function or options are missing")
        for name, value in {**changes.options, **changes.run_options}.items():
            if name in KEPT_ON_RESUME and kept.get(name) != value:
                raise ConfigError(
                    f"{name} cannot be changed now, as it changes what is sent: it is {kept.get(name)!r}"
                )
        was_batched = is_batched(kept)
        if "batch" in changes.options and is_batched({**kept, **changes.options}) != was_batched:
            raise ConfigError(
                f"batch cannot be changed now, as it changes what is sent: it is {kept.get('batch')!r}"
            )
        self._state = state
        self.function = function
        below = _below(changes.fallback_options)
        below.pop("batch", None)  # as it may change what is sent
        self.options = {
            **below,
            **{
                name: value for name, value in kept.items() if name in Options.names() and name != "transport"
            },
            **changes.options,
        }
        self.transport = self.options.pop("transport", None) or kept.get("transport", "direct")
        if changes.run_options.get("scheduler") is not None:
            kept = {name: value for name, value in kept.items() if name != "workers"}
        self.run_options = RunOptions(
            **{
                **_below(changes.fallback_run_options),
                **{n: v for n, v in kept.items() if n in _RUN_OPTIONS},
                **changes.run_options,
            }
        )

    @property
    def starts_once(self) -> bool:
        """Whether what may have run has a name that brings it back: not after the retention."""
        days, started = self._state.get("durable_retention_days"), self._state.get("started_at")
        if not self.run_options.durable or not isinstance(days, int):
            return False
        return time.time() - unix_s(str(started or "")) < days * 86_400

    @property
    def is_idempotent(self) -> bool:
        return bool(self.options.get("idempotent"))


def _decide(count: int, asked: _Asked, changes: Changes) -> MayHaveRun:
    """What becomes of records that may have run."""
    if changes.may_have_run is not None:
        return changes.may_have_run
    if asked.is_idempotent or asked.starts_once or not count:
        return "send"
    return "skip" if changes.ask is None else changes.ask(count)


def _replay(path: Path, changes: Changes) -> Replay:
    return replay(path, accepts_lost_mark=changes.may_have_run is not None)


async def _resume(
    run_dir: RunDir,
    asked: _Asked,
    options: dict[str, Any],
    changes: Changes,
    audience: Audience,
    payloads: Any,
) -> RunReport:
    history = await anyio.to_thread.run_sync(
        partial(read_history, run_dir, accepts_lost_mark=changes.may_have_run is not None)
    )
    known = history.known
    _check_take(run_dir.state, asked.run_options.take, known)
    location = str((run_dir.state.get("input") or {}).get("location"))
    refused = frozenset(run_dir.state.get("refused") or ())
    has_queue = is_queue(location) and payloads is None
    if has_queue:
        check_queue_run(location, asked.options, asked.run_options)
        source = None
    else:
        check_no_queue(asked.run_options)
        source = None
        if payloads is None:
            wanted_from = _wanted_from(known, refused)
            source = reopen_input(run_dir, asked.options, say=audience.say, wanted_from=wanted_from)
    suspects: Container[int] = ()
    count = known.may_have_run_count
    noted = noted_messages(run_dir.path, known) if has_queue else None
    if noted is not None:
        count -= max(0, known.mark - noted)  # the mark is ahead of what there was to send
    decision = _decide(count, asked, changes)
    if known.is_mark_lost and decision == "skip":
        suspects = _Suspects(known)
    elif count:
        verb = "sent again" if decision == "send" else "not sent again: they become unknown"
        audience.say(f"{count:,} records may have run before the run was cut off; {verb}")
        if decision == "skip":
            suspects = _Suspects(known)
    is_planned = {"is_planned": False} if run_dir.state.get("is_planned") else {}  # a canary no more
    options_kept = run_dir.state.get("options") or {}
    for name in (
        "take",
        "enough",
        "results",
    ):  # which records are asked for: the next resume asks for the same
        if name in changes.run_options:
            options_kept = {**options_kept, name: changes.run_options[name]}
    if run_dir.has_windows or uses_workers(asked.run_options):
        run_dir.begin_windows(0, ranges_of(known.suspects()))
    run_dir.write_state({"state": "running", "finished_at": None, "options": options_kept, **is_planned})
    session = _ResumeSession(
        asked,
        options,
        audience,
        history=history,
        samples=check_samples(run_dir.path),
        location="" if source is None else source.location,
    )
    if noted is not None:
        settled = await known_of(
            run_dir.path, known, noted, skips_suspects=decision == "skip", refused=refused
        )
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(
                open_queue(location, function=asked.function, options=asked.options)
            )
            queue = await stack.enter_async_context(
                queue_intake(
                    client,
                    run_dir.path,
                    asked.run_options,
                    say=audience.say,
                    not_sent=lambda: session.run.not_sent,
                    settled=settled,
                    as_event=asked.options.get("batch_shape") == "sqs",
                    at_least=known.finished.max + 1,
                )
            )
            session.sync_listener = queue
            report = await session.go(queue, run_dir)
        return await _collected(report, run_dir, asked, audience)
    kept = asked.run_options
    selector = Selector(kept.key, kept.select, kept.durable_expr)
    intake = Intake(
        source=source,
        payloads=payloads,
        selector=selector,
        take=asked.run_options.take,
        skip=_Finished(known, refused),
        suspects=suspects,
        on_record=session.note_record,
        records_read_before=int(run_dir.state.get("records_read") or 0),
    )
    report = await session.go(intake, run_dir)
    say_without_key(selector, kept.key, audience)
    return await _collected(report, run_dir, asked, audience)


async def _collected(report: RunReport, run_dir: RunDir, asked: _Asked, audience: Audience) -> RunReport:
    """The report after the collection that the run asked for."""
    async with AsyncExitStack() as stack:
        sources = await sources_of(
            stack,
            asked.run_options,
            function=asked.function,
            out=run_dir.path,
            options=asked.options,
            audience=audience,
        )
        return await collected(report, run_dir, sources, audience)


async def _redrive(
    run_dir: RunDir,
    known: Replay,
    filters: dict[str, Any],
    asked: _Asked,
    options: dict[str, Any],
    changes: Changes,
    audience: Audience,
    *,
    found: Redrive | None = None,
) -> RunReport:
    generation = int(run_dir.state.get("generation", 0))
    if found is None:  # one that was cut off
        found = Redrive(
            run_dir.path,
            statuses=filters["statuses"],
            error_types=filters["error_types"],
            before_generation=generation,
            collected_only=is_queue((run_dir.state.get("input") or {}).get("location")),
        )
    suspects: Container[int] = ()
    allowed = _Allowed(known, generation)
    sent_before = [seq for seq in found.seqs if seq in allowed]
    if sent_before and _decide(len(sent_before), asked, changes) == "skip":
        suspects = allowed
    if run_dir.has_windows or uses_workers(asked.run_options):
        run_dir.begin_windows(generation, ranges_of(sent_before))
    run_dir.write_state({"state": "running", "finished_at": None})
    intake = Intake(
        again=found.records(suspects), records_read_before=int(run_dir.state.get("records_read") or 0)
    )
    meter = await anyio.to_thread.run_sync(spent, run_dir.path, run_dir)
    session = _RedriveSession(asked, options, audience, meter=meter, generation=generation, filters=filters)
    return await session.go(intake, run_dir)


class _Allowed:
    """Records that may have been sent in a generation, but for those known not to have run."""

    def __init__(self, known: Replay, generation: int) -> None:
        self._known = known
        self._generation = generation

    def __contains__(self, seq: object) -> bool:
        known = self._known
        return isinstance(seq, int) and known.was_allowed(self._generation, seq) and seq not in known.not_sent


class _LaterSession(RunSession):
    """A session of a run that began before: function, options and transport are those asked for then."""

    def __init__(
        self, asked: _Asked, options: dict[str, Any], audience: Audience, *, meter: CostMeter, **more: Any
    ) -> None:
        super().__init__(
            asked.function, options, asked.run_options, audience, transport=asked.transport, **more
        )
        self._meter_before = meter  # of what the run had spent when this session began

    def _on_started(self, dispatcher: Dispatcher) -> None:
        """What was spent before counts, in the summary and for the spending cap."""
        super()._on_started(dispatcher)
        assert self._meter is not None
        self._meter.carry_on(self._meter_before)


class _ResumeSession(_LaterSession):
    """Goes on with the input; a record that is not the one it was ends the run."""

    _verb = "resume"

    def __init__(
        self,
        asked: _Asked,
        options: dict[str, Any],
        audience: Audience,
        *,
        history: History,
        samples: Samples,
        location: str,
    ) -> None:
        super().__init__(asked, options, audience, meter=history.meter, stats=history.stats)
        self._refused_left = dict(history.refused)
        self._samples = samples
        self._location = location

    def note_record(self, seq: int, payload: bytes) -> None:
        if self._samples.differs(seq, payload):
            raise another_input(self._location, f"record {seq} is another")
        super().note_record(seq, payload)

    def _on_outcomes(self, outcomes: list[Outcome]) -> None:
        super()._on_outcomes(outcomes)
        if self._refused_left:
            for outcome in outcomes:
                self._refused_left.pop(outcome.seq, None)

    def _settle(self, run_dir: RunDir, result: RunResult) -> None:  # noqa: ARG002 - for redrives
        for status in self._refused_left.values():  # refused before, and not sent again
            result.counts[status] = result.counts.get(status, 0) + 1
        if result.stop is None:
            result.state, result.exit_code = ending(None, result.counts, 0, result.shortfalls)


class _RedriveSession(_LaterSession):
    """Sends records again; afterwards the run is as finished as it was before."""

    _verb = "redrive"

    def __init__(
        self,
        asked: _Asked,
        options: dict[str, Any],
        audience: Audience,
        *,
        meter: CostMeter,
        generation: int,
        filters: dict[str, Any],
    ) -> None:
        # What is enough, or slow, is said of a whole run, not of what is sent again.
        asked.run_options = replace(asked.run_options, enough=None, thresholds=(), threshold_abort=False)
        super().__init__(asked, options, audience, meter=meter, generation=generation)
        self._before = filters["before"]
        self._not_sent = frozenset(filters.get("not_sent") or ())
        self._refused = frozenset(filters.get("refused") or ())
        self._redone: SeqSet | None = None

    def _settle(self, run_dir: RunDir, result: RunResult) -> None:
        with suppress(JournalError):  # the directory has gone, and why has been told
            known = replay(run_dir.path)
            result.counts, self._redone = counts_of(known), known.redone
        result.is_input_exhausted = bool(run_dir.state.get("is_input_exhausted"))
        if result.stop is None:
            _, result.exit_code = ending(None, result.counts)
            result.state = "interrupted" if self._before == "running" else self._before

    def _own_state(self, result: RunResult) -> dict[str, Any]:
        redone = self._redone
        refused = {seq for seq in self._refused if redone is None or seq not in redone}
        state: dict[str, Any] = {
            "not_sent": sorted(self._not_sent.union(self.run.not_sent)),
            "refused": sorted(refused.union(self.run.refused)),
        }
        return state if result.stop is not None else {**state, "redrive": None}

    def _report_of(self, run_dir: RunDir, state: dict[str, Any], result: RunResult, cost: Any) -> RunReport:
        try:
            return RunReport.from_run_dir(run_dir.path, prices=self._prices, session=self._session())
        except JournalError:  # the directory has gone: what this session saw is all there is
            return super()._report_of(run_dir, state, result, cost)
