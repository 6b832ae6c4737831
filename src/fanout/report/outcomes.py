"""How a run directory is read for a report: its description, and what is needed of each outcome."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fanout.journal import RunDir, iter_outcomes
from fanout.model import Outcome


class _Line(Outcome, kw_only=True, omit_defaults=True, rename=lambda name: f"-{name}"):
    """An outcome without its payloads: their members have names here that no line has, and are passed over.

    They may be megabytes each.
    """

    output: None = None
    input: None = None


def read_run(run_dir: Path) -> dict[str, Any]:
    """What ``run.json`` says. Raises JournalError, in one line, where there is no run."""
    return RunDir.open(run_dir).state


def read_outcomes(run_dir: Path, *, latest: bool = True) -> Iterator[Outcome]:
    """The outcomes in order of finishing; with ``latest`` the last one of each record only.

    A last line cut short by a crash is none. Raises JournalError for a journal that is damaged.
    """
    return iter_outcomes(run_dir, latest=latest, fields=_Line)
