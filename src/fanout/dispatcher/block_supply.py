"""A supply of blocks: the elements of an async iterator of lists, as inputs are read."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import islice
from typing import Generic, Literal, TypeVar

from fanout.dispatcher.nothing import NOTHING, Nothing
from fanout.dispatcher.supply import close_iterator

T = TypeVar("T")

LOW_WATER = 256  # elements below which the next block is fetched


class BlockSupply(Generic[T]):
    """An async iterator of lists, fetched while few elements are ready."""

    def __init__(self, source: AsyncIterator[list[T]]) -> None:
        self._source = source
        self._ready: deque[T] = deque()
        self._wanted = asyncio.Event()
        self._low_water = LOW_WATER
        self.kinds: set[type] = set()  # of all elements so far
        self.is_exhausted = False
        self.failure: BaseException | None = None

    @property
    def has_ended(self) -> bool:
        return self.is_exhausted and not self._ready

    @property
    def ready(self) -> int:
        return len(self._ready)

    def next(self) -> T | Literal[Nothing.NOTHING]:
        ready = self._ready
        if len(ready) < self._low_water:
            self._wanted.set()
            if not ready:
                return NOTHING
        return ready.popleft()

    def read_ahead(self, elements: int, most: int) -> None:  # noqa: ARG002 - of iterators
        self._low_water = max(LOW_WATER, elements)

    def peek(self) -> T | Literal[Nothing.NOTHING]:
        """What ``next`` would return."""
        if len(self._ready) < self._low_water:
            self._wanted.set()
        return self._ready[0] if self._ready else NOTHING

    def weigh(self, weight: Callable[[Sequence[T]], int]) -> int:
        """The weight of what is ready."""
        return weight(self._ready)

    def first(self, most: int) -> list[T]:
        """The elements that are ready, ``most`` of them at the most; ``drop`` takes some of them out."""
        return list(islice(self._ready, most))

    def drop(self, count: int) -> None:
        """Take out so many of the first elements."""
        ready = self._ready
        for _ in range(count):
            ready.popleft()
        if len(ready) < self._low_water:
            self._wanted.set()

    async def fill(self, on_ready: Callable[[], None]) -> None:
        source = self._source
        try:
            while True:
                await self._wanted.wait()
                block = await anext(source)
                self.kinds.update(map(type, block))
                self._ready.extend(block)
                if len(self._ready) >= self._low_water:
                    self._wanted.clear()
                on_ready()
        except StopAsyncIteration:
            pass
        except Exception as error:  # noqa: BLE001 - the source maps what it can; this is the rest
            self.failure = error
        self.is_exhausted = True
        on_ready()

    async def aclose(self) -> None:
        await close_iterator(self._source)
