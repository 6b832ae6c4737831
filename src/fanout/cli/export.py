"""``fanout export``: inputs or outcomes of a run, chosen by status, as JSON Lines or CSV."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import click
import msgspec

from fanout.cli.run_dir_argument import run_dir_argument
from fanout.errors import JournalError
from fanout.model import OK_STATUSES, STATUS_GROUPS, STATUSES, ErrorDetail

if TYPE_CHECKING:
    from fanout.inputs import Item, Selector
    from fanout.journal import RunDir

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
"""


class _Chosen(msgspec.Struct):
    """The members of an outcome that an export of inputs needs."""

    seq: int
    status: str = ""
    attempts: int = 0
    is_fault: bool = False
    error: ErrorDetail | None = None
    input: msgspec.Raw = None  # type: ignore[assignment]  # Raw | None cannot be read
    input_encoding: Literal["text", "base64"] | None = None


@click.command("export", epilog=_EPILOG, short_help="Inputs or outcomes of a run, by status.")
@run_dir_argument()
@click.option(
    "--status",
    "names",
    multiple=True,
    type=click.Choice([*STATUS_GROUPS, *STATUSES]),
    metavar="STATUS",
    help="Which records: failed (function_error, rejected, undelivered), or the name of a status. "
    "Repeatable. Default: failed; with --outcomes, all.",
)
@click.option(
    "--error-type",
    "error_types",
    multiple=True,
    metavar="TYPE",
    help="Only with this error type. Repeatable.",
)
@click.option("--outcomes", is_flag=True, help="Write outcomes, not inputs.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["jsonl", "csv"]),
    default="jsonl",
    help="JSON Lines, or CSV with a column for each top-level member. Default: jsonl.",
)
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Write to FILE.")
def command(
    run_dir: Path,
    names: tuple[str, ...],
    error_types: tuple[str, ...],
    outcomes: bool,
    output_format: str,
    output: Path | None,
) -> None:
    """Write the inputs of the records of RUN_DIR that did not succeed, as input for `fanout run`.

    The latest outcome of each record counts. Inputs of records that succeeded are not in the run
    directory: they are read from the original input, if it is still the same.
    """
    from fanout.journal import RunDir

    opened = RunDir.open(run_dir)
    statuses = {status for name in names for status in STATUS_GROUPS.get(name, {name})}
    statuses = statuses or set(STATUSES if outcomes else STATUS_GROUPS["failed"])
    with tempfile.TemporaryFile() as lines:
        if outcomes:
            _write_outcomes(lines, run_dir, statuses, error_types)
        elif statuses & OK_STATUSES:
            asyncio.run(_write_inputs_again(lines, opened, statuses, error_types))
        else:
            _write_inputs(lines, run_dir, statuses, error_types)
        count = _deliver(lines, output_format, output)
    if output is not None or not count:
        what = "outcomes" if outcomes else "inputs"
        place = "" if output is None else f" to {output}"
        click.echo(f"fanout: wrote {count:,} {what}{place}", err=True)


def _write_outcomes(
    lines: IO[bytes], run_dir: Path, statuses: Collection[str], error_types: Collection[str]
) -> None:
    from fanout.journal import iter_lines

    for head, line in iter_lines(run_dir):
        if head.status in statuses and (not error_types or _error_type(line) in error_types):
            lines.write(line)


def _write_inputs(
    lines: IO[bytes], run_dir: Path, statuses: Collection[str], error_types: Collection[str]
) -> None:
    from fanout.journal import decode_line, iter_lines
    from fanout.runs.redriving import is_fault

    decoder = msgspec.json.Decoder(_Chosen)
    no_json = faults = 0
    for head, line in iter_lines(run_dir):
        if head.status not in statuses:
            continue
        chosen = decode_line(line, decoder)
        if error_types and (chosen.error is None or chosen.error.type not in error_types):
            continue
        if chosen.input is None or chosen.input_encoding is not None:  # type: ignore[redundant-expr]
            no_json += 1
        elif is_fault(chosen):
            faults += 1
        else:
            lines.write(bytes(chosen.input) + b"\n")
    _tell_left_out(no_json)
    if faults:
        click.echo(
            f"fanout: left out {faults:,} records that can never be sent: --outcomes has them", err=True
        )


