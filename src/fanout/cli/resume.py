"""``fanout resume``: the records of a run that have no outcome yet."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from fanout.cli.interruption import interruptible
from fanout.cli.run_dir_argument import run_dir_argument
from fanout.cli.run_display import watch
from fanout.cli.run_options import dashboard_option, given_on_later_run, queue_options, run_options
from fanout.cli.sections import LaterCommand
from fanout.quantities import count_of
from fanout.runs.audience import Audience

if TYPE_CHECKING:
    from fanout.commands.changes import MayHaveRun
    from fanout.report.summary import RunReport

may_have_run_option = click.option(
    "--may-have-run",
    type=click.Choice(["send", "skip"]),
    help="Records that may have run before a crash: send them again, or give them up as unknown. "
    "Default: send when --idempotent, else ask, else skip.",
)


def ask(count: int) -> MayHaveRun:
    """Ask the person what becomes of records that may have run; without a terminal they are skipped."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return "skip"
    said = f"{count_of(count, 'record')} may have run before the run was cut off"
    with interruptible():
        again = click.confirm(f"{said}. Send them again (else: unknown)?", default=False, err=True)
    return "send" if again else "skip"


_EXAMPLES = """
\b
Examples:
  1. Go on where it stopped:
       fanout resume runs/orders
  2. The function is idempotent, so send again what may have run:
       fanout resume runs/orders --may-have-run send
  3. More slowly than before:
       fanout resume runs/orders -j 20
"""


@click.command(cls=LaterCommand, epilog=_EXAMPLES, short_help="Go on where a run stopped.")
@run_dir_argument(sends=True)
@click.option(
    "--take", type=click.IntRange(min=0), metavar="N", help="Only the first N records of the input."
)
@click.option(
    "--enough", type=click.IntRange(min=1), metavar="N", help="Stop once N records have succeeded in all."
)
@click.option("--all", "wants_all", is_flag=True, help="All records, whatever --enough the run had.")
@may_have_run_option
@dashboard_option
@queue_options
@run_options
def command(
    run_dir: Path,
    wants_all: bool,
    may_have_run: Literal["send", "skip"] | None,
    dashboard: int | None,
    as_json: bool,
    quiet: bool,
    **chosen: Any,
) -> None:
    """Send every record of the run in RUN_DIR that has no outcome yet.

    Options are those of the run; the ones given here take their place, but for those that change what
    is sent.
    """
    if wants_all and chosen["enough"] is not None:
        raise click.UsageError("--all and --enough exclude each other: give one of them")
    given, fallback = given_on_later_run(chosen)
    if wants_all:
        given["enough"] = None

    async def begin(audience: Audience) -> RunReport:
        from fanout.commands.changes import Changes
        from fanout.commands.resume import resume

        changes = Changes(given=given, fallback=fallback, may_have_run=may_have_run, ask=ask)
        return await resume(run_dir, changes, audience)

    watch(begin, verb="resume", quiet=quiet, as_json=as_json, dashboard=dashboard, run_dir=run_dir)
