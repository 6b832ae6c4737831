"""The reading of an iterator by a thread of its own, where it is too slow for the event loop's."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Iterator
from typing import Generic, Literal, TypeVar

from fanout.dispatcher.nothing import NOTHING, Nothing

T = TypeVar("T")


class ThreadReader(Generic[T]):
    """Reads an iterator in a thread. A daemon: one that never returns must not keep the process."""

    def __init__(self, source: Iterator[T]) -> None:
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._asked: queue.SimpleQueue[asyncio.Future[T | Literal[Nothing.NOTHING]] | None] = (
            queue.SimpleQueue()
        )
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._serve,), name="fanout-iterator", daemon=True).start()

    async def next(self) -> T | Literal[Nothing.NOTHING]:
        """The next element; NOTHING at the end. Raises what the iterator raises."""
        future: asyncio.Future[T | Literal[Nothing.NOTHING]] = self._loop.create_future()
        self._asked.put(future)
        return await future

    def stop(self) -> None:
        """Read no more."""
        self._asked.put(None)

    def _serve(self) -> None:
        while (future := self._asked.get()) is not None:
            element: T | Literal[Nothing.NOTHING] = NOTHING
            failure: BaseException | None = None
            try:
                element = next(self._source)
            except StopIteration:
                pass
            except BaseException as error:  # noqa: BLE001 - handed to who asked
                failure = error
            try:
                self._loop.call_soon_threadsafe(_settle, future, element, failure)
            except RuntimeError:  # the loop is gone, and with it whoever asked
                return


def _settle(
    future: asyncio.Future[T | Literal[Nothing.NOTHING]],
    element: T | Literal[Nothing.NOTHING],
    failure: BaseException | None,
) -> None:
    if future.done():
        return
    if failure is None:
        future.set_result(element)
    elif isinstance(failure, asyncio.CancelledError):  # it would be taken for the end of who waits
        future.set_exception(raised_by_iterator(failure))
    else:
        future.set_exception(failure)


def raised_by_iterator(failure: BaseException) -> RuntimeError:
    """What stands for an exception that would be taken for the loop's own, as a cancellation is."""
    return RuntimeError(f"the iterator raised {type(failure).__name__}")
