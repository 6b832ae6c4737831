"""The messages that a run has received and not let go: extended, deleted or released in tens.

Visibility is short and extended while a message waits or is in flight, so that a run that is killed
gives everything back within a minute. What failed is held longer at a time, as nothing waits for it.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable
from math import inf
from typing import Protocol

import anyio
import msgspec

from fanout.errors import FanoutError

VISIBILITY_S = 60
HELD_VISIBILITY_S = 900
HELD_MOST = 100_000
HELD_LONGEST_S = 11 * 3600.0
_PARKED_MOST = 15_000  # SQS hands out no more than 120,000 at once
_IN_TENS = 10
_TICK_S = 0.05
_DELETE_WITHIN_S = 0.2  # how long a delete waits for nine others
_WORKERS = 8


class Receipt(msgspec.Struct):
    """One message by its receipt; ``visibility_s`` is what is asked for, 0 releases it."""

    seq: int
    receipt: str
    visibility_s: int = 0


class Messages(Protocol):
    """The client's part that a hold needs: up to ten entries a call; returns those that were refused."""

    async def delete(self, entries: list[Receipt]) -> list[Receipt]: ...

    async def extend(self, entries: list[Receipt]) -> list[Receipt]: ...


class Held(msgspec.Struct):
    """A message in hand."""

    receipt: str
    received_s: float
    visible_s: float  # when others may see it, as far as is known
    is_failed: bool = False
    is_lost: bool = False  # SQS no longer extends it


