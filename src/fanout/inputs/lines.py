"""Lines: bytes in any chunks to whole lines, in memory bounded by the longest line allowed."""

from __future__ import annotations

from collections.abc import Iterator

from fanout.inputs.source import KEPT_BYTES, MAX_RECORD_BYTES

_BOM = b"\xef\xbb\xbf"
PIECE_BYTES = 48 * 1024  # with its lines and their items it stays in the processor's cache


def pieces_of(chunk: bytes) -> Iterator[bytes]:
    """A chunk in small pieces that end with a line break, and what comes after the last one."""
    start, length = 0, len(chunk)
    while start < length:
        end = chunk.rfind(b"\n", start, start + PIECE_BYTES) + 1
        if not end:
            end = chunk.find(b"\n", start + PIECE_BYTES) + 1 or length
        yield chunk[start:end]
        start = end


class LineSplitter:
    """Cut chunks into lines at ``\\n``, which is left out. A byte order mark before the first is dropped.

    A line longer than ``max_line_bytes`` is given by its first KiB, and its index among the lines
    returned is in ``cut``; the rest of it is thrown away as it comes. ``offset`` is where the first of
    the lines returned last begins, ``next_offset`` where the line after them does, from ``start_offset``.
    ``is_plain``: they are ASCII, without a carriage return.
    """

    def __init__(self, max_line_bytes: int = MAX_RECORD_BYTES, start_offset: int = 0) -> None:
        self.max_line_bytes = max_line_bytes
        self.cut: frozenset[int] | set[int] = frozenset()
        self.offset = self.next_offset = start_offset
        self.is_plain = False
        self._fed = start_offset  # bytes seen
        self._parts_are_plain = True
        self._parts: list[bytes] = []  # of the line not yet ended
        self._parts_bytes = 0
        self._overlong = False
        self._at_start = start_offset == 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that end in this chunk."""
        self.cut = frozenset()
        self._fed += len(chunk)
        is_plain = chunk.isascii() and b"\r" not in chunk
        lines = chunk.split(b"\n")
        rest = lines.pop()
        self.is_plain = is_plain and self._parts_are_plain
        if not lines:
            self._parts_are_plain = self.is_plain
            self._keep(rest)
            return lines
        self._parts_are_plain = is_plain
        self.offset, self.next_offset = self.next_offset, self._fed - len(rest)
        if self._parts or self._overlong:
            self._keep(lines[0])
            lines[0] = self._take()
        if len(chunk) > self.max_line_bytes or self._overlong:
            self._cut_overlong(lines)
        self._overlong = False
        self._keep(rest)
        return self._first(lines) if self._at_start else lines

    def finish(self) -> list[bytes]:
        """The last line, when no line break ended it."""
        self.is_plain = self._parts_are_plain
        self.cut = frozenset()
        self.offset, self.next_offset = self.next_offset, self._fed
        if not self._parts:
            return []
        lines = [self._take()]
        if self._overlong:
            self._cut_overlong(lines)
        return self._first(lines) if self._at_start else lines

    @property
    def is_regular(self) -> bool:
        """True if the lines returned last are as long as they are in the input."""
        return not self.cut and self.offset != 0

    def _keep(self, part: bytes) -> None:
        if not part:
            return
        self._parts.append(part)
        self._parts_bytes += len(part)
        if self._parts_bytes > self.max_line_bytes:
            self._overlong = True
            kept = b"".join(self._parts)[:KEPT_BYTES]
            self._parts = [kept]
            self._parts_bytes = self.max_line_bytes  # any further byte is cut off again

    def _take(self) -> bytes:
        line = b"".join(self._parts)
        self._parts = []
        self._parts_bytes = 0
        return line

    def _cut_overlong(self, lines: list[bytes]) -> None:
        cut = {i for i, line in enumerate(lines) if len(line) > self.max_line_bytes}
        for i in cut:
            lines[i] = lines[i][:KEPT_BYTES]
        if self._overlong:
            cut.add(0)
        self.cut = cut

    def _first(self, lines: list[bytes]) -> list[bytes]:
        self._at_start = False
        lines[0] = lines[0].removeprefix(_BOM)
        return lines
