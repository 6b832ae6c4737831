"""Parquet: rows as JSON objects, every column of them, from a file or by ranges of an object.

Needs the extra ``parquet`` (pyarrow). Decimals become strings, dates and times ISO 8601, bytes base64,
maps lists of pairs. NaN and the infinities have no JSON form: such a row is a fault, or has ``null``.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import msgspec

from fanout.errors import SourceError
from fanout.inputs.read_ahead import ReadAhead
from fanout.inputs.rows import records_in
from fanout.inputs.source import BATCH_ITEMS, Item, Place
from fanout.model import ErrorDetail

_ROWS = 4096  # decoded at once
_MISSING = "Parquet needs pyarrow: pip install 'lambda-fanout[parquet]'"
_encode = msgspec.json.Encoder().encode


class RangeReader(Protocol):
    """Bytes of an object by their offset."""

    @property
    def bytes_total(self) -> int | None: ...

    def read_range(self, start: int, length: int) -> bytes: ...

    def interrupt(self) -> None: ...

    def close(self) -> None: ...


class RangeFile:
    """A file object over ranges, as pyarrow reads one."""

    def __init__(self, ranges: RangeReader) -> None:
        self._ranges = ranges
        self._at = 0
        self.closed = False

    def size(self) -> int:
        return self._ranges.bytes_total or 0

    def read(self, length: int = -1) -> bytes:
        if length < 0:
            length = self.size() - self._at
        if not length:
            return b""
        data = self._ranges.read_range(self._at, length)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self.size())[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def flush(self) -> None:
        """Nothing is written."""

    def close(self) -> None:
        self.closed = True

    def interrupt(self) -> None:
        """A read that waits may give up."""
        self._ranges.interrupt()

    def close_ranges(self) -> None:
        """Let go of the object."""
        self._ranges.close()


class RowReader:
    """Blocking: the rows from ``first_row`` on, in lists of items. Runs in the source's thread.

    ``bytes_read`` is the share of ``bytes_total`` that the rows are of all: where they lie is pyarrow's.
    """

    def __init__(
        self, file: Any, *, nan_is_null: bool, first_row: int, bytes_total: int | None = None
    ) -> None:
        self.bytes_read = 0
        self._bytes_total = bytes_total or 0
        self._total_rows = 1
        self._file = file
        self._nan_is_null = nan_is_null
        self._row = first_row
        self._lists: Iterator[list[Item]] | None = None

    def read(self) -> list[Item]:
        if self._lists is None:
            self._lists = self._items()
        items = next(self._lists, [])
        self.bytes_read = self._bytes_total * self._row // self._total_rows
        return items

    def direct(self) -> None:
        """Rows are made in the thread."""

    def interrupt(self) -> None:
        if isinstance(self._file, RangeFile):
            self._file.interrupt()

    def close(self) -> None:
        self._lists = None
        if isinstance(self._file, RangeFile):
            self._file.close_ranges()

    def _items(self) -> Iterator[list[Item]]:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            raise SourceError(_MISSING) from None
        try:
            yield from self._items_of(pa, pq)
        except (pa.ArrowException, OSError, EOFError) as error:
            cause = error.__cause__ or error.__context__
            if isinstance(cause, SourceError):
                raise cause from error
            text = " ".join(str(error).split())
            raise SourceError(f"cannot be read as Parquet: {text}") from error

    @contextmanager
    def _opened(self, pa: Any, pq: Any) -> Iterator[Any]:
        is_ranges = isinstance(self._file, RangeFile)
        with ExitStack() as opened:
            file: Any = pa.PythonFile(self._file, "r") if is_ranges else self._file
            if isinstance(file, str) and not _is_utf8(file):  # pyarrow opens no such name
                file = opened.enter_context(Path(file).open("rb"))
            file = opened.enter_context(
                pq.ParquetFile(file, pre_buffer=is_ranges, page_checksum_verification=True)
            )
            names = file.schema_arrow.names
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise SourceError(f"has two columns named {twice!r}: rename one")
            metadata = file.metadata
            groups = range(metadata.num_row_groups)
            _check_rows(sum(metadata.row_group(group).num_rows for group in groups), metadata.num_rows)
            self._total_rows = max(1, metadata.num_rows)
            yield file

    def _items_of(self, pa: Any, pq: Any) -> Iterator[list[Item]]:
        with self._opened(pa, pq) as file:
            schema, metadata = file.schema_arrow, file.metadata
            may_be_nan = _may_be_nan(pa, schema)
            before = 0
            for group in range(metadata.num_row_groups):
                rows = metadata.row_group(group).num_rows
                if before + rows <= self._row:
                    before += rows
                    continue
                at = before
                for batch in file.iter_batches(batch_size=_ROWS, row_groups=[group], use_threads=False):
                    skipped = max(0, self._row - at)
                    at += batch.num_rows
                    if skipped < batch.num_rows:
                        yield from self._rows(pa, batch.slice(skipped), may_be_nan=may_be_nan)
                before += rows
                _check_rows(at, before)

    def _rows(self, pa: Any, batch: Any, *, may_be_nan: bool) -> Iterator[list[Item]]:
        batch = _with_text_times(pa, batch)
        may_be_nan = may_be_nan and not self._nan_is_null and not _is_finite(pa, batch)
        for start in range(0, batch.num_rows, BATCH_ITEMS):
            rows = batch.slice(start, BATCH_ITEMS).to_pylist()
            items: list[Item] = []
            first = self._row + 1
            if not may_be_nan:
                self._row += len(rows)
                yield list(map(Item, map(_encode, rows), range(first, first + len(rows))))
                continue
            for row in rows:
                self._row += 1
                bad = _nan_column(row)
                item = Item(_encode(row), self._row)
                if bad is not None:
                    text = f"row {self._row}: {bad} is NaN or infinite, which JSON has not (--nan null)"
                    item.error = ErrorDetail("InvalidNumber", text)
                items.append(item)
            yield items


def _is_utf8(name: str) -> bool:
    return name == name.encode(errors="replace").decode()


class ParquetSource:
    """The rows of one file or object. ``line`` of an item is its row, from 1."""

    def __init__(
        self,
        location: str,
        file: str | RangeReader,
        *,
        nan_is_null: bool = False,
        bytes_total: int | None = None,
    ) -> None:
        self.location = location
        self.bytes_total = bytes_total
        self.place: Place | None = None
        self._file = file if isinstance(file, str) else RangeFile(file)
        self._nan_is_null = nan_is_null
        self._ahead: ReadAhead[list[Item]] | None = None

    @property
    def bytes_read(self) -> int:
        return 0 if self._ahead is None else self._ahead.position

    async def batches(self, at: Place | None = None) -> AsyncIterator[list[Item]]:
        """The rows, in order."""
        row = 0 if at is None else int(at["row"])
        self._ahead = ReadAhead(self._reader(row))
        try:
            while items := await self._ahead.next():
                row += records_in(items)
                self.place = {"row": row}
                yield items
        except SourceError as error:
            raise SourceError(f"{self.location}: {error}") from error

    def _reader(self, first_row: int) -> RowReader:
        return RowReader(
            self._file, nan_is_null=self._nan_is_null, first_row=first_row, bytes_total=self.bytes_total
        )

    async def aclose(self) -> None:
        """Let go of the file."""
        if self._ahead is not None:
            await self._ahead.aclose()
        elif isinstance(self._file, RangeFile):
            self._file.close_ranges()


def _check_rows(found: int, promised: int) -> None:
    """Raise SourceError for a damaged file, which would else pass for a shorter one."""
    if found != promised:
        raise SourceError(f"is broken Parquet: it holds {found:,} rows where its footer says {promised:,}")


def _may_be_nan(pa: Any, schema: Any) -> bool:
    def is_floating(kind: Any) -> bool:
        if pa.types.is_floating(kind):
            return True
        if pa.types.is_map(kind):
            return is_floating(kind.key_type) or is_floating(kind.item_type)
        if pa.types.is_dictionary(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
            return is_floating(kind.value_type)
        if pa.types.is_fixed_size_list(kind):
            return is_floating(kind.value_type)
        return pa.types.is_struct(kind) and any(is_floating(field.type) for field in kind)

    return any(is_floating(kind) for kind in schema.types)


def _is_finite(pa: Any, batch: Any) -> bool:
    """True if no column holds NaN or an infinity, by a look at whole columns."""
    import pyarrow.compute as pc

    for column in batch.columns:
        if pa.types.is_float16(column.type):
            return False
        if pa.types.is_floating(column.type):
            if pc.all(pc.is_finite(column)).as_py() is False:
                return False
        elif pa.types.is_nested(column.type) or pa.types.is_dictionary(column.type):
            return False  # each row is looked at
    return True


def _nan_column(row: dict[str, Any]) -> str | None:
    for name, value in row.items():
        kind = type(value)
        if kind is float:
            if not math.isfinite(value):
                return name
        elif kind in (dict, list, tuple) and _holds_nan(value):
            return name
    return None


def _holds_nan(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_holds_nan, value.values()))
    return isinstance(value, (list, tuple)) and any(map(_holds_nan, value))


def _with_text_times(pa: Any, batch: Any) -> Any:
    """Timestamps in nanoseconds as text: Python's have microseconds."""
    import pyarrow.compute as pc

    to_text: Callable[[Any], Any] = lambda column: pc.replace_substring(  # noqa: E731
        pc.cast(column, pa.string()), " ", "T", max_replacements=1
    )
    for i, field in enumerate(batch.schema):
        if pa.types.is_timestamp(field.type) and field.type.unit == "ns":
            batch = batch.set_column(i, field.name, to_text(batch.column(i)))
    return batch