def _tell_left_out(count: int) -> None:
    if count:
        click.echo(f"fanout: left out {count:,} inputs that are no JSON: --outcomes has them", err=True)


async def _write_inputs_again(
    lines: IO[bytes], run_dir: RunDir, statuses: Collection[str], error_types: Collection[str]
) -> None:
    """Find the records in the journal, and their inputs in what the run read."""
    from fanout.commands.run_input import another_input, reopen_input
    from fanout.inputs import Selector
    from fanout.journal import SeqSet, check_samples, iter_lines

    wanted = SeqSet()
    for head, line in iter_lines(run_dir.path):
        if head.status in statuses and (not error_types or _error_type(line) in error_types):
            wanted.add(head.seq)
    if not len(wanted):
        return
    options = run_dir.state.get("options", {})
    selector = Selector(select=options.get("select"))
    samples = check_samples(run_dir.path)
    source = reopen_input(run_dir)
    seq = left_out = 0
    try:
        async for batch in source.batches():
            for item in batch:
                if samples.differs(seq, item.payload):
                    raise another_input(source.location, f"record {seq} is another")
                if seq in wanted and not _write_item(lines, item, selector):
                    left_out += 1
                seq += 1
            if seq > wanted.max:
                break
    finally:
        await source.aclose()
    if seq <= wanted.max:
        raise another_input(source.location, f"it ends before record {wanted.max}")
    _tell_left_out(left_out)


def _write_item(lines: IO[bytes], item: Item, selector: Selector) -> bool:
    from fanout.inputs import SelectionFailed
    from fanout.payload import embed

    if item.error is not None:
        return False
    try:
        raw, _ = embed(selector.apply(item.payload)[0])
    except SelectionFailed:
        return False
    lines.write((b"" if raw is None else bytes(raw)) + b"\n")
    return True


def _error_type(line: bytes) -> str | None:
    from fanout.journal import decode_line

    error = decode_line(line, _CHOSEN).error
    return None if error is None else error.type


_CHOSEN = msgspec.json.Decoder(_Chosen)


def _deliver(lines: IO[bytes], output_format: str, output: Path | None) -> int:
    """Put the lines where they were asked for, in their format; returns how many."""
    lines.seek(0)
    try:
        if output is None:
            count = _copy(lines, output_format, sys.stdout.buffer)
            sys.stdout.flush()
            return count
        with output.open("wb") as file:
            return _copy(lines, output_format, file)
    except BrokenPipeError:  # `| head`: it has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except OSError as error:
        where = "standard output" if output is None else output
        raise JournalError(f"{where}: cannot be written: {error.strerror}") from error


def _copy(lines: IO[bytes], output_format: str, file: IO[bytes]) -> int:
    if output_format == "csv":
        return _copy_as_csv(lines, file)
    count = 0
    for line in lines:
        file.write(line)
        count += 1
    return count


def _copy_as_csv(lines: IO[bytes], file: IO[bytes]) -> int:
    columns: dict[str, None] = {}
    for row in _rows(lines):
        columns.update(dict.fromkeys(row))
    text = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="", write_through=True)
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    count = 0
    if columns:
        writer.writeheader()
    for row in _rows(lines):
        writer.writerow(row)
        count += 1
    text.detach()
    return count


def _rows(lines: IO[bytes]) -> Iterator[dict[str, str]]:
    lines.seek(0)
    for members in _decoded(lines):
        if not isinstance(members, dict):
            members = {"value": members}
        yield {name: _cell(member) for name, member in members.items()}


def _decoded(lines: Iterable[bytes]) -> Iterator[Any]:
    import json

    for line in lines:
        try:
            yield msgspec.json.decode(line)
        except msgspec.DecodeError:  # lone surrogates
            yield json.loads(line)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
