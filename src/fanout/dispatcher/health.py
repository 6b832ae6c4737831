"""The health of a dispatcher: figures for checks and dashboards of a service."""

from __future__ import annotations

import msgspec

from fanout.dispatcher.hooks import Hooks
from fanout.model import Outcome


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """One moment of a dispatcher.

    ``in_flight`` calls are out; ``lingering`` permits belong to calls whose reply was lost, for
    ``lingering_for_s`` seconds at the most; ``limit`` is how many may be out, and ``cause`` why;
    ``rate_per_s`` None is no bound; ``queued`` calls and inputs wait for their turn, ``waiting`` calls for
    another attempt. ``counts`` by status and ``throttles`` are since the dispatcher was entered.
    """

    in_flight: int
    lingering: int
    lingering_for_s: float | None
    limit: float
    cause: str
    rate_per_s: float | None
    queued: int
    waiting: int
    counts: dict[str, int]
    throttles: int


class HealthCount(Hooks):
    """Counts what became of a dispatcher's calls."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.throttles = 0

    def on_outcome(self, outcome: Outcome, span: object = None) -> None:  # noqa: ARG002 - as telemetry
        """One record has its outcome."""
        try:
            self.counts[outcome.status] += 1
        except KeyError:
            self.counts[outcome.status] = 1

    def on_throttle(self, reason: str) -> None:  # noqa: ARG002 - Hooks has it
        self.throttles += 1
