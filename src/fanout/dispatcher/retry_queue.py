"""Calls that wait for another attempt, by the time at which it is due."""

from __future__ import annotations

import heapq

from fanout.dispatcher.call import Call, Feed
from fanout.dispatcher.record import InputRecord


class RetryQueue:
    """A heap of calls. Those due at the same time come in the order in which they were added.

    ``heap`` is for looking at its first entry alone, which is done for every call that goes out: the time
    at which the first is due, of the engine's clock. It stays the same list.
    """

    __slots__ = ("_count", "heap")

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, Call]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self.heap)

    def add(self, call: Call, due_s: float) -> None:
        """Let a call wait."""
        self._count += 1
        heapq.heappush(self.heap, (due_s, self._count, call))

    def pop(self) -> Call:
        """The call that is due first."""
        return heapq.heappop(self.heap)[2]

    def take(self, feed: Feed | None) -> list[Call]:
        """Take out the calls of one feed, or all."""
        taken = [entry[2] for entry in self.heap if feed is None or entry[2].feed is feed]
        if taken:
            self.heap[:] = [entry for entry in self.heap if not (feed is None or entry[2].feed is feed)]
            heapq.heapify(self.heap)
        return taken

    def take_call_of(self, feed: Feed, record: InputRecord) -> Call | None:
        """Take out the call that carries a record, if it waits."""
        for entry in self.heap:
            if entry[2].feed is feed and record in entry[2].records:
                self.heap.remove(entry)
                heapq.heapify(self.heap)
                return entry[2]
        return None
