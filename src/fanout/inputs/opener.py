"""Opening of inputs: the readers and the format that a location means, by its name and the options."""

from __future__ import annotations

import asyncio
import stat
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

from fanout.aws import Clients
from fanout.aws.s3_faults import is_s3
from fanout.errors import ConfigError, SourceError
from fanout.inputs.bytes_source import BytesSource, OnNotice, Splitter, splitter_of
from fanout.inputs.compression import UnpackedReader
from fanout.inputs.csv_rows import CsvRows
from fanout.inputs.delays import Delays
from fanout.inputs.dialect import USUAL, Dialect
from fanout.inputs.http import HttpReader
from fanout.inputs.inventory import read_inventory
from fanout.inputs.listing import Entry, KeptListing, Read
from fanout.inputs.locations import absolute, check_text, compression_suffix, format_of, is_list, is_url
from fanout.inputs.many import ManySource
from fanout.inputs.options import InputOptions
from fanout.inputs.parquet import ParquetSource
from fanout.inputs.readers import ByteReader, CutReader, FileReader, SpooledReader, TextReader, end_mark
from fanout.inputs.redaction import shown_location
from fanout.inputs.row_groups import RowGroupSource
from fanout.inputs.rows import Rows, footer_digest
from fanout.inputs.s3 import S3, ObjectReader, ObjectStream
from fanout.inputs.source import MAX_RECORD_BYTES, Place, Source, WrappedSource

OnDialect = Callable[[Dialect], None]
DEFAULT = InputOptions()
_CSV = ("csv", "tsv", "s3-inventory", "s3-batch-manifest")


