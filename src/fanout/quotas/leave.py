"""Politeness: how much of the account's concurrency a run may use, so that some stays free for others.

The metric is a minute old when it is read, and up to three: too slow to steer by, right as a ceiling. Pure.
"""

from __future__ import annotations

from collections import deque

import msgspec

from fanout.config import Leave

READ_S = 60.0
_MINUTES_KEPT = 15


class Claimed(msgspec.Struct, frozen=True):
    """ClaimedAccountConcurrency of one minute: its greatest value, and when the minute began (epoch)."""

    concurrency: float
    minute_s: int


class OwnUse:
    """The most calls that this run had in flight in each of the last minutes. ``now_s`` since the epoch."""

    __slots__ = ("_minutes",)

    def __init__(self) -> None:
        self._minutes: deque[tuple[int, int]] = deque(maxlen=_MINUTES_KEPT)

    def note(self, in_flight: int, now_s: float) -> None:
        """Count what is in flight now, lingering permits included."""
        minute_s = int(now_s) // 60 * 60
        if self._minutes and self._minutes[-1][0] == minute_s:
            in_flight = max(in_flight, self._minutes.pop()[1])
        self._minutes.append((minute_s, in_flight))

    def at(self, minute_s: int) -> int:
        """The most in that minute; 0 where nothing was noted."""
        return next((most for minute, most in self._minutes if minute == minute_s), 0)


def leave_ceiling(account: int, leave: Leave, claimed: Claimed | None, own: OwnUse) -> int:
    """The calls at once that the account has left for this run, at least 1.

    What others use is the metric without this run's own share of the same minute: else the run would
    take itself for others, and fall minute by minute. Without a metric nobody else is assumed to be there.
    """
    others = 0.0 if claimed is None else max(0.0, claimed.concurrency - own.at(claimed.minute_s))
    return max(1, int(account - others - leave.of(account)))