class Hold:
    """Every message in hand, by its record's seq. ``clock`` is monotonic, in seconds.

    ``run`` does the work until cancelled; ``finish`` does the deletes that are due and releases the rest.
    ``lost_s`` is when the last message that SQS took out of this run's hands can be seen again.
    ``failure`` is set when SQS refuses deletes or extensions for good.
    """

    def __init__(
        self,
        messages: Messages,
        clock: Callable[[], float],
        *,
        held_most: int = HELD_MOST,
        held_longest_s: float = HELD_LONGEST_S,
    ) -> None:
        self._messages = messages
        self._clock = clock
        self._held_most = held_most
        self._held_longest_s = held_longest_s
        self._held: dict[int, Held] = {}
        self._failed: OrderedDict[int, None] = OrderedDict()  # the longest held at the beginning
        self._due: list[tuple[float, int]] = []  # when to extend what
        self._deletes: deque[tuple[float, Receipt]] = deque()
        self._releases: deque[Receipt] = deque()
        self._parked: deque[float] = deque()  # when messages were hidden that are not held
        self._under_way = 0
        self._wake = anyio.Event()
        self._limiter = anyio.CapacityLimiter(_WORKERS)
        self.lost_s = 0.0
        self.failure: FanoutError | None = None

    def __len__(self) -> int:
        """The number of messages that are held."""
        return len(self._held)

    @property
    def failed(self) -> int:
        """The number of them that are kept for the end."""
        return len(self._failed)

    def __contains__(self, seq: object) -> bool:
        return seq in self._held

    def take(self, seq: int, receipt: str, *, asked_s: float) -> None:
        """A message came, or came again with another receipt. ``asked_s``: when it was asked for."""
        held = self._held.get(seq)
        if held is None:
            self._held[seq] = Held(receipt, asked_s, asked_s + VISIBILITY_S)
        else:  # the newest receipt is the one that counts
            held.receipt, held.received_s, held.is_lost = receipt, asked_s, False
            held.visible_s = asked_s + VISIBILITY_S
        heapq.heappush(self._due, (asked_s + VISIBILITY_S / 2, seq))
        self._wake.set()

    def is_mine(self, seq: int) -> bool:
        """True if the message is certainly hidden from others for a while yet."""
        held = self._held.get(seq)
        return held is not None and not held.is_lost and self._clock() < held.visible_s - 1.0

    def drop(self, seq: int) -> None:
        """A message that is no longer this run's before its call began."""
        if self._held.pop(seq, None) is not None:
            self.lost_s = self._clock() + VISIBILITY_S

    def forget(self, seq: int) -> None:
        """A message that is given back or deleted by its receipt."""
        self._held.pop(seq, None)

    def delete(self, seq: int) -> None:
        """The outcome is ok and on the disk."""
        held = self._held.pop(seq, None)
        self._failed.pop(seq, None)
        if held is not None:
            self.delete_receipt(seq, held.receipt)

    def delete_receipt(self, seq: int, receipt: str) -> None:
        """Delete a message that is not in hand: one that came again after its success."""
        self._deletes.append((self._clock(), Receipt(seq, receipt)))
        self._wake.set()

    def keep(self, seq: int) -> None:
        """The record failed: its message stays in the queue, and is held until the run ends."""
        held = self._held.get(seq)
        if held is None or held.is_failed:
            return
        held.is_failed = True
        self._failed[seq] = None
        heapq.heappush(self._due, (self._clock(), seq))
        self._wake.set()
        while len(self._failed) > self._held_most:
            self.release(next(iter(self._failed)))

    def keep_again(self, seq: int, receipt: str, *, asked_s: float) -> None:
        """A failed message came again after it was released: hold it where there is room.

        Else it is hidden for a quarter of an hour without being held, within what SQS allows in flight.
        """
        now_s = self._clock()
        if len(self._failed) < self._held_most:
            self.take(seq, receipt, asked_s=asked_s)
            self.keep(seq)
            return
        while self._parked and self._parked[0] <= now_s - HELD_VISIBILITY_S:
            self._parked.popleft()
        if len(self._parked) >= _PARKED_MOST:
            self.give_back(receipt)
            return
        self._parked.append(now_s)
        self.give_back(receipt, after_s=HELD_VISIBILITY_S)

    def release(self, seq: int) -> None:
        """Give a message back to the queue, visible at once."""
        held = self._held.pop(seq, None)
        self._failed.pop(seq, None)
        if held is not None and not held.is_lost:
            self._releases.append(Receipt(seq, held.receipt))
            self._wake.set()

    def give_back(self, receipt: str, *, after_s: int = 0) -> None:
        """Give back a message that never came in hand, visible after a while."""
        self._releases.append(Receipt(-1, receipt, after_s))
        self._wake.set()

    async def run(self) -> None:
        """Extend, delete and release what is due, until cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                for work, entries in self._batches(self._clock(), is_last=False):
                    self._under_way += 1
                    tasks.start_soon(self._do, work, entries)
                pause_s = self._pause_s(self._clock())
                if pause_s > 0:
                    with anyio.move_on_after(pause_s):
                        await self._wake.wait()
                        self._wake = anyio.Event()
                await anyio.sleep(_TICK_S)

    def _pause_s(self, now_s: float) -> float:
        """The seconds for which there is nothing to do, if nothing is asked for meanwhile."""
        if self._deletes or self._releases:
            return 0.0
        return max(0.0, self._due[0][0] - now_s) if self._due else inf

    async def finish(self, within_s: float) -> None:
        """Do the deletes that are due and make the rest visible, for so long at the most."""
        for seq in list(self._failed):
            self.release(seq)
        with anyio.move_on_after(within_s, shield=True):
            while self._under_way:  # noqa: ASYNC110 - whichever of several ends last
                await anyio.sleep(_TICK_S)
            async with anyio.create_task_group() as tasks:
                for work, entries in self._batches(self._clock(), is_last=True):
                    self._under_way += 1
                    tasks.start_soon(self._do, work, entries)

    def _batches(self, now_s: float, *, is_last: bool) -> list[tuple[str, list[Receipt]]]:
        batches: list[tuple[str, list[Receipt]]] = []
        deletes = self._deletes
        while deletes and (is_last or len(deletes) >= _IN_TENS or now_s - deletes[0][0] >= _DELETE_WITHIN_S):
            batches.append(("delete", [deletes.popleft()[1] for _ in range(min(_IN_TENS, len(deletes)))]))
        while self._releases:
            count = min(_IN_TENS, len(self._releases))
            batches.append(("extend", [self._releases.popleft() for _ in range(count)]))
        due = [] if is_last else self._extensions(now_s)
        batches += [("extend", due[at : at + _IN_TENS]) for at in range(0, len(due), _IN_TENS)]
        return batches

    def _extensions(self, now_s: float) -> list[Receipt]:
        entries = []
        while self._due and self._due[0][0] <= now_s:
            _, seq = heapq.heappop(self._due)
            held = self._held.get(seq)
            if held is None or held.is_lost:
                continue
            visibility_s = HELD_VISIBILITY_S if held.is_failed else VISIBILITY_S
            if held.visible_s - now_s > visibility_s * 0.6:
                continue  # extended meanwhile
            if held.is_failed and now_s - held.received_s >= self._held_longest_s:
                self.release(seq)
                continue
            held.visible_s = max(held.visible_s, now_s)  # not yet longer: the reply says
            heapq.heappush(self._due, (now_s + visibility_s / 2, seq))
            entries.append(Receipt(seq, held.receipt, visibility_s))
        return entries

    async def _do(self, work: str, entries: list[Receipt]) -> None:
        asked_s = self._clock()
        try:
            async with self._limiter:
                if work == "delete":
                    refused = await self._messages.delete(entries)
                    return
                refused = await self._messages.extend(entries)
            self._note_extended(entries, refused, asked_s)
        except FanoutError as error:
            self.failure = self.failure or error
            self._note_extended(entries, entries if work == "extend" else [], asked_s)
        except BaseException:  # cancelled: ``finish`` does it
            if work == "delete":
                self._deletes.extend((asked_s, entry) for entry in entries)
            else:
                self._releases.extend(entry for entry in entries if entry.seq not in self._held)
            raise
        finally:
            self._under_way -= 1

    def _note_extended(self, entries: list[Receipt], refused: list[Receipt], asked_s: float) -> None:
        lost = {entry.receipt for entry in refused}
        for entry in entries:
            held = self._held.get(entry.seq)
            if held is None or held.receipt != entry.receipt or not entry.visibility_s:
                continue
            if entry.receipt not in lost:
                held.visible_s = asked_s + entry.visibility_s
                continue
            held.is_lost = True
            self.lost_s = max(self.lost_s, self._clock() + VISIBILITY_S)
            if held.is_failed:  # known again by its id
                self._held.pop(entry.seq)
                self._failed.pop(entry.seq, None)
