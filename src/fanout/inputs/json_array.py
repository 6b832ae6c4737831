"""The elements of a JSON array, cut out of it without holding the array.

The standard library's scanner, which is C, finds an element's end. It reads text, and offsets in text
are not offsets in bytes: so the bytes are read as Latin-1, one character a byte, and the element is
then cut from the bytes and checked as what it is, UTF-8.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from fanout.errors import EndsEarly, SourceError
from fanout.inputs.json_scan import PointerScan, RestScan, ValueScan
from fanout.inputs.source import BATCH_ITEMS, KEPT_BYTES, MAX_RECORD_BYTES, Item, Place
from fanout.model import ErrorDetail
from fanout.payload import json_fault

_BOM = b"\xef\xbb\xbf"
_LONGEST_TOKEN = 16  # -Infinity, \ud83d\ude00: what may be cut by a chunk's end; strings apart
_skip_space = re.compile(r"[ \t\r\n]*").match
# Numbers stay text: nobody needs their values here, and int() refuses thousands of digits.
_scan = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str).raw_decode


class _Unreadable(Exception):
    """An element that is given up, and why."""


class JsonArray:
    """The elements of one array, each as its own bytes. Anything but one array raises SourceError.

    ``items`` is a JSON Pointer to the array, where the document is no array itself; of what follows the
    array, only that it ends the one document is looked at then. An element longer than
    ``max_element_bytes``, or nested more deeply than can be read, is an item with an error.
    """

    def __init__(
        self, max_element_bytes: int = MAX_RECORD_BYTES, at: Place | None = None, *, items: str | None = None
    ) -> None:
        self._max_element_bytes = max_element_bytes
        self._buffer = b""
        self._offset = 0 if at is None else int(at["offset"])  # of the buffer
        self._wanted_bytes = 1  # how long the buffer must be before another try is worth its while
        self._state = "start" if at is None else "comma"  # start, first, element, comma, end
        self._found = 0 if at is None else int(at["elements"])
        self._at_eof = False
        self._rest = RestScan(items.count("/")) if items else None  # what follows an array inside
        self._is_whole = not items
        self._pointer = PointerScan(items) if items and at is None else None
        self._passed: ValueScan | None = None  # an element that is given up, while its end is looked for
        self._kept = b""
        self._fault = ""
        self._items: list[Item] = []  # found, not yet handed out
        self.place: Place | None = None

    def feed(self, chunk: bytes) -> Iterator[list[Item]]:
        """The elements that end in this chunk, in small batches."""
        if self._pointer is not None:
            rest = self._pointer.feed(chunk)
            self._offset += len(chunk) - len(rest or b"")
            if rest is None:
                return
            self._pointer, chunk = None, rest
        if self._state == "end":
            self._pass_rest(chunk)
            return
        if self._passed is not None:
            after = self._passed.feed(chunk)
            self._offset += len(chunk) - len(after or b"")
            if len(self._kept) < KEPT_BYTES:
                self._kept += chunk[: KEPT_BYTES - len(self._kept)]
            if after is None:
                return
            chunk = after
            yield [self._given_up()]
        self._buffer += chunk
        if len(self._buffer) >= self._wanted_bytes:
            yield from self._scan_buffer()

    def finish(self) -> Iterator[list[Item]]:
        """Nothing, unless the array was cut short: that raises SourceError."""
        self._at_eof = True
        if self._pointer is not None:
            self._pointer.finish()
        if self._passed is not None:
            raise EndsEarly("ends in the middle of its JSON array")
        if self._state != "end":
            yield from self._scan_buffer()
        if self._state == "start":
            raise SourceError("is empty: it holds no JSON array")
        if self._state != "end":
            raise EndsEarly("ends in the middle of its JSON array")
        if not self._is_whole:
            raise EndsEarly("ends in the middle of its JSON document, after the array")

    def rest(self) -> Iterator[list[Item]]:
        """The whole elements that wait for the next try."""
        if self._pointer is None and self._passed is None and self._state != "end":
            yield from self._scan_buffer()

    def _pass_rest(self, data: bytes) -> None:
        """Raise SourceError for what stands behind the end of the document."""
        rest: bytes | None = data
        if self._rest is not None and not self._is_whole:
            rest = self._rest.feed(data)
            self._is_whole = rest is not None
        if rest is not None and rest.strip(b" \t\r\n"):
            kind = "array" if self._rest is None else "document"
            raise SourceError(f"has more after the end of its JSON {kind}")

    def _give_up(self, element: bytes, fault: str) -> bytes | None:
        """Look for the end of an element that is not kept. The bytes after it, where they are there."""
        self._fault = fault
        self._kept = element[:KEPT_BYTES]
        self._passed = ValueScan()
        return self._passed.feed(element)

    def _given_up(self) -> Item:
        self._found += 1
        self._passed = None
        self._state = "comma"
        return Item(self._kept, None, ErrorDetail("InvalidJson", f"element {self._found}: {self._fault}"))

    def _scan_buffer(self) -> Iterator[list[Item]]:
        try:
            yield from self._scanned()
        except SourceError:
            if self._items:  # those before the place where the document is broken
                self.place = None
                yield self._taken()
            raise
        if self._items:
            yield self._taken()

    def _taken(self) -> list[Item]:
        items, self._items = self._items, []
        return items

    def _scanned(self) -> Iterator[list[Item]]:
        buffer, at = self._buffer, 0
        text = buffer.decode("latin-1")
        if self._state == "start" and text.startswith("\u00ef\u00bb\u00bf"):
            at = len(_BOM)
        while True:
            at = _skip_space(text, at).end()  # type: ignore[union-attr]  # it matches nothing, too
            if at == len(text):
                break
            if self._state == "end":
                break
            if self._state == "element" or (self._state == "first" and text[at] != "]"):
                try:
                    end = self._element_end(text, at)
                except _Unreadable as error:
                    after = self._give_up(buffer[at:], str(error))
                    if after is None:
                        at = len(text)
                        break
                    at = len(text) - len(after)
                    self._items.append(self._given_up())
                    continue
                if end is None:
                    break
                self._items.append(self._item(buffer[at:end]))
                at, self._state = end, "comma"
                if len(self._items) >= BATCH_ITEMS:
                    self.place = {"offset": self._offset + at, "elements": self._found}
                    yield self._taken()
            else:
                if self._state == "start" and text[at] == "\u00ef" and len(text) - at < len(_BOM):
                    break
                self._state = self._punctuation(text[at])
                at += 1
        if self._state == "end":
            self._pass_rest(buffer[at:])
            at = len(buffer)
        self._buffer = buffer[at:]
        self._offset += at
        self.place = None
        if self._state == "comma" and self._passed is None:
            self.place = {"offset": self._offset, "elements": self._found}
        self._wanted_bytes = max(1, 2 * len(self._buffer))  # twice as long each time: linear in all

    def _punctuation(self, character: str) -> str:
        if self._state == "start" and character == "[":
            return "first"
        if self._state == "comma" and character == ",":
            return "element"
        if self._state in ("comma", "first") and character == "]":
            return "end"
        if self._state == "start":
            if b'"destinationBucket"' in self._buffer and b'"fileSchema"' in self._buffer:
                raise SourceError(
                    "looks like the manifest.json of an S3 Inventory: give --format s3-inventory"
                )
            raise SourceError(
                f"is not a JSON array: it begins with {character!r} "
                "(for one value a line, --format jsonl; for an array inside an object, --items /pointer)"
            )
        raise SourceError(f"is not a JSON array: {character!r} after element {self._found}, not a comma")

    def _element_end(self, text: str, at: int) -> int | None:
        """The end of the element that starts at ``at``; None if the buffer may end before it does."""
        is_closed = text[at] in '"[{'  # half a number looks like a whole one
        try:
            end = _scan(text, at)[1]
        except json.JSONDecodeError as error:
            # What is wrong far from the buffer's end stays wrong whatever comes. An unterminated string
            # is told by where it begins, so it may only lack its end.
            settled = len(text) - (0 if self._at_eof else _LONGEST_TOKEN)
            if error.pos < settled and not error.msg.startswith("Unterminated string"):
                raise SourceError(f"is not JSON: element {self._found + 1}: {error.msg}") from None
            end, is_closed = len(text), False
        except RecursionError:
            raise _Unreadable("nested too deeply") from None
        if end - at > self._max_element_bytes:
            raise _Unreadable(f"longer than {self._max_element_bytes:,} bytes")
        # At the very end, 12 may be half of 1234, and "1e+" stands there as 1 and the beginning of a power.
        if end == len(text):
            return end if is_closed else None
        return None if text[end] in ".eE" and len(text) - end <= len("e+") else end

    def _item(self, element: bytes) -> Item:
        self._found += 1
        try:
            fault = json_fault(element)
        except RecursionError:
            fault = "nested too deeply"
        if fault is None:
            return Item(element)
        return Item(element, None, ErrorDetail("InvalidJson", f"element {self._found}: {fault}"))
