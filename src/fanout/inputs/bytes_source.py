"""Records out of bytes: a reader, and the format that splits what it reads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any, Protocol

from fanout.errors import EndsEarly, SourceError
from fanout.inputs.csv_rows import CsvRows
from fanout.inputs.delays import SILENT_S, Delays
from fanout.inputs.json_array import JsonArray
from fanout.inputs.jsonl import JsonLines, TextLines
from fanout.inputs.manifest_rows import BatchManifestRows, InventoryRows
from fanout.inputs.options import InputOptions
from fanout.inputs.read_ahead import ReadAhead
from fanout.inputs.readers import ByteReader, EntryReader
from fanout.inputs.redaction import shown_location
from fanout.inputs.source import MAX_RECORD_BYTES, Item, Place

OnNotice = Callable[[str], None]


class Splitter(Protocol):
    """A format: bytes in any chunks to records.

    ``place`` is where the batch that comes next begins, or None where that is not known.
    """

    @property
    def place(self) -> Place | None: ...

    def feed(self, chunk: bytes) -> Iterator[list[Item]]:
        """The records that end in this chunk."""
        ...

    def finish(self) -> Iterator[list[Item]]:
        """The items that the end of the input completes."""
        ...

    def rest(self) -> Iterator[list[Item]]:
        """The whole records that wait in a buffer, where the input broke off. Nothing is fed after it."""
        ...


def splitter_of(
    format: str,  # noqa: A002 - the option's name
    options: InputOptions,
    at: Place | None = None,
    *,
    max_record_bytes: int = MAX_RECORD_BYTES,
) -> Splitter:
    """The splitter of a format, entered at a place that one like it gave."""
    if format == "jsonl":
        return JsonLines(max_record_bytes, at, rules=options.rules)
    if format == "lines":
        return TextLines(max_record_bytes, at)
    if format == "json":
        return JsonArray(max_record_bytes, at, items=options.items)
    csv: dict[str, Any] = {"rules": options.rules, "header": options.csv_header}
    csv["delimiter"] = options.csv_delimiter or ("\t" if format == "tsv" else None)
    if format == "s3-batch-manifest":
        return BatchManifestRows(max_record_bytes, at)
    if format == "s3-inventory":
        return InventoryRows(max_record_bytes, at, header=options.csv_header)
    return CsvRows(max_record_bytes, at, **csv)


class BytesSource:
    """Records of a format out of the bytes of a reader. ``make_splitter`` is given the place of entry."""

    def __init__(
        self,
        location: str,
        reader: ByteReader,
        make_splitter: Callable[[Place | None], Splitter],
        *,
        on_notice: OnNotice | None = None,
        on_split: Callable[[Splitter], None] | None = None,
        delays: Delays | None = None,  # of a server that does not say them itself
        may_grow: bool = False,  # the one file of its run
    ) -> None:
        self._may_grow = may_grow
        self._delays = delays
        self.location = location
        self._reader = reader
        self._ahead: ReadAhead[bytes] | None = None
        self._make_splitter = make_splitter
        self._on_notice = on_notice
        self._on_split = on_split  # told before the first records are handed out
        self._splitter: Splitter | None = None
        self._broken_by: SourceError | None = None
        self._before = 0  # bytes as they are stored, before the chunk that is handed out
        self._stored = 0  # of that chunk
        self._length = 0  # of it, unpacked
        self._handed_out = 0  # of it, where the splitter does not count them

    @property
    def bytes_read(self) -> int:
        if not self._length:
            return self._before
        count = getattr(self._splitter, "handed_out", None)
        handed_out = self._handed_out if count is None else count
        return self._before + int(self._stored * min(1.0, handed_out / self._length))

    @property
    def place(self) -> Place | None:
        return None if self._splitter is None else self._splitter.place

    @property
    def bytes_total(self) -> int | None:
        return self._reader.bytes_total

    async def batches(self, at: Place | None = None) -> AsyncIterator[list[Item]]:
        """The records. A failure comes after the last whole record before it, and says how far that was."""
        splitter = self._splitter = self._make_splitter(at)
        counts = hasattr(splitter, "handed_out")
        reader = self._reader if at is None else EntryReader(self._reader, int(at["offset"]))
        self._ahead = ahead = ReadAhead(reader)
        records = 0
        try:
            while chunk := await self._next(ahead):
                self._stored, self._length = ahead.position - self._before, len(chunk)
                self._handed_out = 0
                for batch in splitter.feed(chunk):
                    if not records and self._on_split is not None:
                        self._on_split(splitter)
                    records += len(batch)
                    if not counts:
                        self._handed_out += sum([len(item.payload) for item in batch]) + len(batch)
                    yield batch
                self._before, self._length = ahead.position, 0
                self._say(splitter)
            self._before = ahead.position
            for batch in self._last(splitter):
                records += len(batch)
                yield batch
            self._say(splitter)
        except SourceError as error:
            where = f" (after {records:,} records)" if records and at is None else ""
            told = f"{shown_location(self.location)}: {error}{where}"
            if isinstance(error, EndsEarly):
                raise EndsEarly(told, may_grow=self._may_grow) from error
            raise SourceError(told) from error

    def _last(self, splitter: Splitter) -> Iterator[list[Item]]:
        """The records that the end completes, or that stand whole before the break. That raises then."""
        if self._broken_by is None:
            yield from splitter.finish()
            return
        with suppress(SourceError):  # the break is what to tell
            yield from splitter.rest()
        raise self._broken_by

    async def _next(self, ahead: ReadAhead[bytes]) -> bytes:
        """The next bytes; none at the end, or where the input breaks off: ``_broken_by`` tells which."""
        loop, delays = asyncio.get_running_loop(), self._delays
        silence = None
        if delays is not None:
            silence = loop.call_later(SILENT_S, lambda: delays.is_silent(time.monotonic()))
        try:
            return await ahead.next()
        except SourceError as error:
            self._broken_by = error
            return b""
        finally:
            if silence is not None:
                silence.cancel()

    def _say(self, splitter: Splitter) -> None:
        for notices in (self._reader.notices, getattr(splitter, "notices", ())):
            while notices:
                text = notices.pop(0)
                if self._on_notice is not None:
                    self._on_notice(f"{shown_location(self.location)}: {text}")

    async def aclose(self) -> None:
        """Let go of the input."""
        if self._ahead is None:
            self._reader.close()
        else:
            await self._ahead.aclose()
