"""When a run stops before its input ends: too many failures, too late, too dear."""

from __future__ import annotations

from dataclasses import dataclass

from fanout.errors import ConfigError
from fanout.quantities import dollars

PERCENTAGE_NOT_BEFORE = 100  # outcomes: below that a share says little


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRules:
    """Thresholds; None means no threshold. ``deadline_s`` counts from the run's start."""

    tolerated_failure_count: int | None = None
    tolerated_failure_percentage: float | None = None
    max_cost_usd: float | None = None

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
        if cost is not None and not cost > 0:
            raise ConfigError(f"max_cost is {cost!r}: give more than 0 US dollars")

    @property
    def is_needed(self) -> bool:
        """Whether any threshold is set."""
        return (
            self.tolerated_failure_count is not None
            or self.tolerated_failure_percentage is not None
            or self.max_cost_usd is not None
        )

    def broken_by(self, *, failed: int, finished: int, cost_usd: float | None) -> tuple[str, str] | None:
        """Which rule is broken (``threshold`` or ``cost``) and how, in words; None while all hold.

        A share of failures counts from 100 outcomes on, as in "failed > share of finished".
        """
        count, percentage = self.tolerated_failure_count, self.tolerated_failure_percentage
        if count is not None and failed > count:
            return "threshold", f"{failed:,} records failed, {count:,} are tolerated"
        if percentage is not None and finished >= PERCENTAGE_NOT_BEFORE:
            share = 100.0 * failed / finished
            if share > percentage:
                return "threshold", f"{share:.1f} % of records failed, {percentage:g} % are tolerated"
        if self.max_cost_usd is not None and cost_usd is not None and cost_usd >= self.max_cost_usd:
            return "cost", f"{dollars(cost_usd)} spent, {dollars(self.max_cost_usd)} allowed"
        return None