class Opener:
    """Opens inputs by one set of options. ``clients`` are for S3, and made when they are first asked for."""

    def __init__(
        self,
        options: InputOptions = DEFAULT,
        *,
        clients: Callable[[], Clients] | None = None,
        on_notice: OnNotice | None = None,
        dialect: Dialect | None = None,
        on_dialect: OnDialect | None = None,
        max_record_bytes: int = MAX_RECORD_BYTES,
        by_rows: bool = False,
    ) -> None:
        self._options = options
        self._by_rows = by_rows
        self._make_clients = clients
        self._clients: Clients | None = None
        self._on_notice = on_notice
        self._dialect = dialect
        self._on_dialect = on_dialect
        self._listing = KeptListing(None)
        self._max_record_bytes = max_record_bytes

    def open(
        self,
        locations: str | Sequence[str],
        *,
        directory: str = "",
        spool: Path | None = None,
        listing: Path | None = None,
    ) -> Source:
        """The source for one INPUT or several.

        ``spool``: a file, which must not exist, that gets the bytes as they are read (of one input that
        cannot be read twice; of a URL that cannot be taken up again, as they come). ``listing``: a file
        that keeps what several, a pattern or a prefix are made of. ``directory``: what the relative paths
        of such are relative to, where it is not the current one. Raises SourceError, in one line, for
        what cannot be read or has no known format; a URL, a pipe and an object are only opened when read.
        """
        locations = [locations] if isinstance(locations, str) else list(locations)
        if not locations:
            raise ConfigError("no input: give a path, a pattern, s3://… or a URL")
        if len(locations) > 1 and "-" in locations:
            raise SourceError("- (standard input) must be the only INPUT: `cat` the others into it")
        for location in locations:
            check_text(location)
        is_inventory = self._options.format == "s3-inventory"
        if len(locations) == 1 and not is_list(locations[0], directory) and not is_inventory:
            return self._local(locations[0], spool)
        for location in locations:  # what is wrong with a name is said before anything is sent
            if not is_list(location, directory) and not is_inventory:
                format_of(location, self._options)
                if not is_url(location):
                    _file_reader(absolute(location, directory) if directory else location).close()
        self._listing = KeptListing(listing)
        return _Closing(
            ManySource(
                locations,
                self._open_entry,
                lambda name: format_of(name, self._options),
                s3=self._s3,
                listing=self._listing,
                directory=directory,
                read_inventory=self._read_inventory if is_inventory else None,
                on_notice=self._on_notice,
            ),
            self,
        )

    def open_spool(self, spool: Path, location: str = "-") -> Source:
        """The source for what was read from ``location`` and spooled, in the same order.

        When the input had not been read to its end, the source raises SourceError after the last whole
        record.
        """
        reader: ByteReader = _file_reader(str(spool))
        if not end_mark(spool).exists():
            reader = CutReader(reader)
        return self._bytes(
            str(spool),
            reader,
            format_of(location, self._options),
            compression_suffix(location),
            self._dialect,
            self._on_dialect,
        )

    async def open_rows(self, rows: Rows) -> Source:
        """The source of a file or an object that has these rows. Raises SourceError for another one."""
        path = rows.entry.path
        if rows.footer and path is not None and footer_digest(path) != rows.footer:
            raise SourceError(f"{path} is not the file that the run began with")
        source, _ = await self._open_entry(rows.entry)
        return source

    async def aclose(self) -> None:
        """Let go of the session."""
        if self._clients is not None:
            await self._clients.aclose()

    # --- one input -------------------------------------------------------------------------------

    def _local(self, location: str, spool: Path | None, entry: Entry | None = None) -> Source:
        name = format_of(location, self._options) if is_url(location) else self._format_of_file(location)
        if name == "parquet":
            return self._parquet_file(location)
        delays = self._delays(location) if is_url(location) else None
        reader: ByteReader = (
            HttpReader(location, spool, delays=delays) if is_url(location) else _file_reader(location)
        )
        if spool is not None and not is_url(location):
            reader = SpooledReader(reader, spool)
        dialect, on_dialect = self._dialect, self._on_dialect
        if entry is not None:
            dialect, on_dialect = entry.dialect, self._keeps(entry)
        return self._bytes(
            location,
            reader,
            name,
            compression_suffix(location),
            dialect,
            on_dialect,
            delays=delays,
            may_grow=entry is None and location != "-" and not is_url(location),
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

    def _keeps(self, entry: Entry) -> OnDialect:
        def keep(dialect: Dialect) -> None:
            if dialect != USUAL and dialect.delimiter != ",":
                self._listing.append([Read(entry.identity, dialect)])

        return keep

    def _format_of_file(self, location: str) -> str:
        try:
            return format_of(location, self._options)
        except SourceError:
            _file_reader(location).close()  # that it cannot be read matters more than its name
            raise

    def _parquet_file(self, location: str) -> Source:
        if is_url(location) or location == "-":
            raise SourceError(f"{shown_location(location)}: Parquet is read from a file or S3: save it first")
        reader = _file_reader(location)
        reader.close()
        if reader.bytes_total is None:
            raise SourceError(f"{location} is a pipe: Parquet is read from a file or from S3")
        if self._by_rows:
            path = str(Path(location).absolute())
            return RowGroupSource(Entry(location, path=path, size=reader.bytes_total), location)
        return ParquetSource(
            location, location, nan_is_null=self._options.nan == "null", bytes_total=reader.bytes_total
        )

    def _bytes(
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

    # --- one of many -----------------------------------------------------------------------------

    async def _open_entry(self, entry: Entry) -> tuple[Source, Entry]:
        location = entry.location
        options = self._options
        if entry.columns is not None:  # of an inventory
            options = InputOptions(format="s3-inventory", csv_header=None, rules=options.rules)
        name = format_of(location, options)
        if name == "s3-inventory" and location.endswith(".parquet"):
            name = "parquet"
        if not is_s3(location):
            source = self._local(entry.path or location, None, entry)
            size = source.bytes_total
            if entry.size is not None and size != entry.size:
                await source.aclose()
                raise SourceError(
                    f"{location} is not the file that the run began with: "
                    f"its size was {entry.size:,} bytes and is {size or 0:,}"
                )
            return source, Entry(location, input=entry.input, path=entry.path, size=size)
        stream = await self._s3().stream(location, etag=entry.etag)
        if entry.columns is not None:
            self._check_part(entry, stream)
        known = Entry(
            location, input=entry.input, size=stream.size, etag=stream.etag, modified=stream.modified
        )
        reader = ObjectReader(stream)
        if name == "parquet" and self._by_rows:
            kept = Entry(location, size=stream.size, etag=stream.etag, columns=entry.columns, md5=entry.md5)
            return RowGroupSource(kept, reader), known
        if name == "parquet":
            nan_is_null = self._options.nan == "null"
            return ParquetSource(location, reader, nan_is_null=nan_is_null, bytes_total=stream.size), known
        if entry.columns is not None:
            columns = tuple(entry.columns)

            def make_rows(at: Place | None) -> Splitter:
                from fanout.inputs.manifest_rows import InventoryRows

                return InventoryRows(self._max_record_bytes, at, header=columns)

            unpacked = UnpackedReader(reader, suffix=compression_suffix(location))
            return BytesSource(location, unpacked, make_rows, on_notice=self._on_notice), known
        suffix = compression_suffix(location)
        return self._bytes(location, reader, name, suffix, entry.dialect, self._keeps(entry)), known

    def _check_part(self, entry: Entry, stream: ObjectStream) -> None:
        """Refuse a part that is not the one its manifest names, and keep the ETag for a resume."""
        if None not in (entry.md5, stream.md5) and entry.md5 != stream.md5:
            stream.drop()
            raise SourceError(
                f"{entry.location} is not the part that the inventory's manifest names: "
                f"its MD5 is {stream.md5}, not {entry.md5}"
            )
        if entry.etag is None:
            self._listing.append([Read(entry.identity, etag=stream.etag)])

    async def _read_inventory(self, location: str, index: int) -> list[Entry]:
        if is_s3(location):
            stream = await self._s3().stream(location)
            try:
                data = await stream.range(0, stream.size)
            finally:
                stream.drop()
        else:
            reader = _file_reader(location)
            data = b""
            while chunk := reader.read():
                data += chunk
            reader.close()
        return read_inventory(location, data, index)

    def _s3(self) -> S3:
        if self._clients is None:
            if self._make_clients is None:
                raise SourceError("S3 is not to be had here")
            self._clients = self._make_clients()
        return S3(self._clients, request_payer=self._options.request_payer, on_notice=self._on_notice)


class _Closing(WrappedSource):
    """A source that closes its opener's session with it."""

    def __init__(self, source: ManySource, opener: Opener) -> None:
        super().__init__(source)
        self.batches = source.batches
        self._opener = opener

    async def aclose(self) -> None:
        await super().aclose()
        await self._opener.aclose()


def open_source(
    location: str | Sequence[str],
    options: InputOptions = DEFAULT,
    *,
    directory: str = "",
    spool: Path | None = None,
    listing: Path | None = None,
    clients: Callable[[], Clients] | None = None,
    on_notice: OnNotice | None = None,
    dialect: Dialect | None = None,
    on_dialect: OnDialect | None = None,
    max_record_bytes: int = MAX_RECORD_BYTES,
    by_rows: bool = False,
) -> Source:
    """The source for an INPUT or several: see ``Opener.open``. ``by_rows``: Parquet as Rows, not as items.

    ``on_dialect`` is called with what is found of how one input is written, before its first record;
    ``dialect`` is what was found before. Those of several are kept in ``listing``.
    """
    opener = Opener(
        options,
        clients=clients,
        on_notice=on_notice,
        dialect=dialect,
        on_dialect=on_dialect,
        max_record_bytes=max_record_bytes,
        by_rows=by_rows,
    )
    return opener.open(location, directory=directory, spool=spool, listing=listing)


def open_spool(
    spool: Path,
    options: InputOptions = DEFAULT,
    *,
    location: str = "-",
    dialect: Dialect | None = None,
    on_dialect: OnDialect | None = None,
) -> Source:
    """The source for what was spooled: see ``Opener.open_spool``."""
    return Opener(options, dialect=dialect, on_dialect=on_dialect).open_spool(spool, location)


def _file_reader(location: str) -> FileReader:
    if location == "-":
        return FileReader(_standard_input)
    path = Path(location)
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise SourceError(
                f"{location} is a directory: give a file, a pattern such as '{location}/*.jsonl', - or a URL"
            )
        if not stat.S_ISREG(found.st_mode):
            return FileReader(lambda: path.open("rb", buffering=0))
        file = path.open("rb", buffering=0)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        hint = (
            ": give a file, - (standard input), s3://… or a URL"
            if isinstance(error, FileNotFoundError)
            else ""
        )
        raise SourceError(f"{location}: {reason}{hint}") from error
    return FileReader(file, found.st_size)


def _standard_input() -> IO[bytes]:
    # Unbuffered and by number: a thread that is left waiting in sys.stdin would hold its lock at exit.
    try:
        return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    except (OSError, ValueError, AttributeError):  # closed, or no file at all, as in a notebook
        return sys.stdin.buffer
