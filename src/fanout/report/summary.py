"""The report of a run: its figures, and every way to show them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from fanout import exit_codes
from fanout.cost import CostEstimate, Prices, meter_of
from fanout.errors import JournalError, RecordsFailed
from fanout.journal import Superseded, iter_outcomes
from fanout.journal.lock import is_locked
from fanout.model import Outcome
from fanout.quantities import unix_s
from fanout.report.outcomes import SentTwice, read_blocks, read_latest_blocks, read_run
from fanout.report.totals import RunTotals, SessionTotals
from fanout.stats import Stats, read_timeline
from fanout.stats.story import stats_of_blocks
from fanout.stats.timeline import NAME as TIMELINE

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console, ConsoleOptions, RenderResult


class RunReport(RunTotals):
    """The results of a run: returned by ``fanout.run()``, and read from a run directory.

    Printed as text, as data, as a page, and in notebooks.
    """

    @classmethod
    def from_stats(
        cls,
        stats: Stats,
        meta: Mapping[str, Any],
        *,
        cost: CostEstimate | None = None,
        session: SessionTotals | None = None,
    ) -> Self:
        """The report of a run that was watched live. ``meta`` is run.json's, and ``run_dir``."""
        run = dict(meta)
        run_dir = run.pop("run_dir", None)
        return cls(stats, run, run_dir=None if run_dir is None else Path(run_dir), cost=cost, session=session)

    @classmethod
    def from_run_dir(
        cls,
        run_dir: str | os.PathLike[str],
        *,
        prices: dict[str, Prices] | None = None,
        session: SessionTotals | None = None,
        is_held_here: bool = False,
        superseded: Superseded | None = None,
    ) -> Self:
        """The report of a run on disk, streamed over its journal. Raises JournalError for what is no run.

        A run whose lock is held goes on, unless it is the caller who holds it (``is_held_here``). One whose
        records were sent again takes two passes, unless the caller knows which outcomes are ``superseded``.
        """
        run_dir = Path(run_dir)
        run = read_run(run_dir)
        if run.get("state") == "running" and (is_held_here or not is_locked(run_dir)):
            run = {**run, "state": "interrupted", "message": "its process was killed"}
        started_s = unix_s(str(run.get("started_at") or ""))
        meter = meter_of(run, prices)

        def told(blocks: Iterator[list[Outcome]]) -> Stats:
            return stats_of_blocks(blocks, read_timeline(run_dir / TIMELINE), started_s=started_s)

        stats = None
        if not run.get("generation"):
            with suppress(SentTwice):
                stats = told(meter.watch(read_blocks(run_dir)))
        if stats is None:  # what was sent again counts by its latest outcome, but was paid for each time
            meter = meter_of(run, prices)
            stats = told(read_latest_blocks(run_dir, meter.add_many, superseded=superseded))
        return cls(stats, run, run_dir=run_dir, cost=meter.estimate(), session=session)

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

    def to_arrow(self) -> pa.Table:
        """The latest outcome of each record as a row; ``output`` and ``input`` are JSON text.

        Needs the extra ``parquet``: raises ConfigError without it, and JournalError as ``outcomes``.
        """
        from fanout.report.arrow import to_arrow

        return to_arrow(self.outcomes())

    def raise_for_failures(self) -> None:
        """Raise RecordsFailed unless every record of the run succeeded, or those that were to be enough."""
        if self.ok or self.exit_code == exit_codes.OK:
            return
        kinds = [f"{count:,} {status}" for status, count in self.counts.items() if count]
        kinds += [f"{self.pending:,} pending"] if self.pending else []
        why = self.run.get("message")
        said = f"{self.function}: {self.state}, {', '.join(kinds) or 'no record'}"
        raise RecordsFailed(f"{said}: {why}" if why else said, self)

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
