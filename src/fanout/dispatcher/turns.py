"""The turns of feeds: by priority, in order of arrival within one; none starves.

Lower numbers go first. One turn in ten goes to the class that has waited longest for one, whatever its
priority, so that a busy class slows the others and never stops them (aging, as schedulers of operating
systems have it).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from fanout.dispatcher.call import Feed

AGED_TURN = 10


class Turns:
    """A queue of feeds with the methods that the engine uses of a deque."""

    def __init__(self, feeds: Iterable[Feed] = ()) -> None:
        self._classes: dict[int, deque[Feed]] = {}
        self._last_turn: dict[int, int] = {}  # of each class, by the count of turns
        self._turn = 0
        self._count = 0
        for feed in feeds:
            self.append(feed)

    def append(self, feed: Feed) -> None:
        """Give a feed its place at the end of its class."""
        queue = self._classes.get(feed.priority)
        if queue is None:
            queue = self._classes[feed.priority] = deque()
            self._last_turn[feed.priority] = self._turn
        queue.append(feed)
        self._count += 1

    def popleft(self) -> Feed:
        """The feed whose turn it is. Raises IndexError when there is none."""
        if not self._count:
            raise IndexError("no feed has a turn")
        self._turn += 1
        last = self._last_turn
        chosen = min(self._classes) if self._turn % AGED_TURN else min(last, key=last.__getitem__)
        queue = self._classes[chosen]
        feed = queue.popleft()
        self._count -= 1
        if queue:
            last[chosen] = self._turn
        else:
            del self._classes[chosen], last[chosen]
        return feed

    def clear(self) -> None:
        """Forget every feed."""
        self._classes.clear()
        self._last_turn.clear()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Feed]:
        for queue in self._classes.values():
            yield from queue
