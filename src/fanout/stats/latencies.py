"""Latencies of calls: of all of them, and of those since the last look, in one histogram each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from math import log

from fanout.stats.histogram import LEAST_MS, MOST_MS, OFFSET, SCALE, SIZE, Compact, compact, quantiles

_EMPTY = [0] * SIZE
_MANY = 16  # for fewer, putting them together costs more than it spares


class Latencies:
    """Milliseconds. ``add_many`` is on the hot path.

    ``count``, ``sum_ms``, ``least_ms``, ``most_ms`` are exact.
    """

    __slots__ = (
        "_closed",
        "_open",
        "_open_least_ms",
        "_open_most_ms",
        "count",
        "least_ms",
        "most_ms",
        "sum_ms",
    )

    def __init__(self) -> None:
        self.count = 0
        self.sum_ms = 0.0
        self.least_ms = float("inf")
        self.most_ms = 0.0
        self.restore(list(_EMPTY), list(_EMPTY))

    def restore(self, closed: list[int], opened: list[int]) -> None:
        """Go on with these counts, of all before the last look and of those since; the extremes are set."""
        self._closed, self._open = closed, opened
        is_empty = not any(opened)
        self._open_least_ms = float("inf") if is_empty else self.least_ms
        self._open_most_ms = 0.0 if is_empty else self.most_ms

    def add_many(self, latencies_ms: Sequence[float]) -> None:
        """Take several; the same as taking each, in less time."""
        if len(latencies_ms) < _MANY:
            self._add_each(latencies_ms)
            return
        least_ms, most_ms = min(latencies_ms), max(latencies_ms)
        if not LEAST_MS < least_ms <= most_ms < MOST_MS:
            self._add_each(latencies_ms)
            return
        buckets = self._open
        places = [int(power * SCALE + OFFSET) for power in map(log, latencies_ms)]
        for place, count in Counter(places).items():
            buckets[place] += count
        self.count += len(latencies_ms)
        self.sum_ms = sum(latencies_ms, self.sum_ms)
        self._open_least_ms = min(self._open_least_ms, least_ms)
        self._open_most_ms = max(self._open_most_ms, most_ms)
        self.least_ms = min(self.least_ms, least_ms)
        self.most_ms = max(self.most_ms, most_ms)

    def _add_each(self, latencies_ms: Iterable[float]) -> None:
        buckets = self._open
        count, sum_ms, least_ms, most_ms = self.count, self.sum_ms, self._open_least_ms, self._open_most_ms
        for ms in latencies_ms:
            count += 1
            sum_ms += ms
            if ms < least_ms:
                least_ms = ms
            if ms > most_ms:
                most_ms = ms
            try:
                buckets[int(log(ms) * SCALE + OFFSET) if ms > LEAST_MS else 0] += 1
            except (IndexError, OverflowError):
                buckets[-1] += 1
        self.count, self.sum_ms, self._open_least_ms, self._open_most_ms = count, sum_ms, least_ms, most_ms
        if least_ms < self.least_ms:
            self.least_ms = least_ms
        if most_ms > self.most_ms:
            self.most_ms = most_ms

    def close_bin(self) -> Compact:
        """Those since the last time this was called."""
        first, end = self._open_range()
        latest = compact(self._open, first, end)
        closed = self._closed
        for bucket, count in zip(*latest, strict=True):
            closed[bucket] += count
            self._open[bucket] = 0
        self._open_least_ms, self._open_most_ms = float("inf"), 0.0
        return latest

    def quantiles_ms(self, shares: Sequence[float]) -> list[float]:
        """Latencies at rising ``shares`` (0 … 1), each within 0.5 % of the exact one; zeros for none."""
        if not self.count:
            return [0.0] * len(shares)
        first = _bucket(self.least_ms)
        found = quantiles(enumerate(self._all()[first:], first), self.count, shares)
        return [min(max(value, self.least_ms), self.most_ms) for value in found]

    def summary(self) -> dict[str, float]:
        """p50, p90, p95, p99, max, mean and count; zeros for none."""
        p50, p90, p95, p99 = self.quantiles_ms((0.5, 0.9, 0.95, 0.99))
        mean = self.sum_ms / self.count if self.count else 0.0
        return {
            "p50": p50,
            "p90": p90,
            "p95": p95,
            "p99": p99,
            "max": self.most_ms,
            "mean": mean,
            "count": self.count,
        }

    def buckets(self) -> list[tuple[int, int]]:
        """``(bucket, count)`` of all, empty buckets left out."""
        return [(index, count) for index, count in enumerate(self._all()) if count]

    def _all(self) -> list[int]:
        counts = self._closed.copy()
        first, end = self._open_range()
        for bucket in range(first, end):
            counts[bucket] += self._open[bucket]
        return counts

    def _open_range(self) -> tuple[int, int]:
        """The buckets outside of which nothing was counted since the last look."""
        if self._open_most_ms < self._open_least_ms:
            return 0, 0
        return _bucket(self._open_least_ms), _bucket(self._open_most_ms) + 1


def _bucket(ms: float) -> int:
    if not ms > LEAST_MS:
        return 0
    return SIZE - 1 if ms == float("inf") else min(int(log(ms) * SCALE + OFFSET), SIZE - 1)
