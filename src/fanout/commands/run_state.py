"""The state of a run in its directory: run.json from the first to the last write, and the page."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fanout.commands.recorded_input import ITERABLE
from fanout.commands.run_input import first_input
from fanout.commands.run_request import RunRequest
from fanout.errors import FanoutError, is_short_of_memory
from fanout.journal import BEGUN_FILES, Replay, RunDir
from fanout.quantities import iso
from fanout.queues import is_queue
from fanout.report.summary import RunReport
from fanout.runs import Run, RunResult
from fanout.version import version

REPORT_FILE = "report.html"


def first_state(request: RunRequest) -> dict[str, Any]:
    """run.json of a run that begins."""
    return {
        "fanout_version": version(),
        "function": request.options.function,
        "options": request.options.kept(),
        "input": _input(request),
        **(
            {} if request.canary is None else {"is_planned": True, "records_planned": request.records_planned}
        ),
        "name": request.options.name,
        "labels": request.options.label_map(),
        "state": "running",
        "records_read": 0,
        "counts": {},
        "started_at": iso(time.time()),
        "finished_at": None,
        "python": sys.version.split()[0],
    }


def _input(request: RunRequest) -> dict[str, Any]:
    if request.location is None:
        return {"location": ITERABLE, "fingerprint": {"kind": "iterable"}}
    if is_queue(request.location):
        return {"location": request.location, "fingerprint": {"kind": "queue"}}
    return first_input(request)


def last_state(result: RunResult, run: Run) -> dict[str, Any]:
    """The members of run.json once the run has ended, in whatever way."""
    stop = result.stop
    return {
        "state": result.state,
        "exit_code": result.exit_code,
        "halted_by": None if stop is None else stop.reason,
        "may_resume": stop is None or stop.may_resume,
        "message": "; ".join(said) if (said := messages(result)) else None if stop is None else "",
        "records_read": result.records_read,
        "is_input_exhausted": result.is_input_exhausted,
        "records_total": result.records_total,
        "thresholds": run.thresholds,
        "workers": run.workers,
        "input_share": result.input_share,
        "counts": result.counts,
        "finished_at": iso(time.time()),
        "not_sent": sorted(run.not_sent),
        "refused": sorted(run.refused),
    }


def messages(result: RunResult) -> list[str]:
    """The reasons why it stopped, and what it fell short of, in words."""
    stop = [] if result.stop is None or not result.stop.message else [result.stop.message]
    return list(dict.fromkeys([*stop, *(shortfall.message for shortfall in result.shortfalls)]))


def function_state(meta: dict[str, Any]) -> dict[str, Any]:
    """The members of run.json that describe the function, for cost and report."""
    return {
        "region": meta.get("region"),
        "function_configuration": {
            "memory_mb": meta.get("memory_mb"),
            "architecture": meta.get("architecture"),
            "storage_mb": meta.get("ephemeral_mb"),
            "timeout_s": meta.get("function_timeout_s"),
            "unpriced": meta.get("unpriced"),
        },
        "limits": {
            "concurrency": meta.get("budget"),
            "cause": meta.get("budget_cause"),
            "rate_per_s": meta.get("rate_per_s"),
        },
    }


def records_read(state: Mapping[str, Any], known: Replay) -> int:
    """The number of records read: by run.json, or by the journal where a kill left that further on."""
    return max(int(state.get("records_read") or 0), known.finished.max + 1)


def missing(path: Path) -> list[Path]:
    """The directories on the way to ``path`` that are not there yet, the innermost first."""
    return [each for each in (path, *path.parents) if not each.exists()]


def discard(run_dir: RunDir, made: Sequence[Path]) -> None:
    """Undo the making of a run directory in which nothing has happened, and of the directories ``made``."""
    for name in BEGUN_FILES:
        with suppress(OSError):
            (run_dir.path / name).unlink()
    for directory in made:
        with suppress(OSError):
            directory.rmdir()


def write_page(report: RunReport) -> str | None:
    """Write report.html into the run directory; returns why it could not be, in one line."""
    assert report.run_dir is not None
    try:
        report.write_html(report.run_dir / REPORT_FILE)
    except Exception as error:
        if is_short_of_memory(error):
            return f"{report.run_dir / REPORT_FILE} was not written: not enough memory"
        if not isinstance(error, (OSError, FanoutError)):
            raise
        return f"{report.run_dir / REPORT_FILE} was not written: {error}"
    return None
