"""The limit and the pacer of a worker: what its lease allows, and what the coordinator must hear of.

Neither adapts by itself: a throttle is noted for the next report, and the coordinator cuts once for all.
Until its answer comes the limit stays at what was accepted here.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from fanout.limit.protocol import Cause
from fanout.model import ThrottleKind
from fanout.pacer import Pacer
from fanout.workers.messages import Lease, Throttle


@dataclass(slots=True)
class Noted:
    """The use of a lease since the last report.

    ``is_full``: permits held calls back; ``is_paced``: the rate did.
    """

    succeeded: int = 0
    is_full: bool = False
    is_paced: bool = False
    throttles: list[Throttle] = field(default_factory=list)


class LeasedLimit:
    """A ceiling that holds until the lease ends, counted from when the worker asked for it."""

    def __init__(self) -> None:
        self.peak = sys.maxsize  # scaling is the coordinator's affair
        self.peak_until_s = float("inf")
        self.budget = 0
        self.cuts = 0
        self.noted = Noted()
        self._ceiling = 0
        self._until_s = float("-inf")
        self._asked_s = float("-inf")
        self._cut_seen_s = float("-inf")  # throttles of calls sent before say nothing new

    def ask(self, now_s: float) -> None:
        """The worker reports, and thereby asks for another lease."""
        self._asked_s = now_s

    def take(self, lease: Lease, now_s: float) -> None:
        """Put a lease in force."""
        if lease.cuts != self.cuts:
            self.cuts, self._cut_seen_s = lease.cuts, now_s
        self.budget = self._ceiling = lease.permits
        self._until_s = self._asked_s + lease.lasts_s

    def take_noted(self) -> Noted:
        """For a report: what was noted since the last one."""
        noted, self.noted = self.noted, Noted()
        return noted

    def note_throttle(self, kind: ThrottleKind, sent_at_s: float, retry_after_s: float | None) -> bool:
        """Keep a throttle for the report, once for each kind. Returns whether it says anything new."""
        if sent_at_s < self._cut_seen_s:
            return False
        if all(each.kind != kind.value for each in self.noted.throttles):
            self.noted.throttles.append(Throttle(kind.value, retry_after_s))
        return True

    # --- as the gate's limit -------------------------------------------------------------------

    def ceiling(self, now_s: float) -> int:
        return self._ceiling if now_s < self._until_s else 0

    def on_full(self, in_flight: int, now_s: float) -> bool:  # noqa: ARG002 - Limit's
        self.noted.is_full = True
        return False

    def on_peak(self, in_flight: int, now_s: float) -> None:
        """Never: scaling is the coordinator's affair."""

    def on_successes(self, sent_at_s: Sequence[float], now_s: float, in_flight: int) -> None:  # noqa: ARG002 - Limit's
        self.noted.succeeded += len(sent_at_s)

    def on_throttle(
        self,
        kind: ThrottleKind,
        sent_at_s: float,
        now_s: float,  # noqa: ARG002 - Limit's
        retry_after_s: float | None = None,
        in_flight: int | None = None,
    ) -> None:
        if kind is ThrottleKind.RATE:
            return
        if self.note_throttle(kind, sent_at_s, retry_after_s) and in_flight is not None:
            self._ceiling = min(self._ceiling, in_flight)

    def set_budget(self, budget: int, now_s: float, cause: Cause | None = None) -> None:
        """Never: leases say what it is."""

    def cause(self, now_s: float) -> Cause:  # noqa: ARG002 - Limit's
        return "fixed"

    def next_growth_s(self, now_s: float) -> float | None:  # noqa: ARG002 - Limit's
        """Never by itself: a lease makes the engine look again."""
        return None


class LeasedPacer(Pacer):
    """The rate of a lease. Throttles are noted; with Retry-After it pauses until then."""

    def __init__(self, limit: LeasedLimit) -> None:
        super().__init__(None)
        self._limit = limit
        self._is_stopped = True

    def lease(self, rate_per_s: float | None) -> None:
        """Take the rate of a lease; 0 stops."""
        self._is_stopped = rate_per_s is not None and rate_per_s <= 0
        if not self._is_stopped:
            self.set_rate(rate_per_s)

    def try_take(self) -> bool:
        if not self._is_stopped and super().try_take():
            return True
        self._limit.noted.is_paced = True
        return False

    def take_several(self, most: int) -> int:
        return 0 if self._is_stopped else super().take_several(most)

    def on_throttle(
        self, now_s: float, retry_after_s: float | None = None, sent_at_s: float | None = None
    ) -> None:
        sent_s = now_s if sent_at_s is None else sent_at_s
        self._limit.note_throttle(ThrottleKind.RATE, sent_s, retry_after_s)
        if retry_after_s:
            self.pause_until(now_s + retry_after_s)

    def on_success(self, now_s: float, count: int = 1) -> None:
        """Nothing to recover from here."""
