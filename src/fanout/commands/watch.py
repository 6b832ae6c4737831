"""A run that is followed from another process: its files are read as they grow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fanout.journal import RunDir, is_locked
from fanout.journal.listing import live_state
from fanout.model import STATUSES, Outcome
from fanout.quantities import unix_s
from fanout.report import RunReport
from fanout.report.outcomes import JournalTail
from fanout.stats import Snapshot
from fanout.stats.story import Story
from fanout.stats.timeline import NAME as TIMELINE
from fanout.stats.timeline import TimelineTail

STALE_S = 5.0  # a run that is alive writes a sample every second
_MOST_RECORDS = 200_000_000  # a byte each; of records past these, one sent again counts twice
_NUMBERS = {status: number for number, status in enumerate(STATUSES, 1)}


class Follower:
    """Follows the run in a directory. It writes nothing there, and ``look`` reads what is new.

    Raises JournalError for what is no run, and where the journal is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state: dict[str, Any] = RunDir.open(path).state
        self._tail = JournalTail(path)
        started_s = unix_s(str(self.state.get("started_at") or ""))
        self._story = Story(TimelineTail(path / TIMELINE), started_s=started_s, is_watched=True)
        self._statuses = bytearray()  # of each record with an outcome, so that one sent again counts once
        self._probed_at_s = 0.0

    def look(self, now_s: float) -> Snapshot:
        """The state of the run at a moment of Unix time."""
        for block in self._tail.read():
            self._take_back(block)
            self._story.tell(block)
        self._story.catch_up()
        stats, latest = self._story.stats, self._story.latest
        if latest is None:
            return stats.snapshot(now_s=now_s, in_flight=0, limit=None, cause="")
        return stats.snapshot(
            now_s=min(now_s, latest.t + 1.0),
            in_flight=latest.in_flight or 0,
            limit=latest.limit,
            cause=latest.cause or "",
            total=latest.total,
            fraction=latest.fraction,
            cost_usd=latest.cost_usd,
            draining=latest.draining,
            lingering=latest.lingering,
            linger_until=latest.linger_until,
            workers=latest.workers,
            more_workers=latest.more_workers,
        )

    def final(self) -> Snapshot:
        """The state in which a run ended, or was left, with the figures of its report."""
        report = RunReport.from_run_dir(self.path)
        snapshot = report.stats.snapshot(
            now_s=0.0,
            in_flight=0,
            limit=None,
            cause="",
            total=report.stats.done if report.state == "finished" else None,
            cost_usd=None if report.cost is None else report.cost.usd,
        )
        snapshot.eta_s = None
        snapshot.elapsed_s = report.elapsed_s
        snapshot.rate_now_per_s = snapshot.rate_mean_per_s = report.throughput_per_s
        snapshot.throttles, snapshot.retries = sum(report.throttles.values()), report.retries
        return snapshot

    def stand(self) -> str:
        """The state of the run: of one whose process is gone, interrupted."""
        return live_state(RunDir.open(self.path))

    def has_ended(self, now_s: float) -> bool:
        """True if nothing more will come: the run ended, or its process is gone."""
        self.state = RunDir.open(self.path).state
        if self.state.get("state") != "running":
            return True
        latest = self._story.latest
        is_fresh = latest is not None and now_s - latest.t < STALE_S
        if is_fresh or now_s - self._probed_at_s < STALE_S:
            return False
        self._probed_at_s = now_s
        return not is_locked(self.path)

    def _take_back(self, block: Sequence[Outcome]) -> None:
        """Uncount the outcome that a record had before it was sent again."""
        counts, statuses = self._story.stats.counts, self._statuses
        highest = max((outcome.seq for outcome in block), default=-1)
        if len(statuses) <= highest < _MOST_RECORDS:
            statuses.extend(bytes(highest + highest // 2 + 1000 - len(statuses)))
        known = len(statuses)
        for outcome in block:
            if outcome.seq < known:
                before = statuses[outcome.seq]
                if before:
                    counts[STATUSES[before - 1]] -= 1
                statuses[outcome.seq] = _NUMBERS[outcome.status]
