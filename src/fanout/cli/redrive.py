"""``fanout redrive``: the records of a run that did not succeed, once more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from fanout.cli.resume import ask, may_have_run_option
from fanout.cli.run_dir_argument import run_dir_argument
from fanout.cli.run_display import watch
from fanout.cli.run_options import dashboard_option, given_on_later_run, run_options
from fanout.cli.sections import LaterCommand
from fanout.runs.audience import Audience

if TYPE_CHECKING:
    from fanout.report.summary import RunReport

_EXAMPLES = """
\b
Examples:
  1. Everything that failed:
       fanout redrive runs/orders
  2. Only timeouts, more slowly:
       fanout redrive runs/orders --error-type Sandbox.Timedout -j 10
  3. Those whose reply was lost, as the function is idempotent:
       fanout redrive runs/orders --status unknown
"""


@click.command(cls=LaterCommand, epilog=_EXAMPLES, short_help="Send the failed records of a run again.")
@run_dir_argument(sends=True)
@click.option(
    "--status",
    "statuses",
    multiple=True,
    metavar="STATUS",
    help="failed (default: function_error, rejected, undelivered), one of these, or unknown (repeatable).",
)
@click.option(
    "--error-type", "error_types", multiple=True, metavar="TYPE", help="Only these error types (repeatable)."
)
@may_have_run_option
@dashboard_option
@run_options
def command(
    run_dir: Path,
    statuses: tuple[str, ...],
    error_types: tuple[str, ...],
    may_have_run: Literal["send", "skip"] | None,
    dashboard: int | None,
    as_json: bool,
    quiet: bool,
    **chosen: Any,
) -> None:
    """Send the records of the run in RUN_DIR that did not succeed again, from its journal alone.

    Their new outcomes are added to the journal; the latest of a record counts, the history stays.
    """
    given, fallback = given_on_later_run(chosen)

    async def begin(audience: Audience) -> RunReport:
        from fanout.commands.changes import Changes
        from fanout.commands.redrive import redrive

        changes = Changes(given=given, fallback=fallback, may_have_run=may_have_run, ask=ask)
        return await redrive(run_dir, changes, audience, statuses=statuses, error_types=error_types)

    watch(begin, verb="redrive", quiet=quiet, as_json=as_json, dashboard=dashboard, run_dir=run_dir)
