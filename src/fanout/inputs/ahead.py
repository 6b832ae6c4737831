"""How a blocking reader is awaited: by a thread of its own, one chunk ahead.

A daemon thread, and not one of the pool's, so that neither the event loop nor the end of the process ever
waits for a silent pipe or a dead disk.
"""

from __future__ import annotations

import asyncio
import queue
import threading

from fanout.errors import SourceError
from fanout.inputs.reading import ByteReader

_CLOSE_WAIT_S = 0.2
Chunk = tuple[bytes, int]  # and the position of its end


class ReadAhead:
    """A blocking reader, awaited: its thread has the next chunk ready while this one is used.

    ``position`` is the reader's ``bytes_read`` as it was after the chunk that ``next`` returned last.
    """

    def __init__(self, reader: ByteReader) -> None:
        self._reader = reader
        self._wanted: queue.SimpleQueue[asyncio.Future[Chunk] | None] = queue.SimpleQueue()
        self._ahead: asyncio.Future[Chunk] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed: asyncio.Future[Chunk] | None = None
        self._is_over = False
        self.position = 0

    async def next(self) -> bytes:
        """The next chunk, or nothing at the end. Raises SourceError where the reader does."""
        if self._is_over:
            return b""
        chunk, self.position = await (self._ahead or self._ask())
        self._is_over = not chunk
        self._ahead = None if self._is_over else self._ask()
        return chunk

    async def aclose(self) -> None:
        """Stop the thread. One that a silent pipe holds is left behind: it does not keep the process."""
        self._is_over = True
        if self._ahead is not None and self._ahead.done() and not self._ahead.cancelled():
            self._ahead.exception()  # nobody will ask for what went wrong after the last chunk wanted
        elif self._ahead is not None:
            self._ahead.cancel()
        if self._closed is None:
            self._reader.close()
            return
        self._wanted.put(None)
        await asyncio.wait([self._closed], timeout=_CLOSE_WAIT_S)

    def _ask(self) -> asyncio.Future[Chunk]:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._closed = self._loop.create_future()
            threading.Thread(target=self._serve, name="fanout-source", daemon=True).start()
        future: asyncio.Future[Chunk] = self._loop.create_future()
        self._wanted.put(future)
        return future

    def _serve(self) -> None:
        assert self._loop is not None
        assert self._closed is not None
        try:
            while (future := self._wanted.get()) is not None:
                chunk, error = b"", None
                try:
                    chunk = self._reader.read()
                except SourceError as fault:
                    error = fault
                except Exception as fault:  # noqa: BLE001 - a thread has nobody else to tell
                    error = SourceError(f"cannot be read: {fault!r}")
                self._loop.call_soon_threadsafe(_settle, future, (chunk, self._reader.bytes_read), error)
            self._reader.close()
            self._loop.call_soon_threadsafe(_settle, self._closed, (b"", 0), None)
        except RuntimeError:  # the loop is gone, and with it whoever asked
            self._reader.close()


def _settle(future: asyncio.Future[Chunk], chunk: Chunk, error: SourceError | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(chunk)
