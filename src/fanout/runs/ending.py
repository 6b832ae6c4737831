"""How a run ended: its state in run.json, and its exit code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fanout import exit_codes
from fanout.model import OK_STATUSES
from fanout.stats import Stats

# why a run stopped -> its state and its exit code
_STOPS: dict[str, tuple[str, int]] = {
    "threshold": ("halted", exit_codes.THRESHOLD),
    "deadline": ("halted", exit_codes.BOUND),
    "cost": ("halted", exit_codes.BOUND),
    "journal": ("halted", exit_codes.BOUND),
    "source": ("halted", exit_codes.USAGE),
    "fatal": ("fatal", exit_codes.FATAL),
    "sigint": ("interrupted", exit_codes.SIGINT),
    "sigterm": ("interrupted", exit_codes.SIGTERM),
    "sighup": ("interrupted", exit_codes.SIGHUP),
    "pipe": ("interrupted", exit_codes.CLOSED_PIPE),
    "pending": ("halted", exit_codes.BOUND),
}


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a run stops before its input ends. ``reason`` is a key of the table above."""

    reason: str
    message: str = ""


PENDING = Stop("pending", "some records that were read have no outcome")


@dataclass(slots=True, kw_only=True)
class RunResult:
    """What is known when a run has ended. ``counts`` are of the latest outcome of each record."""

    state: str
    exit_code: int
    stop: Stop | None
    counts: dict[str, int]
    records_read: int
    pending: int  # records read that have no outcome
    is_input_exhausted: bool
    records_total: int | None  # of the input, where that is certain
    input_share: float | None  # of its bytes whose records are finished, while it is being read
    started_s: float  # Unix time
    elapsed_s: float
    stats: Stats
    directory: Path | None = None
    meta: dict[str, object] = field(default_factory=dict)  # of the function: memory, timeout, limit …


def ending(stop: Stop | None, counts: Mapping[str, int], pending: int = 0) -> tuple[str, int]:
    """State and exit code of a run. Pure. No run with a pending record is finished, or exits 0."""
    if stop is None and pending:
        stop = PENDING
    if stop is not None:
        return _STOPS[stop.reason]
    failed = sum(count for status, count in counts.items() if status not in OK_STATUSES)
    return "finished", exit_codes.FAILURES if failed else exit_codes.OK
