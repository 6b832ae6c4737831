"""Ledgers: where the outcomes of a run go, and the one that keeps nothing but tells its listeners."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import anyio

from fanout.model import Outcome

GATHER_S = 0.02
BACKED_UP = 10_000  # outcomes

OnCommit = Callable[[Sequence[Outcome]], None]
OnFailure = Callable[[Exception], None]


class Ledger(Protocol):
    """Takes outcomes, and writes them while ``run`` runs. The journal is one, and standard output.

    It calls its ``on_commit`` in the event loop with outcomes that count from now on, and its
    ``on_failure`` once, when it cannot be written any more.
    """

    @property
    def is_backed_up(self) -> bool:
        """True while so many outcomes wait to be written that no new call should start."""
        ...

    def mark(self, seq: int) -> None:
        """The record with this seq is about to be sent. Raises JournalError when that cannot be kept."""
        ...

    def allow(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Records of these ranges (first, one past the last) may be sent from now on. Raises as ``mark``."""
        ...

    def write(self, outcomes: Sequence[Outcome]) -> None:
        """Take what one reply has made final. Never waits, never raises."""
        ...

    async def run(self) -> None:
        """Write what was taken, until cancelled."""
        ...

    async def aclose(self) -> None:
        """Write the rest, and close."""
        ...


class PassingLedger:
    """Hands outcomes on in batches, so that listeners see them as they would with a journal.

    In order of finishing or, with ``keep_order``, of the input.
    """

    def __init__(self, on_commit: OnCommit, *, keep_order: bool = False) -> None:
        self._on_commit = on_commit
        self._waiting: list[Outcome] = []
        self._keep_order = keep_order
        self._held: dict[int, Outcome] = {}
        self._next_seq = 0

    @property
    def is_backed_up(self) -> bool:
        """True while listeners are behind."""
        return len(self._waiting) > BACKED_UP or len(self._held) > BACKED_UP

    def write(self, outcomes: Sequence[Outcome]) -> None:
        """Take outcomes."""
        if not self._keep_order:
            self._waiting.extend(outcomes)
            return
        for outcome in outcomes:
            self._held[outcome.seq] = outcome
        while (due := self._held.pop(self._next_seq, None)) is not None:
            self._waiting.append(due)
            self._next_seq += 1

    def mark(self, seq: int) -> None:
        """Nothing is remembered, so nothing can be resumed."""

    def allow(self, ranges: Sequence[tuple[int, int]]) -> None:
        """As ``mark``."""

    async def run(self) -> None:
        """Hand on what has come, until cancelled."""
        while True:
            await anyio.sleep(GATHER_S)
            self._hand_on()

    async def aclose(self) -> None:
        """Hand on the rest, in order, held or not."""
        self._waiting += [self._held.pop(seq) for seq in sorted(self._held)]
        self._hand_on()

    def _hand_on(self) -> None:
        if self._waiting:
            outcomes, self._waiting = self._waiting, []
            self._on_commit(outcomes)
