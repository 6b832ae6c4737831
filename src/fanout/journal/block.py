"""A block of outcomes that are lines of the journal already, with what is counted of them added up.

Most outcomes of a run are alike: they succeeded at the first attempt, alone. Nobody reads those lines again
but for a few that are shown; so they are decoded only when they are asked for.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from math import ceil
from typing import overload

import msgspec

from fanout.journal.lines import StoredOutcome, decode_line
from fanout.model import OK_STATUSES, Outcome, PlainSums
from fanout.outcome_split import SplitOutcomes
from fanout.payload import append_line

_decoder = msgspec.json.Decoder(StoredOutcome)


class PackedBlock(msgspec.Struct, array_like=True):
    """A block as it travels. ``special`` are the places of the lines that the sums leave out."""

    lines: bytes
    seqs: bytes  # 64 bits each
    durations_ms: bytes  # 64-bit floats, of the plain ones
    special: list[int]
    plain: PlainSums


class BlockMaker:
    """Gathers outcomes, in order of finishing."""

    def __init__(self) -> None:
        self.lines = bytearray()
        self._begin()

    def _begin(self) -> None:
        self.lines.clear()
        self._seqs: array[int] = array("q")
        self._durations_ms: array[float] = array("d")
        self._special: list[int] = []
        self._plain = PlainSums()

    def add(self, outcome: Outcome) -> None:
        """Take one."""
        append_line(self.lines, outcome)
        duration_ms = outcome.duration_ms
        if duration_ms is None or not _is_plain(outcome):
            self._special.append(len(self._seqs))
        else:
            self._durations_ms.append(duration_ms)
            _add(self._plain, outcome, duration_ms)
        self._seqs.append(outcome.seq)

    def cut(self) -> PackedBlock:
        """The block of what has been gathered; another begins."""
        block = PackedBlock(
            bytes(self.lines),
            self._seqs.tobytes(),
            self._durations_ms.tobytes(),
            self._special,
            self._plain,
        )
        self._begin()
        return block


def _is_plain(outcome: Outcome) -> bool:
    return (
        outcome.attempts == 1
        and outcome.status in OK_STATUSES
        and not outcome.throttles
        and not outcome.copies
        and outcome.batch is None
        and outcome.init_ms is None
        and outcome.restore_ms is None
        and outcome.history is None
        and (outcome.billed_ms is None or bool(outcome.memory_mb))
    )


def _add(plain: PlainSums, outcome: Outcome, duration_ms: float) -> None:
    plain.counts[outcome.status] = plain.counts.get(outcome.status, 0) + 1
    billed_ms = outcome.billed_ms
    if billed_ms is not None and outcome.memory_mb:
        plain.billed += 1
        plain.billed_ms += billed_ms
        plain.billed_mb_ms += billed_ms * outcome.memory_mb
        plain.memory_mb = outcome.memory_mb
        plain.max_memory_mb = max(plain.max_memory_mb, outcome.max_memory_mb or 0)
    elif outcome.status == "succeeded":
        plain.unbilled += 1
        plain.unbilled_ms += ceil(duration_ms)


class OutcomeBlock(Sequence[Outcome]):
    """The outcomes of a block. Each is decoded when it is asked for."""

    def __init__(self, packed: PackedBlock) -> None:
        self.lines = packed.lines
        self.plain = packed.plain
        self.seqs: array[int] = array("q")
        self.seqs.frombytes(packed.seqs)
        self.durations_ms: array[float] = array("d")
        self.durations_ms.frombytes(packed.durations_ms)
        self._special = packed.special
        self._places: list[int] | None = None
        self._split: list[bytes] | None = None

    def __len__(self) -> int:
        return len(self.seqs)

    @overload
    def __getitem__(self, place: int) -> Outcome: ...
    @overload
    def __getitem__(self, place: slice) -> list[Outcome]: ...
    def __getitem__(self, place: int | slice) -> Outcome | list[Outcome]:
        if self._split is None:
            self._split = self.lines.split(b"\n")[:-1]
        if isinstance(place, slice):
            return [decode_line(line, _decoder) for line in self._split[place]]
        return decode_line(self._split[place], _decoder)

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self[:])

    def split(self) -> SplitOutcomes:
        """The plain ones apart, as they are already."""
        return SplitOutcomes(self.plain, self.durations_ms, self.plain_at, self.special())

    def special(self) -> list[Outcome]:
        """Those that the sums leave out."""
        return [self[place] for place in self._special]

    def plain_at(self, number: int) -> Outcome:
        """The outcome of the duration with this number."""
        if not self._special:
            return self[number]
        if self._places is None:
            left_out = set(self._special)
            self._places = [place for place in range(len(self)) if place not in left_out]
        return self[self._places[number]]
