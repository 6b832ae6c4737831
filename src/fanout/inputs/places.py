"""Places of an input: where in it a resumed run may enter, so that it reads only what it has not finished.

The file ``places`` of a run directory has a line of JSON for each: the seq of a record, and where the
input has it. A run writes one whenever it has read another 4,096 records and another MiB or so.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from fanout.inputs.rows import records_in
from fanout.inputs.source import Item, Jump, Place, Source, WrappedSource
from fanout.private_files import opener

PLACES_FILE = "places"
EVERY_RECORDS = 4096
_encode = msgspec.json.Encoder().encode


class Places:
    """The places of one run, in a file or, without a path, nowhere.

    They only save time: what cannot be written or read is left out. ``goes_on``: read what is there.
    """

    def __init__(self, path: Path | None, *, goes_on: bool = False) -> None:
        self._path = path
        self._seqs: list[int] = []
        self._places: list[Place] = []
        self._noted = 0
        self._has_failed = False
        if path is not None and goes_on:
            with suppress(OSError):
                for line in path.read_bytes().splitlines():
                    self._read(line)

    def _read(self, line: bytes) -> None:
        with suppress(msgspec.MsgspecError, KeyError, TypeError):
            members: dict[str, Any] = msgspec.json.decode(line)
            seq, place = int(members["seq"]), dict(members["at"])
            if not self._seqs or seq > self._seqs[-1]:
                self._seqs.append(seq)
                self._places.append(place)
                self._noted = seq

    def before(self, seq: int) -> tuple[int, Place] | None:
        """The last place at or before a record, and the seq of its own record."""
        i = bisect_right(self._seqs, seq) - 1
        return None if i < 0 else (self._seqs[i], self._places[i])

    def is_due(self, seq: int) -> bool:
        """True if ``note`` would keep the place of this record."""
        return self._path is not None and not self._has_failed and seq >= self._noted + EVERY_RECORDS

    def note(self, seq: int, place: Place) -> None:
        """The record ``seq`` begins at this place. Kept now and then."""
        if self._path is None or not self.is_due(seq):
            return
        self._noted = seq
        self._seqs.append(seq)
        self._places.append(place)
        try:
            with open(self._path, "ab", opener=opener) as file:
                file.write(_encode({"seq": seq, "at": place}) + b"\n")
        except OSError:
            self._has_failed = True


class PlacedSource(WrappedSource):
    """A source that notes its places, and is entered where the next record is wanted.

    ``wanted_from`` returns the first seq from a given one on that a run still needs, or None when it
    needs all of them. ``reopen`` opens the input once more, for a gap that can be passed over. A
    ``Jump`` says which record comes next.
    """

    def __init__(
        self,
        source: Source,
        places: Places,
        *,
        wanted_from: Callable[[int], int] | None = None,
        reopen: Callable[[], Source] | None = None,
    ) -> None:
        super().__init__(source)
        self._places = places
        self._wanted_from = wanted_from
        self._reopen = reopen

    async def batches(self, at: Place | None = None) -> AsyncIterator[list[Item]]:
        """The records, with jumps over what is not wanted."""
        seq = 0
        entry = self._entry(0)
        if entry is not None:
            seq, at = entry
            yield [Jump(seq)]  # type: ignore[list-item]  # for those who count
        while True:
            entry = None
            async for batch in self._source.batches(at):
                seq += records_in(batch)
                place = self._source.place if self._places.is_due(seq) else None
                yield batch
                if place is not None:
                    self._places.note(seq, place)
                entry = self._entry(seq)
                if entry is not None:
                    break
            if entry is None:
                return
            assert self._reopen is not None
            await self._source.aclose()
            self._source = self._reopen()
            seq, at = entry
            yield [Jump(seq)]  # type: ignore[list-item]

    def _entry(self, seq: int) -> tuple[int, Place] | None:
        """A place further on from which all that is wanted can be read."""
        if self._wanted_from is None:
            return None
        wanted = self._wanted_from(seq)
        if wanted - seq < EVERY_RECORDS:
            return None
        found = self._places.before(wanted)
        return found if found is not None and found[0] - seq >= EVERY_RECORDS else None
