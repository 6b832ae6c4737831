"""JSON Lines: one JSON value a line, sent as its own bytes; and lines of text, each a JSON string."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator

import msgspec

from fanout.errors import SourceError
from fanout.inputs.lines import LineSplitter, pieces_of
from fanout.inputs.source import BATCH_ITEMS, MAX_RECORD_BYTES, Item, Place
from fanout.model import ErrorDetail
from fanout.payload import MAX_NESTING, is_too_deep, json_fault

_encode = msgspec.json.Encoder().encode
_validate = msgspec.json.Decoder(msgspec.Raw).decode
_DEPTH_VARIES = sys.hexversion >= 0x030C0000  # before, no Python reads deeper than is_too_deep allows


class _Lines(ABC):
    """Lines, in batches of items. Subclasses say what an item is."""

    _error_type = "InvalidJson"

    def __init__(self, max_line_bytes: int = MAX_RECORD_BYTES, at: Place | None = None) -> None:
        self._lines = LineSplitter(max_line_bytes, 0 if at is None else int(at["offset"]))
        self._ended = 0 if at is None else int(at["lines"])  # lines seen, so the next one's 0-based number
        self._fed: list[bytes] = []  # the lines of the piece of a chunk that is handed out
        self._at = 0  # among them: the first that is not handed out yet
        self._before = 0  # bytes of the chunk before that piece
        self._offset: int | None = None  # of the first of them; None: they are not as long as in the input

    @property
    def place(self) -> Place | None:
        """The place where the next batch begins. Worked out on demand, which is seldom."""
        if not self._fed:
            return None
        lines = self._ended - len(self._fed) + self._at
        if self._at == len(self._fed):
            return {"offset": self._lines.next_offset, "lines": lines}
        return None if self._offset is None else {"offset": self._offset + self._in_piece, "lines": lines}

    @property
    def handed_out(self) -> int:
        """Bytes of the chunk that was fed last, whose records are handed out."""
        return self._before + self._in_piece

    @property
    def _in_piece(self) -> int:
        return sum(map(len, self._fed[: self._at])) + self._at

    def feed(self, chunk: bytes) -> Iterator[list[Item]]:
        """The records whose lines end in this chunk, in small batches."""
        position = self._at = 0
        self._fed = []
        for piece in pieces_of(chunk):
            lines = self._lines.feed(piece)
            if lines:
                self._before = position
                yield from self._batches(lines)
            position += len(piece)

    def finish(self) -> Iterator[list[Item]]:
        """The record of a last line without a line break."""
        return self._batches(self._lines.finish())

    def _batches(self, lines: list[bytes]) -> Iterator[list[Item]]:
        cut = self._lines.cut
        self._fed, self._at = lines, 0
        self._offset = self._lines.offset if self._lines.is_regular else None
        before = self._ended
        self._ended += len(lines)
        are_valid = self._are_valid(lines)
        for start in range(0, len(lines), BATCH_ITEMS):
            some = lines[start : start + BATCH_ITEMS]
            if are_valid:
                items = list(map(Item, some, range(before + start + 1, before + start + len(some) + 1)))
            else:
                items = self._items(some, before + start, [i - start for i in cut] if cut else ())
            self._at = start + len(some)
            if items:
                yield items

    def rest(self) -> Iterator[list[Item]]:
        """Nothing: a line without its end may be half of one."""
        return iter(())

    def _are_valid(self, lines: list[bytes]) -> bool:  # noqa: ARG002 - of those that can
        """True if each line is a record as it stands."""
        return False

    @abstractmethod
    def _items(self, lines: list[bytes], before: int, cut: list[int] | tuple[()]) -> list[Item]: ...

    def _overlong(self, kept: bytes, number: int) -> Item:
        limit = self._lines.max_line_bytes
        return Item(
            kept, number, ErrorDetail(self._error_type, f"line {number}: longer than {limit:,} bytes")
        )


class JsonLines(_Lines):
    """Blank lines are skipped, CRLF is tolerated, and a line that is no JSON is an item with an error.

    A first line that is a bracket alone raises SourceError: a document of many lines would be sent in
    fragments (not by the rules of 0.1).
    """

    def __init__(
        self, max_line_bytes: int = MAX_RECORD_BYTES, at: Place | None = None, *, rules: int = 2
    ) -> None:
        super().__init__(max_line_bytes, at)
        self._is_first = at is None and rules > 1

    def _are_valid(self, lines: list[bytes]) -> bool:
        if self._is_first:
            self._check_first(lines)
        if self._lines.cut or not (self._lines.is_plain or _is_text(lines)):
            return False
        if _DEPTH_VARIES and max(map(len, lines), default=0) > MAX_NESTING and any(map(is_too_deep, lines)):
            return False
        try:
            deque(map(_validate, lines), maxlen=0)
        except (msgspec.DecodeError, RecursionError):
            return False  # some line is blank or at fault: one by one
        return True

    def _items(self, lines: list[bytes], before: int, cut: list[int] | tuple[()]) -> list[Item]:
        items: list[Item] = []
        number = before
        for line in lines:
            number += 1
            if line.endswith(b"\r"):
                line = line[:-1]
            if cut and number - before - 1 in cut:
                items.append(self._overlong(line, number))
                continue
            try:
                fault = json_fault(line)
            except RecursionError:
                fault = "nested too deeply"
            if fault is None:
                items.append(Item(line, number))
            elif line.strip():
                items.append(Item(line, number, ErrorDetail("InvalidJson", f"line {number}: {fault}")))
        return items

    def _check_first(self, lines: list[bytes]) -> None:
        for i, line in enumerate(lines):
            first = line.strip()
            if not first:
                continue
            self._is_first = False
            if first in (b"{", b"["):
                what = "a JSON document of many lines" if first == b"{" else "a JSON array of many lines"
                advice = "" if first == b"{" else ", or read it with --format json"
                raise SourceError(
                    f"is {what}, not JSON Lines (line {i + 1} is {first.decode()} alone): "
                    f"write one value a line with `jq -c .`{advice}"
                )
            return


def _is_text(lines: list[bytes]) -> bool:
    """True if lines are UTF-8, without a carriage return."""
    together = b"\n".join(lines)
    if b"\r" in together:
        return False
    try:
        together.decode()
    except UnicodeDecodeError:
        return False
    return True


class TextLines(_Lines):
    """Each line of text is a record: a JSON string. Blank lines are skipped, and CRLF is tolerated."""

    _error_type = "InvalidText"

    def _items(self, lines: list[bytes], before: int, cut: list[int] | tuple[()]) -> list[Item]:
        items: list[Item] = []
        for i, line in enumerate(lines):
            number = before + i + 1
            if line.endswith(b"\r"):
                line = line[:-1]
            if cut and i in cut:
                items.append(self._overlong(line, number))
                continue
            if not line:
                continue
            try:
                items.append(Item(_encode(line.decode()), number))
            except UnicodeDecodeError as error:
                fault = f"line {number}: not UTF-8 (byte {error.start})"
                items.append(Item(line, number, ErrorDetail("InvalidText", fault)))
        return items
