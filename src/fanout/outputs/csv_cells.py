"""Cells of CSV, by the value or by the column, as the csv module writes them.

Text that a spreadsheet would take for a formula gets an apostrophe in front, where people read the table;
numbers stay numbers. Values that are neither text nor numbers are JSON text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

import msgspec

from fanout.outputs.columns import json_text

_STARTS_FORMULA = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")  # full width, too
_ALL_TEXT = frozenset((str,))
_TEXT = frozenset((str, type(None)))
_NUMBERS = frozenset((int, float, bool, type(None)))
_first_character = itemgetter(slice(1))
_encode_lines = msgspec.json.Encoder().encode_lines


class CsvCells:
    """``is_for_people``: text that is a formula gets an apostrophe; a program is given text as it is."""

    def __init__(self, *, is_for_people: bool) -> None:
        self._starts_formula = _STARTS_FORMULA if is_for_people else frozenset[str]()

    def of_row(self, values: Iterable[Any]) -> list[Any]:
        """The cells of a row, for ``csv.writer``. Values of any kind."""
        starts_formula = self._starts_formula
        return [  # the cells of nearly all values as they are, without a call
            value
            if value is None
            or (kind := type(value)) is int
            or (kind is str and value[:1] not in starts_formula)
            else self._cell(value)
            for value in values
        ]

    def lines(self, columns: Sequence[Sequence[Any]]) -> str | None:
        """The rows of these columns as CSV; None where only ``csv.writer`` knows. A third of its time.

        There is text without half characters, and no number that is infinite.
        """
        if len(columns) < 2:
            return None  # an empty row is no empty line
        cells = []
        for values in columns:
            column = self._column(values)
            if column is None:
                return None
            cells.append(column)
        return "\n".join([*map(",".join, zip(*cells, strict=True)), ""])

    def _column(self, values: Sequence[Any]) -> Sequence[str] | None:
        kinds = set(map(type, values))
        if str in kinds:
            return self._text_column(values, kinds)
        try:
            text = _encode_lines(values).decode()
        except (ValueError, RecursionError):
            return None
        if kinds <= _NUMBERS:
            return text.replace("null", "")[:-1].split("\n")
        cells = text.replace('"', '""')[:-1].split("\n")
        return [
            "" if cell == "null" else f'"{cell}"' if '"' in cell or "," in cell else cell for cell in cells
        ]

    def _text_column(self, values: Sequence[Any], kinds: set[type]) -> Sequence[str] | None:
        cells: Sequence[str]
        if kinds <= _TEXT:
            cells = values if kinds <= _ALL_TEXT else [value or "" for value in values]
            if not self._starts_formula.isdisjoint(map(_first_character, cells)):
                cells = [self._cell(value) for value in cells]
        else:
            cells = [self._cell(value) for value in values]
        text = "\n".join(cells)
        if "\r" in text:
            return None  # in quotation marks or not, by the version of Python
        if '"' not in text and "," not in text and text.count("\n") < len(cells):
            return cells
        return [
            '"' + cell.replace('"', '""') + '"' if '"' in cell or "," in cell or "\n" in cell else cell
            for cell in cells
        ]

    def _cell(self, value: Any) -> str:
        if value is None:
            return ""
        if not isinstance(value, str):
            return json_text(value)
        return f"'{value}" if value[:1] in self._starts_formula else value
