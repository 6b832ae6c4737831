"""The result of a run: its state in run.json, and its exit code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from fanout import exit_codes
from fanout.errors import EndsEarly, JournalError, SourceError, WorkersLost
from fanout.model import OK_STATUSES
from fanout.stats import Stats

# why a run stopped -> its state and its exit code
STOPS: dict[str, tuple[str, int]] = {
    "threshold": ("halted", exit_codes.THRESHOLD),
    "deadline": ("halted", exit_codes.BOUND),
    "cost": ("halted", exit_codes.BOUND),
    "enough": ("halted", exit_codes.OK),
    "journal": ("halted", exit_codes.BOUND),
    "source": ("halted", exit_codes.USAGE),
    "workers": ("halted", exit_codes.BOUND),
    "fatal": ("fatal", exit_codes.FATAL),
    "sigint": ("interrupted", exit_codes.SIGINT),
    "sigterm": ("interrupted", exit_codes.SIGTERM),
    "sighup": ("interrupted", exit_codes.SIGHUP),
    "pipe": ("interrupted", exit_codes.CLOSED_PIPE),
    "outage": ("halted", exit_codes.BOUND),
    "pending": ("halted", exit_codes.BOUND),
}


class Stop(msgspec.Struct, frozen=True):
    """The reason why a run stops before its input ends. ``reason`` is a key of the table above."""

    reason: str
    message: str = ""
    may_resume: bool = True  # as things are; else what is left takes another run


class Shortfall(msgspec.Struct, frozen=True):
    """A goal that an ended run fell short of, in words, and the exit code that follows."""

    exit_code: int
    message: str


PENDING = Stop("pending", "some records that were read have no outcome")


class RunResult(msgspec.Struct, kw_only=True):
    """The result of a run that has ended. ``counts`` are of the latest outcome of each record."""

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
    shortfalls: tuple[Shortfall, ...] = ()
    meta: dict[str, object] = msgspec.field(default_factory=dict)  # of the function: memory, timeout, limit …


def state_and_exit_code(
    stop: Stop | None, counts: Mapping[str, int], pending: int = 0, shortfalls: Sequence[Shortfall] = ()
) -> tuple[str, int]:
    """State and exit code of a run. Pure. No run with a pending record is finished, or exits 0.

    Where several codes hold: a signal, then fatal, bound, threshold, failures.
    """
    if stop is None and pending:
        stop = PENDING
    failed = sum(count for status, count in counts.items() if status not in OK_STATUSES)
    state, code = ("finished", exit_codes.FAILURES if failed else exit_codes.OK)
    if stop is not None:
        state, code = STOPS[stop.reason]
    if code in (exit_codes.OK, exit_codes.FAILURES):
        code = max(code, *(shortfall.exit_code for shortfall in shortfalls), 0)
    return state, code


def stop_of(failure: BaseException, *, records_read: int) -> Stop:
    """Why a run stops whose feed ended by this error, after so many records."""
    if isinstance(failure, JournalError):
        return Stop("journal", str(failure))
    if isinstance(failure, WorkersLost):
        return Stop("workers", str(failure))
    if isinstance(failure, EndsEarly):
        go_on = "a resume goes on" if records_read else "try again"  # where nothing was read no run is kept
        rest = f"{go_on} once the rest of it is there" if failure.may_grow else "mend it, and run it anew"
        return Stop("source", f"{failure}: {rest}", failure.may_grow)
    if isinstance(failure, SourceError):
        return Stop("source", str(failure))
    return Stop("source", f"the input raised {type(failure).__name__}: {failure}")
