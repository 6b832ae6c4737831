"""Supplies: an iterator or an async iterator, read one element at a time without waiting.

A plain iterator is read where the engine runs, as long as it is quick. One that is slow is read by a
thread of its own from then on, so that it holds up no call and no timer.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Generic, Literal, Protocol, TypeVar

import anyio

from fanout.dispatcher.nothing import NOTHING, Nothing
from fanout.dispatcher.thread_reader import ThreadReader, raised_by_iterator

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

SLOW_S = 0.05  # an iterator that takes this long for an element, and again …
_SOON = 100  # … within this multiple of that time, is read in a thread: a stall of the machine is rarer


class Supply(Protocol[T_co]):
    """Elements in order. ``failure`` is what the iterator raised; it has ended then."""

    @property
    def has_ended(self) -> bool: ...

    @property
    def failure(self) -> BaseException | None: ...

    @property
    def ready(self) -> int:
        """The number of elements that ``next`` has for certain."""
        ...

    def next(self) -> T_co | Literal[Nothing.NOTHING]:
        """The next element, or NOTHING when none is ready (one is wanted then) or none will come."""
        ...

    def read_ahead(self, elements: int, most: int) -> None:
        """Have so many elements ready before they are asked for, where ``fill`` reads them.

        ``most``: that will still be asked for; iterators are not read beyond.
        """
        ...

    async def fill(self, on_ready: Callable[[], None]) -> None:
        """Read what ``next`` could not, until the end or cancelled; ``on_ready`` follows each reading."""
        ...

    async def aclose(self) -> None:
        """Read no more."""
        ...


class SyncSupply(Generic[T]):
    """An iterator. ``ready`` is 0 without a thread: whether there is one more is known by asking for it."""

    def __init__(self, source: Iterator[T]) -> None:
        self._source = source
        self._ready: deque[T] = deque()  # read by the thread, not handed out yet
        self._ahead = 0
        self._left = 0  # to be read ahead in all
        self._slow_until_s = -math.inf
        self._is_slow = False
        self._wanted = asyncio.Event()
        self._is_exhausted = False
        self.has_ended = False
        self.failure: BaseException | None = None

    @property
    def ready(self) -> int:
        return len(self._ready)

    def read_ahead(self, elements: int, most: int) -> None:
        self._ahead, self._left = elements, most - len(self._ready)

    def next(self) -> T | Literal[Nothing.NOTHING]:
        if self.has_ended:
            return NOTHING
        if self._is_slow:
            return self._of_thread()
        began_s = time.perf_counter()
        try:
            element = next(self._source)
        except StopIteration:
            self.has_ended = True
        except BaseException as error:  # noqa: BLE001 - whatever the user's iterator raises, an exit too
            is_cancelled = isinstance(error, asyncio.CancelledError)
            self.failure = raised_by_iterator(error) if is_cancelled else error
            self.has_ended = True
        else:
            if (took_s := time.perf_counter() - began_s) > SLOW_S:
                self._is_slow = began_s - self._slow_until_s < _SOON * took_s
                self._slow_until_s = began_s + took_s
            return element
        self._wanted.set()  # ``fill`` may end
        return NOTHING

    def _of_thread(self) -> T | Literal[Nothing.NOTHING]:
        ready = self._ready
        element = ready.popleft() if ready else NOTHING
        self.has_ended = self._is_exhausted and not ready
        if element is NOTHING or (len(ready) < self._ahead and self._left > 0):
            self._wanted.set()
        return element

    async def fill(self, on_ready: Callable[[], None]) -> None:
        await self._wanted.wait()
        if self.has_ended:
            return
        reader = ThreadReader(self._source)
        try:
            while not self._is_exhausted:
                await self._wanted.wait()
                try:
                    element = await reader.next()
                except asyncio.CancelledError:
                    raise
                except BaseException as error:  # noqa: BLE001 - as above
                    self.failure, element = error, NOTHING
                if element is NOTHING:
                    self._is_exhausted = True
                    self.has_ended = not self._ready
                else:
                    self._ready.append(element)
                    self._left -= 1
                    if len(self._ready) >= self._ahead or self._left <= 0:
                        self._wanted.clear()
                on_ready()
        finally:
            reader.stop()

    async def aclose(self) -> None:
        """Nothing to let go of: a generator ends when it is collected."""


class AsyncSupply(Generic[T]):
    """An async iterator, read when an element was asked for in vain; one ahead, unless more are wanted."""

    def __init__(self, source: AsyncIterator[T]) -> None:
        self._source = source
        self._ready: deque[T] = deque()
        self._ahead = 0
        self._left = 0  # to be read ahead in all
        self._wanted = asyncio.Event()
        self._is_exhausted = False
        self.failure: BaseException | None = None

    @property
    def has_ended(self) -> bool:
        return self._is_exhausted and not self._ready

    @property
    def ready(self) -> int:
        return len(self._ready)

    def read_ahead(self, elements: int, most: int) -> None:
        self._ahead, self._left = elements, most - len(self._ready)

    def next(self) -> T | Literal[Nothing.NOTHING]:
        ready = self._ready
        element = ready.popleft() if ready else NOTHING
        if element is NOTHING or (len(ready) < self._ahead and self._left > 0):
            self._wanted.set()
        return element

    async def fill(self, on_ready: Callable[[], None]) -> None:
        source = self._source
        try:
            while True:
                await self._wanted.wait()
                self._ready.append(await anext(source))
                self._left -= 1
                if len(self._ready) >= self._ahead or self._left <= 0:
                    self._wanted.clear()
                on_ready()
        except StopAsyncIteration:
            pass
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self.failure = raised_by_iterator(error)  # of a task of its own, say
        except BaseException as error:  # noqa: BLE001 - whatever the user's iterator raises, an exit too
            self.failure = error
        self._is_exhausted = True
        on_ready()

    async def aclose(self) -> None:
        """Run a generator's own ``finally`` now, and not when it is collected."""
        await close_iterator(self._source)


async def close_iterator(source: object) -> None:
    """Run the ``finally`` of an async generator; whatever it raises comes too late."""
    aclose = getattr(source, "aclose", None)
    if aclose is not None:
        with anyio.CancelScope(shield=True), suppress(Exception):
            await aclose()
