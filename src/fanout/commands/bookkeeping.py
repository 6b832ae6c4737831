"""The bookkeeping of a session: what it adds to the counts, the state and the report of its run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from fanout.cost import CostEstimate
from fanout.journal import RunDir, SeqSet
from fanout.model import Outcome
from fanout.report.summary import RunReport
from fanout.report.totals import SessionTotals
from fanout.runs import Run, RunResult
from fanout.stats import Stats

State = Mapping[str, Any]  # members of run.json
Did = tuple[int, int]  # records that ended well in this session, and that did not


class Bookkeeping(Protocol):
    """The part of a session in which a new run, a resume and a redrive differ.

    ``stats`` go on from what is known of the run. ``finished``: the records with an outcome before this
    session; None where any of them was sent more than once.
    """

    generation: int
    stats: Stats
    finished: SeqSet | None

    def hear(self, outcomes: Sequence[Outcome]) -> None:
        """Outcomes of this session were committed."""

    def counts(self, run_dir: RunDir) -> dict[str, int]:
        """The latest outcomes of the whole run by status, as its journal has them."""
        ...

    def settle(self, run_dir: RunDir, result: RunResult) -> None:
        """Set state and counts right where the directory knows of more records than this session."""

    def own_state(self, run: Run, result: RunResult) -> State:
        """Further members of run.json at the end."""
        ...

    def report(
        self, run_dir: RunDir, state: State, result: RunResult, cost: CostEstimate | None, did: Did
    ) -> RunReport:
        """The report of the whole run."""
        ...


class FirstSession:
    """A run that begins; or its canary, which leaves a run that goes on, as if interrupted."""

    generation = 0

    def __init__(self, *, records_planned: int | None = None) -> None:
        self.stats = Stats()
        self.finished: SeqSet | None = SeqSet()
        self._records_planned = records_planned

    def hear(self, outcomes: Sequence[Outcome]) -> None:
        """Nothing is known of the run but what this session sees."""

    def counts(self, run_dir: RunDir) -> dict[str, int]:  # noqa: ARG002 - all was watched
        return counted(self.stats)

    def settle(self, run_dir: RunDir, result: RunResult) -> None:
        """Nothing is to be set right."""

    def own_state(self, run: Run, result: RunResult) -> State:  # noqa: ARG002 - for redrives
        planned = self._records_planned
        if planned is None or result.stop is not None:
            return {}
        is_whole = result.records_read >= planned
        return {"is_planned": False} if is_whole else {"state": "interrupted"}

    def report(
        self,
        run_dir: RunDir,
        state: State,
        result: RunResult,
        cost: CostEstimate | None,
        did: Did,  # noqa: ARG002 - all that was done
    ) -> RunReport:
        return report_of_stats(run_dir, state, result, cost)


def counted(stats: Stats) -> dict[str, int]:
    """Counts by status, without zeros."""
    return {status: count for status, count in stats.counts.items() if count}


def report_of_stats(
    run_dir: RunDir,
    state: State,
    result: RunResult,
    cost: CostEstimate | None,
    did: SessionTotals | None = None,
) -> RunReport:
    """The report by what was watched live."""
    return RunReport.from_stats(result.stats, {**state, "run_dir": str(run_dir.path)}, cost=cost, session=did)
