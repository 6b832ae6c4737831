"""``fanout runs``: the runs there are, with state and counts."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fanout.journal import RunDir

_LEAST = 10  # columns for the function, and for the counts
_GAP = 2
_EXAMPLES = """
\b
Examples:
  1. The runs below runs/, the latest first:
       fanout runs
  2. Those of another place, as data:
       fanout runs /data/runs --json
"""


@click.command(epilog=_EXAMPLES, short_help="List runs, with state and counts.")
@click.argument("directory", type=click.Path(path_type=Path), default=Path("runs"), metavar="[DIR]")
@click.option("--json", "as_json", is_flag=True, help="A JSON array on stdout.")
def command(directory: Path, as_json: bool) -> None:
    """List the runs whose directories lie in DIR (default: runs/), the latest first."""
    from fanout.journal.listing import list_runs

    damaged: list[Exception] = []
    rows = [_row(run) for run in list_runs(directory, damaged.append)]
    for error in damaged:
        click.echo(f"fanout: left out: {error}", err=True)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows and not damaged:
        click.echo(f"fanout: there is no run in {directory}", err=True)
        return
    if sys.stdout.isatty():
        show_table(rows)
        return
    for row in rows:
        click.echo("\t".join(_cells(row)))


def _row(run: RunDir) -> dict[str, Any]:
    from fanout.journal.listing import count_outcomes, live_state

    state = run.state
    counts = state.get("counts") or {}
    if state.get("state") == "running" and not state.get("generation"):
        counts = {}  # of an earlier command: this one goes on, or was killed. A redrive adds no records.
    return {
        "name": state.get("name") or run.path.name,
        "run_dir": str(run.path),
        "id": state.get("id"),
        "function": state.get("function"),
        "state": live_state(run),
        "halted_by": state.get("halted_by"),
        "exit_code": state.get("exit_code"),
        "records_read": state.get("records_read"),
        "counts": counts,
        "outcomes": None if counts else count_outcomes(run),
        "labels": state.get("labels") or {},
        "started_at": state.get("started_at"),
        "finished_at": state.get("finished_at"),
        "size_bytes": sum(file.stat().st_size for file in run.path.rglob("*") if file.is_file()),
    }


def _cells(row: dict[str, Any]) -> list[str]:
    counts = ", ".join(f"{count:,} {status}" for status, count in row["counts"].items())
    if row["outcomes"]:
        counts = f"{row['outcomes']:,} so far"
    size = f"{row['size_bytes'] / 1e6:,.1f} MB"
    return [row["name"], row["function"] or "", row["state"], counts, _age(row["started_at"]), size]


def _age(started_at: str | None) -> str:
    from fanout.quantities import seconds

    if not started_at:
        return ""
    begun = datetime.fromisoformat(started_at).astimezone(UTC).timestamp()
    return f"{seconds(max(0.0, time.time() - begun))} ago"


def show_table(rows: list[dict[str, Any]]) -> None:
    """Write the runs to standard output, one a line."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    names, lines = ["name", "function", "state", "records", "age", "size"], [_cells(row) for row in rows]
    for line in lines:
        line[4] = line[4].removesuffix(" ago")
    widest = {name: max(map(len, column)) for name, *column in zip(names, names, *lines, strict=True)}
    if sum(widest.values()) + _GAP * (len(names) - 1) > console.width:
        names.remove("size")
    # A name is there to be copied: where there is room, counts and function are folded rather than it.
    fixed = sum(widest[name] + _GAP for name in ("name", "state", "age"))
    is_roomy = console.width - fixed >= 2 * _LEAST + _GAP
    for name in names:
        table.add_column(name, overflow="fold", no_wrap=is_roomy and name not in ("function", "records"))
    for line in lines:
        table.add_row(*line[: len(names)])
    console.print(table)
