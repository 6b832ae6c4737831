"""The course of a run in the bins that are drawn: a few hundred, however long it was."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby

from fanout.stats import Stats
from fanout.stats.histogram import bucket_ms
from fanout.stats.series import Bin, joined

MOST_POINTS = 300
_FEWEST_POINTS = 12


@dataclass(frozen=True, slots=True)
class Course:
    """The bins of a run that are drawn. ``ceilings``: calls per second that limit and rate allow."""

    bins: list[Bin]
    longest_s: float
    ceilings: list[float | None]
    longest_call_s: float

    def timed(self) -> Course:
        """Only the bins in which calls were timed, and one for each gap without calls, as in an outage.

        Bins in which calls were merely under way are no gap: it is longer than the longest call took.
        """
        kept: list[Bin] = []
        for was_timed, group in groupby(self.bins, key=is_timed):
            bins = [*group]
            if was_timed:
                kept += bins
            elif bins[-1].end_s - bins[0].start_s > self.longest_call_s:
                kept.append(bins[0])
        return replace(self, bins=kept)


def course_of(stats: Stats, most_points: int = MOST_POINTS) -> Course:
    """The course in at most some hundred bins, none so short that single calls show as peaks."""
    longest_s = stats.elapsed_s
    mean_s = stats.latencies.sum_ms / 1000 / max(stats.latencies.count, 1)
    least_s = max(longest_s / most_points, min(mean_s, longest_s / _FEWEST_POINTS))
    bins: list[Bin] = []
    for bin_ in stats.series.bins:
        if bins and bins[-1].end_s - bins[-1].start_s < least_s * 0.9:
            bins[-1] = joined(bins[-1], bin_)
        else:
            bins.append(bin_)
    if len(bins) > 1 and bins[-1].end_s - bins[-1].start_s < least_s / 2:
        bins[-2:] = [joined(bins[-2], bins[-1])]
    end_s = max((bin_.end_s for bin_ in bins), default=0.0)
    return Course(bins, end_s, [_ceiling(bin_) for bin_ in bins], float(stats.latency_ms()["max"]) / 1000)


def is_timed(bin_: Bin) -> bool:
    """True if a call ended in it whose time is known."""
    return bool(sum(bin_.latencies[1]))


def span_s(bin_: Bin) -> float:
    """Its length, for rates."""
    return max(bin_.end_s - bin_.start_s, 0.001)


def _ceiling(bin_: Bin) -> float | None:
    """Calls per second that the limit allows at the bin's own latency, and the rate at the most."""
    timed = sum(bin_.latencies[1])
    if bin_.limit is None or not timed:
        return bin_.rate_per_s
    held_ms = sum(bucket_ms(index) * count for index, count in zip(*bin_.latencies, strict=True))
    allowed = bin_.limit * 1000 / max(held_ms / timed, 0.001)
    return allowed if bin_.rate_per_s is None else min(allowed, bin_.rate_per_s)
