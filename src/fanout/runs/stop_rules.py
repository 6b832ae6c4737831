"""Stop rules: when a run stops before its input ends. Too many failures, too slow, too expensive, enough."""

from __future__ import annotations

import sys
from math import inf

import msgspec

from fanout.errors import ConfigError
from fanout.quantities import count_of, dollars
from fanout.runs.threshold import Threshold
from fanout.stats import Stats

PERCENTAGE_NOT_BEFORE = 100  # outcomes: below that a share says little
CALLS_NOT_BEFORE = 10
_ROUNDING = 1e-9


class StopRules(msgspec.Struct, frozen=True, kw_only=True):
    """Thresholds; None means no threshold. ``deadline_s`` counts from the run's start."""

    tolerated_failure_count: int | None = None
    tolerated_failure_percentage: float | None = None
    max_cost_usd: float | None = None
    enough: int | None = None  # succeeded records
    thresholds: tuple[Threshold, ...] = ()
    aborts_at_thresholds: bool = False

    def __post_init__(self) -> None:
        count, percentage, cost = (
            self.tolerated_failure_count,
            self.tolerated_failure_percentage,
            self.max_cost_usd,
        )
        if count is not None and count < 0:
            raise ConfigError(f"tolerated_failure_count is {count!r}: give a whole number from 0")
        if percentage is not None and not 0 <= percentage <= 100:
            raise ConfigError(f"tolerated_failure_percentage is {percentage!r}: give a number from 0 to 100")
        if cost is not None and not 0 < cost < inf:
            raise ConfigError(f"max_cost is {cost!r}: give US dollars above 0, or none for no cap")
        if self.enough is not None and self.enough < 1:
            raise ConfigError(f"enough is {self.enough!r}: give a whole number from 1")
        if self.aborts_at_thresholds and not self.thresholds:
            raise ConfigError("threshold_abort is given without a threshold: give one")

    @property
    def is_needed(self) -> bool:
        """True if any threshold is set."""
        return (
            self.tolerated_failure_count is not None
            or self.tolerated_failure_percentage is not None
            or self.max_cost_usd is not None
            or self.enough is not None
            or self.aborts_at_thresholds
        )

    def calls_left(self, *, spent_usd: float, in_flight: int, call_usd: float) -> int:
        """The number of further calls below the spending cap, with those in flight at ``call_usd`` each.

        One call may always be out, so that a small cap cannot lock a run.
        """
        cap = self.max_cost_usd
        if cap is None:
            return sys.maxsize
        left_usd = cap - spent_usd - in_flight * call_usd
        count = sys.maxsize if not call_usd and left_usd >= 0 else 0
        if call_usd and left_usd > 0:
            count = int(min(left_usd / call_usd * (1 + _ROUNDING), sys.maxsize))
        return max(count, 0 if in_flight else 1)

    def broken_thresholds(self, stats: Stats) -> list[str]:
        """The thresholds that do not hold, in words."""
        return [said for each in self.thresholds if (said := each.broken_by(stats)) is not None]

    def stop_for(self, stats: Stats) -> tuple[str, str] | None:
        """A reason to stop in what the whole run did: enough succeeded, or a threshold; None: go on."""
        if self.enough is not None and stats.done - stats.failed >= self.enough:
            return "enough", enough_said(self.enough)
        if self.aborts_at_thresholds and (broken := self.broken_thresholds(stats)):
            return "threshold", broken[0]
        return None

    def broken_by(
        self, *, failed: int, finished: int, cost_usd: float | None, calls: int = CALLS_NOT_BEFORE
    ) -> tuple[str, str] | None:
        """The rule that is broken (``threshold`` or ``cost``) and how, in words; None while all hold.

        A share of failures counts from 100 outcomes on, as in "failed > share of finished", and from
        ten calls: one batch of 100 that fails says little.
        """
        count, percentage = self.tolerated_failure_count, self.tolerated_failure_percentage
        if count is not None and failed > count:
            return "threshold", f"{count_of(failed, 'record')} failed, {count:,} are tolerated"
        if percentage is not None and finished >= PERCENTAGE_NOT_BEFORE and calls >= CALLS_NOT_BEFORE:
            share = 100.0 * failed / finished
            if share > percentage:
                return "threshold", f"{share:.1f} % of records failed, {percentage:g} % are tolerated"
        if self.max_cost_usd is not None and cost_usd is not None and cost_usd >= self.max_cost_usd:
            return "cost", f"{dollars(cost_usd)} spent, {dollars(self.max_cost_usd)} allowed"
        return None


def enough_said(enough: int) -> str:
    """The reason of a run that stops as it has enough, in words."""
    return f"{count_of(enough, 'record has', 'records have')} succeeded"
