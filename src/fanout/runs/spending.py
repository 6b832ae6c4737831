"""The spending of a run: what it has cost so far, and what one more call may cost."""

from __future__ import annotations

from fanout.cost import CostEstimate, CostMeter, Prices
from fanout.dispatcher import IntakeDispatcher
from fanout.outcome_split import SplitOutcomes


class Spending:
    """Adds up what outcomes cost, from ``begin`` on. ``before``: what earlier sessions had spent."""

    def __init__(self, prices: dict[str, Prices], *, before: CostMeter | None = None) -> None:
        self._prices = prices
        self._before = before
        self._meter: CostMeter | None = None
        self._call_timeout_s = 0.0

    def begin(self, dispatcher: IntakeDispatcher) -> None:
        """The function's memory and Region are known now."""
        quotas = dispatcher.budget.quotas
        self._call_timeout_s = dispatcher.budget.call_timeout_s
        self._meter = CostMeter(
            region=dispatcher.budget.region,
            architecture=quotas.architecture or "x86_64",
            memory_mb=quotas.memory_mb,
            storage_mb=quotas.ephemeral_mb or 512,
            invocation_type=dispatcher.options.invocation_type,
            prices=self._prices,
            unpriced=quotas.unpriced,
        )
        if self._before is not None:
            self._meter.carry_on(self._before)

    def add(self, split: SplitOutcomes) -> None:
        """Charge outcomes of this session."""
        if self._meter is not None:
            self._meter.add_plain(split.plain)
            self._meter.add_many(split.special)

    @property
    def meter(self) -> CostMeter | None:
        """The meter that adds up; None before ``begin``."""
        return self._meter

    @property
    def usd(self) -> float | None:
        """The US dollars spent so far; None where that is not known."""
        return None if self._meter is None or self._meter.unpriced else self._meter.usd

    @property
    def call_usd(self) -> float:
        """The likely cost of one more call, in US dollars; before the first reply, the highest possible."""
        meter = self._meter
        if meter is None:
            return 0.0
        mean_usd = meter.mean_usd
        return meter.most_usd(self._call_timeout_s) if mean_usd is None else mean_usd

    def estimate(self) -> CostEstimate | None:
        """The sum, with what it rests on; None before the first call could be made."""
        return None if self._meter is None else self._meter.estimate()
