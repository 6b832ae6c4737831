"""The row groups of a Parquet file or object in place of its rows: only the metadata is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from fanout.inputs.listing import Entry
from fanout.inputs.parquet import ParquetSource, RangeReader, RowReader
from fanout.inputs.rows import Rows, footer_digest
from fanout.inputs.source import Item

_FEW_ROWS = 4096  # smaller row groups are handed out together


class _GroupReader(RowReader):
    """Blocking: one element for each row group, or for several small ones."""

    def __init__(self, file: Any, entry: Entry, first_row: int) -> None:
        super().__init__(file, nan_is_null=False, first_row=first_row, bytes_total=entry.size)
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
                yield [rows]  # type: ignore[list-item]  # for a coordinator


class RowGroupSource(ParquetSource):
    """A ParquetSource whose elements are Rows. ``entry`` is the file or object as it is now."""

    def __init__(self, entry: Entry, file: str | RangeReader) -> None:
        super().__init__(entry.location, file, bytes_total=entry.size)
        self._entry = msgspec.structs.replace(entry, modified=None)

    def _reader(self, first_row: int) -> RowReader:
        return _GroupReader(self._file, self._entry, first_row)
