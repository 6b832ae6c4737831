"""The coordinator's ledger of leases: how much of the budget each worker holds, and what it gets next.

A lease counts at the worker from when it asked, and here from when that question was answered: so it
never ends later there than here. What a worker may use at this moment is its *commitment*; the sum of
commitments never exceeds the ceiling by a grant. Pure: takes ``now_s``, seconds of one monotonic clock.
"""

from __future__ import annotations

from math import inf
from sys import maxsize

import msgspec

from fanout.workers.messages import Lease, Report
from fanout.workers.shares import fair_counts, fair_shares

LEASE_S = 1.0
HEADROOM = 1.25  # of what a worker uses that permits do not hold back
_ROOM_FOR_IDLE = 2
_LEAST_RECORDS = 16


class Holding(msgspec.Struct):
    """The share of the budget that one worker holds."""

    sent: Lease | None = None  # the lease of the last order
    permits: int = 0  # the most that an earlier order or its report leaves it with
    rate_per_s: float | None = 0.0
    ends_s: float = -inf  # of its last lease, here
    demand: int = 0
    rate_demand_per_s: float = 0.0
    is_at_work: bool = False  # it has records without an outcome
    is_lost: bool = False
    most: int = maxsize  # permits that it can use

    def permits_committed(self, now_s: float, linger_s: float) -> int:
        """Calls that may run for this worker now: until its lease and what it started then have ended."""
        if now_s >= self.ends_s + linger_s:
            return 0
        sent = self.sent.permits if self.sent is not None else 0
        return max(self.permits, sent)

    def rate_committed(self, now_s: float) -> float:
        """Calls that it may start per second now."""
        if now_s >= self.ends_s:
            return 0.0
        sent = 0.0 if self.sent is None else self.sent.rate_per_s
        if sent is None or self.rate_per_s is None:
            return inf
        return max(self.rate_per_s, sent)


class LeaseBook:
    """Leases of one budget to any number of workers, by name.

    Ask for ``lease`` with each order, and give ``answered`` each report. ``linger_s``: how long a call of
    a worker that is lost may run on.
    """

    def __init__(self, *, lease_s: float = LEASE_S, linger_s: float = 0.0) -> None:
        self.lease_s = lease_s
        self._linger_s = linger_s
        self.cuts = 0
        self._workers: dict[str, Holding] = {}

    @property
    def linger_s(self) -> float:
        """The longest that a call of a lost worker may run on."""
        return self._linger_s

    def set_linger(self, linger_s: float) -> None:
        """Another function timeout, for all leases."""
        self._linger_s = linger_s

    def join(self, name: str, most: int = maxsize) -> None:
        """A worker that may have leases from now on, of so many permits at most."""
        self._workers[name] = Holding(demand=min(most, _LEAST_RECORDS), rate_demand_per_s=inf, most=most)

    def lose(self, name: str) -> None:
        """A worker does not answer any more: what it held is free when all it sent must have ended."""
        self._workers[name].is_lost = True

    def leave(self, name: str) -> None:
        """A worker has ended in order: it holds nothing."""
        del self._workers[name]

    def lease(self, name: str, ceiling: int, rate_per_s: float | None, now_s: float) -> Lease:
        """The lease that goes out to a worker now, once its last order was answered."""
        self._forget_ended(now_s)
        holding = self._workers[name]
        lease = Lease(
            self._permits(name, ceiling, now_s), self._rate(name, rate_per_s, now_s), self.lease_s, self.cuts
        )
        # What has lapsed by now must not come back with the new lease's end.
        holding.permits = holding.permits_committed(now_s, self._linger_s)
        kept_per_s = holding.rate_committed(now_s)
        holding.rate_per_s = None if kept_per_s == inf else kept_per_s
        holding.sent = lease
        holding.ends_s = now_s + self.lease_s
        return lease

    def answered(self, name: str, report: Report, *, elapsed_s: float, wanted: int, out: int = 0) -> None:
        """A worker has taken the lease sent last and says what it uses.

        ``elapsed_s``: since its last report. ``wanted``: records that it would get if it had permits.
        ``out``: those that it has, without an outcome.
        """
        holding = self._workers[name]
        sent = holding.sent
        used = report.in_flight + report.lingering
        holding.permits = max(used, sent.permits if sent is not None else 0)
        holding.rate_per_s = 0.0 if sent is None else sent.rate_per_s
        holding.is_at_work = out > 0
        could_use = used + report.held + wanted or min(1, out)
        if report.is_full:
            holding.demand = min(holding.most, could_use)
        else:
            holding.demand = min(holding.most, could_use, int(used * HEADROOM) + _ROOM_FOR_IDLE)
        if sent is not None and not sent.permits:
            holding.rate_demand_per_s = 0.0  # it can start nothing
        elif report.is_paced:
            holding.rate_demand_per_s = inf
        else:
            per_s = report.started / elapsed_s if elapsed_s > 0 else 0.0
            holding.rate_demand_per_s = per_s * HEADROOM + (_LEAST_RECORDS if could_use else 0)

    def permits_of(self, name: str) -> int:
        """The permits of a worker's last lease."""
        sent = self._workers[name].sent
        return 0 if sent is None else sent.permits

    def committed(self, now_s: float) -> int:
        """Calls that may run now, over all workers, lost ones included."""
        return sum(holding.permits_committed(now_s, self._linger_s) for holding in self._workers.values())

    def rate_committed(self, now_s: float) -> float:
        """Calls that may start per second now, over all workers."""
        return sum(holding.rate_committed(now_s) for holding in self._workers.values())

    def lost_until_s(self) -> float | None:
        """The moment at which the last share of a lost worker is free again; None without one."""
        ends = [holding.ends_s + self._linger_s for holding in self._workers.values() if holding.is_lost]
        return max(ends, default=None)

    def lost_permits(self, now_s: float) -> int:
        """Permits of lost workers whose calls may still run."""
        return sum(
            holding.permits_committed(now_s, self._linger_s)
            for holding in self._workers.values()
            if holding.is_lost
        )

    def _permits(self, name: str, ceiling: int, now_s: float) -> int:
        live = [(each, holding) for each, holding in self._workers.items() if not holding.is_lost]
        lost = self.lost_permits(now_s)
        at_work = {place for place, (_, holding) in enumerate(live) if holding.is_at_work}
        targets = fair_counts(ceiling - lost, [holding.demand for _, holding in live], at_work)
        target = targets[[each for each, _ in live].index(name)]
        own = self._workers[name].permits_committed(now_s, self._linger_s)
        free = ceiling - self.committed(now_s)
        return min(target, own + max(0, free), self._workers[name].most)

    def _rate(self, name: str, rate_per_s: float | None, now_s: float) -> float | None:
        if rate_per_s is None:
            return None
        live = [(each, holding) for each, holding in self._workers.items() if not holding.is_lost]
        others = sum(holding.rate_committed(now_s) for each, holding in self._workers.items() if each != name)
        targets = fair_shares(rate_per_s, [holding.rate_demand_per_s for _, holding in live])
        target = targets[[each for each, _ in live].index(name)]
        return max(0.0, min(target, rate_per_s - others))

    def _forget_ended(self, now_s: float) -> None:
        ended = [
            name
            for name, holding in self._workers.items()
            if holding.is_lost and now_s >= holding.ends_s + self._linger_s
        ]
        for name in ended:
            del self._workers[name]
