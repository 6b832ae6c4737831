"""Delivery of lines of JSON, in a format, to a file, standard output or an object in S3."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path
from typing import IO, Literal

from fanout.aws import ServiceClients
from fanout.aws.s3_faults import split_location
from fanout.config import Options
from fanout.errors import JournalError
from fanout.outputs.s3 import S3Upload
from fanout.outputs.tables import write_csv, write_parquet

Format = Literal["jsonl", "csv", "parquet"]

_BLOCK_BYTES = 4 << 20
_COPY_BYTES = 1 << 20
_CONTENT_TYPES: dict[Format, str] = {
    "jsonl": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}


def deliver(lines: IO[bytes], output_format: Format, output: str | None, *, what: str) -> None:
    """Put the lines into the file ``output``, or on standard output. ``what`` they are shapes a table.

    Raises JournalError for what cannot be written.
    """
    lines.seek(0)
    if output is None:
        _copy(lines, output_format, sys.stdout.buffer, what)
        sys.stdout.flush()
        return
    try:
        with Path(output).open("wb") as file:
            _copy(lines, output_format, file, what)
    except OSError as error:
        raise JournalError(f"{output} cannot be written: {error.strerror}") from error


def deliver_to_s3(
    lines: IO[bytes], output_format: Format, location: str, *, what: str, options: Options
) -> None:
    """Upload the lines to ``s3://bucket/key``, as these options say. Outside of an event loop."""
    lines.seek(0)
    with tempfile.TemporaryFile() as file:
        _copy(lines, output_format, file, what)
        file.seek(0)
        asyncio.run(_upload(file, location, _CONTENT_TYPES[output_format], options))


def _copy(lines: IO[bytes], output_format: Format, file: IO[bytes], what: str) -> None:
    nested = "output" if what == "outputs" else None
    if output_format == "csv":
        write_csv(lines, file, nested=nested, is_for_people=what != "inputs")
    elif output_format == "parquet":
        write_parquet(lines, file, nested=nested)
    else:
        shutil.copyfileobj(lines, file, _COPY_BYTES)


async def _upload(file: IO[bytes], location: str, content_type: str, options: Options) -> None:
    bucket, key = split_location(location)
    clients = ServiceClients.of(options)
    try:
        async with S3Upload(clients, bucket, key, content_type=content_type) as upload:
            while block := await asyncio.to_thread(file.read, _BLOCK_BYTES):
                await upload.write(block)
            await upload.finish()
    finally:
        await clients.aclose()
