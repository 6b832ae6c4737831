"""The adaptive limit on calls in flight: within budget and ramp, as high as Lambda accepts."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fanout.errors import ConfigError
from fanout.limit.protocol import Cause
from fanout.limit.ramp import Scaling
from fanout.model import ThrottleKind

# Chosen by measurement: ``python -m benchmarks.limits --sweep``, docs/limits.md.
START = 10.0  # of an assumed budget
DOUBLING_S = 0.5  # until the first throttle
KEEP = 0.8  # of what was accepted, after a throttle, when the budget is assumed
SHARE_CUT = 0.5  # a known budget: the cut is this much of one's share of it
SHARE_FORGET = 0.3  # and of a share above half, this much is not won back at once
PLATEAU_S = 1.0  # from a cut back to what was accepted
PLATEAU_CALLS = 50  # but, of an assumed budget, not before so many calls have paid for the next probe
PLATEAU_LATEST_S = 3.0  # however few there are
STRAY_SHARE = 0.01  # of calls: refused below a known limit so rarely, they are strays and cut nothing
STRAYS_MOST = 3.0  # in a row, and those of so many seconds of calls on top
STRAYS_S = 0.08
STRAYS_AHEAD = 0.03  # of the budget: for the first calls, which all come at once
_MEASURE_S = 0.25
_PAID_AT_ONCE = 16
GROWTH = 0.3  # beyond the plateau, of the scale, after one more PLATEAU_S
TICK_S = 0.01
_LONGEST_TICK_S = 0.1
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.5


class AdaptiveLimit:
    """The smallest of a budget, Lambda's scaling ramp, and a level learned from throttles.

    A throttle tells exactly how much Lambda had accepted: the calls in flight without the refused
    ones. That becomes the *plateau*. The level is cut below it, to leave room for others, returns to
    it fast at first and ever slower, and probes beyond it slowly at first and ever faster: a cubic,
    as in CUBIC (Ha, Rhee and Xu, 2008; RFC 9438), because the answer is most likely still the same.
    Time is the clock, not round trips: a refusal comes back at once, however long the calls take.

    - A known budget is filled from the first moment. A throttle below it means that somebody else
      uses the rest: the cut is proportional to one's share of the budget, and growth beyond the
      plateau is the same for all, so that clients meet at equal shares (Chiu and Jain, 1989).
    - An assumed budget starts at 10 and doubles every half second until the first throttle; then a
      probe must be paid for by 50 calls that ran, which keeps refused attempts near 1 %.
    - At most one cut per round trip: a throttle of a call sent before the last cut only lowers what
      had been accepted by one.
    - Lambda counts on many hosts, and refuses a call now and then far below its limit. A wall refuses
      whatever is sent above it, a stray refusal is followed by calls that run at as many in flight. So
      of a known budget, each call that ran while the level held calls back earns a hundredth of a
      refusal, up to three (more when there are many calls a second, and, while the level is the budget, a
      hundredth of it), and a refusal that is so paid for changes nothing. The first calls pay ahead. A
      wall spends that within a few calls.
    - The level grows only while it is what holds calls back (``on_full``), and stands still while
      more is in flight than it says.
    - When nothing at all was accepted, and when Lambda says to wait, admission pauses: from 20 ms
      doubling to half a second.

    Never reads a clock.
    """

    __slots__ = (
        "_budget",
        "_cause",
        "_ceiling",
        "_cut_at_s",
        "_full_at_s",
        "_keep",
        "_level",
        "_measured_at_s",
        "_paid",
        "_paid_since",
        "_pause_s",
        "_paused_until_s",
        "_phase",
        "_plateau",
        "_ramp",
        "_strays",
        "_strays_most",
        "_successes",
        "_tick_at_s",
        "_warm",
        "peak",
        "peak_until_s",
    )

    def __init__(self, budget: int, *, cause: Cause = "fixed", ramp: Scaling | None = None) -> None:
        """``cause`` names where the budget came from; ``"assumed"`` makes it start low."""
        self._budget = _checked(budget)
        self._cause: Cause = cause
        self._ramp = ramp
        self._level = min(START, budget) if cause == "assumed" else float(budget)
        self._ceiling = round(self._level)
        self._plateau: float | None = None  # None until the first throttle
        self._phase = 0.0  # 0 at the cut, 1 on the plateau, beyond it when probing
        self._keep = KEEP
        self._successes = 0  # since the last tick
        # Refusals that the calls which ran have paid for; the first of them pay ahead.
        self._strays_most = STRAYS_MOST
        self._strays = min(STRAYS_MOST + STRAY_SHARE * budget, STRAYS_AHEAD * budget)
        self._paid = 0  # calls that ran at a full level since ``_measured_at_s``
        self._paid_since = 0
        self._measured_at_s = float("-inf")
        self._cut_at_s = float("-inf")
        self._full_at_s = float("-inf")  # the last moment at which the level held calls back
        self._tick_at_s = float("-inf")
        self._pause_s = 0.0
        self._paused_until_s = float("-inf")
        self._warm = sys.maxsize if ramp is None else ramp.warm  # what the ramp allowed, at the least
        self.peak = sys.maxsize if ramp is None else ramp.peak
        self.peak_until_s = float("inf") if ramp is None else ramp.peak_until_s

    @property
    def budget(self) -> int:
        """The most that may ever be in flight."""
        return self._budget

    def ceiling(self, now_s: float) -> int:
        """Permits allowed in use now."""
        if now_s < self._paused_until_s:
            return 0
        ceiling = self._ceiling
        if ceiling > self._warm:
            assert self._ramp is not None
            allowed = self._ramp.ceiling(now_s)
            if allowed < ceiling:
                return allowed
            self._warm = allowed  # it falls when a peak is noted, and then alone
        return ceiling

    def on_full(self, in_flight: int, now_s: float) -> bool:
        """Grow, unless something else holds the calls back. Returns whether it has grown."""
        if in_flight >= self._ceiling:
            self._full_at_s = now_s
        if self._level >= self._budget or (elapsed_s := now_s - self._tick_at_s) < TICK_S:
            return False
        self._tick_at_s = now_s
        if in_flight != self._ceiling or now_s < self._paused_until_s:
            return False
        self._grow(min(elapsed_s, _LONGEST_TICK_S))
        return True

    def on_peak(self, in_flight: int, now_s: float) -> None:
        """New environments were taken."""
        if self._ramp is not None:
            self._ramp.on_peak(in_flight, now_s)
            self.peak, self.peak_until_s = self._ramp.peak, self._ramp.peak_until_s
            self._warm = self._ramp.warm

    def on_successes(self, sent_at_s: Sequence[float], now_s: float, in_flight: int) -> None:
        """Count calls that ran: they pay for a part of the next probe, or of a stray refusal."""
        self._successes += len(sent_at_s)
        self._pause_s = 0.0
        if in_flight >= self._ceiling:  # also for those that end with them, before others take their place
            self._full_at_s = now_s
            self._paid += len(sent_at_s)
        else:
            full_at_s = self._full_at_s
            for each_s in sent_at_s:
                self._paid += each_s <= full_at_s
        if self._paid >= _PAID_AT_ONCE:
            self._pay(now_s)

    def on_throttle(
        self,
        kind: ThrottleKind,
        sent_at_s: float,
        now_s: float,
        retry_after_s: float | None = None,
        in_flight: int | None = None,
    ) -> None:
        """Cut the level, unless the call was sent before the last cut.

        An unknown kind cuts half as deep; rate throttles are left to the pacer; a wait pauses admission.
        With Retry-After the level does not grow until then.
        """
        if retry_after_s:
            self._tick_at_s = max(self._tick_at_s, now_s + retry_after_s)
        if kind is ThrottleKind.RATE:
            return
        if kind is ThrottleKind.WAIT:
            self._pause(sent_at_s, now_s, retry_after_s or 0.0)
            return
        if self._is_stray(now_s):
            return
        accepted = self._ceiling - 1 if in_flight is None else in_flight
        if sent_at_s >= self._cut_at_s or self._plateau is None:
            self._cut(min(accepted, self._level), is_gentle=kind is ThrottleKind.UNKNOWN)
            self._cut_at_s = now_s
            self._tick_at_s = max(self._tick_at_s, now_s)
        elif self._phase == self._first_phase():
            self._plateau = max(0.0, self._plateau - 1)
        else:
            return  # it has grown since: an answer that comes as late as this says nothing
        self._phase = self._first_phase()
        self._set_level(min(self._level, self._curve()))
        if accepted <= 0:
            self._pause(sent_at_s, now_s)

    def set_budget(self, budget: int, now_s: float, cause: Cause | None = None) -> None:
        """Take a lower budget at once, and fill a higher one at once unless throttles set the level."""
        was_at_budget = self._level >= self._budget
        is_found = self._cause == "assumed" and cause not in (None, "assumed")
        self._budget = _checked(budget)
        self._cause = cause or self._cause
        if is_found or (was_at_budget and self._cause != "assumed"):
            self._plateau = None
            self._level = float(budget)
        if is_found:
            self._strays = min(self._strays, STRAYS_AHEAD * budget)
        self._tick_at_s = max(self._tick_at_s, now_s)
        self._set_level(self._level)

    def cause(self, now_s: float) -> Cause:
        """The cause that sets the ceiling now."""
        if now_s < self._paused_until_s:
            return "throttles"
        if self._ramp is not None and self._ramp.ceiling(now_s) < self._ceiling:
            return "ramp"
        if self._ceiling < self._budget and self._plateau is not None:
            return "throttles"
        return self._cause

    def next_growth_s(self, now_s: float) -> float | None:
        """The moment at which the ceiling may grow with no event, while it keeps calls back; None: never."""
        if now_s < self._paused_until_s:
            return self._paused_until_s
        if self._ramp is not None and self._ramp.ceiling(now_s) < self._ceiling:
            return self._ramp.next_growth_s(now_s)
        if self._level < self._budget:
            return max(now_s, self._tick_at_s + TICK_S)
        return None

    @property
    def _is_assumed(self) -> bool:
        return self._cause == "assumed"

    def _pay(self, now_s: float) -> None:
        """Turn the calls that ran into refusals that may be strays."""
        elapsed_s = now_s - self._measured_at_s
        if elapsed_s >= _MEASURE_S:
            pace = self._paid_since / elapsed_s
            self._strays_most = STRAYS_MOST + STRAY_SHARE * STRAYS_S * pace
            self._measured_at_s, self._paid_since = now_s, 0
        self._paid_since += self._paid
        most = self._strays_most
        if self._level >= self._budget:  # below it there is a wall, more likely than not
            most += STRAY_SHARE * self._budget  # calls come in bunches: of the whole budget at the most
        self._strays = min(most, self._strays + STRAY_SHARE * self._paid)
        self._paid = 0

    def _is_stray(self, now_s: float) -> bool:
        """True for a refusal so rare that it says nothing; takes what paid for it."""
        if self._is_assumed:
            return False
        if self._paid:
            self._pay(now_s)
        if self._strays < 1.0:
            return False
        self._strays -= 1.0
        return True

    def _pause(self, sent_at_s: float, now_s: float, least_s: float = 0.0) -> None:
        if sent_at_s >= self._paused_until_s:  # once per round trip
            self._pause_s = min(_LONGEST_PAUSE_S, max(_FIRST_PAUSE_S, self._pause_s * 2))
            self._paused_until_s = now_s + max(self._pause_s, least_s)

    def _cut(self, accepted: float, *, is_gentle: bool) -> None:
        self._plateau, self._successes = accepted, 0
        self._keep = KEEP
        if not self._is_assumed:
            share = accepted / max(1, self._budget)
            self._keep = 1 - SHARE_CUT * share
            self._plateau *= 1 - SHARE_FORGET * max(0.0, share - 0.5)
        if is_gentle:
            self._keep = (1 + self._keep) / 2

    def _grow(self, elapsed_s: float) -> None:
        if self._plateau is None:
            self._set_level(self._level * 2 ** (elapsed_s / DOUBLING_S))
            return
        step = elapsed_s / PLATEAU_S
        if self._is_assumed:
            step = max(min(step, self._successes / PLATEAU_CALLS), elapsed_s / PLATEAU_LATEST_S)
        self._successes = 0
        self._phase += step
        self._set_level(self._curve())

    def _curve(self) -> float:
        assert self._plateau is not None
        if self._phase < 1:
            scale = (1 - self._keep) * self._plateau
        elif self._is_assumed:
            # Between a constant, which is fair, and a share of the plateau, which finds large limits in time.
            scale = GROWTH * (2 + (50 * self._plateau) ** 0.5)
        else:
            scale = GROWTH * self._budget
        return self._plateau + scale * (self._phase - 1) ** 3

    def _first_phase(self) -> float:
        """The phase of a cut: on the plateau at once when that is so low that there is nothing to cut."""
        assert self._plateau is not None
        return 0.0 if self._keep * self._plateau >= 1 else 1.0

    def _set_level(self, level: float) -> None:
        self._level = min(max(1.0, level), self._budget)
        self._ceiling = round(self._level)


def _checked(budget: int) -> int:
    if budget < 0:
        raise ConfigError(f"budget is {budget!r}: give a whole number from 0")
    return budget
