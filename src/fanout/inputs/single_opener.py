"""The opening of one input: the readers and the format that a path, a pipe or a URL means."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace

from fanout.errors import SourceError
from fanout.inputs.bytes_source import BytesSource, OnNotice, Splitter, splitter_of
from fanout.inputs.compression import UnpackedReader
from fanout.inputs.csv_rows import CsvRows
from fanout.inputs.delays import Delays
from fanout.inputs.dialect import Dialect
from fanout.inputs.files import file_reader
from fanout.inputs.listing import Entry
from fanout.inputs.locations import compression_suffix, format_of, is_url
from fanout.inputs.options import InputOptions
from fanout.inputs.parquet import ParquetSource
from fanout.inputs.readers import ByteReader, SpooledReader, TextReader
from fanout.inputs.redaction import shown_location
from fanout.inputs.row_groups import RowGroupSource
from fanout.inputs.source import Place, Source

OnDialect = Callable[[Dialect], None]
_CSV = ("csv", "tsv", "s3-inventory", "s3-batch-manifest")


class SingleOpener:
    """Opens inputs one at a time. ``by_rows``: Parquet as Rows, not as items.

    ``dialect`` is what was found before of how an input is written; ``on_dialect`` is called with what is
    found of it, before its first record.
    """

    def __init__(
        self, options: InputOptions, *, on_notice: OnNotice | None, max_record_bytes: int, by_rows: bool
    ) -> None:
        self._options = options
        self._on_notice = on_notice
        self._max_record_bytes = max_record_bytes
        self._by_rows = by_rows

    def open(
        self,
        location: str,
        *,
        spool: Path | None = None,
        dialect: Dialect | None = None,
        on_dialect: OnDialect | None = None,
        may_grow: bool = False,
    ) -> Source:
        """The source of a path, of ``-`` or of a URL. Raises SourceError."""
        name = format_of(location, self._options) if is_url(location) else self._format_of_file(location)
        if name == "parquet":
            return self._parquet_file(location)
        delays = self._delays(location) if is_url(location) else None
        reader: ByteReader = (
            _url_reader(location, spool, delays) if is_url(location) else file_reader(location)
        )
        if spool is not None and not is_url(location):
            reader = SpooledReader(reader, spool)
        return self.of_bytes(
            location,
            reader,
            name,
            compression_suffix(location),
            dialect,
            on_dialect,
            delays=delays,
            may_grow=may_grow and location != "-" and not is_url(location),
        )

    def _delays(self, url: str) -> Delays | None:
        """What is said of its waits, from any thread; None where nobody listens."""
        on_notice = self._on_notice
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return None
        if on_notice is None:
            return None

        def say(text: str) -> None:
            with suppress(RuntimeError):  # the loop is gone
                loop.call_soon_threadsafe(on_notice, f"{shown_location(url)}: {text}")

        return Delays(say)

    def _format_of_file(self, location: str) -> str:
        try:
            return format_of(location, self._options)
        except SourceError:
            file_reader(location).close()  # that it cannot be read matters more than its name
            raise

    def _parquet_file(self, location: str) -> Source:
        if is_url(location) or location == "-":
            raise SourceError(f"{shown_location(location)}: Parquet is read from a file or S3: save it first")
        reader = file_reader(location)
        reader.close()
        if reader.bytes_total is None:
            raise SourceError(f"{location} is a pipe: Parquet is read from a file or from S3")
        if self._by_rows:
            path = str(Path(location).absolute())
            return RowGroupSource(Entry(location, path=path, size=reader.bytes_total), location)
        return ParquetSource(
            location, location, nan_is_null=self._options.nan == "null", bytes_total=reader.bytes_total
        )

    def of_bytes(
        self,
        location: str,
        reader: ByteReader,
        name: str,
        suffix: str,
        dialect: Dialect | None,
        on_dialect: OnDialect | None,
        *,
        delays: Delays | None = None,
        may_grow: bool = False,
    ) -> Source:
        """The source of bytes in the format ``name``, compressed as ``suffix`` and their first ones say."""
        options = self._options
        is_old = options.rules == 1
        reader = UnpackedReader(reader, suffix="" if is_old else suffix, gzip_only=is_old)
        text = TextReader(reader, options.encoding, mends_cr=name in _CSV and not is_old, known=dialect)
        if dialect is not None and dialect.delimiter is not None and options.csv_delimiter is None:
            options = replace(options, csv_delimiter=dialect.delimiter)

        def make_splitter(at: Place | None) -> Splitter:
            return splitter_of(name, options, at, max_record_bytes=self._max_record_bytes)

        def tell(splitter: Splitter) -> None:
            if on_dialect is not None and dialect is None:
                delimiter = splitter.found_delimiter if isinstance(splitter, CsvRows) else None
                on_dialect(Dialect(delimiter, text.found.encoding, text.found.line_end))

        return BytesSource(
            location,
            text,
            make_splitter,
            on_notice=self._on_notice,
            on_split=tell,
            delays=delays,
            may_grow=may_grow,
        )


def _url_reader(location: str, spool: Path | None, delays: Delays | None) -> ByteReader:
    from fanout.inputs.http import HttpReader  # it brings urllib and http, which files do without

    return HttpReader(location, spool, delays=delays)
