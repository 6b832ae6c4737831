"""The reader of lanes: reads rows of files and objects where it is, ahead of the windows.

A worker has one, with the credentials of its own; the coordinator has one for what no worker can read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import aclosing

import anyio

from fanout.aws import Clients
from fanout.errors import FanoutError, SourceError
from fanout.inputs import Item, Opener, Reading, Rows
from fanout.journal.samples import is_sampled
from fanout.workers.messages import HandedLane, LaneProgress, unpacked_rows

MOST_RECORDS = 16_384  # read ahead of the windows
MOST_BYTES = 16 * 1024 * 1024


class _Lane:
    def __init__(self, handed: HandedLane) -> None:
        self.number = handed.number
        self.rows: Rows = unpacked_rows(handed)
        self.at = self.read_to = handed.first_seq  # the number of items[0], and one past that of the last
        self.end_seq = handed.first_seq + handed.rows.count
        self.items: deque[Item] = deque()
        self.is_read = False


class LaneReader:
    """Reads one lane after the other, in the order in which they come. ``on_ready`` follows each reading."""

    def __init__(
        self, reading: Reading, clients: Callable[[], Clients], on_ready: Callable[[], None] | None = None
    ) -> None:
        self._opener = Opener(reading.options, clients=clients)
        self._wants_samples = reading.samples
        self._on_ready = on_ready
        self._lanes: dict[int, _Lane] = {}
        self._progress: dict[int, LaneProgress] = {}
        self._samples: list[tuple[int, bytes]] = []
        self._records = self._bytes = 0  # ready
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def add(self, handed: HandedLane) -> None:
        """Read this lane too, after those that came before."""
        self._lanes[handed.number] = _Lane(handed)
        self._wanted.set()
        if self._task is None:
            self._task = asyncio.create_task(self._read_all())

    def cut(self, number: int, from_seq: int, end_seq: int) -> None:
        """Of this lane, only these records are wanted."""
        lane = self._lanes.get(number)
        if lane is not None:
            lane.end_seq = min(lane.end_seq, end_seq)
            self._pass(lane, from_seq)
            self._forget_used(lane)

    def take(self, number: int, first: int, end: int) -> list[Item]:
        """Records of a lane that are ready; those before them are passed over."""
        lane = self._lanes.get(number)
        if lane is None:
            return []
        self._pass(lane, first)
        if lane.at != first:
            return []
        items = [lane.items.popleft() for _ in range(min(end - lane.at, len(lane.items)))]
        lane.at += len(items)
        self._let_go(items)
        self._forget_used(lane)
        return items

    def progress(self) -> tuple[list[LaneProgress], list[tuple[int, bytes]]]:
        """What was read since the last time, and the samples among it."""
        progress, samples = list(self._progress.values()), self._samples
        self._progress, self._samples = {}, []
        return progress, samples

    def drop(self) -> None:
        """Read no lane on."""
        self._lanes.clear()
        self._records = self._bytes = 0
        self._wanted.set()

    async def aclose(self) -> None:
        """Stop, and let go of what is open."""
        self.drop()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._opener.aclose()

    # --- reading -------------------------------------------------------------------------------

    async def _read_all(self) -> None:
        while True:
            lane = next((lane for lane in self._lanes.values() if not lane.is_read), None)
            if lane is None:
                self._wanted.clear()
                await self._wanted.wait()
                continue
            failure = None
            try:
                await self._read(lane)
            except FanoutError as error:
                failure = str(error)
            except Exception as error:  # noqa: BLE001 - whatever a library raises: another may read it
                failure = f"{type(error).__name__}: {error}"
            lane.is_read = True
            if failure is not None and lane.number in self._lanes:
                self._tell(lane, failure.encode(errors="backslashreplace").decode())
            self._forget_used(lane)

    async def _read(self, lane: _Lane) -> None:
        source = await self._opener.open_rows(lane.rows)
        try:
            async with aclosing(source.batches({"row": lane.rows.first_row})) as batches:  # type: ignore[type-var]
                async for batch in batches:
                    self._keep(lane, batch)
                    while self._is_full and lane.number in self._lanes:
                        self._wanted.clear()
                        await self._wanted.wait()
                    if lane.number not in self._lanes or lane.read_to >= lane.end_seq:
                        return
        finally:
            with anyio.CancelScope(shield=True):
                await source.aclose()
        raise SourceError(f"{source.location}: ends before row {lane.rows.first_row + lane.rows.count:,}")

    @property
    def _is_full(self) -> bool:
        return self._records >= MOST_RECORDS or self._bytes >= MOST_BYTES

    def _keep(self, lane: _Lane, batch: list[Item]) -> None:
        if lane.number not in self._lanes:
            return
        batch = batch[: max(0, lane.end_seq - lane.read_to)]
        for item in batch:
            item.source = lane.rows.source
        if self._wants_samples:
            numbered = enumerate(batch, lane.read_to)
            self._samples += [(seq, item.payload) for seq, item in numbered if is_sampled(seq)]
        lane.items.extend(batch)
        lane.read_to += len(batch)
        self._records += len(batch)
        self._bytes += sum(len(item.payload) for item in batch)
        self._tell(lane)

    def _tell(self, lane: _Lane, failure: str | None = None) -> None:
        self._progress[lane.number] = LaneProgress(lane.number, lane.read_to, failure)
        if self._on_ready is not None:
            self._on_ready()

    def _pass(self, lane: _Lane, seq: int) -> None:
        count = min(max(0, seq - lane.at), len(lane.items))
        self._let_go([lane.items.popleft() for _ in range(count)])
        lane.at += count

    def _let_go(self, items: list[Item] | deque[Item]) -> None:
        self._records -= len(items)
        self._bytes -= sum(len(item.payload) for item in items)
        self._wanted.set()

    def _forget_used(self, lane: _Lane) -> None:
        if lane.is_read and lane.at >= lane.end_seq and self._lanes.pop(lane.number, None) is not None:
            self._let_go(lane.items)
