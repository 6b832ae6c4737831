"""The intake of a worker's engine: what the coordinator handed over, in place of an input."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from fanout.dispatcher import InputRecord


class HandedIntake:
    """The records that the coordinator handed over, in that order. ``has_ended`` once it says so."""

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self.records_read = 0
        self._started = 0  # since the last report
        self._is_complete = False
        self._records: deque[InputRecord] = deque()
        self._on_ready: Callable[[], None] | None = None
        self._closed = asyncio.Event()

    @property
    def has_ended(self) -> bool:
        return self._is_complete and not self._records

    @property
    def waiting(self) -> int:
        """Records that were not started."""
        return len(self._records)

    def add(self, records: list[InputRecord]) -> None:
        """Take records that may be sent."""
        self._records.extend(records)
        self.look()

    def end(self) -> None:
        """Nothing more will be handed over."""
        self._is_complete = True

    def take_started(self) -> int:
        """For a report: how many records were started since the last one."""
        started, self._started = self._started, 0
        return started

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
        self._started += 1
        self.records_read += 1
        return self._records.popleft()

    def next_several(self, most: int, most_bytes: int) -> list[InputRecord]:
        """See ``SeveralIntake``."""
        records = self._records
        taken: list[InputRecord] = []
        while records and len(taken) < most and most_bytes > 0:
            record = records[0]
            if record.fault is not None or record.own is not None or record.may_have_run:
                break
            most_bytes -= len(record.body)
            taken.append(records.popleft())
        self._started += len(taken)
        self.records_read += len(taken)
        return taken

    async def fill(self, on_ready: Callable[[], None]) -> None:
        self._on_ready = on_ready
        on_ready()
        await self._closed.wait()

    async def aclose(self) -> None:
        self._closed.set()
