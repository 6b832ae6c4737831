"""The gauges of a run: snapshots for displays, samples for the timeline, and what holds calls back."""

from __future__ import annotations

from fanout.dispatcher import IntakeDispatcher, WorkerLoad
from fanout.dispatcher.feed import RunFeed
from fanout.runs.intake import RunIntake
from fanout.runs.ledger import Ledger
from fanout.runs.spending import Spending
from fanout.stats import Sample, Snapshot, Stats, TimelineWriter, WorkerPace

MOST_WORKERS = 8  # that a line of the timeline names


class Gauges:
    """Reads a run that goes on, and never changes it. Without ``feed`` it was stopped before it began."""

    def __init__(
        self,
        dispatcher: IntakeDispatcher,
        stats: Stats,
        *,
        intake: RunIntake,
        ledger: Ledger,
        feed: RunFeed | None,
        spending: Spending,
        timeline: TimelineWriter | None,
    ) -> None:
        self._dispatcher = dispatcher
        self._stats = stats
        self._intake = intake
        self._ledger = ledger
        self._feed = feed
        self._spending = spending
        self._timeline = timeline

    def snapshot(self, now_s: float, *, draining: bool) -> Snapshot:
        """The run as it stands. Unix time."""
        load, feed = self._dispatcher.load(), self._feed
        lingers_s = load.linger_until_s
        return self._stats.snapshot(
            now_s=now_s,
            in_flight=load.in_flight,
            limit=load.ceiling,
            cause=self.cause(),
            total=self._intake.records_expected,
            fraction=None if feed is None else self._intake.finished_share(feed.outstanding),
            cost_usd=self._spending.usd,
            draining=draining,
            lingering=load.lingering,
            linger_until=None if lingers_s is None else now_s + lingers_s - self._dispatcher.engine.clock(),
            workers=[_pace(each) for each in self._dispatcher.workers],
        )

    def sample(self, now_s: float, *, draining: bool) -> None:
        """Note the run as it stands, for its charts and for those who watch from elsewhere."""
        load = self._dispatcher.load()
        sample = self._stats.sample(
            now_s=now_s,
            in_flight=load.in_flight,
            limit=load.ceiling,
            cause=self.cause(),
            rate_per_s=load.rate_per_s,
        )
        if self._timeline is not None:
            _add_progress(sample, self.snapshot(now_s, draining=draining))
            self._timeline.append(sample)

    def cause(self) -> str:
        """The cause that holds calls back now: the limit's, rate, consumer or source."""
        load = self._dispatcher.load()
        engine = self._dispatcher.engine
        if engine.is_paused and not engine.is_closing:
            return "paused"
        if self._ledger.is_backed_up:
            return "consumer"
        if load.is_outage:
            return "outage"
        if load.in_flight + load.lingering >= load.ceiling:
            return load.cause
        is_paced = self._feed is not None and self._feed.is_queued if load.is_paced is None else load.is_paced
        if load.rate_per_s is not None and is_paced:
            return "rate"
        return "source"


def _add_progress(sample: Sample, seen: Snapshot) -> None:
    sample.total, sample.fraction, sample.cost_usd = seen.total, seen.fraction, seen.cost_usd
    sample.lingering, sample.linger_until = seen.lingering, seen.linger_until
    sample.draining = seen.draining
    at_work = [each for each in seen.workers if each.lost_records is None]
    sample.workers = at_work[:MOST_WORKERS]
    sample.more_workers = len(at_work) - len(sample.workers)


def _pace(worker: WorkerLoad) -> WorkerPace:
    lost_records = worker.lost_records if worker.is_lost else None
    return WorkerPace(worker.name, worker.in_flight, round(worker.per_s, 1), worker.records, lost_records)
