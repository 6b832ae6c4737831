"""The options that say how a run goes, shared by ``run``, ``resume``, ``redrive`` and ``plan``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import click

from fanout.cli.aws_options import aws_options
from fanout.cli.parameter_types import DURATION, JSON_VALUE
from fanout.commands.options import Given
from fanout.inputs.options import FORMATS

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _group(*options: Callable[[_Command], _Command]) -> Callable[[_Command], _Command]:
    def add(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


what_is_sent = _group(
    click.option("--qualifier", metavar="NAME", help="A version or an alias."),
    click.option(
        "--invocation-type",
        type=click.Choice(["RequestResponse", "Event", "DryRun"]),
        help="Wait for the result (default), hand over, or only check permission.",
    ),
    click.option("--client-context", metavar="JSON", help="Context for the function, as a JSON object."),
    click.option("--tenant-id", metavar="ID", help="For functions isolated by tenant."),
    click.option(
        "--durable",
        is_flag=True,
        default=None,
        help="For durable functions: give each call a name, so that a lost reply starts nothing twice.",
    ),
    click.option("--durable-name", metavar="EXPR", help="JMESPath: each record's durable execution name."),
    click.option("--stream", is_flag=True, default=None, help="Invoke with a streamed reply."),
    click.option(
        "--batch", type=click.IntRange(min=1), metavar="N", help="At most N records in one call (1)."
    ),
    click.option(
        "--batch-bytes",
        type=click.IntRange(min=1),
        metavar="BYTES",
        help="At most this many payload bytes in one call. Default: what Lambda accepts.",
    ),
    click.option(
        "--batch-wait",
        type=DURATION,
        metavar="DURATION",
        help="How long a batch of a slow input waits to fill (200ms).",
    ),
    click.option(
        "--batch-shape",
        type=click.Choice(["items", "sqs", "array"]),
        help="A batch's payload: as Distributed Map sends it (items, the default), as a queue's trigger "
        "does (sqs), or a bare array.",
    ),
    click.option(
        "--batch-input", type=JSON_VALUE, metavar="JSON", help="The BatchInput of --batch-shape items."
    ),
    click.option(
        "--batch-reply",
        type=click.Choice(["whole", "array", "batchItemFailures"]),
        help="How a batch's reply is read: one result for all, one for each record, or the failed named.",
    ),
    click.option(
        "--bisect",
        is_flag=True,
        default=None,
        help="Halve a batch whose function failed, and send it again; needs --idempotent.",
    ),
    click.option("--key", metavar="EXPR", help="JMESPath: the record's id in the outcomes."),
    click.option("--select", metavar="EXPR", help="JMESPath: the payload to send, made of the record."),
    click.option(
        "--format",
        type=click.Choice(FORMATS),
        metavar="FORMAT",
        help=f"The input's format, if its name does not say it: {', '.join(FORMATS)}.",
    ),
    click.option("--items", metavar="POINTER", help="JSON Pointer to the array of a .json input: /Records."),
    click.option(
        "--csv-delimiter", metavar="CHAR", help="The character between the fields of a row; tab for a tab."
    ),
    click.option("--csv-header", metavar="NAMES", help="Column names, for CSV that has none: id,name."),
    click.option(
        "--encoding", metavar="NAME", help="Encoding of the input, if it is not UTF-8: latin-1, utf-16."
    ),
    click.option(
        "--nan",
        type=click.Choice(["reject", "null"]),
        help="NaN in Parquet: the record is rejected (default), or it becomes null.",
    ),
    click.option(
        "--request-payer", is_flag=True, default=None, help="Pay for reading somebody else's S3 bucket."
    ),
    click.option("--payload", metavar="JSON", help="Send this payload --repeat times, instead of an input."),
    click.option("--repeat", type=click.IntRange(min=0), metavar="N", help="Calls that --payload makes (1)."),
)

how_fast = _group(
    click.option(
        "-j",
        "--concurrency",
        metavar="N|P%|auto|@FILE",
        help="Calls in flight: a number, a share of what is allowed, all of it (auto, the default), "
        "or read again and again from a file.",
    ),
    click.option(
        "--leave",
        metavar="N|P%",
        help="Keep this much of the account's concurrency free for others, as CloudWatch reports it.",
    ),
    click.option("--rate", type=float, metavar="PER_SECOND", help="At most this many calls per second."),
    click.option(
        "--timeout",
        type=DURATION,
        metavar="SECONDS",
        help="How long one call may take. Default: the function's own timeout plus 15s.",
    ),
    click.option(
        "--function-timeout",
        type=DURATION,
        metavar="SECONDS",
        help="The function's timeout, where it cannot be read: how long a lost call's permit is kept.",
    ),
    click.option(
        "--max-bytes-in-flight",
        type=click.IntRange(min=1),
        metavar="BYTES",
        help="Payload bytes in flight (256 MiB).",
    ),
    click.option(
        "--workers",
        type=click.IntRange(min=0),
        metavar="N",
        help="Calls from N processes (0: this one).",
    ),
    click.option(
        "--scheduler", metavar="ADDRESS", help="Make the calls from a Dask cluster: tcp://… or tls://…"
    ),
    click.option("--transport", type=click.Choice(["direct", "sdk"]), help="How calls are sent (direct)."),
)

what_fails = _group(
    click.option(
        "--retries",
        type=click.IntRange(min=0),
        metavar="N",
        help="Extra attempts after a passing failure (3).",
    ),
    click.option(
        "--retry-function-errors",
        type=click.IntRange(min=0),
        metavar="N",
        help="Extra attempts after a function error (0).",
    ),
    click.option(
        "--retry-on", multiple=True, metavar="ERROR_TYPE", help="Only these error types (repeatable)."
    ),
    click.option(
        "--idempotent/--not-idempotent", default=None, help="The function may run twice for one record."
    ),
    click.option(
        "--hedge",
        is_flag=True,
        default=None,
        help="When the input has ended, send a copy of a call far later than its peers; "
        "needs --idempotent or --durable.",
    ),
    click.option("--deadline", type=DURATION, metavar="DURATION", help="Stop after this long: 90s, 15m, 2h."),
    click.option(
        "--outage-patience",
        type=DURATION,
        metavar="DURATION",
        help="How long to wait during an outage (15m); 0 does not wait.",
    ),
    click.option(
        "--throttle-patience",
        type=DURATION,
        metavar="DURATION",
        help="Stop the run after this long with nothing but throttles (5m).",
    ),
    click.option(
        "--tolerated-failure-count",
        type=click.IntRange(min=0),
        metavar="N",
        help="Stop when more than N records fail.",
    ),
    click.option(
        "--tolerated-failure-percentage",
        type=click.FloatRange(0, 100),
        metavar="P",
        help="Stop when more than P percent of the records fail.",
    ),
    click.option(
        "--threshold",
        multiple=True,
        metavar="CHECK",
        help="What must hold from 100 calls on: p95<500ms, mean<1s, max<30s, failure_rate<1% (repeatable). "
        "Exit 3 if it does not at the end.",
    ),
    click.option(
        "--threshold-abort", is_flag=True, default=None, help="Stop as soon as a threshold does not hold."
    ),
    click.option(
        "--breaker",
        type=click.IntRange(min=1),
        metavar="N",
        help="After N failures in a row, pause and probe.",
    ),
    click.option("--max-cost", type=float, metavar="USD", help="Stop when this much has been spent."),
    click.option(
        "--prices", type=click.Path(dir_okay=False), metavar="FILE", help="A price table of your own (TOML)."
    ),
    click.option(
        "--grace", type=DURATION, metavar="DURATION", help="How long calls in flight may finish after Ctrl-C."
    ),
)

what_is_kept = _group(
    click.option(
        "--log-type",
        type=click.Choice(["None", "Tail", "OnError"]),
        help="Keep the end of each call's log: never (default), always, or where the record fails.",
    ),
    click.option(
        "--fsync",
        type=click.Choice(["second", "always", "never"]),
        help="When the journal is synced to the disk: each second (default), always, or never.",
    ),
    click.option(
        "--results",
        metavar="s3://BUCKET/PREFIX/",
        help="When the run stops, upload its outcomes below this prefix.",
    ),
    click.option(
        "--on-finish", metavar="COMMAND", help="Run COMMAND at the end; it gets the summary as JSON on stdin."
    ),
    click.option("--report/--no-report", default=None, help="Write report.html at the end (default)."),
    click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on stdout."),
    click.option("--quiet", "-q", is_flag=True, help="Show no progress and no summary."),
)

dashboard_option = click.option(
    "--dashboard",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="A live page of the run at this port of 127.0.0.1; 0 takes a free one.",
)

local_options = _group(
    click.option(
        "--local", metavar="FILE.py:HANDLER", help="Run this handler on this machine instead of Lambda."
    ),
    click.option(
        "--local-concurrency",
        type=click.IntRange(min=1),
        metavar="N",
        help="Reserved concurrency of the --local handler.",
    ),
    click.option("--local-timeout", type=DURATION, metavar="SECONDS", help="Timeout of the --local handler."),
)

queue_options = _group(
    click.option(
        "--follow",
        is_flag=True,
        default=None,
        help="For queues: go on when the queue is empty, until stopped.",
    ),
    click.option(
        "--empty-after",
        type=DURATION,
        metavar="DURATION",
        help="For queues: the queue is empty after this long without a message (20s).",
    ),
)

run_options = _group(what_is_sent, how_fast, what_fails, what_is_kept, local_options, aws_options)


_NAMES = {"durable_name": "durable_expr"}  # of a run it is an expression


def given_options(chosen: Mapping[str, Any]) -> Given:
    """The options of a run that were given, by its own names."""
    return cast(
        Given,
        {
            _NAMES.get(name, name): value
            for name, value in chosen.items()
            if value is not None and value != ()
        },
    )


def default_names() -> frozenset[str]:
    """The options of this command whose values come from the environment or ``--config``."""
    from click.core import ParameterSource

    ctx = click.get_current_context()
    low = (ParameterSource.ENVIRONMENT, ParameterSource.DEFAULT_MAP)
    return frozenset(name for name in ctx.params if ctx.get_parameter_source(name) in low)


def given_on_later_run(chosen: Mapping[str, Any]) -> tuple[Given, Given]:
    """The options that a verb on a run was given: on the command line, and by environment or ``--config``.

    What run.json has comes between the two.
    """
    names = default_names()
    elsewhere = {name: value for name, value in chosen.items() if name in names}
    here = {name: value for name, value in chosen.items() if name not in elsewhere}
    return given_options(here), given_options(elsewhere)
