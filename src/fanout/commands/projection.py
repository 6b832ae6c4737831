"""A projection of a whole run from the outcomes of a few of its records. Pure but for its dice."""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import NormalDist, fmean, quantiles

import msgspec

RAMP_AT_ONCE = 1_000  # calls in flight that one function takes from a standing start
RAMP_PER_S = 100.0
RESAMPLES = 1_000
CONFIDENCE = 0.9


class Range(msgspec.Struct, frozen=True):
    """A figure, and where it lies in nine of ten cases."""

    value: float
    low: float
    high: float


class Projection(msgspec.Struct, frozen=True, kw_only=True):
    """A run of ``records`` records. ``bound_by`` says what its speed hangs on: concurrency, rate or ramp."""

    records: int
    calls: int  # fewer than records with batches
    concurrency: int
    rate_per_s: float | None
    duration_s: Range
    cost_usd: Range | None
    failure_share: Range
    throughput_per_s: float
    bound_by: str


def project(
    *,
    records: int,
    concurrency: int,
    rate_per_s: float | None,
    durations_s: Sequence[float],
    costs_usd: Sequence[float] | None,
    failures: int,
    tried: int | None = None,
    calls: int | None = None,
    seed: int = 0,
) -> Projection:
    """Project from a canary: how long each of its calls took, and cost, and how many records failed.

    ``tried`` is how many records the canary had, ``calls`` how many calls all records take; without
    batches both are as many as there are durations, or records.

    Little's law (throughput = concurrency / duration) under the rate and Lambda's scaling ramp. The
    ranges are bootstrap intervals of the mean, and Wilson's for the share of failures.
    """
    calls = records if calls is None else calls
    mean_s = fmean(durations_s)
    dice = random.Random(seed)  # noqa: S311 - statistics, no secret
    means_s = _resampled_means(durations_s, dice)
    low_s, high_s = _interval(means_s, mean_s)
    cost: Range | None = None
    if costs_usd is not None:
        mean_usd = fmean(costs_usd)
        low_usd, high_usd = _interval(_resampled_means(costs_usd, dice), mean_usd)
        cost = Range(calls * mean_usd, calls * low_usd, calls * high_usd)
    took_s = duration_s(calls, mean_s, concurrency, rate_per_s)
    return Projection(
        records=records,
        calls=calls,
        concurrency=concurrency,
        rate_per_s=rate_per_s,
        duration_s=Range(
            took_s,
            duration_s(calls, low_s, concurrency, rate_per_s),
            duration_s(calls, high_s, concurrency, rate_per_s),
        ),
        cost_usd=cost,
        failure_share=_wilson(failures, len(durations_s) if tried is None else tried),
        throughput_per_s=records / took_s if took_s else 0.0,
        bound_by=_bound(calls, mean_s, concurrency, rate_per_s),
    )


def duration_s(records: int, mean_s: float, concurrency: int, rate_per_s: float | None) -> float:
    """Seconds for so many records of ``mean_s`` each, up the ramp, at no more than the rate."""
    if records <= 0:
        return 0.0
    left, elapsed_s = float(records), 0.0
    in_flight = min(concurrency, RAMP_AT_ONCE, records)
    while in_flight < min(concurrency, records) and left > 0:
        pace = _pace(in_flight, mean_s, rate_per_s)
        step_s = 1.0
        if pace * step_s >= left:
            return elapsed_s + left / pace + mean_s
        left -= pace * step_s
        elapsed_s += step_s
        in_flight = min(concurrency, records, int(in_flight + RAMP_PER_S * step_s))
    pace = _pace(in_flight, mean_s, rate_per_s)
    return elapsed_s + max(left / pace, mean_s)


def _pace(in_flight: int, mean_s: float, rate_per_s: float | None) -> float:
    pace = in_flight / max(mean_s, 1e-6)
    return pace if rate_per_s is None else min(pace, rate_per_s)


def _bound(records: int, mean_s: float, concurrency: int, rate_per_s: float | None) -> str:
    if records <= concurrency:
        return "records"
    if rate_per_s is not None and rate_per_s < concurrency / max(mean_s, 1e-6):
        return "rate"
    slow_s = duration_s(records, mean_s, concurrency, rate_per_s)
    free_s = records * mean_s / concurrency
    return "ramp" if slow_s > 1.1 * free_s + mean_s else "concurrency"


def _resampled_means(values: Sequence[float], dice: random.Random) -> list[float]:
    return [fmean(dice.choices(values, k=len(values))) for _ in range(RESAMPLES)]


def _interval(means: Sequence[float], mean: float) -> tuple[float, float]:
    cuts = quantiles(means, n=20)
    return min(cuts[0], mean), max(cuts[-1], mean)


def _wilson(failed: int, tried: int) -> Range:
    """Wilson (1927): it stays within 0 and 1, and is honest about a canary without any failure."""
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share = failed / tried
    middle = (share + z * z / (2 * tried)) / (1 + z * z / tried)
    half = z / (1 + z * z / tried) * (share * (1 - share) / tried + z * z / (4 * tried * tried)) ** 0.5
    return Range(share, max(0.0, middle - half), min(1.0, middle + half))
