"""The outcomes of a journal that do not count, because a later one of the same record does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from fanout.journal.seqs import SeqSet


class Superseded:
    """Of records with several outcomes, how many of them are not the last: one bit for most records."""

    def __init__(self) -> None:
        self._once = SeqSet()
        self._more = Counter[int]()

    def add(self, seqs: Iterable[int]) -> None:
        """Each of these records has one more outcome, after another."""
        self._more.update(self._once.add_many(seqs))

    def __len__(self) -> int:
        return len(self._once) + self._more.total()

    def latest(self) -> LatestOutcomes:
        """What tells the last outcomes from the others in one reading of the journal."""
        return LatestOutcomes(self._once, self._more)


class LatestOutcomes:
    """Tells, while a journal is read from its beginning, which outcomes are the last of their records."""

    def __init__(self, once: SeqSet, more: Counter[int]) -> None:
        self._once = once
        self._left = more.copy()
        self._passed = SeqSet()

    def places(self, seqs: Sequence[int]) -> list[int] | None:
        """The places of the last outcomes among the next ones of these records; None where all are."""
        once = self._once
        if not len(once) or not any(map(once.__contains__, seqs)):
            return None
        return [place for place, seq in enumerate(seqs) if seq not in once or self._is_last(seq)]

    def _is_last(self, seq: int) -> bool:
        if self._left.get(seq):
            self._left[seq] -= 1
            return False
        return not self._passed.add(seq)
