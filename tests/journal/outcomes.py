"""Outcomes and run directories, as the tests need them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from fanout.journal import Journal, RunDir
from fanout.model import ErrorDetail, Outcome


def succeeded(seq: int, **members: Any) -> Outcome:
    """A record that went well."""
    members.setdefault("output_raw", msgspec.Raw(b'{"ok":true}'))
    return Outcome(seq=seq, status="succeeded", attempts=1, throttles=0, **members)


def failed(seq: int, **members: Any) -> Outcome:
    """A record whose function raised."""
    error = ErrorDetail("ValueError", "bad total")
    raw = msgspec.Raw(b'{"id":%d}' % seq)
    return Outcome(
        seq=seq, status="function_error", attempts=1, throttles=0, error=error, input_raw=raw, **members
    )


def new_run(path: Path, **state: Any) -> RunDir:
    """A run that has just begun."""
    return RunDir.create(path, {"state": "running", "function": "f", **state})


async def journaled(
    run_dir: RunDir, outcomes: Iterable[Outcome], *, generation: int = 0, mark_to: int = 0
) -> None:
    """Write outcomes, and mark records up to ``mark_to``, as one process that ends cleanly."""
    journal = await Journal.open(run_dir.path, generation=generation)
    for seq in range(mark_to):
        journal.mark(seq)
    for outcome in outcomes:
        journal.write([outcome])
    await journal.aclose()
