"""``fanout export``: inputs, outputs or outcomes of a run, chosen by status, as lines or as a table."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

import click
import msgspec

from fanout.aws.s3_faults import is_s3, split_location
from fanout.cli.run_dir_argument import run_dir_argument
from fanout.errors import ConfigError, JournalError
from fanout.model import OK_STATUSES, STATUS_GROUPS, STATUSES

if TYPE_CHECKING:
    from fanout.config import Options
    from fanout.inputs import Item, Selector
    from fanout.journal import Head, LineBlock, RunDir

H = TypeVar("H", bound="Head")

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


_BLOCK_BYTES = 4 << 20
_COPY_BYTES = 1 << 20
_CONTENT_TYPES = {
    "jsonl": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}


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
    output_format: str,
    output: str | None,
    results: str | None,
    region: str | None,
    profile: str | None,
) -> None:
    """Write the inputs of the records of RUN_DIR that did not succeed, as input for `fanout run`.

    The latest outcome of each record counts. Inputs of records that succeeded are not in the run
    directory: they are read from the original input, if it is still the same.
    """
    from fanout.journal import RunDir

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
    what = "outcomes" if outcomes else "outputs" if outputs else "inputs"
    _check_output(output, output_format)
    statuses = {status for name in names for status in STATUS_GROUPS.get(name, {name})}
    statuses = statuses or set(STATUSES if outcomes else OK_STATUSES if outputs else STATUS_GROUPS["failed"])
    with tempfile.TemporaryFile() as lines:
        if outcomes:
            count = _write_outcomes(lines, run_dir, statuses, error_types)
        elif outputs:
            count = _write_outputs(lines, run_dir, statuses, error_types)
        elif statuses & OK_STATUSES:
            count = asyncio.run(_write_inputs_again(lines, opened, statuses, error_types))
        else:
            count = _write_inputs(lines, run_dir, statuses, error_types)
        if output is not None and is_s3(output):
            calls = _calls(opened, profile=profile, region=region)
            _deliver_to_s3(lines, output_format, output, what=what, options=calls)
        else:
            _deliver(lines, output_format, output, what=what)
    if output is not None or not count:
        place = "" if output is None else f" to {output}"
        click.echo(f"fanout: wrote {count:,} {what}{place}", err=True)


def _check_output(output: str | None, output_format: str) -> None:
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
        manifest = await upload_results(run_dir, location, _calls(run_dir, profile=profile, region=region))
    click.echo(f"fanout: results: {manifest}", err=True)


def _write_outcomes(
    lines: IO[bytes], run_dir: Path, statuses: Collection[str], error_types: Collection[str]
) -> int:
    from fanout.journal import Head

    count = 0
    for block, wanted in _chosen_blocks(run_dir, Head, statuses, error_types):
        if wanted is None:
            lines.writelines((block.lines, b"\n"))
            count += len(block.outcomes)
        else:
            each = block.split()
            lines.write(b"".join([each[place] + b"\n" for place in wanted]))
            count += len(wanted)
    return count


def _write_outputs(
    lines: IO[bytes], run_dir: Path, statuses: Collection[str], error_types: Collection[str]
) -> int:
    """Of each chosen record ``seq``, ``key`` and what the function returned."""
    from fanout.cli.export_lines import OutputLine

    encode = msgspec.json.Encoder().encode_lines
    count = without = 0
    for block, wanted in _chosen_blocks(run_dir, OutputLine, statuses, error_types):
        chosen = block.outcomes if wanted is None else [block.outcomes[place] for place in wanted]
        found = [each.bare() for each in chosen if each.has_output]
        lines.write(encode(found))
        count += len(found)
        without += len(chosen) - len(found)
    if without:
        click.echo(f"fanout: left out {without:,} records without an output", err=True)
    return count


def _write_inputs(
    lines: IO[bytes], run_dir: Path, statuses: Collection[str], error_types: Collection[str]
) -> int:
    from fanout.journal import Head, Sendable
    from fanout.journal.line_blocks import decode_member
    from fanout.runs.redrive import is_fault

    decoder = msgspec.json.Decoder(Sendable)
    count = no_json = faults = 0
    for block, wanted in _chosen_blocks(run_dir, Head, statuses, error_types):
        each = block.split()
        for place in range(len(each)) if wanted is None else wanted:
            chosen: Sendable = decode_member(each[place], decoder, run_dir, block.outcomes[place].seq)
            if chosen.input is None or chosen.input_encoding is not None:  # type: ignore[redundant-expr]
                no_json += 1
            elif is_fault(chosen):
                faults += 1
            else:
                lines.write(bytes(chosen.input) + b"\n")
                count += 1
    _tell_left_out(no_json)
    if faults:
        click.echo(
            f"fanout: left out {faults:,} records that can never be sent: --outcomes has them", err=True
        )
    return count


def _chosen_blocks(
    run_dir: Path, fields: type[H], statuses: Collection[str], error_types: Collection[str]
) -> Iterator[tuple[LineBlock[H], list[int] | None]]:
    """The blocks that hold chosen outcomes, and the places of those; None where all of them are."""
    from fanout.journal import Sendable, read_blocks
    from fanout.journal.line_blocks import decode_member

    decoder = msgspec.json.Decoder(Sendable)

    def has_type(head: Head, line: bytes) -> bool:
        error = decode_member(line, decoder, run_dir, head.seq).error
        return error is not None and error.type in error_types

    for block, counting in read_blocks(run_dir, fields):
        heads = block.outcomes
        places = range(len(heads)) if counting is None else counting
        wanted = [place for place in places if heads[place].status in statuses]
        if error_types and wanted:
            each = block.split()
            wanted = [place for place in wanted if has_type(heads[place], each[place])]
        if wanted:
            yield block, None if len(wanted) == len(heads) else wanted


def _tell_left_out(count: int) -> None:
    if count:
        click.echo(f"fanout: left out {count:,} inputs that are not JSON: --outcomes has them", err=True)


async def _write_inputs_again(
    lines: IO[bytes], run_dir: RunDir, statuses: Collection[str], error_types: Collection[str]
) -> int:
    """Find the records in the journal, and their inputs in what the run read."""
    from fanout.commands.options import options_of
    from fanout.commands.run_input import another_input, reopen_input
    from fanout.inputs import Selector
    from fanout.journal import Head, SeqSet, check_samples

    wanted = SeqSet()
    for block, places in _chosen_blocks(run_dir.path, Head, statuses, error_types):
        heads = block.outcomes if places is None else [block.outcomes[place] for place in places]
        wanted.add_many([head.seq for head in heads])
    if not len(wanted):
        return 0
    selector = Selector(select=options_of(run_dir.state).select)
    samples = check_samples(run_dir.path)
    source = reopen_input(run_dir)
    line_of = _line_maker(selector)
    seq = left_out = count = 0
    try:
        async for batch in source.batches():
            found: list[bytes] = []
            for item in batch:
                if samples.differs(seq, item.payload):
                    raise another_input(source.location, f"record {seq} is another")
                if seq in wanted:
                    line = line_of(item)
                    if line is None:
                        left_out += 1
                    else:
                        found.append(line)
                seq += 1
            lines.write(b"".join([line + b"\n" for line in found]))
            count += len(found)
            if seq > wanted.max:
                break
    finally:
        await source.aclose()
    if seq <= wanted.max:
        raise another_input(source.location, f"it ends before record {wanted.max}")
    _tell_left_out(left_out)
    return count


def _line_maker(selector: Selector) -> Callable[[Item], bytes | None]:
    """Makes the payload of a record as one line; None for a record that has no payload."""
    from fanout.inputs import SelectionFailed
    from fanout.payload import embed

    is_identity = selector.is_identity

    def line_of(item: Item) -> bytes | None:
        if item.error is not None:
            return None
        payload = item.payload
        if is_identity and payload and b"\n" not in payload and b"\r" not in payload:
            return payload  # JSON on one line: it was checked when it was read
        try:
            raw, _ = embed(selector.apply(payload)[0])
        except SelectionFailed:
            return None
        return b"" if raw is None else bytes(raw)

    return line_of


def _deliver_to_s3(lines: IO[bytes], output_format: str, output: str, *, what: str, options: Options) -> None:
    """Upload the lines in their format."""
    lines.seek(0)
    with tempfile.TemporaryFile() as file:
        _copy(lines, output_format, file, what)
        file.seek(0)
        asyncio.run(_upload(file, output, _CONTENT_TYPES[output_format], options))


def _deliver(lines: IO[bytes], output_format: str, output: str | None, *, what: str) -> None:
    """Put the lines into a file or on standard output, in their format."""
    lines.seek(0)
    try:
        if output is None:
            _copy(lines, output_format, sys.stdout.buffer, what)
            sys.stdout.flush()
            return
        with Path(output).open("wb") as file:
            _copy(lines, output_format, file, what)
    except BrokenPipeError:  # `| head`: it has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except OSError as error:
        where = "standard output" if output is None else output
        raise JournalError(f"{where} cannot be written: {error.strerror}") from error


def _copy(lines: IO[bytes], output_format: str, file: IO[bytes], what: str) -> None:
    from fanout.outputs.tables import write_csv, write_parquet

    nested = "output" if what == "outputs" else None
    if output_format == "csv":
        write_csv(lines, file, nested=nested, is_for_people=what != "inputs")
    elif output_format == "parquet":
        write_parquet(lines, file, nested=nested)
    else:
        shutil.copyfileobj(lines, file, _COPY_BYTES)


async def _upload(file: IO[bytes], location: str, content_type: str, options: Options) -> None:
    from fanout.aws import ServiceClients
    from fanout.outputs.s3 import S3Upload

    bucket, key = split_location(location)
    clients = ServiceClients.of(options)
    try:
        async with S3Upload(clients, bucket, key, content_type=content_type) as upload:
            while block := await asyncio.to_thread(file.read, _BLOCK_BYTES):
                await upload.write(block)
            await upload.finish()
    finally:
        await clients.aclose()
