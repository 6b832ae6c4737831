"""The course of a run in bounded memory: a bin for each look, merged in pairs as the run grows."""

from __future__ import annotations

import msgspec

from fanout.stats.histogram import Compact, merged, quantiles

MOST_BINS = 600
LEAST_BIN_S = 0.1


class Bin(msgspec.Struct, kw_only=True):
    """The events from ``start_s`` to ``end_s`` of the run's running time (0 is its start).

    ``in_flight`` and ``limit`` are means over the bin's samples, None in bins without samples.
    """

    start_s: float
    end_s: float
    finished: int
    failed: int
    latencies: Compact
    throttles: dict[str, int]
    in_flight: float | None = None
    limit: float | None = None
    cause: str | None = None
    rate_per_s: float | None = None

    def percentiles_ms(self) -> list[float]:
        """p50, p95 and p99; zeros when nothing was timed."""
        return quantiles(zip(*self.latencies, strict=True), sum(self.latencies[1]), (0.5, 0.95, 0.99))


class Series:
    """The bins, oldest first. Their width doubles whenever there would be more than ``MOST_BINS``.

    At first bins are as wide as looks are apart, from ``LEAST_BIN_S`` on.
    """

    def __init__(self) -> None:
        self.width_s = LEAST_BIN_S
        self.bins: list[Bin] = []

    def add(self, new: Bin) -> None:
        """Append a bin, or widen the last one by it while that is narrower than the width."""
        # A tenth of slack: samples come about once a second, some a little early.
        if self.bins and self.bins[-1].end_s - self.bins[-1].start_s < self.width_s * 0.9:
            self.bins[-1] = joined(self.bins[-1], new)
            return
        if len(self.bins) >= MOST_BINS:
            self.bins = [joined(*self.bins[i : i + 2]) for i in range(0, MOST_BINS, 2)]
            # As wide as those that are there: looks may come further apart than the width.
            self.width_s = (self.bins[-1].end_s - self.bins[0].start_s) / len(self.bins)
        self.bins.append(new)


def joined(one: Bin, other: Bin) -> Bin:
    """Two neighbouring bins as one."""
    throttles = dict(one.throttles)
    for reason, count in other.throttles.items():
        throttles[reason] = throttles.get(reason, 0) + count
    one_s, other_s = one.end_s - one.start_s, other.end_s - other.start_s
    return Bin(
        start_s=one.start_s,
        end_s=other.end_s,
        finished=one.finished + other.finished,
        failed=one.failed + other.failed,
        latencies=merged(one.latencies, other.latencies),
        throttles=throttles,
        in_flight=_mean(one.in_flight, one_s, other.in_flight, other_s),
        limit=_mean(one.limit, one_s, other.limit, other_s),
        cause=other.cause or one.cause,
        rate_per_s=_mean(one.rate_per_s, one_s, other.rate_per_s, other_s),
    )


def _mean(one: float | None, one_s: float, other: float | None, other_s: float) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    span_s = one_s + other_s
    return (one * one_s + other * other_s) / span_s if span_s > 0 else other
