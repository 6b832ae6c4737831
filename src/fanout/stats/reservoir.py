"""A sample of executions to be looked at singly: fair, with more of the special ones, and the slowest."""

from __future__ import annotations

import heapq
from math import exp, floor, log
from random import Random

import msgspec

from fanout.model import Outcome

MOST_EXECUTIONS = 600
MOST_SPECIAL = 200  # of cold starts, and of failures
MOST_SLOWEST = 20


class Execution(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One finished record, without its payload and reply."""

    seq: int
    key: str | None = None
    status: str
    duration_ms: float
    started_at: str | None = None
    attempts: int = 1
    throttles: int = 0
    init_ms: float | None = None  # of a cold start, or its restoring from a snapshot
    request_id: str | None = None

    def __lt__(self, other: Execution) -> bool:
        """Not less than any: of two generations of a record that took equally long, neither goes first."""
        return False


def execution(outcome: Outcome) -> Execution:
    """The part of an outcome that is kept; an outcome may hold megabytes, this never does."""
    return Execution(
        seq=outcome.seq,
        key=None if outcome.key is None else outcome.key[:200],
        status=outcome.status,
        duration_ms=outcome.duration_ms or 0.0,
        started_at=outcome.started_at,
        attempts=outcome.attempts,
        throttles=outcome.throttles,
        init_ms=outcome.restore_ms if outcome.init_ms is None else outcome.init_ms,
        request_id=outcome.request_id,
    )


class Reservoir:
    """A uniform sample of unknown many, by Li's algorithm L (1994): it says how many to pass over next.

    The caller counts ``skip`` down itself, so that an outcome not picked costs one subtraction.
    """

    __slots__ = ("_random", "_weight", "held", "size", "skip")

    def __init__(self, size: int, seed: int = 0) -> None:
        self.size = size
        self.held: list[Execution] = []
        self.skip = 0  # how many to pass over before the next ``add``
        self._random = Random(seed)  # noqa: S311 - a sample to look at, not a secret
        self._weight = 1.0

    def add(self, picked: Execution) -> None:
        """Keep ``picked``, and set ``skip`` anew."""
        if len(self.held) < self.size:
            self.held.append(picked)
            if len(self.held) < self.size:
                return
        else:
            self.held[self._random.randrange(self.size)] = picked
        self._weight *= exp(log(1 - self._random.random()) / self.size)
        self.skip = floor(log(1 - self._random.random()) / log(1 - self._weight))


class Slowest:
    """The longest executions, at most ``MOST_SLOWEST``; ``floor_ms`` is what a new one must exceed."""

    def __init__(self) -> None:
        self.floor_ms = -1.0
        self._heap: list[tuple[float, int, Execution]] = []

    def add(self, outcome: Outcome, duration_ms: float) -> None:
        """Keep an outcome that took longer than ``floor_ms``."""
        item = (duration_ms, -outcome.seq, execution(outcome))
        if len(self._heap) < MOST_SLOWEST:
            heapq.heappush(self._heap, item)
        else:
            heapq.heappushpop(self._heap, item)
        if len(self._heap) == MOST_SLOWEST:
            self.floor_ms = self._heap[0][0]

    def listed(self) -> list[Execution]:
        """The longest first."""
        return [item[2] for item in sorted(self._heap, key=lambda item: item[:2], reverse=True)]
