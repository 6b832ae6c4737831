"""How fast one function may scale up: Lambda's rule, so that growth is not refused."""

from __future__ import annotations

AT_ONCE = 1_000
PER_S = 100.0
WARM_FOR_S = 300.0
# Lambda's bucket is drawn on when calls arrive, this one when they leave: refilling a little later
# than Lambda keeps a call that travels faster than those before it from coming too early.
LAG_S = 0.25


class Ramp:
    """1,000 new environments at once, and 1,000 more every 10 s; those already used are free.

    A token bucket of 1,000 environments, refilled continuously by 100/s and never above 1,000: what
    is not used is not carried over. A call that finds fewer calls in flight than there were before
    runs in a warm environment and takes no token. Lambda takes environments down when idle, so a peak
    counts as warm for between 5 and 10 minutes. Never reads a clock.
    AWS Lambda developer guide, "Understanding Lambda function scaling".
    """

    __slots__ = ("_at_s", "_older_peak", "_peak", "_tokens", "_window_from_s")

    def __init__(self, warm: int = 0) -> None:
        """``warm``: environments that stand ready from the start (provisioned concurrency)."""
        self._tokens = float(AT_ONCE)
        self._at_s: float | None = None
        self._peak = warm
        self._older_peak = warm
        self._window_from_s = 0.0

    @property
    def warm(self) -> int:
        """Environments that ran at once in the last minutes."""
        return max(self._peak, self._older_peak)

    def ceiling(self, now_s: float) -> int:
        """Calls in flight that need no more new environments than Lambda gives by now."""
        self._refill(now_s)
        return self.warm + int(self._tokens)

    def on_peak(self, in_flight: int, now_s: float) -> None:
        """``in_flight`` calls run at once: those above ``warm`` have taken a new environment each."""
        self._refill(now_s)
        new = in_flight - self.warm
        if new > 0:
            if self._tokens >= AT_ONCE:
                self._at_s = now_s + LAG_S
            self._tokens -= new  # may be below zero for a moment; growth waits until it is paid back
        self._peak = max(self._peak, in_flight)

    def next_growth_s(self, now_s: float) -> float:
        """When the ceiling is one higher."""
        self._refill(now_s)
        if self._tokens >= AT_ONCE:
            return now_s
        assert self._at_s is not None
        return self._at_s + (int(self._tokens) + 1 - self._tokens) / PER_S

    def _refill(self, now_s: float) -> None:
        if self._at_s is None:
            self._at_s = self._window_from_s = now_s
            return
        if now_s - self._window_from_s >= WARM_FOR_S:
            self._older_peak = self._peak if now_s - self._window_from_s < 2 * WARM_FOR_S else 0
            self._peak = 0
            self._window_from_s = now_s
        self._tokens = min(AT_ONCE, self._tokens + max(0.0, now_s - self._at_s) * PER_S)
        self._at_s = max(now_s, self._at_s)
