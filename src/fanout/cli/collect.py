"""``fanout collect``: what became of a run's Event calls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fanout.cli.aws_options import aws_options
from fanout.cli.parameter_types import DURATION
from fanout.cli.run_dir_argument import run_dir_argument
from fanout.cli.run_display import watch
from fanout.runs.audience import Audience

if TYPE_CHECKING:
    from fanout.report.summary import RunReport

_EXAMPLES = """
\b
Examples:
  1. From the queues of the function's own configuration:
       fanout collect runs/orders
  2. From a queue that a topic or an event bus feeds, for an hour at the most:
       fanout collect runs/orders --from sqs://results --wait 1h
"""


@click.command(epilog=_EXAMPLES, short_help="Collect the results of Event calls.")
@run_dir_argument()
@click.option(
    "--from",
    "queues",
    multiple=True,
    metavar="sqs://QUEUE",
    help="A queue with destination records or dead letters (repeatable). Default: the function's own.",
)
@click.option(
    "--wait",
    type=DURATION,
    metavar="DURATION",
    help="How long to wait for missing results. Default: as long as one can take.",
)
@click.option(
    "--allow-strangers",
    is_flag=True,
    help="Put messages of others back even where a redrive policy counts that.",
)
@click.option(
    "--outputs", is_flag=True, help="For durable executions: read what each returned (10 a second)."
)
@aws_options
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on stdout.")
@click.option("--quiet", "-q", is_flag=True, help="Show no progress and no summary.")
def command(
    run_dir: Path,
    queues: tuple[str, ...],
    wait: float | None,
    allow_strangers: bool,
    outputs: bool,
    endpoint_url: str | None,
    region: str | None,
    profile: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Complete the accepted records of the run in RUN_DIR with the results of their Event calls.

    They come from destination records and dead letters in SQS, matched by request id. A message is
    deleted once its outcome is on the disk. May be repeated.
    """

    async def begin(audience: Audience) -> RunReport:
        from fanout.commands.collect import collect
        from fanout.commands.collection import Collection

        asked = Collection(
            queues=queues,
            wait_s=wait,
            allow_strangers=allow_strangers,
            outputs=outputs,
            endpoint_url=endpoint_url,
            region=region,
            profile=profile,
        )
        return await collect(run_dir, asked, audience)

    watch(begin, verb="collect", quiet=quiet, as_json=as_json, run_dir=run_dir)
