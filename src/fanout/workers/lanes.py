"""Lanes: rows that one worker reads for itself, from the next one that may be sent to an end.

A worker reads on in its own lane. One that has none gets rows that nobody has, or half of the longest
lane of another. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import msgspec

from fanout.inputs import Rows
from fanout.workers.messages import HandedLane, handed_lane


class Lane(msgspec.Struct, eq=False):
    """``rows`` begin with the record ``first_seq``; those below ``next_seq`` were handed out.

    ``read_to``: what the reader has read, one past the last. ``is_again``: a lost worker may have sent them.
    """

    number: int
    rows: Rows
    first_seq: int
    next_seq: int
    end_seq: int
    read_to: int
    is_again: bool = False
    is_changed: bool = False  # its worker has not heard of its end

    @property
    def left(self) -> int:
        """Records that were not handed out."""
        return self.end_seq - self.next_seq

    @property
    def ready(self) -> int:
        """Those of them that its worker has read."""
        return min(self.read_to, self.end_seq) - self.next_seq

    def handed(self) -> HandedLane:
        """As it travels."""
        return handed_lane(self.number, self.first_seq, self.rows)


class LanePool:
    """All lanes of a run that are not used up, by worker."""

    def __init__(self) -> None:
        self._waiting: deque[Lane] = deque()
        self._held: dict[str, list[Lane]] = {}
        self._numbers = 0

    @property
    def waiting(self) -> int:
        """Lanes that no worker has."""
        return len(self._waiting)

    @property
    def left(self) -> int:
        """Records that were not handed out, of all lanes."""
        return sum(lane.left for lane in self.all())

    def all(self) -> Iterable[Lane]:
        """Every lane."""
        yield from self._waiting
        for lanes in self._held.values():
            yield from lanes

    def of(self, name: str) -> list[Lane]:
        """A worker's lanes, in the order in which it reads them; used up ones are forgotten."""
        lanes = self._held.setdefault(name, [])
        lanes[:] = [lane for lane in lanes if lane.left]
        return lanes

    def add(self, first_seq: int, rows: Rows) -> None:
        """Rows that no worker has yet."""
        self._waiting.append(self._made(first_seq, rows))

    def hold(self, name: str, first_seq: int, rows: Rows, *, is_again: bool = False) -> Lane:
        """Rows for this worker alone."""
        lane = self._made(first_seq, rows, is_again=is_again)
        self._held.setdefault(name, []).append(lane)
        return lane

    def give(self, name: str, least: int) -> Lane | None:
        """Another lane for a worker, of at least ``least`` records where it is half of another's."""
        if self._waiting:
            lane = self._waiting.popleft()
        else:
            longest = max(
                (
                    lane
                    for owner, lanes in self._held.items()
                    for lane in lanes
                    if owner != name and not lane.is_again
                ),
                key=lambda lane: lane.left,
                default=None,
            )
            if longest is None or longest.left < 2 * least:
                return None
            lane = self._split(longest, longest.next_seq + (longest.left + 1) // 2)
            longest.is_changed = True
        self._held.setdefault(name, []).append(lane)
        return lane

    def give_back(self, name: str, *, is_lost: bool = False) -> list[Lane]:
        """A worker reads no further, so others may. What it has read stays with it. Returns the rest."""
        rests = []
        for lane in self.of(name):
            at = lane.next_seq if is_lost else max(lane.next_seq, lane.read_to)
            if at < lane.end_seq:
                rests.append(self._split(lane, at))
        self._waiting.extendleft(reversed(rests))
        return rests

    def drop(self, from_seq: int = 0) -> list[Lane]:
        """Forget the lanes that begin at or after a record; returns them."""
        dropped = [lane for lane in self.all() if lane.next_seq >= from_seq and lane.left]
        self._waiting = deque(lane for lane in self._waiting if lane not in dropped)
        for name, lanes in self._held.items():
            self._held[name] = [lane for lane in lanes if lane not in dropped]
        return dropped

    def _split(self, lane: Lane, at: int) -> Lane:
        """Make what comes from ``at`` on a lane of its own."""
        rows = part_of(lane, at, lane.end_seq)
        lane.end_seq = at
        return self._made(at, rows)

    def _made(self, first_seq: int, rows: Rows, *, is_again: bool = False) -> Lane:
        self._numbers += 1
        return Lane(self._numbers, rows, first_seq, first_seq, first_seq + rows.count, first_seq, is_again)


def part_of(lane: Lane, first: int, end: int) -> Rows:
    """The rows of some records of a lane."""
    first_row = lane.rows.first_row + first - lane.first_seq
    return msgspec.structs.replace(lane.rows, first_row=first_row, count=end - first)
