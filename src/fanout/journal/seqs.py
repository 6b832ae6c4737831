"""Sets of millions of sequence numbers: one bit each, in pages that exist when needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

_PAGE_BITS = 16
_PAGE_SEQS = 1 << _PAGE_BITS
_IN_PAGE = _PAGE_SEQS - 1
_LEAST_RUN = 8  # of shorter ones on average each number is put in by itself


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
        seqs = list(seqs)
        ordered = sorted(seqs)
        runs = runs_of(ordered) if len(set(ordered)) == len(ordered) else []
        if len(runs) * _LEAST_RUN > len(ordered) or not runs:
            return [seq for seq in seqs if not self.add(seq)]
        if self._is_added_at_once(runs, ordered):
            return []
        repeated: list[int] = []
        for first, end in runs:
            repeated += self._add_run(first, end)
        return repeated

    def _is_added_at_once(self, runs: Sequence[tuple[int, int]], ordered: Sequence[int]) -> bool:
        """Put in numbers of one page, unless one of them is in it already."""
        number = ordered[0] >> _PAGE_BITS
        page = self._pages.get(number)
        if page is None or ordered[-1] >> _PAGE_BITS != number:
            return False
        begins, ends = (ordered[0] & _IN_PAGE) >> 3, ((ordered[-1] & _IN_PAGE) >> 3) + 1
        lowest = (number << _PAGE_BITS) + (begins << 3)
        bits = 0
        for first, end in runs:
            bits |= ((1 << (end - first)) - 1) << (first - lowest)
        held = int.from_bytes(page[begins:ends], "little")
        if held & bits:
            return False
        page[begins:ends] = (held | bits).to_bytes(ends - begins, "little")
        self._count += len(ordered)
        self.max = max(self.max, ordered[-1])
        return True

    def _add_run(self, first: int, end: int) -> list[int]:
        repeated: list[int] = []
        while first < end:
            number = first >> _PAGE_BITS
            page = self._pages.get(number)
            if page is None:
                page = self._pages[number] = bytearray(_PAGE_SEQS // 8)
            page_end = min(end, (number + 1) << _PAGE_BITS)
            begins, ends = (first & _IN_PAGE) >> 3, ((page_end - 1) & _IN_PAGE) + 8 >> 3
            held = int.from_bytes(page[begins:ends], "little")
            bits = ((1 << (page_end - first)) - 1) << (first & 7)
            if held & bits:
                repeated += [seq for seq in range(first, page_end) if not self.add(seq)]
            else:
                page[begins:ends] = (held | bits).to_bytes(ends - begins, "little")
                self._count += page_end - first
                self.max = max(self.max, page_end - 1)
            first = page_end
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


def runs_of(ascending: Sequence[int]) -> list[tuple[int, int]]:
    """Runs of numbers that follow each other, of different numbers in ascending order: first and end.

    Looks at a few of each run only.
    """
    runs: list[tuple[int, int]] = []
    at, size = 0, len(ascending)
    while at < size:
        first, end = ascending[at], at + 1  # before ``end`` they follow each other
        step, is_growing = 1, True
        while step:
            last = end + step - 1
            if last < size and ascending[last] - first == last - at:
                end = last + 1
            else:
                is_growing = False
            step = step << 1 if is_growing else step >> 1
        runs.append((first, first + end - at))
        at = end
    return runs
