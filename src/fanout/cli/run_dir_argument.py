"""The argument RUN_DIR: a run directory, or the latest run below ``runs/`` where it is left out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])


def run_dir_argument(*, sends: bool = False) -> Callable[[_Command], _Command]:
    """The argument of a verb on a run. A verb that ``sends`` asks before it takes the latest run."""

    def take(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path:  # noqa: ARG001
        if value is not None or ctx.resilient_parsing:
            return value  # type: ignore[return-value]  # completion has none
        from fanout.journal.listing import latest_run

        latest = latest_run()
        if not sends:
            click.echo(f"fanout: RUN_DIR is the latest run, {latest}", err=True)
            return latest
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise click.UsageError(
                f"RUN_DIR is missing, and there is no terminal to ask on: the latest run is {latest}", ctx
            )
        click.confirm(f"The latest run is {latest}. Take it?", abort=True, err=True)
        return latest

    return click.argument(
        "run_dir", type=click.Path(path_type=Path), required=False, metavar="[RUN_DIR]", callback=take
    )
