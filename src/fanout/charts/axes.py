"""Axes of the drawings: where a value stands, and which ticks label the way there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil, floor, log10

from fanout.quantities import milliseconds, number

_MOST_TICKS = 6
_TIME_STEPS = {  # by unit, in seconds: what a clock is read in
    "s": (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60),
    "min": (30, 60, 120, 300, 600, 900, 1200, 1800, 3600),
    "h": (1800, 3600, 7200, 10800, 21600, 43200, 86400),
}
_UNIT_S = {"s": 1, "min": 60, "h": 3600}


@dataclass(frozen=True, slots=True)
class Axis:
    """A scale from ``low`` to ``high``, linear or logarithmic, with its labelled ticks."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    is_log: bool = False

    def at(self, value: float) -> float:
        """The share of the way from ``low`` (0) to ``high`` (1); values beyond an end stand on it."""
        if self.is_log:
            low, high, value = log10(self.low), log10(self.high), log10(max(value, self.low))
        else:
            low, high = self.low, self.high
        return min(max((value - low) / (high - low), 0.0), 1.0)

    def places(self) -> Iterator[tuple[float, str]]:
        """Each tick's share of the way, and its label."""
        return ((self.at(value), label) for value, label in self.ticks)


def count_axis(most: float, label: Callable[[float], str] = number) -> Axis:
    """From 0 to a round number at or above ``most``."""
    step = _round_step(max(most, 1e-9) / (_MOST_TICKS - 1))
    steps = max(1, ceil(most / step - 1e-9))
    ticks = tuple((i * step, label(round(i * step, 9))) for i in range(steps + 1))
    return Axis(0.0, steps * step, ticks)


def time_axis(longest_s: float) -> Axis:
    """Running time from 0 to ``longest_s``, in seconds, minutes or hours."""
    longest_s = max(longest_s, 0.1)
    unit = "h" if longest_s > 7200 else "min" if longest_s > 180 else "s"
    steps = _TIME_STEPS[unit]
    step = next((each for each in steps if longest_s / each <= _MOST_TICKS), 0.0)
    if not step:
        step = ceil(longest_s / _MOST_TICKS / steps[-1]) * steps[-1]
    last = floor(longest_s / step + 1e-9)
    ticks = tuple((i * step, f"{round(i * step / _UNIT_S[unit], 1):g} {unit}") for i in range(last + 1))
    return Axis(0.0, longest_s, ticks)


def latency_axis(least_ms: float, most_ms: float) -> Axis:
    """Logarithmic, with ticks at round parts of each power of ten, as many as there is room for."""
    low = max(least_ms, 0.001)
    high = max(most_ms, low * 1.2)
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    for digits in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        values = [digit * 10.0**power for power in powers for digit in digits]
        inside = [value for value in values if low <= value <= high]
        if len(inside) <= _MOST_TICKS + 1:
            break
    return Axis(low, high, tuple((value, _short_ms(value)) for value in inside), is_log=True)


def _short_ms(value: float) -> str:
    if value >= 1000:
        return f"{value / 1000:g}s"
    return f"{value:g}ms" if value < 10 else milliseconds(value)


def _round_step(least: float) -> float:
    power = 10.0 ** floor(log10(least))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= least * 0.999)
