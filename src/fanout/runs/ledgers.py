"""A ledger that keeps nothing: outcomes go to those who listen, and are gone."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from fanout.model import Outcome

GATHER_S = 0.02
BACKED_UP = 10_000  # outcomes


class PassingLedger:
    """Hands outcomes on in batches, so that listeners see them as they would with a journal."""

    def __init__(self, on_commit: Callable[[list[Outcome]], None]) -> None:
        self._on_commit = on_commit
        self._waiting: list[Outcome] = []

    @property
    def is_backed_up(self) -> bool:
        """Whether listeners are behind."""
        return len(self._waiting) > BACKED_UP

    def write(self, outcome: Outcome) -> None:
        """Take one outcome."""
        self._waiting.append(outcome)

    def mark(self, seq: int) -> None:
        """Nothing is remembered, so nothing can be resumed."""

    async def run(self) -> None:
        """Hand on what has come, until cancelled."""
        while True:
            await anyio.sleep(GATHER_S)
            self._hand_on()

    async def aclose(self) -> None:
        """Hand on the rest."""
        self._hand_on()

    def _hand_on(self) -> None:
        if self._waiting:
            outcomes, self._waiting = self._waiting, []
            self._on_commit(outcomes)
