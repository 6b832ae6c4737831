"""``fanout tune``: change a run while it goes on."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from fanout.cli.parameter_types import DURATION
from fanout.cli.run_dir_argument import run_dir_argument
from fanout.errors import ConfigError

_ANSWER_WITHIN_S = 5.0
_LOOK_EVERY_S = 0.05

_EXAMPLES = """
\b
Examples:
  1. More calls at once, from another terminal:
       fanout tune runs/orders -j 200
  2. Half an hour from now on, and no more than 5 dollars in all:
       fanout tune runs/orders --deadline 30m --max-cost 5
  3. No new calls for a while; then on:
       fanout tune runs/orders --pause
       fanout tune runs/orders --continue
"""


@click.command(epilog=_EXAMPLES, short_help="Change a run while it goes on.")
@run_dir_argument()
@click.option("-j", "--concurrency", metavar="N|P%|auto", help="Calls in flight at the most.")
@click.option("--rate", type=float, metavar="PER_SECOND", help="At most this many calls per second.")
@click.option(
    "--retries", type=click.IntRange(min=0), metavar="N", help="Extra attempts after a passing failure."
)
@click.option("--deadline", type=DURATION, metavar="DURATION", help="Stop this long from now.")
@click.option("--max-cost", type=float, metavar="USD", help="Stop when the run has cost this much.")
@click.option(
    "--tolerated-failure-count",
    type=click.IntRange(min=0),
    metavar="N",
    help="Stop when more than N records fail.",
)
@click.option(
    "--tolerated-failure-percentage",
    type=click.FloatRange(0, 100),
    metavar="P",
    help="Stop when more than P percent of the records fail.",
)
@click.option("--pause", is_flag=True, default=None, help="Hold new calls.")
@click.option("--continue", "goes_on", is_flag=True, default=None, help="Start new calls again.")
@click.option("--json", "as_json", is_flag=True, help="Print the options in force as JSON on stdout.")
def command(run_dir: Path, as_json: bool, **changes: Any) -> None:
    """Change the run that goes on in RUN_DIR, and say what is now in force.

    Returns once the run has confirmed. run.json keeps what was changed, and a resume goes on with it, but
    for a pause. Calls in flight finish in any case.
    """
    from fanout.journal import RunDir
    from fanout.journal.lock import is_locked
    from fanout.runs.tuning import TuneRequest, in_words, tuning_of

    if changes.pop("goes_on"):
        if changes["pause"]:
            raise click.UsageError("--pause and --continue exclude each other: give one of them")
        changes["pause"] = False
    tuning = tuning_of({name: value for name, value in changes.items() if value is not None})
    RunDir.open(run_dir)
    request = TuneRequest(run_dir, tuning)
    if not is_locked(run_dir):
        raise ConfigError(f"the run in {run_dir} has ended: there is nothing to change")
    request.send()
    give_up_at_s = time.monotonic() + _ANSWER_WITHIN_S
    while (answer := request.answer()) is None:
        if not is_locked(run_dir):
            request.withdraw()
            raise ConfigError(f"the run in {run_dir} has ended: there is nothing to change")
        if time.monotonic() > give_up_at_s:
            request.withdraw()
            raise ConfigError(
                f"the run in {run_dir} did not answer within {_ANSWER_WITHIN_S:g} s: it is starting, or "
                "about to end: nothing was changed; try again"
            )
        time.sleep(_LOOK_EVERY_S)
    in_force = answer.in_force or {}
    if as_json:
        click.echo(json.dumps(in_force, indent=2))
        return
    click.echo(f"in force now: {in_words(in_force)}")
