"""CSV: one JSON object a row, its members named by the header, its values strings."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence

import msgspec

from fanout.errors import SourceError
from fanout.inputs.csv_quotes import RowShape
from fanout.inputs.lines import LineSplitter, pieces_of
from fanout.inputs.source import BATCH_ITEMS, KEPT_BYTES, MAX_RECORD_BYTES, Item, Place
from fanout.model import ErrorDetail

_encode = msgspec.json.Encoder().encode


class _NeedMoreLines(Exception):
    """The lines that have been read end inside a quoted field."""


_DELIMITERS = ";\t|"  # that a header without commas may be written with
_ROWS_IN_A_FIELD = 3  # that many lines which could be rows are told to the user
_NAMES = {";": "a semicolon", "\t": "a tab", "|": "a bar"}


class CsvRows:
    """Rows as RFC 4180 has them: quoted fields may hold commas, quotes and line breaks.

    Blank lines, and rows of blank fields alone, are skipped. A row with too few or too many fields, or
    that is not UTF-8, is an item with an error; so is a line whose quote is never closed, after which
    the next line is read as a row. A quote that a later row's quote closes is such a one where the lines
    between are rows by themselves; where they are not, all of them are one error. A delimiter that is not
    given is what a first line such as ``sep=;`` names, else the comma, or what a header without a comma
    holds. A column without a name at each line's end is dropped. By ``rules`` 1 (fanout 0.1) rows of blank
    fields are records, the delimiter is the comma, and an open quote takes all that follows.
    """

    def __init__(
        self,
        max_row_bytes: int = MAX_RECORD_BYTES,
        at: Place | None = None,
        *,
        delimiter: str | None = None,
        header: Sequence[str] | None = None,
        rules: int = 2,
    ) -> None:
        self._max_row_bytes = max_row_bytes
        self._rules = rules
        self._delimiter = delimiter or ("," if rules == 1 else None)
        self._is_given = delimiter is not None
        self._may_be_named = rules > 1 and at is None  # in a line before the header
        self.found_delimiter: str | None = None  # in the header, where none was given
        self._shape: RowShape | None = None
        self._has_warned = False
        self._columns = 0  # of the header, the one without a name at its end counted
        self.notices: list[str] = []
        self.place: Place | None = None
        if csv.field_size_limit() < max_row_bytes:
            csv.field_size_limit(max_row_bytes)  # the module's own default is 128 KiB
        self._splitter = LineSplitter(max_row_bytes, 0 if at is None else int(at["offset"]))
        self._header: list[str] | None = None
        self._offset: int | None = None  # where the first of ``_lines`` begins; None: not known
        self._lines: list[bytes] = []  # waiting, from the start of the next row
        self._at = 0  # among them
        self._ended = 0  # lines of the input before them
        self._wanted_lines = 1
        self._at_eof = False
        if at is not None:
            self._ended, self._columns = int(at["lines"]), int(at["columns"])
            self._header, self._delimiter = list(at["header"]), str(at["delimiter"])
        elif header is not None:
            self._header, self._columns = list(header), len(header)
            self._delimiter = self._delimiter or ","

    def feed(self, chunk: bytes) -> Iterator[list[Item]]:
        """The rows that end in this chunk, in small batches."""
        for piece in pieces_of(chunk):
            yield from self._take(self._splitter.feed(piece))

    def finish(self) -> Iterator[list[Item]]:
        """The last row, when no line break ended it."""
        self._at_eof = True
        yield from self._take(self._splitter.finish())

    def rest(self) -> Iterator[list[Item]]:
        """The whole rows that wait for the next try."""
        self._wanted_lines = 0
        yield from self._rows([])

    def _take(self, lines: list[bytes]) -> Iterator[list[Item]]:
        cut = self._splitter.cut
        if not self._lines and lines:
            self._offset = self._splitter.offset if self._splitter.is_regular or self._at_eof else None
        if not cut:
            yield from self._rows(lines)
            return
        self._offset = None
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
        if self._may_be_named and self._lines:
            self._may_be_named = False
            self._take_named_delimiter()
        if self._header is None and self._lines and not self._find_delimiter():
            return
        items: list[Item] = []
        reader = self._reader()
        row_start = 0
        while True:
            fault = ""
            try:
                fields = next(reader)
            except StopIteration:
                break
            except _NeedMoreLines:
                if sum(map(len, self._lines[row_start:])) <= self._max_row_bytes:
                    break
                self._drop(row_start)
                row_start = 0
                if self._rules == 1 or len(self._lines) == 1:
                    items.append(self._overlong(self._lines.copy()))
                    break
                fields, fault = [], self._open_quote(0)
                reader = self._reader()
            except csv.Error as error:
                fields, fault = [], self._fault_of(error, row_start)
                reader = self._reader()
            if self._at - row_start > 1:
                fault = self._fault_of_lines(row_start, fields, fault)
            raw = self._lines[row_start : self._at]
            number = self._ended + row_start + 1
            row_start = self._at
            item = self._item(fields, fault, raw, number)
            if item is not None:
                items.append(item)
                if len(items) >= BATCH_ITEMS:
                    self._drop(row_start)
                    row_start = 0
                    self._note_place()
                    yield items
                    items = []
        self._drop(row_start)
        self._note_place()
        # A row that is still open is read from its start again: only when it has grown twice as long.
        self._wanted_lines = max(1, 2 * len(self._lines))
        if items:
            yield items

    def _reader(self) -> Iterator[list[str]]:
        return csv.reader(self._text_lines(), strict=True, delimiter=self._delimiter or ",")

    def _fault_of(self, error: csv.Error, row_start: int) -> str:
        if self._rules > 1 and str(error) == "unexpected end of data":
            return self._open_quote(row_start)
        return str(error)

    def _open_quote(self, row_start: int) -> str:
        """The row that begins here never ends: it is taken for one line, and the next begins a row."""
        self._at = row_start + 1
        return "a quote is opened and never closed"

    def _fault_of_lines(self, row_start: int, fields: list[str], fault: str) -> str:
        """The fault of a row, which may span lines: its first line alone is taken if that lacks a quote."""
        if self._rules == 1:
            return fault
        if sum(map(len, self._lines[row_start : self._at])) > self._max_row_bytes:
            return self._open_quote(row_start)  # as if its end had not come yet
        if self._header is None:
            return fault
        if self._shape is None:
            self._shape = RowShape(self._delimiter or ",", self._has_its_fields)
        lines = self._lines[row_start + 1 : self._at]
        first, last = self._ended + row_start + 1, self._ended + self._at
        if not fault and self._has_its_fields(fields):
            if not self._has_warned and len(lines) > _ROWS_IN_A_FIELD and self._shape.are_rows(lines):
                self._has_warned = True
                self.notices.append(
                    f"has one row from line {first:,} to {last:,}, whose lines could be rows: "
                    "see whether a quote is missing"
                )
            return ""
        if self._shape.are_rows(lines):
            self._at = row_start + 1
            return f"a quote is opened and not closed: the next one begins a field of line {last}"
        why = fault or self._wrong_number(fields)
        return f"{why} (the row goes on to line {last})"

    def _drop(self, count: int) -> None:
        self._ended += count
        if self._offset is not None and count:
            self._offset += sum(map(len, self._lines[:count])) + count
        del self._lines[:count]
        self._at = 0

    def _note_place(self) -> None:
        self.place = None
        if self._offset is not None and self._header is not None:
            self.place = {
                "offset": self._offset,
                "lines": self._ended,
                "columns": self._columns,
                "header": self._header,
                "delimiter": self._delimiter,
            }

    def _take_named_delimiter(self) -> None:
        """A first line such as ``sep=;`` is for Excel, and no row."""
        named = re.fullmatch(rb'(?i)"?sep=([!#-/:-@\[-`{-~\t ])"?\r?', self._lines[0])
        if named is None:
            return
        self._drop(1)
        if not self._is_given:
            self._delimiter = self.found_delimiter = named[1].decode()
            self.notices.append(f"is CSV with {named[1].decode()!r} as its delimiter, by its first line")

    def _find_delimiter(self) -> bool:
        """Settle the delimiter by the first line that is not blank. False when there is none yet."""
        if self._delimiter is not None:
            return True
        line = next((line for line in self._lines if line.strip()), None)
        if line is None:
            return False
        text = re.sub(r'"[^"]*"?', "", line.decode(errors="replace"))
        found = [each for each in _DELIMITERS if each in text]
        self._delimiter = self.found_delimiter = ","
        if "," not in text and found:
            if len(found) > 1:
                raise SourceError(
                    "has a header of one column that holds ; and | or a tab: give --csv-delimiter"
                )
            self._delimiter = self.found_delimiter = found[0]
            self.notices.append(f"is CSV with {_NAMES[found[0]]} as its delimiter, by its header")
        return True

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
        if self._rules > 1 and not fault and not any(field.strip(" \t") for field in fields):
            return None
        if self._header is None:
            self._header = self._checked_header(fields, fault)
            return None
        if not fault and not self._has_its_fields(fields):
            fault = self._wrong_number(fields)
        if not fault:
            try:
                return Item(_encode(self._members(fields)), number)
            except UnicodeEncodeError:
                fault = "not UTF-8 (--encoding)"
        return Item(b"\n".join(raw), number, ErrorDetail("InvalidCsv", f"line {number}: {fault}"))

    def _has_its_fields(self, fields: list[str]) -> bool:
        """True if there is a field for each column; one more, empty, is a delimiter at the line's end."""
        assert self._header is not None
        more = len(fields) - len(self._header)
        return more == 0 or (self._rules > 1 and more == 1 and not fields[-1])

    def _wrong_number(self, fields: list[str]) -> str:
        return f"{len(fields)} fields, but the header has {self._columns}"

    def _members(self, fields: list[str]) -> dict[str, str]:
        assert self._header is not None
        return dict(zip(self._header, fields, strict=False))

    def _checked_header(self, fields: list[str], fault: str) -> list[str]:
        if fault:
            raise SourceError(f"has a header that is not CSV: {fault}")
        self._columns = len(fields)
        if self._rules > 1 and len(fields) > 1 and not fields[-1]:
            fields = fields[:-1]
        twice = next((name for name in fields if fields.count(name) > 1), None)
        if twice is not None:
            raise SourceError(f"names the column {twice!r} twice in its header: rename one")
        try:
            _encode(fields)
        except UnicodeEncodeError:
            raise SourceError("has a header that is not UTF-8: give its --encoding") from None
        return fields

    def _overlong(self, lines: list[bytes]) -> Item:
        """The item for a row that is given up, whose lines so far these are."""
        number = self._ended + 1
        self._ended += len(lines)
        self._lines.clear()
        self._at = 0
        self._offset = None
        self._wanted_lines = 1
        error = ErrorDetail("InvalidCsv", f"line {number}: a row longer than {self._max_row_bytes:,} bytes")
        return Item(b"\n".join(lines)[:KEPT_BYTES], number, error)
