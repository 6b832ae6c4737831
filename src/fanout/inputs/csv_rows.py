"""What a record is in CSV: one JSON object a row, its members named by the header, its values strings."""

from __future__ import annotations

import csv
from collections.abc import Iterator

import msgspec

from fanout.errors import SourceError
from fanout.inputs.lines import LineSplitter
from fanout.inputs.source import BATCH_ITEMS, KEPT_BYTES, MAX_RECORD_BYTES, Item
from fanout.model import ErrorDetail

_encode = msgspec.json.Encoder().encode


class _NeedMoreLines(Exception):
    """The lines at hand end inside a quoted field."""


class CsvRows:
    """Rows as RFC 4180 has them: quoted fields may hold commas, quotes and line breaks.

    Blank lines are skipped. A row with too few or too many fields, or that is not UTF-8, is an item with
    an error.
    """

    def __init__(self, max_row_bytes: int = MAX_RECORD_BYTES) -> None:
        self._max_row_bytes = max_row_bytes
        if csv.field_size_limit() < max_row_bytes:
            csv.field_size_limit(max_row_bytes)  # the module's own default is 128 KiB
        self._splitter = LineSplitter(max_row_bytes)
        self._header: list[str] | None = None
        self._lines: list[bytes] = []  # waiting, from the start of the next row
        self._at = 0  # among them
        self._ended = 0  # lines of the input before them
        self._wanted_lines = 1
        self._at_eof = False

    def feed(self, chunk: bytes) -> Iterator[list[Item]]:
        """The rows that end in this chunk, in small batches."""
        yield from self._take(self._splitter.feed(chunk))

    def finish(self) -> Iterator[list[Item]]:
        """The last row, when no line break ended it."""
        self._at_eof = True
        yield from self._take(self._splitter.finish())

    def _take(self, lines: list[bytes]) -> Iterator[list[Item]]:
        cut = self._splitter.cut
        if not cut:
            yield from self._rows(lines)
            return
        start = 0
        for i in sorted(cut):
            self._wanted_lines = 0
            yield from self._rows(lines[start:i])
            if self._header is None:
                raise SourceError(f"has a header longer than {self._max_row_bytes:,} bytes")
            yield [self._overlong([*self._lines, lines[i]])]
            start = i + 1
        yield from self._rows(lines[start:])

    def _rows(self, lines: list[bytes]) -> Iterator[list[Item]]:
        self._lines += lines
        if len(self._lines) < self._wanted_lines and not self._at_eof:
            return
        items: list[Item] = []
        reader = csv.reader(self._text_lines(), strict=True)
        row_start = 0
        while True:
            try:
                fields = next(reader)
            except StopIteration:
                break
            except _NeedMoreLines:
                if sum(map(len, self._lines[row_start:])) > self._max_row_bytes:
                    self._drop(row_start)
                    row_start = 0
                    items.append(self._overlong(self._lines.copy()))
                break
            except csv.Error as error:
                fields, fault = [], str(error)
            else:
                fault = ""
            raw = self._lines[row_start : self._at]
            number = self._ended + row_start + 1
            row_start = self._at
            item = self._item(fields, fault, raw, number)
            if item is not None:
                items.append(item)
                if len(items) >= BATCH_ITEMS:
                    yield items
                    items = []
        self._drop(row_start)
        # A row that is still open is read from its start again: only when it has grown twice as long.
        self._wanted_lines = max(1, 2 * len(self._lines))
        if items:
            yield items

    def _drop(self, count: int) -> None:
        self._ended += count
        del self._lines[:count]
        self._at = 0

    def _text_lines(self) -> Iterator[str]:
        while True:
            if self._at == len(self._lines):
                if self._at_eof:
                    return
                raise _NeedMoreLines
            line = self._lines[self._at]
            self._at += 1
            yield line.decode(errors="surrogateescape") + "\n"

    def _item(self, fields: list[str], fault: str, raw: list[bytes], number: int) -> Item | None:
        if not fields and not fault:
            return None
        if self._header is None:
            self._header = self._checked_header(fields, fault)
            return None
        if not fault and len(fields) != len(self._header):
            fault = f"{len(fields)} fields, but the header has {len(self._header)}"
        if not fault:
            try:
                return Item(_encode(dict(zip(self._header, fields, strict=True))), number)
            except UnicodeEncodeError:
                fault = "not UTF-8"
        return Item(b"\n".join(raw), number, ErrorDetail("InvalidCsv", f"line {number}: {fault}"))

    def _checked_header(self, fields: list[str], fault: str) -> list[str]:
        if fault:
            raise SourceError(f"has a header that is no CSV: {fault}")
        twice = next((name for name in fields if fields.count(name) > 1), None)
        if twice is not None:
            raise SourceError(f"names the column {twice!r} twice in its header: rename one")
        try:
            _encode(fields)
        except UnicodeEncodeError:
            raise SourceError("has a header that is not UTF-8") from None
        return fields

    def _overlong(self, lines: list[bytes]) -> Item:
        """The item for a row that is given up, whose lines so far these are."""
        number = self._ended + 1
        self._ended += len(lines)
        self._lines.clear()
        self._at = 0
        self._wanted_lines = 1
        error = ErrorDetail("InvalidCsv", f"line {number}: a row longer than {self._max_row_bytes:,} bytes")
        return Item(b"\n".join(lines)[:KEPT_BYTES], number, error)
