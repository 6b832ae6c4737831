"""A snapshot of a run for a person, with estimates of its pace and its end."""

from __future__ import annotations

from collections import deque

import msgspec

_HORIZON_S = 60.0
_STEP_S = 0.5


class WorkerPace(msgspec.Struct, frozen=True, array_like=True):
    """One worker's calls in flight, and calls started per second.

    ``records`` have an outcome by it. Of one that was lost, ``lost_records`` may have run without one.
    """

    name: str
    in_flight: int
    per_s: float
    records: int = 0
    lost_records: int | None = None


class Snapshot(msgspec.Struct, kw_only=True):
    """One moment of a run. ``total``, ``fraction``, ``eta_s`` and ``cost_usd`` are None while unknown.

    ``cause`` says what holds the calls back: reserved, account, provisioned, fixed, assumed,
    throttles, ramp, rate, source, consumer or paused. ``lingering`` permits belong to calls whose reply was
    lost: they may run until ``linger_until`` (Unix time) at the latest. ``state`` differs from running only
    for those who look at a run that has ended.
    """

    elapsed_s: float
    done: int
    calls: int = 0  # fewer than ``done`` where calls carry several records, or records are never sent
    total: int | None = None
    fraction: float | None = None
    counts: dict[str, int]
    in_flight: int
    lingering: int = 0
    linger_until: float | None = None
    limit: float | None
    cause: str
    rate_now_per_s: float
    rate_mean_per_s: float
    eta_s: float | None = None
    throttles: int = 0
    retries: int = 0
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    p99_ms: float = 0.0
    cost_usd: float | None = None
    draining: bool = False
    state: str = "running"
    workers: list[WorkerPace] = []  # of a run that has some
    more_workers: int = 0  # beside those


class Pace:
    """Records per second over the last seconds, from a count that is looked at now and then."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, now_s: float, done: int) -> None:
        """Look at the count. Looks closer together than half a second replace one another."""
        seen = self._seen
        if len(seen) > 1 and now_s - seen[-2][0] < _STEP_S:
            seen.pop()
        seen.append((now_s, done))
        while len(seen) > 2 and now_s - seen[1][0] >= _HORIZON_S:
            seen.popleft()

    @property
    def is_known(self) -> bool:
        """True once there were two looks."""
        return len(self._seen) > 1

    def per_s(self, window_s: float) -> float:
        """Records per second over about the last ``window_s``; 0 before two looks."""
        if len(self._seen) < 2:
            return 0.0
        last_s, last_done = self._seen[-1]
        first_s, first_done = self._seen[0]
        for then_s, then_done in self._seen:
            if then_s <= last_s - window_s:
                first_s, first_done = then_s, then_done
        return (last_done - first_done) / (last_s - first_s) if last_s > first_s else 0.0

    def eta_s(self, done: int, fraction: float | None) -> float | None:
        """Seconds to the end at the pace of the last minute; None while nothing can be said."""
        pace = self.per_s(_HORIZON_S)
        if fraction is None or not 0 < fraction < 1 or pace <= 0:
            return None
        return max(0.0, (done / fraction - done) / pace)
