"""The runs below a directory, and the latest of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from fanout.errors import JournalError
from fanout.journal.lock import is_locked
from fanout.journal.run_dir import OUTCOMES_FILE, STATE_FILE, RunDir

DEFAULT_PARENT = Path("runs")
_LONG_BYTES = 1 << 30
_BLOCK_BYTES = 1 << 20


def list_runs(parent: Path, on_damage: Callable[[JournalError], None] | None = None) -> list[RunDir]:
    """The runs that lie directly below ``parent``, the latest first. Raises JournalError.

    The latest is the one begun last, by its ``started_at``. What is damaged is left out, and told to
    ``on_damage``.
    """
    try:
        found = [path for path in parent.iterdir() if (path / STATE_FILE).is_file()]
    except OSError as error:
        raise JournalError(f"{parent} cannot be read: {error.strerror}: give a directory of runs") from error
    if not found and (parent / STATE_FILE).is_file():
        raise JournalError(f"{parent} is a run itself: give the directory above it")
    return sorted(_opened(found, on_damage), key=_begun, reverse=True)


def latest_run(parent: Path = DEFAULT_PARENT) -> Path:
    """The directory of the latest run below ``parent``. Raises JournalError when there is none."""
    runs = list_runs(parent) if parent.is_dir() else []
    if not runs:
        raise JournalError(f"there is no run below {parent}/: give RUN_DIR")
    return runs[0].path


def live_state(run: RunDir) -> str:
    """The state of a run; ``interrupted`` where run.json says running but no process holds its lock."""
    state = str(run.state.get("state") or "")
    return "interrupted" if state == "running" and not is_locked(run.path) else state


def count_outcomes(run: RunDir) -> int | None:
    """The lines of a journal whose counts run.json does not have yet; None where it is too long to look."""
    path = run.path / OUTCOMES_FILE
    try:
        if path.stat().st_size > _LONG_BYTES:
            return None
        with path.open("rb") as file:
            return sum(block.count(b"\n") for block in iter(partial(file.read, _BLOCK_BYTES), b""))
    except OSError:
        return None


def _opened(paths: list[Path], on_damage: Callable[[JournalError], None] | None) -> Iterator[RunDir]:
    for path in paths:
        try:
            run = RunDir.open(path)
        except JournalError as error:
            if on_damage is not None:
                on_damage(error)
        else:
            yield run


def _begun(run: RunDir) -> tuple[str, Any]:
    return str(run.state.get("started_at") or ""), run.path.name
