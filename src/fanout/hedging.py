"""Hedging policy: which call in flight is so late that one copy of it may be sent.

The last calls of a run decide when it ends. A call is late once it has been in flight for more than three
times the median and more than the 99th percentile of its peers' durations. Only one record in a hundred
may have a copy. Dean and Barroso, The Tail at Scale (2013). Never reads a clock.
"""

from __future__ import annotations

import math
from collections import deque

LEAST_PEERS = 20  # finished calls, before any is called late
_PEERS_KEPT = 1_000  # the latest
_MEDIANS = 3.0
_RECORDS_PER_COPY = 100


class Hedging:
    """Learns how long calls take, and says which are late. Seconds of any one monotonic clock."""

    def __init__(self) -> None:
        self._durations_s: deque[float] = deque(maxlen=_PEERS_KEPT)
        self._count = 0
        self._late_after_s: float | None = None
        self._learns_at = LEAST_PEERS  # how many calls must have finished before the next look at them

    def on_finished(self, duration_s: float) -> None:
        """A call ran to its end."""
        self._durations_s.append(duration_s)
        self._count += 1

    @property
    def late_after_s(self) -> float | None:
        """The time in flight, in seconds, after which a call is late; None while too few have finished."""
        if self._count >= self._learns_at:
            ranked = sorted(self._durations_s)
            median_s = ranked[(len(ranked) - 1) // 2]
            p99_s = ranked[math.ceil(len(ranked) * 0.99) - 1]
            self._late_after_s = max(_MEDIANS * median_s, p99_s)
            self._learns_at = self._count + max(1, min(self._count, _PEERS_KEPT) // 20)
        return self._late_after_s

    def is_late(self, sent_s: float, now_s: float) -> bool:
        """True if a call that was sent at ``sent_s``, and is still in flight, is late."""
        after_s = self.late_after_s
        return after_s is not None and now_s - sent_s > after_s

    @staticmethod
    def may_copy(*, records: int, copies: int) -> bool:
        """True if one more copy keeps within one in a hundred records; one always does."""
        return copies < max(1, records // _RECORDS_PER_COPY)
