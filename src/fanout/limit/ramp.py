"""The ramp: Lambda's rule of how fast one function may scale up, so that growth is not refused."""

from __future__ import annotations

from typing import Protocol

AT_ONCE = 1_000
PER_S = 100.0
WARM_FOR_S = 300.0
# Lambda's bucket is drawn on when calls arrive, this one when they leave: refilling a little later
# than Lambda keeps a call that travels faster than those before it from coming too early.
LAG_S = 0.25


class Scaling(Protocol):
    """The pace at which a function may take more calls at once. Never reads a clock."""

    peak: int
    peak_until_s: float

    @property
    def warm(self) -> int:
        """Calls at once that need nothing new."""

    def ceiling(self, now_s: float) -> int:
        """Calls in flight that Lambda takes by now."""

    def on_peak(self, in_flight: int, now_s: float) -> None:
        """More than ``peak`` are in flight, or ``peak_until_s`` has come."""

    def next_growth_s(self, now_s: float) -> float:
        """The moment at which the ceiling is one higher, in seconds; None: never."""


class ManagedRamp:
    """The scaling of managed instances: traffic may double every 5 minutes, from what a new version takes.

    Instances are started by load on their CPU, and calls are throttled when traffic more than doubles
    within 5 minutes. So the ceiling is twice the peak of the last 5 minutes, and at least ``start``.
    AWS Lambda developer guide, "Scaling Lambda Managed Instances".
    """

    __slots__ = ("_ceiling", "peak", "peak_until_s")

    def __init__(self, start: int) -> None:
        self._ceiling = max(1, start)
        self.peak = 0  # in these 5 minutes
        self.peak_until_s = float("-inf")

    @property
    def warm(self) -> int:
        """None: every growth is asked about."""
        return 0

    def ceiling(self, now_s: float) -> int:
        """Calls in flight that the instances take by now."""
        self._turn(now_s)
        return self._ceiling

    def on_peak(self, in_flight: int, now_s: float) -> None:
        """``in_flight`` calls run at once."""
        if self.peak_until_s == float("-inf"):
            self.peak_until_s = now_s + WARM_FOR_S
        self._turn(now_s)
        self.peak = max(self.peak, in_flight)

    def next_growth_s(self, now_s: float) -> float:
        """The moment at which the ceiling may be higher, in seconds; None: never."""
        return now_s + WARM_FOR_S if self.peak_until_s == float("-inf") else self.peak_until_s

    def _turn(self, now_s: float) -> None:
        if now_s >= self.peak_until_s > float("-inf"):
            self._ceiling = max(self._ceiling, 2 * self.peak)
            self.peak = 0
            self.peak_until_s = now_s + WARM_FOR_S


class Ramp:
    """1,000 new environments at once, and 1,000 more every 10 s; those already used are free.

    A token bucket of 1,000 environments, refilled continuously by 100/s and never above 1,000: what
    is not used is not carried over. A call that finds fewer calls in flight than there were before
    runs in a warm environment and takes no token. Lambda takes idle environments down, so a peak
    counts as warm for between 5 and 10 minutes. Never reads a clock.
    AWS Lambda developer guide, "Understanding Lambda function scaling".
    """

    __slots__ = ("_older_peak", "_refilled_at_s", "_tokens", "peak", "peak_until_s")

    def __init__(self, warm: int = 0) -> None:
        """``warm``: environments that stand ready from the start (provisioned concurrency)."""
        self.peak = warm  # in these 5 minutes
        self.peak_until_s = float("-inf")
        self._older_peak = warm  # in the 5 minutes before
        self._tokens = float(AT_ONCE)
        self._refilled_at_s = float("-inf")

    @property
    def warm(self) -> int:
        """Environments that ran at once in the last minutes."""
        return max(self.peak, self._older_peak)

    def ceiling(self, now_s: float) -> int:
        """Calls in flight that need no more new environments than Lambda gives by now."""
        self._refill(now_s)
        return self.warm + int(self._tokens)

    def on_peak(self, in_flight: int, now_s: float) -> None:
        """``in_flight`` calls run at once; those above ``warm`` take a new environment each."""
        new = in_flight - self.warm
        if now_s >= self.peak_until_s:
            is_first = self.peak_until_s == float("-inf")
            is_long_idle = now_s >= self.peak_until_s + WARM_FOR_S and not is_first
            self._older_peak = 0 if is_long_idle else self.peak
            self.peak = 0
            self.peak_until_s = now_s + WARM_FOR_S
        self.peak = max(self.peak, in_flight)
        if new > 0:
            self._refill(now_s)
            if self._tokens >= AT_ONCE:
                self._refilled_at_s = now_s + LAG_S
            self._tokens -= new  # may be below zero for a moment; growth waits until it is paid back

    def next_growth_s(self, now_s: float) -> float:
        """The moment at which the ceiling is one higher, in seconds; None: never."""
        self._refill(now_s)
        if self._tokens >= AT_ONCE:
            return now_s
        return self._refilled_at_s + (int(self._tokens) + 1 - self._tokens) / PER_S

    def _refill(self, now_s: float) -> None:
        if now_s > self._refilled_at_s:
            if self._tokens < AT_ONCE:
                self._tokens = min(AT_ONCE, self._tokens + (now_s - self._refilled_at_s) * PER_S)
            self._refilled_at_s = now_s
