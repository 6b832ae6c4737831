"""Thresholds on how a run goes: ``p95<500ms``, ``mean<1s``, ``failure_rate<1%``. Pure."""

from __future__ import annotations

import re

import msgspec

from fanout.errors import ConfigError
from fanout.quantities import milliseconds
from fanout.stats import Stats

CALLS_NOT_BEFORE = 100  # below that the first cold starts decide
_FORM = re.compile(r"\s*(p\d{1,2}(?:\.\d)?|mean|max|failure_rate)\s*<\s*(\d+(?:\.\d+)?)\s*(ms|s|m|%)\s*")
_UNITS_MS = {"ms": 1.0, "s": 1_000.0, "m": 60_000.0}
_ALLOWED = "such as p95<500ms, p99.9<2s, mean<1s, max<30s or failure_rate<1%"


class Threshold(msgspec.Struct, frozen=True):
    """``name`` must be below ``bound``: milliseconds of a call's duration, or a percentage of records."""

    text: str
    name: str
    bound: float

    def broken_by(self, stats: Stats) -> str | None:
        """The way in which it does not hold, in words; None while it holds, and before 100 calls."""
        if stats.latencies.count < CALLS_NOT_BEFORE:
            return None
        value = self._value(stats)
        if value < self.bound:
            return None
        found = f"{value:.2g} %" if self.name == "failure_rate" else milliseconds(value)
        return f"threshold {self.text} does not hold: {self.name} is {found}"

    def measured(self, stats: Stats) -> dict[str, object]:
        """The rule, what was measured (milliseconds, or a share of records; None too early), if it holds."""
        value = self._value(stats) if stats.latencies.count >= CALLS_NOT_BEFORE else None
        if value is not None and self.name == "failure_rate":
            value /= 100
        return {"rule": self.text, "value": value, "holds": self.broken_by(stats) is None}

    def _value(self, stats: Stats) -> float:
        if self.name == "failure_rate":
            return 100.0 * stats.failed / stats.done if stats.done else 0.0
        if self.name == "mean":
            return stats.latencies.sum_ms / stats.latencies.count
        if self.name == "max":
            return stats.latencies.most_ms
        return stats.latencies.quantiles_ms((float(self.name[1:]) / 100.0,))[0]


def parse_threshold(text: str) -> Threshold:
    """Read a threshold. Raises ConfigError for anything else."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise ConfigError(f"threshold is {text!r}: give {_ALLOWED}")
    name, number, unit = found.groups()
    if (name == "failure_rate") != (unit == "%") or (name.startswith("p") and float(name[1:]) <= 0):
        raise ConfigError(f"threshold is {text!r}: give {_ALLOWED}")
    bound = float(number) * _UNITS_MS.get(unit, 1.0)
    if not bound > 0:
        raise ConfigError(f"threshold is {text!r}: give a bound of more than 0")
    if unit == "%" and bound > 100:
        raise ConfigError(f"threshold is {text!r}: give at the most 100%")
    return Threshold("".join(text.split()), name, bound)
