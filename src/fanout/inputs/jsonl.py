"""What a record is in JSON Lines: one JSON value a line, sent as its own bytes."""

from __future__ import annotations

from collections.abc import Iterator

from fanout.inputs.lines import LineSplitter
from fanout.inputs.source import BATCH_ITEMS, MAX_RECORD_BYTES, Item
from fanout.model import ErrorDetail
from fanout.payload import json_fault


class JsonLines:
    """Blank lines are skipped, CRLF is tolerated, and a line that is no JSON is an item with an error."""

    def __init__(self, max_line_bytes: int = MAX_RECORD_BYTES) -> None:
        self._lines = LineSplitter(max_line_bytes)
        self._ended = 0  # lines seen, so the next one's 0-based number

    def feed(self, chunk: bytes) -> Iterator[list[Item]]:
        """The records whose lines end in this chunk, in small batches."""
        return self._batches(self._lines.feed(chunk))

    def finish(self) -> Iterator[list[Item]]:
        """The record of a last line without a line break."""
        return self._batches(self._lines.finish())

    def _batches(self, lines: list[bytes]) -> Iterator[list[Item]]:
        cut = self._lines.cut
        before = self._ended
        self._ended += len(lines)
        for start in range(0, len(lines), BATCH_ITEMS):
            items: list[Item] = []
            number = before + start
            for line in lines[start : start + BATCH_ITEMS]:
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
            if items:
                yield items

    def _overlong(self, kept: bytes, number: int) -> Item:
        limit = self._lines.max_line_bytes
        return Item(kept, number, ErrorDetail("InvalidJson", f"line {number}: longer than {limit:,} bytes"))
