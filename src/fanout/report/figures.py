"""Which numbers the page's drawings are made of: a few hundred points each, however long the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fanout.stats import Stats
from fanout.stats.histogram import lower_ms
from fanout.stats.replay import unix_s
from fanout.stats.series import Bin
from fanout.stats.text import printable

_MOST_BARS = 60


def figure_data(stats: Stats) -> dict[str, Any]:
    """Everything the page's script draws; all text in it is printable and still to be escaped."""
    return {
        "course": _course(stats.series.bins),
        "histogram": _histogram(stats),
        "executions": _executions(stats),
        "attempts": {str(attempts): count for attempts, count in stats.attempts_taken().items()},
    }


def _course(bins: list[Bin]) -> dict[str, Any]:
    # A bin much shorter than the others (the last one) would be drawn as a peak.
    drawn = [bin_ for bin_ in bins if bin_.end_s - bin_.start_s >= 0.05] or bins
    percentiles = [bin_.percentiles_ms() if bin_.finished else None for bin_ in drawn]
    reasons = sorted({reason for bin_ in drawn for reason in bin_.throttles})

    def each(of: Callable[[Bin], float | None]) -> list[float | None]:
        return [None if (value := of(bin_)) is None else round(value, 3) for bin_ in drawn]

    return {
        "t": each(lambda bin_: bin_.end_s),
        "in_flight": each(lambda bin_: bin_.in_flight),
        "limit": each(lambda bin_: bin_.limit),
        "cause": [printable(bin_.cause or "", 60) for bin_ in drawn],
        "succeeded_per_s": each(lambda bin_: (bin_.finished - bin_.failed) / _span(bin_)),
        "failed_per_s": each(lambda bin_: bin_.failed / _span(bin_)),
        "p50": [None if values is None else round(values[0], 2) for values in percentiles],
        "p95": [None if values is None else round(values[1], 2) for values in percentiles],
        "p99": [None if values is None else round(values[2], 2) for values in percentiles],
        "throttles": {
            printable(reason, 80): [round(bin_.throttles.get(reason, 0) / _span(bin_), 3) for bin_ in drawn]
            for reason in reasons
        },
    }


def _span(bin_: Bin) -> float:
    return max(bin_.end_s - bin_.start_s, 0.001)


def _histogram(stats: Stats) -> dict[str, list[float]]:
    pairs = stats.latencies.buckets()
    if not pairs:
        return {"edges": [], "counts": []}
    first, last = pairs[0][0], pairs[-1][0]
    width = (last - first) // _MOST_BARS + 1
    counts = [0] * ((last - first) // width + 1)
    for index, count in pairs:
        counts[(index - first) // width] += count
    edges = [round(lower_ms(first + bar * width), 4) for bar in range(len(counts) + 1)]
    return {"edges": edges, "counts": [float(count) for count in counts]}


def _executions(stats: Stats) -> dict[str, dict[str, list[Any]]]:
    groups: dict[str, dict[str, list[Any]]] = {}
    for picked in stats.executions():
        if picked.started_at is None:
            continue
        group = groups.setdefault(
            "cold start" if picked.init_ms is not None and picked.status == "succeeded" else picked.status,
            {"t": [], "ms": [], "init_ms": [], "name": []},
        )
        group["t"].append(round(max(0.0, stats.clock.at(unix_s(picked.started_at))), 3))
        group["ms"].append(picked.duration_ms)
        group["init_ms"].append(picked.init_ms)
        group["name"].append(
            f"record {picked.seq}" + (f", {printable(picked.key, 60)}" if picked.key else "")
        )
    return groups
