"""Latencies of calls: of all of them, and of those since the last look, in one histogram each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import log

from fanout.stats.histogram import LEAST_MS, OFFSET, SCALE, SIZE, Compact, compact, quantiles

_EMPTY = [0] * SIZE


class Latencies:
    """Milliseconds. ``add_many`` is on the hot path.

    ``count``, ``sum_ms``, ``least_ms``, ``most_ms`` are exact.
    """

    __slots__ = ("_closed", "_open", "count", "least_ms", "most_ms", "sum_ms")

    def __init__(self) -> None:
        self.count = 0
        self.sum_ms = 0.0
        self.least_ms = float("inf")
        self.most_ms = 0.0
        self._closed = list(_EMPTY)
        self._open = list(_EMPTY)

    def add_many(self, latencies_ms: Iterable[float]) -> None:
        """Take several; the same as taking each, in less time."""
        buckets = self._open
        count, sum_ms, least_ms, most_ms = self.count, self.sum_ms, self.least_ms, self.most_ms
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
        self.count, self.sum_ms, self.least_ms, self.most_ms = count, sum_ms, least_ms, most_ms

    def close_bin(self) -> Compact:
        """Those since the last time this was called."""
        latest = compact(self._open)
        self._closed = self._all()
        self._open[:] = _EMPTY
        return latest

    def quantiles_ms(self, shares: Sequence[float]) -> list[float]:
        """Latencies at rising ``shares`` (0 … 1), each within 0.5 % of the exact one; zeros for none."""
        if not self.count:
            return [0.0] * len(shares)
        found = quantiles(enumerate(self._all()), self.count, shares)
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
        return [closed + fresh for closed, fresh in zip(self._closed, self._open, strict=True)]
