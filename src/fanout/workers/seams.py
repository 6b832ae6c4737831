"""The seams of a worker's engine, in place of an input, a journal and the limits of the account.

The engine does not know that it is a worker: its intake holds what the coordinator handed over, its
receiver gathers lines for the next report, its budget is a lease.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Self

from fanout.config import Options
from fanout.dispatcher import Call, InputRecord
from fanout.dispatcher.budget import CONNECTIONS_AT_MOST, Budget
from fanout.dispatcher.engine import Engine
from fanout.journal import BlockMaker, PackedBlock
from fanout.model import ErrorDetail, OnChunk, Outcome
from fanout.transports.open_files import most_connections
from fanout.workers.leased_limit import LeasedLimit, LeasedPacer

BACKED_UP_BYTES = 4 * 1024 * 1024  # of lines that the coordinator has not acknowledged


class HandedIntake:
    """The records that the coordinator handed over, in that order. ``has_ended`` once it says so."""

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self.records_read = 0
        self.started = 0  # since the last report
        self.is_complete = False
        self._records: deque[InputRecord] = deque()
        self._on_ready: Callable[[], None] | None = None
        self._closed = asyncio.Event()

    @property
    def has_ended(self) -> bool:
        return self.is_complete and not self._records

    @property
    def waiting(self) -> int:
        """Records that were not started."""
        return len(self._records)

    def add(self, records: list[InputRecord]) -> None:
        """Take records that may be sent."""
        self._records.extend(records)
        self.look()

    def look(self) -> None:
        """Make the engine look again."""
        if self._on_ready is not None:
            self._on_ready()

    def take_back(self) -> list[int]:
        """Let go of what was not started; returns the numbers."""
        seqs = [record.seq for record in self._records]
        self._records.clear()
        return seqs

    def next(self, now_s: float) -> InputRecord | None:  # noqa: ARG002 - Intake's
        if not self._records:
            return None
        self.started += 1
        self.records_read += 1
        return self._records.popleft()

    async def fill(self, on_ready: Callable[[], None]) -> None:
        self._on_ready = on_ready
        on_ready()
        await self._closed.wait()

    async def aclose(self) -> None:
        self._closed.set()


class LineReceiver:
    """Gathers outcomes as lines of the journal, in blocks that are kept until they are acknowledged."""

    is_abandoned = False

    def __init__(self) -> None:
        self.failure: str | None = None
        self.not_sent: list[int] = []
        self.refused: list[int] = []
        self.first_block = 0
        self.blocks: list[PackedBlock] = []
        self._maker = BlockMaker()
        self._kept_bytes = 0

    @property
    def has_room(self) -> bool:
        return len(self._maker.lines) + self._kept_bytes < BACKED_UP_BYTES

    def acknowledge(self, blocks: int) -> None:
        """So many blocks, from the first of the run on, have arrived."""
        while self.blocks and self.first_block < blocks:
            self._kept_bytes -= len(self.blocks.pop(0).lines)
            self.first_block += 1

    def cut_block(self) -> None:
        """Make what has gathered a block."""
        if self._maker.lines:
            self._kept_bytes += len(self._maker.lines)
            self.blocks.append(self._maker.cut())

    # --- as the feed's receiver ----------------------------------------------------------------

    def admit(self, record: InputRecord) -> bool:  # noqa: ARG002 - Receiver's
        """The coordinator has kept already that it may be sent."""
        return True

    def deliver(self, call: Call, outcomes: list[Outcome]) -> None:
        error, fatal = outcomes[0].error, call.feed.fatal
        if error is not None and fatal is not None and error.type == fatal.code:
            self.refused.extend(outcome.seq for outcome in outcomes)
        for outcome in outcomes:
            self._maker.add(outcome)

    def give_up(self, call: Call, undelivered: Callable[[ErrorDetail], list[Outcome]]) -> None:  # noqa: ARG002
        self.not_sent.extend(record.seq for record in call.records)

    def end(self) -> None:
        """The coordinator knows from the reports."""

    def break_off(self, error: BaseException) -> None:
        self.failure = self.failure or f"{type(error).__name__}: {error}"

    def chunk_writer(self, call: Call) -> OnChunk | None:  # noqa: ARG002 - Receiver's
        return None


class CoordinatorBudget(Budget):
    """The budget of the run; the calls, and so the connections, are the workers'.

    ``in_use``: permits in use on all of them.
    """

    def __init__(self, options: Options, *, must_ask: bool, in_use: Callable[[], int]) -> None:
        super().__init__(options, must_ask=must_ask)
        self._in_use = in_use

    def own_calls(self, engine: Engine) -> int:  # noqa: ARG002 - it makes none itself
        """Calls of the workers that run, or may run on."""
        return self._in_use()

    @property
    def connections(self) -> int:
        """For reading limits, and for a check of whether the function may be called."""
        return 16


class LeasedBudget(Budget):
    """A budget that asks Lambda nothing: a lease says what it is. The credentials are the worker's own."""

    limit: LeasedLimit  # type: ignore[assignment]
    pacer: LeasedPacer

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.limit = LeasedLimit()
        self.pacer = LeasedPacer(self.limit)
        return self

    @property
    def connections(self) -> int:
        """As many as this machine allows: what a lease grants is not known yet."""
        return max(16, min(CONNECTIONS_AT_MOST, most_connections()))

    @property
    def _is_told_all(self) -> bool:
        return True

    async def check_credentials(self) -> None:
        """Raise FatalRefusal where this worker finds no credentials."""
        if self._http is not None:
            await self._http.credentials(time.time())
        elif self._session is not None:
            await self._session.frozen_credentials()
