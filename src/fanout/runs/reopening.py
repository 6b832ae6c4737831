"""Whether a run's input is still there and still the same, and the source that reads it once more."""

from __future__ import annotations

from fanout.errors import JournalError, SourceError
from fanout.inputs import Source, fingerprint, fingerprint_difference, open_source, open_spool, shown_location
from fanout.journal import RunDir


def reopen_input(run_dir: RunDir, input_format: str | None) -> Source:
    """The input of a run from its beginning, or what was kept of it.

    Raises SourceError, in one line, when it is gone, was never kept, or is another one now.
    """
    recorded = run_dir.state.get("input")
    if not isinstance(recorded, dict) or not isinstance(recorded.get("location"), str):
        raise JournalError(f"{run_dir.path}/run.json: is damaged: input is missing")
    location: str = recorded.get("path") or recorded["location"]
    before = recorded.get("fingerprint") or {}
    if run_dir.spool.exists():
        return open_spool(run_dir.spool, location=recorded["location"], format=input_format)
    kind = before.get("kind")
    if kind == "iterable":
        raise SourceError(
            f"the records of {run_dir.path} came from a program: "
            "give them to fanout.run(…, resume=True) again"
        )
    if kind in ("stdin", "pipe"):
        raise SourceError(f"{run_dir.path}: its input was a pipe that was not kept: nothing is left to read")
    difference = fingerprint_difference(before, fingerprint(location, format=input_format))
    if difference is not None:
        raise another_input(location, difference)
    return open_source(location, format=input_format)


def another_input(location: str, difference: str) -> SourceError:
    """The error for an input that has changed since the run began."""
    return SourceError(f"{shown_location(location)} is not the input the run began with: {difference}")
