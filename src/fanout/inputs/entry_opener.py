"""The opening of one of many: a file or an object of a list, a pattern, a prefix or an inventory."""

from __future__ import annotations

from collections.abc import Callable

from fanout.aws.s3_faults import is_s3
from fanout.errors import SourceError
from fanout.inputs.bytes_source import BytesSource, OnNotice, Splitter
from fanout.inputs.compression import UnpackedReader
from fanout.inputs.dialect import USUAL, Dialect
from fanout.inputs.files import file_reader
from fanout.inputs.inventory import read_inventory
from fanout.inputs.listing import Entry, KeptListing, Read
from fanout.inputs.locations import compression_suffix, format_of
from fanout.inputs.options import InputOptions
from fanout.inputs.parquet import ParquetSource
from fanout.inputs.row_groups import RowGroupSource
from fanout.inputs.s3 import S3, ObjectReader, ObjectStream
from fanout.inputs.single_opener import OnDialect, SingleOpener
from fanout.inputs.source import Place, Source


class EntryOpener:
    """Opens entries of a listing, in which it keeps what it finds of them. ``single`` opens their bytes."""

    def __init__(
        self,
        options: InputOptions,
        single: SingleOpener,
        *,
        s3: Callable[[], S3],
        listing: KeptListing,
        on_notice: OnNotice | None,
        max_record_bytes: int,
        by_rows: bool,
    ) -> None:
        self._options = options
        self._single = single
        self._s3 = s3
        self._listing = listing
        self._on_notice = on_notice
        self._max_record_bytes = max_record_bytes
        self._by_rows = by_rows

    async def open(self, entry: Entry) -> tuple[Source, Entry]:
        """Its source, and what is known of it now. Raises SourceError for one that is another by now."""
        location = entry.location
        options = self._options
        if entry.columns is not None:  # of an inventory
            options = InputOptions(format="s3-inventory", csv_header=None, rules=options.rules)
        name = format_of(location, options)
        if name == "s3-inventory" and location.endswith(".parquet"):
            name = "parquet"
        if not is_s3(location):
            source = self._single.open(
                entry.path or location, dialect=entry.dialect, on_dialect=self._keeps(entry)
            )
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
        return self._single.of_bytes(location, reader, name, suffix, entry.dialect, self._keeps(entry)), known

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

    async def read_inventory(self, location: str, index: int) -> list[Entry]:
        """The parts that the manifest of an inventory names. Raises SourceError."""
        if is_s3(location):
            stream = await self._s3().stream(location)
            try:
                data = await stream.range(0, stream.size)
            finally:
                stream.drop()
        else:
            reader = file_reader(location)
            data = b""
            while chunk := reader.read():
                data += chunk
            reader.close()
        return read_inventory(location, data, index)

    def _keeps(self, entry: Entry) -> OnDialect:
        def keep(dialect: Dialect) -> None:
            if dialect != USUAL and dialect.delimiter != ",":
                self._listing.append([Read(entry.identity, dialect)])

        return keep
