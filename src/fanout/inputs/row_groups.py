"""The row groups of a Parquet file or object in place of its rows: only the metadata is read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec

from fanout.errors import SourceError
from fanout.inputs.listing import Entry
from fanout.inputs.parquet import RangeFile, RangeReader, RowReader
from fanout.inputs.read_ahead import ReadAhead
from fanout.inputs.rows import Rows, footer_digest
from fanout.inputs.source import Item, Place

_FEW_ROWS = 4096  # smaller row groups are handed out together


class _GroupReader(RowReader):
    """Blocking: one element for each row group, or for several small ones."""

    def __init__(self, file: Any, entry: Entry, first_row: int) -> None:
        super().__init__(file, nan_is_null=False, first_row=first_row)
        self._entry = entry

    def _items_of(self, pa: Any, pq: Any) -> Iterator[list[Item]]:
        footer = footer_digest(self._file) if isinstance(self._file, str) else b""
        with self._opened(pa, pq) as file:
            total, end = file.metadata.num_rows, 0
            for group in range(file.metadata.num_row_groups):
                end += file.metadata.row_group(group).num_rows
                count = end - self._row
                if count <= 0 or (count < _FEW_ROWS and end < total):
                    continue
                rows = Rows(self._entry, self._row, count, footer=footer)
                self._row = end
                self.bytes_read = (self._entry.size or 0) * end // total
                yield [rows]  # type: ignore[list-item]  # for a coordinator


class RowGroupSource:
    """A ParquetSource whose elements are Rows. ``entry`` is the file or object as it is now."""

    def __init__(self, entry: Entry, file: str | RangeReader) -> None:
        self.location = entry.location
        self.bytes_total = entry.size
        self.place: Place | None = None
        self._entry = msgspec.structs.replace(entry, modified=None)
        self._file = file if isinstance(file, str) else RangeFile(file)
        self._ahead: ReadAhead[list[Item]] | None = None

    @property
    def bytes_read(self) -> int:
        return 0 if self._ahead is None else self._ahead.position

    async def batches(self, at: Place | None = None) -> AsyncIterator[list[Item]]:
        """The row groups, in order; the first one from the row ``at`` on."""
        self._ahead = ReadAhead(_GroupReader(self._file, self._entry, 0 if at is None else int(at["row"])))
        try:
            while rows := await self._ahead.next():
                last: Any = rows[-1]
                self.place = {"row": last.first_row + last.count}
                yield rows
        except SourceError as error:
            raise SourceError(f"{self.location}: {error}") from error

    async def aclose(self) -> None:
        """Let go of the file."""
        if self._ahead is not None:
            await self._ahead.aclose()
        elif isinstance(self._file, RangeFile):
            self._file.close_ranges()
