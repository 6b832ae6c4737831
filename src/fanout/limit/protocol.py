"""The Protocol between the gate and a limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from fanout.model import ThrottleKind

Cause = Literal[
    "fixed", "reserved", "account", "provisioned", "managed", "assumed", "throttles", "ramp", "width", "left"
]


class Limit(Protocol):
    """A ceiling on permits in use, which learns from what became of each call.

    The gate is the only caller of everything but ``set_budget`` and ``cause``.
    """

    peak: int
    """``on_peak`` is called when more permits than these are in use."""
    peak_until_s: float
    """And by the first call from this time on, whatever is in use."""

    def ceiling(self, now_s: float) -> int:
        """Permits allowed in use now. Cheap; never negative."""

    def on_full(self, in_flight: int, now_s: float) -> bool:
        """The limit alone keeps a call back: the only time to grow. Returns whether it has grown."""

    def on_peak(self, in_flight: int, now_s: float) -> None:
        """A permit was taken, and ``peak`` or ``peak_until_s`` asked for it."""

    def on_successes(self, sent_at_s: Sequence[float], now_s: float, in_flight: int) -> None:
        """Calls ran that end together. ``in_flight`` counts the permits in use with them."""

    def on_throttle(
        self,
        kind: ThrottleKind,
        sent_at_s: float,
        now_s: float,
        retry_after_s: float | None = None,
        in_flight: int | None = None,
    ) -> None:
        """A call was refused with 429. ``in_flight`` counts the permits in use without it."""

    def set_budget(self, budget: int, now_s: float, cause: Cause | None = None) -> None:
        """The most that may ever be in flight has changed."""

    def cause(self, now_s: float) -> Cause:
        """The cause that sets the ceiling now."""

    def next_growth_s(self, now_s: float) -> float | None:
        """The moment at which the ceiling may grow with no event, while it keeps calls back; None: never."""
