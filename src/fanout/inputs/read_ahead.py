"""Read-ahead: a blocking reader, awaited, in a thread of its own that stays one element ahead.

A daemon thread, and not one of the pool's, so that neither the event loop nor the end of the process ever
waits for a silent pipe or a dead disk.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from typing import Any, Generic, Protocol, TypeVar, cast

from fanout.errors import SourceError

_CLOSE_WAIT_S = 0.2
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class DirectStream(Protocol):
    """Bytes that the event loop reads by itself, without a thread."""

    @property
    def offset(self) -> int: ...

    async def next(self) -> bytes:
        """The next bytes; none at the end. Raises SourceError."""
        ...


class BlockingReader(Protocol[T_co]):
    """A reader for the thread: of bytes, or of lists of items. Empty at the end."""

    @property
    def bytes_read(self) -> int: ...

    def read(self) -> T_co:
        """The next element. Raises SourceError."""
        ...

    def direct(self) -> DirectStream | None:
        """A reader that replaces ``read`` from here on, if there is one. Asked between two reads."""
        ...

    def interrupt(self) -> None:
        """Called from another thread: a ``read`` that waits may give up."""
        ...

    def close(self) -> None:
        """Let go. Called from the thread that reads."""
        ...


class ReadAhead(Generic[T]):
    """A blocking reader, awaited: its thread has the next element ready while this one is used.

    ``position`` is the reader's ``bytes_read`` as it was after the element that ``next`` returned last.
    """

    def __init__(self, reader: BlockingReader[T]) -> None:
        self._reader = reader
        self._wanted: queue.SimpleQueue[asyncio.Future[tuple[T, int]] | None] = queue.SimpleQueue()
        self._ahead: asyncio.Future[tuple[T, int]] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._direct: DirectStream | None = None
        self._closed: asyncio.Future[None] | None = None
        self._last: T | None = None  # the empty one, once it came
        self.position = 0

    async def next(self) -> T:
        """The next element, or an empty one at the end. Raises SourceError where the reader does."""
        if self._last is not None:
            return self._last
        if self._direct is not None:
            chunk: Any = await self._direct.next()
            self.position = self._direct.offset
            return cast(T, chunk)
        element, self.position = await (self._ahead or self._ask())
        if not element:
            self._last = element
            self._ahead = None
            return element
        self._direct = self._reader.direct()
        self._ahead = None if self._direct is not None else self._ask()
        return element

    async def aclose(self) -> None:
        """Stop the thread. One that a silent pipe holds is left behind: it does not keep the process."""
        if self._ahead is not None and self._ahead.done() and not self._ahead.cancelled():
            self._ahead.exception()  # nobody will ask for what went wrong after the last chunk wanted
        elif self._ahead is not None:
            self._ahead.cancel()
        if self._closed is None:
            self._reader.close()
            return
        self._wanted.put(None)
        self._reader.interrupt()
        await asyncio.wait([self._closed], timeout=_CLOSE_WAIT_S)

    def _ask(self) -> asyncio.Future[tuple[T, int]]:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._closed = self._loop.create_future()
            threading.Thread(target=self._serve, name="fanout-source", daemon=True).start()
        future: asyncio.Future[tuple[T, int]] = self._loop.create_future()
        self._wanted.put(future)
        return future

    def _serve(self) -> None:
        assert self._loop is not None
        assert self._closed is not None
        try:
            while (future := self._wanted.get()) is not None:
                try:
                    element = self._reader.read()
                except SourceError as fault:
                    self._loop.call_soon_threadsafe(_fail, future, fault)
                except Exception as fault:  # noqa: BLE001 - a thread has nobody else to tell
                    error = SourceError(f"cannot be read: {fault!r}")
                    self._loop.call_soon_threadsafe(_fail, future, error)
                else:
                    self._loop.call_soon_threadsafe(_settle, future, (element, self._reader.bytes_read))
            self._reader.close()
            self._loop.call_soon_threadsafe(_settle, self._closed, None)
        except RuntimeError:  # the loop is gone, and with it whoever asked
            self._reader.close()


def _settle(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[T], error: SourceError) -> None:
    if not future.done():
        future.set_exception(error)
