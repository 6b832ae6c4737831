"""Which reader and which format an INPUT means: a path, ``-`` or a URL; its suffix, or ``--format``."""

from __future__ import annotations

import stat
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import IO, Protocol
from urllib.parse import urlsplit

from fanout.errors import SourceError
from fanout.inputs.ahead import ReadAhead
from fanout.inputs.csv_rows import CsvRows
from fanout.inputs.http import HttpReader
from fanout.inputs.json_array import JsonArray
from fanout.inputs.jsonl import JsonLines
from fanout.inputs.reading import (
    ByteReader,
    CutReader,
    FileReader,
    GunzipReader,
    SpooledReader,
    end_mark,
)
from fanout.inputs.shown import shown_location
from fanout.inputs.source import MAX_RECORD_BYTES, Item, Source

FORMATS = ("jsonl", "json", "csv")
_BY_SUFFIX = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv"}


class Splitter(Protocol):
    """A format: bytes in any chunks to records."""

    def feed(self, chunk: bytes) -> Iterator[list[Item]]:
        """The records that end in this chunk."""
        ...

    def finish(self) -> Iterator[list[Item]]:
        """What the end of the input completes."""
        ...


_SPLITTERS: dict[str, Callable[[int], Splitter]] = {"jsonl": JsonLines, "json": JsonArray, "csv": CsvRows}


class _BytesSource:
    """Records of a format out of the bytes of a reader."""

    def __init__(self, location: str, reader: ByteReader, splitter: Splitter) -> None:
        self.location = location
        self._reader = reader
        self._ahead = ReadAhead(reader)
        self._splitter = splitter
        self._position = 0  # of the records handed out, not of the reader, which is ahead

    @property
    def bytes_read(self) -> int:
        return self._position

    @property
    def bytes_total(self) -> int | None:
        return self._reader.bytes_total

    async def batches(self) -> AsyncIterator[list[Item]]:
        """The records. A failure comes after the last whole record before it, and says how far that was."""
        records = 0
        try:
            while chunk := await self._ahead.next():
                before, handed_out = self._position, 0
                stored = self._ahead.position - before  # bytes of the file that this chunk came of
                for batch in self._splitter.feed(chunk):
                    records += len(batch)
                    handed_out += sum([len(item.payload) for item in batch]) + len(batch)
                    self._position = before + int(stored * min(1.0, handed_out / len(chunk)))
                    yield batch
                self._position = before + stored
            self._position = self._ahead.position
            for batch in self._splitter.finish():
                records += len(batch)
                yield batch
        except SourceError as error:
            where = f" (after {records:,} records)" if records else ""
            raise SourceError(f"{_name(self.location)}: {error}{where}") from error

    async def aclose(self) -> None:
        """Let go of the input."""
        await self._ahead.aclose()


def open_source(
    location: str,
    *,
    format: str | None = None,  # noqa: A002 - the option's name
    spool: Path | None = None,
    max_line_bytes: int = MAX_RECORD_BYTES,
) -> Source:
    """The source for an INPUT. Gzip is told by its first bytes, whatever the name.

    ``spool``: a file, which must not exist, that gets the bytes as they are read. Raises SourceError, in
    one line, for what cannot be read or has no known format; a URL and a pipe are only opened when read.
    """
    name = _format_of(location, format)
    reader: ByteReader = HttpReader(location) if is_url(location) else _file_reader(location)
    if spool is not None:
        reader = SpooledReader(reader, spool)
    return _BytesSource(location, GunzipReader(reader), _SPLITTERS[name](max_line_bytes))


def open_spool(
    spool: Path,
    *,
    location: str = "-",
    format: str | None = None,  # noqa: A002 - the option's name
    max_line_bytes: int = MAX_RECORD_BYTES,
) -> Source:
    """The source for what was read from ``location`` and spooled, in the same order.

    When the input had not been read to its end, the source raises SourceError after the last whole record.
    """
    name = _format_of(location, format)
    reader: ByteReader = _file_reader(str(spool))
    if not end_mark(spool).exists():
        reader = CutReader(reader)
    return _BytesSource(str(spool), GunzipReader(reader), _SPLITTERS[name](max_line_bytes))


def is_url(location: str) -> bool:
    """Whether an INPUT is read over HTTP."""
    return location.startswith(("http://", "https://"))


def _format_of(location: str, asked: str | None) -> str:
    if asked is not None:
        if asked not in FORMATS:
            raise SourceError(f"format is {asked!r}: give {' | '.join(FORMATS)}")
        return asked
    if location == "-":
        return "jsonl"
    path = Path(urlsplit(location).path if is_url(location) else location)
    if path.suffix == ".gz":
        path = path.with_suffix("")
    known = _BY_SUFFIX.get(path.suffix.lower())
    if known is not None:
        return known
    if not is_url(location) and _exists(path := Path(location)) and not path.is_file() and not path.is_dir():
        return "jsonl"  # a pipe: <(command), /dev/stdin
    if not is_url(location):
        _file_reader(location).close()  # that it cannot be read matters more than its name
    suffixes, formats = ", ".join(_BY_SUFFIX), "|".join(FORMATS)
    raise SourceError(
        f"{_name(location)}: unknown format: name it {suffixes} (or .gz of these), or give --format {formats}"
    )


def _file_reader(location: str) -> FileReader:
    if location == "-":
        return FileReader(_standard_input)
    path = Path(location)
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise SourceError(f"{location}: is a directory: give a file, - or a URL")
        if not stat.S_ISREG(found.st_mode):
            return FileReader(lambda: path.open("rb", buffering=0))
        file = path.open("rb", buffering=0)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        hint = ": give a file, - (standard input) or a URL" if isinstance(error, FileNotFoundError) else ""
        raise SourceError(f"{location}: {reason}{hint}") from error
    return FileReader(file, found.st_size)


def _standard_input() -> IO[bytes]:
    # Unbuffered and by number: a thread that is left waiting in sys.stdin would hold its lock at exit.
    try:
        return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    except (OSError, ValueError, AttributeError):  # closed, or no file at all, as in a notebook
        return sys.stdin.buffer


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _name(location: str) -> str:
    return shown_location(location)
