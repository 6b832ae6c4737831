"""How the in-flight limit adapts to throttles: below the budget and the ramp, as high as Lambda takes."""

from __future__ import annotations

from fanout.errors import ConfigError
from fanout.limit.protocol import Cause
from fanout.limit.ramp import Ramp
from fanout.model import ThrottleKind

_START = 10.0
_KEEP = 0.7
_KEEP_UNKNOWN = 0.85
_DOUBLING_S = 0.5
_PLATEAU_S = 1.0
_PLATEAU_CALLS = 50
_PLATEAU_LATEST_S = 4.0
_SMALLEST_SCALE = 8.0
_TICK_S = 0.01
_LONGEST_TICK_S = 0.1
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 1.0


class AdaptiveLimit:
    """The smallest of budget, scaling ramp, and a level learned from throttles.

    A known budget is filled from the first moment; an assumed one starts at 10 and doubles every
    half second until the first throttle.
    """

    __slots__ = (
        "_budget",
        "_cause",
        "_ceiling",
        "_cut_at_s",
        "_keep",
        "_level",
        "_pause_s",
        "_paused_until_s",
        "_phase",
        "_plateau",
        "_ramp",
        "_successes",
        "_tick_at_s",
    )

    def __init__(self, budget: int, *, cause: Cause = "fixed", ramp: Ramp | None = None) -> None:
        """``cause`` names where the budget came from; ``"assumed"`` makes it start low."""
        if budget < 0:
            raise ConfigError(f"budget is {budget!r}: give a whole number from 0")
        self._budget = budget
        self._cause: Cause = cause
        self._ramp = ramp
        self._level = float(min(budget, _START)) if cause == "assumed" else float(budget)
        self._plateau: float | None = None
        self._phase = 0.0
        self._successes = 0
        self._cut_at_s = float("-inf")
        self._tick_at_s = float("-inf")
        self._pause_s = 0.0
        self._paused_until_s = float("-inf")
        self._keep = _KEEP
        self._ceiling = min(budget, round(self._level))

    @property
    def budget(self) -> int:
        """The most that may ever be in flight."""
        return self._budget

    @property
    def warm(self) -> int:
        """Permits that were in use at once before."""
        return self._budget if self._ramp is None else self._ramp.warm

    def ceiling(self, now_s: float) -> int:
        """Permits allowed in use now."""
        if now_s < self._paused_until_s:
            return 0
        if self._ramp is not None and self._ceiling > self._ramp.warm:
            return min(self._ceiling, self._ramp.ceiling(now_s))
        return self._ceiling

    def on_full(self, in_flight: int, now_s: float) -> int:
        """Grow, unless more is in flight than the limit says."""
        if now_s < self._tick_at_s + _TICK_S or self._level >= self._budget:
            return self.ceiling(now_s)
        elapsed_s = min(now_s - self._tick_at_s, _LONGEST_TICK_S)
        self._tick_at_s = now_s
        if now_s < self._paused_until_s or in_flight > self._ceiling or in_flight < self._ceiling:
            return self.ceiling(now_s)
        if self._plateau is None:
            self._level *= 2 ** (elapsed_s / _DOUBLING_S)
        else:
            self._phase += max(
                min(elapsed_s / _PLATEAU_S, self._successes / _PLATEAU_CALLS), elapsed_s / _PLATEAU_LATEST_S
            )
            self._successes = 0
            self._level = self._curve()
        self._level = min(self._level, self._budget)
        self._ceiling = round(self._level)
        return self.ceiling(now_s)

    def _curve(self) -> float:
        assert self._plateau is not None
        drop = (1 - self._keep) * max(self._plateau, _SMALLEST_SCALE)
        return max(1.0, self._plateau + drop * (self._phase - 1) ** 3)

    def on_peak(self, in_flight: int, now_s: float) -> None:
        """New environments were taken."""
        if self._ramp is not None:
            self._ramp.on_peak(in_flight, now_s)

    def on_success(self, sent_at_s: float, now_s: float, in_flight: int) -> None:  # noqa: ARG002 - Limit
        """A call ran: it pays for a part of the next probe."""
        self._successes += 1
        self._pause_s = 0.0

    def on_throttle(
        self,
        kind: ThrottleKind,
        sent_at_s: float,
        now_s: float,
        retry_after_s: float | None = None,
        in_flight: int | None = None,
    ) -> None:
        """Cut the limit, unless the call was sent before the last cut."""
        if kind in (ThrottleKind.RATE, ThrottleKind.WAIT):
            return
        accepted = self._ceiling - 1 if in_flight is None else in_flight
        if sent_at_s < self._cut_at_s:
            # One more of the same event: what Lambda had accepted is one less than was believed.
            if self._plateau is not None and self._phase == 0.0:
                self._plateau = max(0.0, self._plateau - 1)
        else:
            if self._plateau is not None and accepted < self._plateau * 0.95:
                self._plateau = accepted * (1 + _KEEP) / 2
            else:
                self._plateau = float(min(accepted, self._level))
            self._keep = _KEEP if kind is ThrottleKind.CONCURRENCY else _KEEP_UNKNOWN
            self._cut_at_s = self._tick_at_s = now_s
            self._phase = 0.0
            self._successes = 0
        self._level = min(self._level, self._curve())
        self._ceiling = max(min(1, self._budget), round(self._level))
        if not accepted:
            self._pause_s = min(_LONGEST_PAUSE_S, max(_FIRST_PAUSE_S, self._pause_s * 2))
            self._paused_until_s = now_s + self._pause_s
        if retry_after_s:
            self._tick_at_s = max(self._tick_at_s, now_s + retry_after_s)

    def set_budget(self, budget: int, now_s: float, cause: Cause | None = None) -> None:
        """Take a lower one at once; fill a higher one at once unless throttles had set the limit."""
        if budget < 0:
            raise ConfigError(f"budget is {budget!r}: give a whole number from 0")
        if self._level >= self._budget or (cause not in (None, "assumed") and self._cause == "assumed"):
            self._level = float(budget)
            self._plateau = None
        self._budget = budget
        self._cause = cause or self._cause
        self._level = min(self._level, budget)
        self._tick_at_s = max(self._tick_at_s, now_s)
        self._ceiling = round(self._level)

    def cause(self, now_s: float) -> Cause:
        """What sets the ceiling now."""
        if self._ceiling < self._budget or now_s < self._paused_until_s:
            return "assumed" if self._plateau is None else "throttles"
        if self._ramp is not None and self._ramp.ceiling(now_s) < self._ceiling:
            return "ramp"
        return self._cause

    def next_growth_s(self, now_s: float) -> float | None:
        """When the ceiling may grow with no further event."""
        if now_s < self._paused_until_s:
            return self._paused_until_s
        if self._ramp is not None and self._ramp.ceiling(now_s) < self._ceiling:
            return self._ramp.next_growth_s(now_s)
        if self._level < self._budget:
            return max(now_s, self._tick_at_s + _TICK_S)
        return None
