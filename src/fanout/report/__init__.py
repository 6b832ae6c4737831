"""The report of a run: as figures, as text, as a page, and in dollars."""

from __future__ import annotations

from fanout.cost import CostEstimate, CostMeter, Prices, load_prices, meter_of
from fanout.report.summary import RunReport

__all__ = ["CostEstimate", "CostMeter", "Prices", "RunReport", "load_prices", "meter_of"]
