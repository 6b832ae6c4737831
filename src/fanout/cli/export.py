"""``fanout export``: inputs, outputs or outcomes of a run, chosen by status, as lines or as a table."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from fanout.aws.s3_faults import is_s3, split_location
from fanout.cli.run_dir_argument import run_dir_argument
from fanout.errors import ConfigError
from fanout.model import STATUS_GROUPS, STATUSES

if TYPE_CHECKING:
    from fanout.commands.export import Kind
    from fanout.config import Options
    from fanout.journal import RunDir
    from fanout.outputs.delivery import Format

_BUFFER_BYTES = 1 << 20  # lines are read twice for a table
_EPILOG = """\b
Examples:
  1. What failed, as input for another run:
       fanout export runs/orders -o failed.jsonl
       fanout run my-function failed.jsonl
  2. Only what failed in one way:
       fanout export runs/orders --error-type ValueError
  3. Records whose reply was lost: they may have run:
       fanout export runs/orders --status unknown
  4. All outcomes as a table for a spreadsheet:
       fanout export runs/orders --outcomes --format csv -o outcomes.csv
  5. What went well, taken from the original input:
       fanout export runs/orders --status succeeded
  6. What the function returned, as a table in S3:
       fanout export runs/orders --outputs --format parquet -o s3://lake/totals.parquet
"""


class _Command(click.Command):
    """``--results`` may stand alone: what follows is its place only if it is one in S3."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, with an empty place where none was given."""
        given = args[: args.index("--")] if "--" in args else args
        if "--results" in given:
            at = given.index("--results")
            if not is_s3("".join(args[at + 1 : at + 2])):
                args = [*args[:at], "--results=", *args[at + 1 :]]
        return super().parse_args(ctx, args)


@click.command(
    "export",
    cls=_Command,
    epilog=_EPILOG,
    short_help="Write inputs, outputs or outcomes of a run, by status.",
)
@run_dir_argument()
@click.option(
    "--status",
    "names",
    multiple=True,
    type=click.Choice([*STATUS_GROUPS, *STATUSES]),
    metavar="STATUS",
    help="Which records: failed (function_error, rejected, undelivered), or the name of a status. "
    "Repeatable. Default: failed; with --outcomes, all; with --outputs, succeeded.",
)
@click.option(
    "--error-type",
    "error_types",
    multiple=True,
    metavar="TYPE",
    help="Only with this error type. Repeatable.",
)
@click.option("--outcomes", is_flag=True, help="Write outcomes, not inputs.")
@click.option("--outputs", is_flag=True, help="Write what the function returned, with seq and key.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["jsonl", "csv", "parquet"]),
    default="jsonl",
    help="JSON Lines, or a table with a column for each top-level member. Default: jsonl.",
)
@click.option("-o", "--output", metavar="FILE", help="Write to FILE, or to s3://BUCKET/KEY.")
@click.option(
    "--results",
    metavar="[s3://BUCKET/PREFIX/]",
    help="Upload the outcomes and a manifest, as `run --results` does. Default: where the run says.",
)
@click.option("--region", metavar="NAME", help="The Region for S3. Default: the run's.")
@click.option("--profile", metavar="NAME", help="The AWS profile for S3. Default: the run's.")
def command(
    run_dir: Path,
    names: tuple[str, ...],
    error_types: tuple[str, ...],
    outcomes: bool,
    outputs: bool,
    output_format: Format,
    output: str | None,
    results: str | None,
    region: str | None,
    profile: str | None,
) -> None:
    """Write the inputs of the records of RUN_DIR that did not succeed, as input for `fanout run`.

    The latest outcome of each record counts. Inputs of records that succeeded are not in the run
    directory: they are read from the original input, if it is still the same.
    """
    from fanout.commands.export import Choice, write_lines
    from fanout.journal import RunDir
    from fanout.outputs.delivery import deliver, deliver_to_s3

    if outcomes and outputs:
        raise click.UsageError("--outcomes and --outputs exclude each other: give one of them")
    opened = RunDir.open(run_dir)
    if results is not None:
        if names or error_types or outcomes or outputs or output is not None or output_format != "jsonl":
            raise click.UsageError(
                "--results uploads all outcomes as JSON Lines: leave the other options out"
            )
        asyncio.run(_upload_results(opened, results, profile=profile, region=region))
        return
    output = None if output == "-" else output  # as everywhere
    _check_place(output)
    kind: Kind = "outcomes" if outcomes else "outputs" if outputs else "inputs"
    _check_output(output, output_format)
    choice = Choice.of(opened, kind, names, error_types)
    with tempfile.TemporaryFile(buffering=_BUFFER_BYTES) as lines:
        exported = write_lines(lines, kind, choice)
        for what, left_out in exported.left_out.items():
            if left_out:
                click.echo(f"fanout: left out {left_out:,} {what}", err=True)
        if output is not None and is_s3(output):
            calls = _calls(opened, profile=profile, region=region)
            deliver_to_s3(lines, output_format, output, what=kind, options=calls)
        else:
            deliver(lines, output_format, output, what=kind)
    if output is not None or not exported.count:
        place = "" if output is None else f" to {output}"
        click.echo(f"fanout: wrote {exported.count:,} {kind}{place}", err=True)


def _check_place(output: str | None) -> None:
    """Refuse options of S3 where nothing goes there. From the environment they are for other exports too."""
    ctx = click.get_current_context()
    for name in ("profile", "region"):
        is_given = ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if is_given and (output is None or not is_s3(output)):
            raise click.UsageError(
                f"--{name} is for writing to S3: give -o s3://BUCKET/KEY or --results, or leave it out"
            )


def _check_output(output: str | None, output_format: Format) -> None:
    """Refuse what cannot be written, before anything is read."""
    if output_format == "parquet":
        from fanout.outputs.tables import check_parquet

        check_parquet()
        if output is None and sys.stdout.isatty():
            raise click.UsageError("Parquet is not text for a terminal: give -o FILE")
    if output is not None and is_s3(output):
        _, key = split_location(output)
        if not key or key.endswith("/"):
            raise click.UsageError(f"{output} has no key: give -o s3://BUCKET/KEY")


def _calls(run_dir: RunDir, *, profile: str | None, region: str | None) -> Options:
    """The options of the run's calls, with another profile or Region where one is given."""
    from fanout.commands.options import options_of

    calls = options_of(run_dir.state).calls
    return replace(calls, profile=profile or calls.profile, region=region or calls.region)


async def _upload_results(run_dir: RunDir, location: str, *, profile: str | None, region: str | None) -> None:
    from fanout.commands.options import check_results, options_of
    from fanout.commands.upload import upload_results

    with run_dir.lock():
        run_dir = type(run_dir).open(run_dir.path)
        location = location or options_of(run_dir.state).results or ""
        if not location:
            raise ConfigError(f"{run_dir.path} was run without --results: give --results s3://BUCKET/PREFIX/")
        check_results(location)
        calls = _calls(run_dir, profile=profile, region=region)
        manifest = await upload_results(run_dir, location, calls, _note if sys.stderr.isatty() else None)
    click.echo(f"fanout: results: {manifest}", err=True)


def _note(text: str) -> None:
    click.echo(f"fanout: {text}", err=True)
