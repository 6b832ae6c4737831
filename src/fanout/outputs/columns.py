"""Rows of a table, decoded from lines of JSON, many at once and column by column where they are alike.

A line that is an object has a column for each of its members; anything else is one column, ``value``.
``nested`` names a member whose own members become columns, such as ``output.total``.

Lines of which every member is known are decoded into structs that name these members: a third of the time
that dicts and cells take one by one. All other lines are rows by themselves.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec

Row = dict[str, Any]

_MOST_FIELDS = 256  # of a struct: each new name makes another
_astuple = msgspec.structs.astuple
_decoder = msgspec.json.Decoder()
_NO_OBJECT = bool | int | float | str | list[Any] | None


class Columns:
    """Rows by columns. All text is without half characters, all numbers are finite."""

    __slots__ = ("_count", "_values")

    def __init__(self, values: dict[str, tuple[Any, ...]], count: int) -> None:
        self._values = values
        self._count = count

    def __len__(self) -> int:
        return self._count

    def values(self, name: str) -> tuple[Any, ...]:
        """A column; None where a row has no such member."""
        found = self._values.get(name)
        return (None,) * self._count if found is None else found


class ColumnReader:
    """Reads some whole lines at a time; their last line break may be missing.

    ``names``: the columns of all lines that were read so far, in order of appearance.
    """

    def __init__(self, nested: str | None) -> None:
        self.names: dict[str, None] = {}
        self._nested = nested
        self._outer: dict[str, None] = {}  # members of lines, and of what is nested in them
        self._inner: dict[str, None] = {}
        self._structs: msgspec.json.Decoder[Any] | None = None

    def learn(self, lines: bytes | bytearray) -> None:
        """Find the columns alone."""
        if self._alike(lines) is None:
            self._rows(lines)

    def read(self, lines: bytes | bytearray) -> Columns | list[Row]:
        """The lines as columns, or else as rows. Raises ValueError for a line that is not JSON."""
        found = self._alike(lines)
        if found is None:
            return self._rows(lines)
        by_place = list(zip(*map(_astuple, found), strict=True))
        values = dict(zip(self._outer, by_place, strict=False))
        if self._inner:
            inner = zip(*map(_astuple, by_place[-1]), strict=True)
            values.update(zip(map(self._column, self._inner), inner, strict=True))
        return Columns(values, len(found))

    def _alike(self, lines: bytes | bytearray) -> list[Any] | None:
        """The lines as structs; None where one of them has a member that is not known, or is no object."""
        if self._structs is None:
            return None
        try:
            found = self._structs.decode_lines(lines)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return found if len(found) == _count(lines) else None

    def _rows(self, lines: bytes | bytearray) -> list[Row]:
        known = len(self._outer) + len(self._inner)
        shapes: set[tuple[str, ...]] = set()  # most rows have the same members
        rows = []
        for members in _decoded(lines):
            row = self._row(members)
            if (shape := tuple(row)) not in shapes:
                shapes.add(shape)
                self.names.update(dict.fromkeys(shape))
                self._note(members)
            rows.append(row)
        if len(self._outer) + len(self._inner) > known:
            self._structs = self._struct_decoder()
        return rows

    def _row(self, members: Any) -> Row:
        nested = self._nested
        if not isinstance(members, dict):
            return {"value": members}
        if nested is None or not isinstance(inner := members.get(nested), dict):
            return members
        outer = {name: value for name, value in members.items() if name != nested}
        return {**outer, **{f"{nested}.{name}": value for name, value in inner.items()}}

    def _note(self, members: Any) -> None:
        if not isinstance(members, dict):
            return
        for name, value in members.items():
            if name == self._nested and isinstance(value, dict):
                self._inner.update(dict.fromkeys(value))
            else:
                self._outer[name] = None

    def _struct_decoder(self) -> msgspec.json.Decoder[Any] | None:
        """For lines with the members known so far; None where no struct tells them apart as rows do."""
        nested, outer, inner = self._nested, self._outer, self._inner
        is_clear = not inner or (nested not in outer and outer.keys().isdisjoint(map(self._column, inner)))
        if not is_clear or len(outer) + len(inner) > _MOST_FIELDS:
            return None
        try:
            fields = [
                _field(at, name, _NO_OBJECT if name == nested else Any) for at, name in enumerate(outer)
            ]
            if inner:
                each = _struct([_field(at, name, Any) for at, name in enumerate(inner)])
                fields.append(("nested", each, msgspec.field(default=each(), name=nested)))
            return msgspec.json.Decoder(_struct(fields))
        except ValueError:  # a name that a struct cannot have: quotation marks, half characters
            return None

    def _column(self, name: str) -> str:
        return f"{self._nested}.{name}"


def _field(at: int, name: str, kind: Any) -> tuple[str, Any, Any]:
    return f"field{at}", kind, msgspec.field(default=None, name=name)


def _struct(fields: Sequence[tuple[str, Any, Any]]) -> type[msgspec.Struct]:
    return msgspec.defstruct("Members", fields, frozen=True, gc=False, forbid_unknown_fields=True)


def _decoded(lines: bytes | bytearray) -> list[Any]:
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = _decoder.decode_lines(lines)
        if len(found) == _count(lines):
            return found
    return [_decoded_line(line) for line in lines.removesuffix(b"\n").split(b"\n")]


def _count(lines: bytes | bytearray) -> int:
    return lines.count(b"\n") + (not lines.endswith(b"\n"))


def _decoded_line(line: bytes | bytearray) -> Any:
    try:
        return _decoder.decode(line)
    except msgspec.DecodeError:  # lone surrogates
        return json.loads(line)


def json_text(value: Any) -> str:
    """A value as JSON."""
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:  # lone surrogates
        return json.dumps(value)
