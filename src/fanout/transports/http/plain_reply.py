"""The quick reading of a reply as nearly all are: whole, in one piece, and of stated length.

It takes what leaves no room for doubt, and nothing else: everything that differs is left to the parser,
from which it knows which header names there are. Lines that come again, as most do, are looked up whole;
and heads of which all lines come again, but for a few whose values always change, make a shape: one regular
expression, which reads a head at once. It matches nothing that its lines would not be taken for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

GetHeader = Callable[[str], str | None]


class Headers(Protocol):
    """Headers by lower-case names: a dict, or what has the same values at less cost."""

    def get(self, name: str, /) -> str | None:
        """The value of a header; None without it."""


_STATUSES = {b"HTTP/1.1 200 OK": 200, b"HTTP/1.1 202 Accepted": 202}
_LINES: dict[bytes, tuple[str, str]] = {}  # header lines as they came, and what they say
_LINES_KEPT = 256
_LONGEST_KEPT_BYTES = 256
_LONGEST_HEAD_BYTES = 16_384  # the parser has a bound of its own for longer ones
_CHANGING = frozenset({"x-amzn-requestid", "x-amzn-trace-id", "x-amz-log-result"})  # in every reply another
_OFTEN_CHANGING = frozenset({"date", "content-length", "x-amzn-remapped-content-length"})
_SHAPES_KEPT = 8
_VALUE = r"([!-~](?:[ -~]*[!-~])?)"
_LENGTH = r"([0-9]{1,9})"
_FRAMING = frozenset(
    {"transfer-encoding", "upgrade", "trailer", "proxy-connection"}
)  # these change what follows


class Shape:
    """Heads that differ in the values of some lines only, which ``match`` finds in the order of ``names``.

    ``noted`` is what a reader of such headers has found out about all of them.
    """

    __slots__ = ("constant", "length_at", "match", "names", "noted")

    def __init__(self, text: str, constant: dict[str, str], names: tuple[str, ...]) -> None:
        self.match: Callable[[str], re.Match[str] | None] = re.compile(text).match
        self.constant = constant
        self.names = names
        self.length_at = names.index("content-length")
        self.noted: Any = None

    def place_of(self, name: str) -> int | None:
        """The place of a changing header's value among those of a reply; None where it does not change."""
        return self.names.index(name) if name in self.names else None


class ShapedHeaders(msgspec.Struct, gc=False):
    """The headers of one reply of a shape, without a dictionary of its own."""

    shape: Shape
    values: tuple[str, ...]  # in the order of the shape's names

    def get(self, name: str, /) -> str | None:
        """The value of a header; None without it."""
        place = self.shape.place_of(name)
        return self.shape.constant.get(name) if place is None else self.values[place]


Answer = tuple[int, Headers, bytes]  # status, headers by lower-case names, body

_SHAPES: list[Shape] = []


def read_plain_reply(data: bytes, names: Mapping[bytes, str]) -> Answer | None:
    """The reply, if ``data`` is one and nothing more; None leaves it to the parser.

    ``names``: header names that the parser has accepted before, and in lower case.
    """
    if len(data) <= _LONGEST_HEAD_BYTES:
        text = data.decode("latin-1")
        for shape in _SHAPES:
            found = shape.match(text)
            if found is not None:
                values = found.groups()
                body = data[found.end() :]
                if len(body) != int(values[shape.length_at]):
                    return None
                return 200, ShapedHeaders(shape, values), body
    return _read_lines(data, names)


def _read_lines(data: bytes, names: Mapping[bytes, str]) -> Answer | None:
    end = data.find(b"\r\n\r\n")
    if not 0 <= end <= _LONGEST_HEAD_BYTES:
        return None
    lines = data[:end].split(b"\r\n")
    status = _STATUSES.get(lines[0])
    if status is None:
        return None
    del lines[0]
    headers: dict[str, str] = {}
    fresh = 0
    for line in lines:
        found = _LINES.get(line)
        if found is None:
            found = _read_line(line, names)
            if found is None:
                return None
            fresh += found[0] not in _CHANGING and found[0] not in _OFTEN_CHANGING
        headers[found[0]] = found[1]
    length = headers.get("content-length")
    if length is None or len(data) != end + 4 + int(length) or len(headers) != len(lines):
        return None
    if status == 200 and not fresh and len(_SHAPES) < _SHAPES_KEPT:
        _SHAPES.append(_shape_of(lines, headers))
    return status, headers, data[end + 4 :]


def _shape_of(lines: list[bytes], headers: dict[str, str]) -> Shape:
    """The shape of a reply whose lines came before: no names are in it but those that were accepted."""
    parts, changing = ["HTTP/1\\.1 200 OK\r\n"], []
    for line, name in zip(lines, headers, strict=True):
        if name in _CHANGING or name in _OFTEN_CHANGING:
            changing.append(name)
            before = line[: len(name) + 2].decode("latin-1")
            parts.append(f"{re.escape(before)}{_LENGTH if name == 'content-length' else _VALUE}\r\n")
        else:
            parts.append(re.escape(line.decode("latin-1")) + "\r\n")
    constant = {name: value for name, value in headers.items() if name not in changing}
    return Shape("".join(parts) + "\r\n", constant, tuple(changing))


def _read_line(line: bytes, names: Mapping[bytes, str]) -> tuple[str, str] | None:
    """One header; None when there is anything uncommon about it."""
    before, separator, after = line.partition(b": ")
    name, value = names.get(before), after.decode("latin-1")
    if name is None or not separator or name in _FRAMING or value.strip() != value or not value.isprintable():
        return None
    if name == "connection" and value.lower() != "keep-alive":
        return None
    if name == "content-length" and not (value.isascii() and value.isdigit() and len(value) < 10):
        return None
    found = name, value
    if name not in _CHANGING and len(line) <= _LONGEST_KEPT_BYTES:
        if len(_LINES) >= _LINES_KEPT:
            _LINES.clear()
        _LINES[line] = found
    return found
