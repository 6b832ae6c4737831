"""Sets of millions of sequence numbers: one bit each, in pages that exist when needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

_PAGE_BITS = 16
_PAGE_SEQS = 1 << _PAGE_BITS
_IN_PAGE = _PAGE_SEQS - 1


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
