"""What a run came to, as figures: the report that ``fanout.run()`` returns and every summary draws."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from fanout.cost import CostEstimate, Prices, meter_of
from fanout.errors import JournalError
from fanout.journal import iter_outcomes
from fanout.model import Outcome
from fanout.stats import Execution, FailureCluster, Stats, read_timeline, replay
from fanout.stats.replay import unix_s
from fanout.stats.timeline import NAME as TIMELINE

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

_EXIT_CODES = {"halted": 3, "fatal": 4, "interrupted": 130, "running": 130}


class RunReport:
    """What became of a run.

    ``run`` is what ``run.json`` says; ``stats`` is kept, in bounded memory, so that a page can be
    drawn without reading the journal again. Counts are of final outcomes; ``pending`` records have
    none yet.
    """

    def __init__(
        self,
        stats: Stats,
        run: Mapping[str, Any],
        *,
        run_dir: Path | None = None,
        cost: CostEstimate | None = None,
    ) -> None:
        self.stats = stats
        self.run = dict(run)
        self.run_dir = run_dir
        self.cost = cost
        self.function: str = str(run.get("function") or "")
        self.state: str = str(run.get("state") or "finished")
        self.counts: dict[str, int] = dict(stats.counts)
        self.records: int = max(_count(run.get("records_read")), stats.done)
        self.pending: int = self.records - stats.done
        self.elapsed_s: float = stats.elapsed_s
        self.throughput_per_s: float = stats.done / self.elapsed_s if self.elapsed_s > 0 else 0.0
        self.share_of_limit: float | None = _share(stats)
        self.latency_ms: dict[str, float] = stats.latency_ms()
        self.throttles: dict[str, int] = dict(stats.throttles)
        self.retries: int = stats.retries
        self.cold_starts: int = stats.cold_starts
        self.failures: list[FailureCluster] = stats.failures()
        self.slowest: list[Execution] = stats.slowest()
        self.halted_by: str | None = run.get("halted_by") or None
        self.ok: bool = self.state == "finished" and not stats.failed and not self.pending
        self.exit_code: int = self._exit_code()

    @classmethod
    def from_stats(cls, stats: Stats, meta: Mapping[str, Any], *, cost: CostEstimate | None = None) -> Self:
        """The report of a run that was watched live. ``meta`` is run.json's, and ``run_dir``."""
        run = dict(meta)
        run_dir = run.pop("run_dir", None)
        return cls(stats, run, run_dir=None if run_dir is None else Path(run_dir), cost=cost)

    @classmethod
    def from_run_dir(
        cls, run_dir: str | os.PathLike[str], *, prices: dict[str, Prices] | None = None
    ) -> Self:
        """The report of a run on disk, streamed over its journal. Raises JournalError for what is no run."""
        from fanout.report.outcomes import read_outcomes, read_run

        run_dir = Path(run_dir)
        run = read_run(run_dir)
        meter = meter_of(run, prices)
        outcomes = read_outcomes(run_dir)
        if run.get("generation"):
            # What was sent again counts by its latest outcome, but was paid for each time.
            for outcome in read_outcomes(run_dir, latest=False):
                meter.add(outcome)
        else:
            outcomes = meter.watch(outcomes)
        stats = replay(
            outcomes,
            read_timeline(run_dir / TIMELINE),
            started_s=unix_s(str(run.get("started_at") or "")),
        )
        return cls(stats, run, run_dir=run_dir, cost=meter.estimate())

    def _exit_code(self) -> int:
        known = self.run.get("exit_code")
        if isinstance(known, int):
            return known
        if self.state == "finished":
            return 0 if self.ok else 1
        return _EXIT_CODES.get(self.state, 1)

    @property
    def invocation_type(self) -> str:
        """RequestResponse, Event or DryRun."""
        return str((self.run.get("options") or {}).get("invocation_type") or "RequestResponse")

    @property
    def resume_command(self) -> str | None:
        """What goes on with the run; None when it is over or left nothing on disk."""
        if self.run_dir is None or (self.state == "finished" and not self.pending):
            return None
        return f"fanout resume {self._quoted_dir}"

    @property
    def next_commands(self) -> list[str]:
        """What there is to do next, ready to be pasted into a shell."""
        if self.run_dir is None:
            return []
        quoted = self._quoted_dir
        commands = [] if self.resume_command is None else [self.resume_command]
        if self.stats.failed:
            commands += [f"fanout redrive {quoted}", f"fanout export {quoted} --status failed"]
        return [*commands, f"fanout report {quoted} --html"]

    @property
    def _quoted_dir(self) -> str:
        text = os.fspath(self.run_dir or "")
        return shlex.quote(f"./{text}" if text.startswith("-") else text)

    def to_dict(self) -> dict[str, Any]:
        """The whole summary as JSON data, as ``--json`` prints it."""
        return {
            "function": self.function,
            "state": self.state,
            "ok": self.ok,
            "exit_code": self.exit_code,
            "halted_by": self.halted_by,
            "records": self.records,
            "pending": self.pending,
            "counts": self.counts,
            "elapsed_s": round(self.elapsed_s, 3),
            "throughput_per_s": round(self.throughput_per_s, 3),
            "share_of_limit": None if self.share_of_limit is None else round(self.share_of_limit, 4),
            "latency_ms": {name: round(value, 3) for name, value in self.latency_ms.items()},
            "throttles": self.throttles,
            "retries": self.retries,
            "attempts": {str(attempts): count for attempts, count in self.stats.attempts_taken().items()},
            "cold_starts": self.cold_starts,
            "billed_gb_s": round(self.stats.billed_gb_s, 6) if self.stats.billed_records else None,
            "cost": msgspec.to_builtins(self.cost),
            "failures": msgspec.to_builtins(self.failures),
            "slowest": msgspec.to_builtins(self.slowest),
            "run_dir": None if self.run_dir is None else os.fspath(self.run_dir),
            "resume_command": self.resume_command,
            "next_commands": self.next_commands,
        }

    def render(self, width: int = 80, *, color: bool = False) -> str:
        """The summary as ten to twenty lines of text, each at most ``width`` columns but for commands."""
        from fanout.report.terminal import render

        return render(self, width, color)

    def outcomes(self) -> Iterator[Outcome]:
        """The latest outcome of each record, in order of finishing, read from the run directory.

        Raises JournalError when the journal cannot be read; nothing is kept without a run directory.
        """
        if self.run_dir is None:
            raise JournalError("the run was not kept: give fanout.run(…, out=DIR), or use on_outcome")
        return iter_outcomes(self.run_dir)

    def write_html(self, path: str | os.PathLike[str]) -> None:
        """Write the whole report as one page that needs nothing but a browser."""
        from fanout.report.html import write_html

        write_html(self, Path(path))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from fanout.report.terminal import lines

        yield from lines(self, options.max_width)

    def _repr_html_(self) -> str:
        from fanout.report.fragments import summary_table

        return summary_table(self)

    def __repr__(self) -> str:
        counts = ", ".join(f"{status}={count}" for status, count in self._counted())
        return f"RunReport({self.function!r}, {self.state}, {counts or 'no records'}, {self.elapsed_s:.1f} s)"

    def _counted(self) -> Iterator[tuple[str, int]]:
        return ((status, count) for status, count in self.counts.items() if count)


def _share(stats: Stats) -> float | None:
    # Little's law: calls in flight on average, over the limit on average.
    if stats.limit_s <= 0:
        return None
    return min(1.0, stats.latencies.sum_ms / 1000 / stats.limit_s)


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0
