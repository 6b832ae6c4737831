"""Sets of millions of sequence numbers: one bit each, in pages that exist when needed."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence

_PAGE_BITS = 16
_PAGE_SEQS = 1 << _PAGE_BITS
_IN_PAGE = _PAGE_SEQS - 1
_RUN = 16  # numbers that follow each other and are put in at once, rather than one by one


def runs_of(seqs: Sequence[int]) -> list[tuple[int, int]]:
    """Where numbers follow each other, of ascending ones, no two alike: first, one past the last.

    A long run costs little more than a short one.
    """
    runs: list[tuple[int, int]] = []
    at, count = 0, len(seqs)
    while at < count:
        first, last, step = seqs[at], at, 1
        while last + step < count and seqs[last + step] - first == last + step - at:
            last += step
            step *= 2
        while step > 1:
            step //= 2
            if last + step < count and seqs[last + step] - first == last + step - at:
                last += step
        runs.append((first, seqs[last] + 1))
        at = last + 1
    return runs


class SeqSet:
    """A set of sequence numbers from 0: 1.25 MB for ten million in a row, whatever their order."""

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}
        self._count = 0
        self.max = -1

    @classmethod
    def of_pages(cls, pages: Mapping[int, bytes], highest: int) -> SeqSet:
        """The set that ``pages`` are of. Raises ValueError for what is none."""
        found = cls()
        for number, page in pages.items():
            if len(page) != _PAGE_SEQS // 8:
                raise ValueError(f"page {number} has {len(page)} bytes")
            found._pages[number] = bytearray(page)
            found._count += int.from_bytes(page, "little").bit_count()
        found.max = highest
        return found

    def pages(self) -> dict[int, bytes]:
        """A copy of the set, as bits."""
        return {number: bytes(page) for number, page in self._pages.items()}

    def add(self, seq: int) -> bool:
        """Put one in. Returns whether it was new."""
        page = self._pages.get(seq >> _PAGE_BITS)
        if page is None:
            page = self._pages[seq >> _PAGE_BITS] = bytearray(_PAGE_SEQS // 8)
        at, bit = (seq & _IN_PAGE) >> 3, 1 << (seq & 7)
        if page[at] & bit:
            return False
        page[at] |= bit
        self._count += 1
        if seq > self.max:
            self.max = seq
        return True

    def add_many(self, seqs: Iterable[int]) -> list[int]:
        """Put several in, in less time. Returns those that were in it before, or come twice."""
        if isinstance(seqs, (list, array)) and (count := len(seqs)) >= 4 * _RUN:
            is_dense = max(seqs) - min(seqs) < count + (count >> 3)
            if is_dense and len(distinct := set(seqs)) == count:
                return self._add_runs(sorted(distinct))
        pages, highest, count = self._pages, self.max, 0
        repeated: list[int] = []
        number, page = -1, bytearray()
        for seq in seqs:
            if seq >> _PAGE_BITS != number:
                number = seq >> _PAGE_BITS
                found = pages.get(number)
                page = pages[number] = bytearray(_PAGE_SEQS // 8) if found is None else found
            at, bit = (seq & _IN_PAGE) >> 3, 1 << (seq & 7)
            held = page[at]
            if held & bit:
                repeated.append(seq)
                continue
            page[at] = held | bit
            count += 1
            if seq > highest:
                highest = seq
        self._count += count
        self.max = highest
        return repeated

    def _add_runs(self, seqs: list[int]) -> list[int]:
        """As ``add_many``, of ascending numbers, no two alike: those that follow each other at once."""
        single: list[int] = []
        for first, end in runs_of(seqs):
            if end - first < _RUN or not self._add_run(first, end):
                single.extend(range(first, end))
        return self.add_many(iter(single)) if single else []

    def _add_run(self, first: int, end: int) -> bool:
        """Put a run in, if none of it was in the set and one page has it."""
        number, at, past = first >> _PAGE_BITS, first & _IN_PAGE, (end - 1 & _IN_PAGE) + 1
        if end - 1 >> _PAGE_BITS != number:
            return False
        page = self._pages.setdefault(number, bytearray())
        if not page:
            page.extend(bytes(_PAGE_SEQS // 8))
        held = int.from_bytes(page[at >> 3 : past + 7 >> 3], "little")
        bits = ((1 << (past - at)) - 1) << (at & 7)
        if held & bits:
            return False
        page[at >> 3 : past + 7 >> 3] = (held | bits).to_bytes((past + 7 >> 3) - (at >> 3), "little")
        self._count += end - first
        self.max = max(self.max, end - 1)
        return True

    def __contains__(self, seq: int) -> bool:
        page = self._pages.get(seq >> _PAGE_BITS)
        return page is not None and bool(page[(seq & _IN_PAGE) >> 3] & (1 << (seq & 7)))

    def first_missing(self, seq: int) -> int:
        """The first number from ``seq`` on that is not in the set."""
        while (page := self._pages.get(seq >> _PAGE_BITS)) is not None:
            held = int.from_bytes(page, "little") >> (seq & _IN_PAGE)
            ones = (~held & (held + 1)).bit_length() - 1
            if (seq & _IN_PAGE) + ones < _PAGE_SEQS:
                return seq + ones
            seq = ((seq >> _PAGE_BITS) + 1) << _PAGE_BITS
        return seq

    def __len__(self) -> int:
        return self._count

    def missing(self, first: int, end: int) -> Iterator[int]:
        """The numbers from ``first`` up to ``end`` that are not in the set, in order."""
        seq = first
        while seq < end:
            page = self._pages.get(seq >> _PAGE_BITS)
            page_end = min(end, ((seq >> _PAGE_BITS) + 1) << _PAGE_BITS)
            if page is None:
                yield from range(seq, page_end)
            else:
                base = seq & ~_IN_PAGE
                bits = ~int.from_bytes(page, "little") & ((1 << (page_end - base)) - 1)
                bits &= ~((1 << (seq - base)) - 1)
                while bits:
                    lowest = bits & -bits
                    yield base + lowest.bit_length() - 1
                    bits ^= lowest
            seq = page_end

    def count_below(self, bound: int) -> int:
        """The number of members less than ``bound``."""
        count = 0
        for number, page in self._pages.items():
            seqs = bound - number * _PAGE_SEQS
            if seqs > 0:
                bits = int.from_bytes(page, "little")
                count += (bits if seqs >= _PAGE_SEQS else bits & ((1 << seqs) - 1)).bit_count()
        return count
