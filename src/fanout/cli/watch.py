"""``fanout watch``: the display of a run, from another terminal."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fanout.cli.run_dir_argument import run_dir_argument

if TYPE_CHECKING:
    from fanout.commands.watch import Follower

_LOOK_EVERY_S = 0.5
_EXAMPLES = """
\b
Examples:
  1. Follow a run that another terminal, or cron, has started:
       fanout watch runs/nightly
  2. One line on how it stands, for a script:
       fanout watch runs/nightly --once
  3. One JSON object a second, for another program:
       fanout watch runs/nightly --json | jq --unbuffered .done
"""


@click.command("watch", epilog=_EXAMPLES, short_help="Follow a run from another terminal.")
@run_dir_argument()
@click.option("--once", is_flag=True, help="Print the state of the run in one line, and end.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a second on stdout, no display.")
def command(run_dir: Path, once: bool, as_json: bool) -> None:
    """Show the display of the run in RUN_DIR until it ends, then its summary.

    It only reads: Ctrl-C ends the watching, and the run goes on.
    """
    from fanout.commands.watch import Follower

    follower = Follower(run_dir)
    if once or as_json:
        _print(follower, once=once, as_json=as_json)
        return
    with suppress(KeyboardInterrupt):
        _show(follower)


def _print(follower: Follower, *, once: bool, as_json: bool) -> None:
    import msgspec

    from fanout.progress import plain_line

    while True:
        began_s, now_s = time.monotonic(), time.time()
        has_ended = follower.has_ended(now_s)  # before the look: what comes last is read
        state = follower.stand()
        snapshot = follower.look(now_s) if state == "running" else follower.final()
        snapshot.state = state
        click.echo(msgspec.json.encode(snapshot) if as_json else plain_line(snapshot))
        sys.stdout.flush()
        if once or has_ended or snapshot.state != "running":
            return
        time.sleep(max(0.0, began_s + 1.0 - time.monotonic()))


def _show(follower: Follower) -> None:
    from fanout.cli.report import summary_text
    from fanout.progress import Progress
    from fanout.report import RunReport

    progress = Progress(stderr=sys.stderr, is_terminal=sys.stderr.isatty(), quiet=False)
    is_drawn = False
    try:
        while True:
            now_s = time.time()
            if follower.has_ended(now_s):
                if is_drawn:  # the last frame says what the summary below it says
                    progress.update(follower.final())
                break
            progress.update(follower.look(now_s))
            is_drawn = True
            time.sleep(_LOOK_EVERY_S)
    finally:
        progress.close()
    click.echo(summary_text(RunReport.from_run_dir(follower.path)), nl=False)
