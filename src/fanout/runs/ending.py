"""How a run ended: its state in run.json, and its exit code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fanout.model import OK_STATUSES
from fanout.stats import Stats

EXIT_OK = 0
EXIT_FAILURES = 1
EXIT_USAGE = 2
EXIT_THRESHOLD = 3
EXIT_FATAL = 4
EXIT_BOUND = 5
EXIT_CLOSED_PIPE = 141

# why a run stopped -> its state and its exit code
_STOPS: dict[str, tuple[str, int]] = {
    "threshold": ("halted", EXIT_THRESHOLD),
    "deadline": ("halted", EXIT_BOUND),
    "cost": ("halted", EXIT_BOUND),
    "journal": ("halted", EXIT_BOUND),
    "source": ("halted", EXIT_USAGE),
    "fatal": ("fatal", EXIT_FATAL),
    "sigint": ("interrupted", 130),
    "sigterm": ("interrupted", 143),
    "sighup": ("interrupted", 129),
    "pipe": ("interrupted", EXIT_CLOSED_PIPE),
}


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a run stops before its input ends. ``reason`` is a key of the table above."""

    reason: str
    message: str = ""


@dataclass(slots=True, kw_only=True)
class RunResult:
    """What is known when a run has ended. ``counts`` are of the latest outcome of each record."""

    state: str
    exit_code: int
    stop: Stop | None
    counts: dict[str, int]
    records_read: int
    is_input_exhausted: bool
    records_total: int | None  # of the input, where that is certain
    input_share: float | None  # of its bytes whose records are finished, while it is being read
    started_s: float  # Unix time
    elapsed_s: float
    stats: Stats
    directory: Path | None = None
    meta: dict[str, object] = field(default_factory=dict)  # of the function: memory, timeout, limit …


def ending(stop: Stop | None, counts: Mapping[str, int]) -> tuple[str, int]:
    """State and exit code of a run. Pure."""
    if stop is not None:
        return _STOPS[stop.reason]
    failed = sum(count for status, count in counts.items() if status not in OK_STATUSES)
    return "finished", EXIT_FAILURES if failed else EXIT_OK
