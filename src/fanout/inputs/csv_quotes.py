"""CSV rows that span lines: tells a quote that was never closed from a field that holds line breaks.

A quote that is opened by mistake takes in the rows below it, up to the next quote. What was meant to
open a field then closes one. So where the lines below are rows by themselves, and the quote that ends
the field stands where one begins a field, it was the first quote that is wrong.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence


class RowShape:
    """Rows with ``delimiter`` between fields, whose number ``has_its_fields`` allows."""

    def __init__(self, delimiter: str, has_its_fields: Callable[[list[str]], bool]) -> None:
        self._delimiter = delimiter
        self._has_its_fields = has_its_fields
        between = re.escape(delimiter)
        field = f'(?:"(?:[^"]|"")*+"|[^"{between}]*+)'
        self._strict = re.compile(f'(?:{field}{between})*+(?:"(?:[^"]|"")*+|{field})\r?', re.DOTALL)

    def has_row(self, line: bytes) -> bool:
        """True if the line by itself is a row."""
        try:
            fields = next(csv.reader([_text(line)], strict=True, delimiter=self._delimiter), [])
        except csv.Error:
            return False
        return self._has_its_fields(fields)

    def are_rows(self, lines: Sequence[bytes]) -> bool:
        """True if each of these lines, which a quoted field took in, was to be a row.

        The last is where the field ended: it may be the first line of a row with line breaks of its own,
        and quotes stand only at the ends of its fields. Of one column any line is a row, and proves nothing.
        """
        if not lines or self._has_its_fields([""]) or not all(map(self.has_row, lines[:-1])):
            return False
        last = _text(lines[-1])
        if self._strict.fullmatch(last) is None:
            return False
        return self.has_row(lines[-1]) or self._is_open(last)

    def _is_open(self, text: str) -> bool:
        try:
            next(csv.reader([text], strict=True, delimiter=self._delimiter), None)
        except csv.Error as error:
            return str(error) == "unexpected end of data"
        return False


def _text(line: bytes) -> str:
    return line.decode(errors="surrogateescape")
