"""What the account allows: limits read from Lambda's APIs, and the budget that follows from them."""

from __future__ import annotations

from fanout.quotas.concurrency_file import ConcurrencyFile
from fanout.quotas.decide import Figure, Quotas, assumed
from fanout.quotas.discover import discover, watch

__all__ = ["ConcurrencyFile", "Figure", "Quotas", "assumed", "discover", "watch"]
