"""A histogram of latencies, whose quantiles are within 0.5 % of the truth.

Buckets grow by a constant factor, as in DDSketch (Masson, Rim and Lee, 2019). A list of counts, and
no package: every record of a run is counted here, and a package's method call per value would cost
more than all the rest that is counted.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from math import exp, log

ERROR = 0.005  # a quantile read out is at most this share away from the exact one
LEAST_MS = 0.001
_GAMMA = (1 + ERROR) / (1 - ERROR)
SCALE = 1 / log(_GAMMA)
OFFSET = -log(LEAST_MS) * SCALE
MOST_MS = 1e9  # eleven days
SIZE = int(log(MOST_MS) * SCALE + OFFSET) + 2

Compact = tuple["array[int]", "array[int]"]  # buckets that hold something, and how much


def bucket_ms(index: int) -> float:
    """The latency that stands for a bucket: no value in it is further away than ``ERROR``."""
    return exp((index - OFFSET) / SCALE) * 2 * _GAMMA / (_GAMMA + 1)


def lower_ms(index: int) -> float:
    """The lower bound of a bucket, in milliseconds."""
    return exp((index - OFFSET) / SCALE)


def compact(buckets: Sequence[int], first: int, end: int) -> Compact:
    """Those from ``first`` to before ``end`` that are not empty: a kilobyte for a second of a run."""
    held = [index for index in range(first, end) if buckets[index]]
    return array("H", held), array("I", [buckets[index] for index in held])


def merged(one: Compact, other: Compact) -> Compact:
    """Both together."""
    counts = dict(zip(*one, strict=True))
    for index, count in zip(*other, strict=True):
        counts[index] = counts.get(index, 0) + count
    held = sorted(counts)
    return array("H", held), array("I", [counts[index] for index in held])


def quantiles(pairs: Iterable[tuple[int, int]], total: int, shares: Sequence[float]) -> list[float]:
    """Nearest-rank quantiles of ``(bucket, count)`` pairs in rising order; zeros when there are none.

    ``shares`` rise, each in 0 … 1.
    """
    found: list[float] = []
    wanted = [max(1, -int(-share * total // 1)) for share in shares]
    seen = 0
    for index, count in pairs:
        seen += count
        while len(found) < len(wanted) and seen >= wanted[len(found)]:
            found.append(bucket_ms(index))
        if len(found) == len(wanted):
            break
    return found + [0.0] * (len(wanted) - len(found))
