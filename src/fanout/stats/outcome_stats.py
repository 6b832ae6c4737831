"""Statistics of every outcome, within 1 µs a record and in memory that does not grow with the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from fanout.model import NEVER_RAN, OK_STATUSES, STATUSES, Outcome, PlainSums
from fanout.stats.clock import RunningClock
from fanout.stats.failures import FailureCluster, FailureClusters
from fanout.stats.latencies import Latencies
from fanout.stats.reservoir import (
    MOST_EXECUTIONS,
    MOST_SPECIAL,
    Execution,
    Reservoir,
    Slowest,
    execution,
)
from fanout.stats.series import Bin, Series
from fanout.stats.snapshot import Pace, Snapshot, WorkerPace
from fanout.stats.timeline import Sample

_COMMON_ATTEMPTS = 1


class Stats:
    """Everything the progress, the summary and the page show, fed live or from a journal.

    ``add_many`` is for outcomes that the journal has committed; each counts once. ``sample`` closes one
    bin of the run's course and is to be called about once a second, and once at the end. Times named
    ``now_s`` are Unix time; where it runs backwards it is taken to stand still. The *running time*
    is what elapsed in sessions: a pause between an interruption and its resumption has no length.
    """

    def __init__(self, *, started_s: float | None = None) -> None:
        self.counts: dict[str, int] = dict.fromkeys(STATUSES, 0)
        self.throttles: dict[str, int] = {}
        self.attempts: dict[int, int] = {}  # records by how many attempts they took
        self.copies = 0  # second attempts beside a late one
        self.carried = 0  # records that went out in another's call: calls are so many fewer than records
        self.unsent = 0  # others that were never sent
        self.outcome_throttles = 0  # 429s that finished records met, for a journal without a timeline
        self.cold_starts = 0
        self.init_ms = 0.0
        self.timed_out = 0
        self.billed_records = 0
        self.billed_ms = 0
        self.billed_mb_ms = 0
        self.max_memory_mb = 0
        self.limit_s = 0.0  # the limit, integrated over the time that samples cover
        self.max_in_flight = 0
        self.cause: str | None = None
        self.series = Series()
        self.latencies = Latencies()
        self._clusters = FailureClusters()
        self._slowest = Slowest()
        self._executions = Reservoir(MOST_EXECUTIONS)
        self._cold = Reservoir(MOST_SPECIAL, seed=1)
        self._bad = Reservoir(MOST_SPECIAL, seed=2)
        self._pace = Pace()
        self.clock = RunningClock(time.time() if started_s is None else started_s)
        self._bin_done = self._bin_failed = 0
        self._bin_throttles: dict[str, int] = {}
        self._session_throttles: dict[str, int] = {}  # when the session began

    def add(self, outcome: Outcome) -> None:
        """Count one committed outcome."""
        self.add_many((outcome,))

    def add_many(self, outcomes: Iterable[Outcome]) -> None:
        """Count committed outcomes, in order of finishing."""
        counts, slowest, sample = self.counts, self._slowest, self._executions
        floor_ms = slowest.floor_ms
        timed: list[float] = []
        billed_records = billed_ms = billed_mb_ms = 0
        max_memory_mb = self.max_memory_mb
        for outcome in outcomes:
            status = outcome.status
            counts[status] += 1
            attempts = outcome.attempts
            if outcome.copies:
                self.copies += outcome.copies
            if attempts != _COMMON_ATTEMPTS:
                self.attempts[attempts] = self.attempts.get(attempts, 0) + 1
            batch = outcome.batch
            if batch is not None and batch.index:
                # Its call was counted with the first of its records.
                self.carried += 1
                if status not in OK_STATUSES:
                    self._clusters.add(outcome)
                continue
            self.unsent += not (attempts or outcome.throttles)
            if outcome.throttles:
                self.outcome_throttles += outcome.throttles
            ms = outcome.duration_ms
            if ms is not None and status not in NEVER_RAN:
                timed.append(ms)
                if ms > floor_ms:
                    slowest.add(outcome, ms)
                    floor_ms = slowest.floor_ms
                if sample.skip:
                    sample.skip -= 1
                else:
                    sample.add(execution(outcome))
            billed = outcome.billed_ms
            if billed is not None:
                billed_records += 1
                billed_ms += billed
                billed_mb_ms += billed * (outcome.memory_mb or 0)
                used_mb = outcome.max_memory_mb
                if used_mb is not None and used_mb > max_memory_mb:
                    max_memory_mb = used_mb
            if outcome.init_ms is not None or outcome.restore_ms is not None:
                self._add_cold_start(outcome)
            if status not in OK_STATUSES:
                self.timed_out += outcome.timed_out
                self._clusters.add(outcome)
                _pick(self._bad, outcome)
        self.latencies.add_many(timed)
        self.billed_records += billed_records
        self.billed_ms += billed_ms
        self.billed_mb_ms += billed_mb_ms
        self.max_memory_mb = max_memory_mb

    def add_plain(
        self, sums: PlainSums, durations_ms: Sequence[float], outcome_at: Callable[[int], Outcome]
    ) -> None:
        """Count outcomes that succeeded at once, by their sums; ``outcome_at`` shows that of a duration."""
        for status, count in sums.counts.items():
            self.counts[status] += count
        self.billed_records += sums.billed
        self.billed_ms += sums.billed_ms
        self.billed_mb_ms += sums.billed_mb_ms
        self.max_memory_mb = max(self.max_memory_mb, sums.max_memory_mb)
        self.latencies.add_many(durations_ms)
        slowest, sample, count = self._slowest, self._executions, len(durations_ms)
        if count and max(durations_ms) > slowest.floor_ms:
            for place, ms in enumerate(durations_ms):
                if ms > slowest.floor_ms:
                    slowest.add(outcome_at(place), ms)
        place = sample.skip
        while place < count:
            sample.skip = 0
            sample.add(execution(outcome_at(place)))
            place += 1 + sample.skip
        sample.skip = place - count

    def _add_cold_start(self, outcome: Outcome) -> None:
        self.cold_starts += 1
        self.init_ms += (outcome.init_ms or 0.0) + (outcome.restore_ms or 0.0)
        _pick(self._cold, outcome)

    def note_throttle(self, reason: str) -> None:
        """Count one 429, whatever became of its record."""
        self.throttles[reason] = self.throttles.get(reason, 0) + 1

    def throttles_sampled(self) -> dict[str, int]:
        """The 429s up to the last sample, by reason."""
        return dict(self._bin_throttles)

    def begin_session(self, now_s: float) -> None:
        """Start, or go on after a pause: the time since the last sample does not count as running time."""
        self.clock.begin(now_s)
        self._session_throttles = dict(self.throttles)

    def sample(
        self,
        *,
        now_s: float,
        in_flight: int | None,
        limit: float | None,
        cause: str | None,
        rate_per_s: float | None = None,
    ) -> Sample:
        """Close the bin that is open with what holds now; returns the line for the timeline."""
        before_s = self.clock.now_s
        self.clock.tick(now_s)
        done, failed = self.done, self.failed
        throttles = {
            reason: count - self._bin_throttles.get(reason, 0)
            for reason, count in self.throttles.items()
            if count != self._bin_throttles.get(reason, 0)
        }
        self.series.add(
            Bin(
                start_s=before_s,
                end_s=self.clock.now_s,
                finished=done - self._bin_done,
                failed=failed - self._bin_failed,
                latencies=self.latencies.close_bin(),
                throttles=throttles,
                in_flight=in_flight,
                limit=limit,
                cause=cause,
                rate_per_s=rate_per_s,
            )
        )
        if limit is not None:
            self.limit_s += limit * (self.clock.now_s - before_s)
        self.max_in_flight = max(self.max_in_flight, in_flight or 0)
        self.cause = cause or self.cause
        self._bin_done, self._bin_failed = done, failed
        self._bin_throttles = dict(self.throttles)
        return Sample(
            t=round(now_s, 3),
            in_flight=in_flight,
            limit=limit,
            cause=cause,
            rate_per_s=rate_per_s,
            done=done,
            throttles=self.session_throttles(),
        )

    def session_throttles(self) -> dict[str, int]:
        """The 429s of this session up to the last sample, by reason."""
        before = self._session_throttles
        counts = {reason: count - before.get(reason, 0) for reason, count in self._bin_throttles.items()}
        return {reason: count for reason, count in counts.items() if count}

    @property
    def elapsed_s(self) -> float:
        """The running time up to the last sample."""
        return self.clock.now_s

    @property
    def done(self) -> int:
        """Records that have an outcome."""
        return sum(self.counts.values())

    @property
    def calls(self) -> int:
        """Calls that were sent, and whose records have outcomes: also those that were only throttled.

        Fewer than records where a call carried several, and where records were never sent.
        """
        return self.done - self.carried - self.unsent

    @property
    def throughput_per_s(self) -> float:
        """Records with an outcome per second of running time."""
        return self.done / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def share_of_limit(self) -> float | None:
        """Calls in flight on average, by Little's law, over the limit on average; None without a limit."""
        if self.limit_s <= 0:
            return None
        return min(1.0, self.latencies.sum_ms / 1000 / self.limit_s)

    @property
    def failed(self) -> int:
        """Records that did not succeed."""
        return self.done - sum(self.counts[status] for status in OK_STATUSES)

    @property
    def retries(self) -> int:
        """Attempts after a record's first; neither throttled ones nor copies of late ones."""
        later = sum((attempts - 1) * count for attempts, count in self.attempts.items() if attempts > 1)
        return max(0, later - self.copies)

    def attempts_taken(self) -> dict[int, int]:
        """The numbers of records that took 0, 1, 2 … attempts."""
        taken = {_COMMON_ATTEMPTS: self.done - sum(self.attempts.values()), **self.attempts}
        return {attempts: taken[attempts] for attempts in sorted(taken) if taken[attempts]}

    def latency_ms(self) -> dict[str, float]:
        """p50, p90, p95, p99 (each within 0.5 %), and max, mean and count, which are exact.

        Of each record that reached the function, its last attempt as the client saw it.
        """
        return self.latencies.summary()

    @property
    def billed_gb_s(self) -> float:
        """The GB-seconds billed by REPORT lines; of ``billed_records`` records only."""
        return self.billed_mb_ms / 1024 / 1000

    def failures(self, most: int | None = None) -> list[FailureCluster]:
        """The clusters of failures, the largest first."""
        return self._clusters.top(most)

    def slowest(self) -> list[Execution]:
        """The longest executions, the longest first."""
        return self._slowest.listed()

    def executions(self) -> list[Execution]:
        """A fair sample of all executions, and one of cold starts and of failures each, by ``seq``."""
        samples = (self._executions, self._cold, self._bad)
        held = {picked.seq: picked for sample in samples for picked in sample.held}
        return [held[seq] for seq in sorted(held)]

    def snapshot(
        self,
        *,
        now_s: float,
        in_flight: int,
        limit: float | None,
        cause: str,
        total: int | None = None,
        fraction: float | None = None,
        cost_usd: float | None = None,
        draining: bool = False,
        lingering: int = 0,
        linger_until: float | None = None,
        workers: Sequence[WorkerPace] = (),
        more_workers: int = 0,
    ) -> Snapshot:
        """The state of the run now. ``fraction`` (0 … 1) is of use where the total is not known."""
        done, elapsed_s = self.done, self.clock.at(now_s)
        self._pace.note(now_s, done)
        if total:
            fraction = min(done / total, 1.0)
        rate_now_per_s = self._pace.per_s(5.0)
        stands_still = cause == "paused" or (self._pace.is_known and not rate_now_per_s)
        mean_per_s = done / elapsed_s if elapsed_s > 0 else 0.0
        p50, p95, p99 = self.latencies.quantiles_ms((0.5, 0.95, 0.99))
        return Snapshot(
            elapsed_s=elapsed_s,
            done=done,
            calls=self.calls,
            total=total,
            fraction=fraction,
            counts=dict(self.counts),
            in_flight=in_flight,
            limit=limit,
            cause=cause,
            rate_now_per_s=rate_now_per_s if self._pace.is_known else mean_per_s,
            rate_mean_per_s=mean_per_s,
            eta_s=None if stands_still else self._pace.eta_s(done, fraction),
            throttles=sum(self.throttles.values()),
            retries=self.retries,
            p50_ms=p50,
            p95_ms=p95,
            p99_ms=p99,
            cost_usd=cost_usd,
            draining=draining,
            lingering=lingering,
            linger_until=linger_until,
            workers=list(workers),
            more_workers=more_workers,
        )


def _pick(sample: Reservoir, outcome: Outcome) -> None:
    if sample.skip:
        sample.skip -= 1
    elif outcome.duration_ms is not None:
        sample.add(execution(outcome))
