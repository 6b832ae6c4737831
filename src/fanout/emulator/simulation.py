"""Simulated functions: latency, faults and output, drawn from a seed.

Pure: ``draw`` decides, the caller sleeps and answers. Two random numbers per call, in order of
arrival, whatever the outcome: with one seed, the n-th call of a function always fares the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from fanout.emulator.lifecycle import Window

SIMULATED_TIMEOUT_S = 900.0


class Fault(Enum):
    """A fault of one simulated call."""

    NONE = "none"
    ERROR = "function error"
    LOST = "reply lost"
    RESET = "connection reset"
    STATUS = "HTTP status"
    THROTTLED = "throttled"


@dataclass(frozen=True, slots=True)
class Draw:
    """One call's fate. ``status`` is set with ``Fault.STATUS`` only: that call does not run."""

    latency_s: float
    fault: Fault
    status: int = 0


@dataclass(slots=True, kw_only=True)
class Simulation:
    """A function that needs no code. Rates are 0 to 1, and together at most 1."""

    name: str = "simulated"
    latency: Callable[[float], float] = lambda u: 0.0  # noqa: ARG005, E731, RUF100
    init_s: float = 0.0
    error_rate: float = 0.0
    error_type: str = "SimulatedError"
    error_message: str = "simulated failure"
    lost_rate: float = 0.0
    runs_on_s: float = 0.0
    reset_rate: float = 0.0
    throttle_rate: float = 0.0
    status_rates: dict[int, float] = field(default_factory=dict)
    output: bytes | None = None
    chunks: int = 1
    concurrency: int | None = None
    timeout_s: float = SIMULATED_TIMEOUT_S
    memory_mb: int = 128
    versions: int = 0
    aliases: dict[str, str] = field(default_factory=dict)
    pending_s: float = 0.0
    inactive_s: float = 0.0
    failed: str = ""
    outages: tuple[Window, ...] = ()
    refusals: tuple[Window, ...] = ()
    poison_rate: float = 0.0
    item_error_rate: float = 0.0
    durable_s: float | None = None
    retention_s: float | None = None
    on_success: str = ""
    on_failure: str = ""
    dead_letter: str = ""
    event_retries: int | None = None
    event_age_s: float | None = None

    def faults(self) -> list[tuple[float, Fault, int]]:
        """Lay the faults out on 0 to 1: each with the upper end of its share."""
        upper, table = 0.0, []
        shares = [
            (self.error_rate, Fault.ERROR, 0),
            (self.lost_rate, Fault.LOST, 0),
            (self.reset_rate, Fault.RESET, 0),
            (self.throttle_rate, Fault.THROTTLED, 0),
        ]
        shares += [(rate, Fault.STATUS, status) for status, rate in self.status_rates.items()]
        for rate, fault, status in shares:
            if rate:
                upper += rate
                table.append((upper, fault, status))
        return table


class Dice:
    """Draws the fates of one simulated function's calls."""

    __slots__ = ("_faults", "_latency", "_random")

    def __init__(self, simulation: Simulation, seed: int) -> None:
        self._latency = simulation.latency
        self._faults = simulation.faults()
        self._random = random.Random(f"{seed}:{simulation.name}").random  # noqa: S311 - a simulation, no secret

    def draw(self) -> Draw:
        """Decide the next call."""
        latency_s = self._latency(self._random())
        chance = self._random()
        for upper, fault, status in self._faults:
            if chance < upper:
                return Draw(latency_s, fault, status)
        return Draw(latency_s, Fault.NONE)
