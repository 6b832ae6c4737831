"""Statistics as plain data, to be kept and gone on with: everything that they know, but for the pace."""

from __future__ import annotations

from array import array
from typing import Any

import msgspec

from fanout.stats.clock import RunningClock
from fanout.stats.failures import FailureCluster, FailureClusters
from fanout.stats.latencies import Latencies
from fanout.stats.outcome_stats import Stats
from fanout.stats.reservoir import Execution, Reservoir, Slowest
from fanout.stats.series import Bin, Series

_PLAIN = (
    *("counts", "throttles", "attempts", "copies", "carried", "outcome_throttles", "cold_starts", "init_ms"),
    *("timed_out", "billed_records", "billed_ms", "billed_mb_ms", "max_memory_mb", "limit_s"),
    *("max_in_flight", "cause", "_bin_done", "_bin_failed", "_bin_throttles", "_session_throttles"),
)
_RESERVOIRS = ("_executions", "_cold", "_bad")
_LATENCIES = ("count", "sum_ms", "least_ms", "most_ms")


def save_stats(stats: Stats) -> dict[str, Any]:
    """All that ``restore_stats`` needs; nothing in it changes when the statistics go on."""
    plain = {name: getattr(stats, name) for name in _PLAIN}
    latencies = stats.latencies
    saved = {
        "plain": {name: dict(value) if isinstance(value, dict) else value for name, value in plain.items()},
        "latencies": {name: getattr(latencies, name) for name in _LATENCIES},
        "buckets": [array("Q", latencies._closed).tobytes(), array("Q", latencies._open).tobytes()],
        "series": [stats.series.width_s, [_saved_bin(each) for each in stats.series.bins]],
        "clusters": [[list(key), _struct(cluster)] for key, cluster in stats._clusters._clusters.items()],
        "other": stats._clusters._other,
        "other_faults": stats._clusters._other_faults,
        "unsent": stats.unsent,
        "slowest": [stats._slowest.floor_ms, [_struct(item[2]) for item in stats._slowest._heap]],
        "clock": [stats.clock.now_s, [list(each) for each in stats.clock._sessions]],
    }
    for name in _RESERVOIRS:
        sample: Reservoir = getattr(stats, name)
        version, state, gauss = sample._random.getstate()
        drawn = [version, array("Q", state).tobytes(), gauss]
        saved[name] = [sample.skip, sample._weight, drawn, [_struct(each) for each in sample.held]]
    return saved


def restore_stats(saved: dict[str, Any]) -> Stats:
    """The statistics that were saved. What is anything else raises KeyError, ValueError or TypeError."""
    stats = Stats()
    for name in _PLAIN:
        setattr(stats, name, saved["plain"][name])
    stats.unsent = int(saved.get("unsent", 0))
    latencies = Latencies()
    for name in _LATENCIES:
        setattr(latencies, name, saved["latencies"][name])
    closed, opened = (_numbers(packed) for packed in saved["buckets"])
    latencies.restore(closed, opened)
    stats.latencies = latencies
    stats.series = Series()
    stats.series.width_s = float(saved["series"][0])
    stats.series.bins = [_restored_bin(each) for each in saved["series"][1]]
    clusters = FailureClusters()
    for key, cluster in saved["clusters"]:
        status, kind, frame = key
        clusters._clusters[status, kind, frame] = msgspec.convert(cluster, FailureCluster)
    clusters._other = int(saved["other"])
    clusters._other_faults = int(saved.get("other_faults", 0))
    stats._clusters = clusters
    slowest = Slowest()
    slowest.floor_ms = float(saved["slowest"][0])
    for each in saved["slowest"][1]:
        picked = msgspec.convert(each, Execution)
        slowest._heap.append((picked.duration_ms, -picked.seq, picked))
    stats._slowest = slowest
    for name in _RESERVOIRS:
        sample: Reservoir = getattr(stats, name)
        sample.skip, sample._weight, drawn, held = saved[name]
        sample.held = [msgspec.convert(each, Execution) for each in held]
        sample._random.setstate((drawn[0], tuple(_numbers(drawn[1])), drawn[2]))
    stats.clock = RunningClock(0.0)
    stats.clock.now_s = float(saved["clock"][0])
    stats.clock._sessions = [(float(begun), float(base)) for begun, base in saved["clock"][1]]
    return stats


def _struct(struct: msgspec.Struct) -> Any:
    return msgspec.to_builtins(struct)


def _numbers(packed: bytes) -> list[int]:
    numbers = array("Q")
    numbers.frombytes(packed)
    return numbers.tolist()


def _saved_bin(each: Bin) -> dict[str, Any]:
    members = {name: getattr(each, name) for name in each.__struct_fields__ if name != "latencies"}
    held, counts = each.latencies
    return {**members, "throttles": dict(each.throttles), "latencies": [held.tobytes(), counts.tobytes()]}


def _restored_bin(saved: dict[str, Any]) -> Bin:
    held, counts = array("H"), array("I")
    held.frombytes(saved["latencies"][0])
    counts.frombytes(saved["latencies"][1])
    return Bin(**{**saved, "latencies": (held, counts)})
