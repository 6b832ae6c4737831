"""Where an input's bytes come from: a file, a pipe, standard input or a URL, plain or gzip.

Readers block; a daemon thread of their own runs them, one chunk ahead, so that neither the event loop
nor the end of the process ever waits for a silent pipe or a dead disk.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Protocol

from fanout.errors import SourceError

CHUNK_BYTES = 256 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_CLOSE_WAIT_S = 0.2


class ByteReader(Protocol):
    """Blocking bytes, in order. ``bytes_read`` and ``bytes_total`` as in a Source."""

    @property
    def bytes_read(self) -> int: ...

    @property
    def bytes_total(self) -> int | None: ...

    def read(self) -> bytes:
        """The next bytes, at least one, as soon as there are any; nothing at the end. Raises SourceError."""
        ...

    def close(self) -> None:
        """Let go. Called from the thread that reads."""
        ...


class FileReader:
    """An open file, or one opened when it is first read: opening a named pipe waits for its other end."""

    def __init__(self, file: IO[bytes] | Callable[[], IO[bytes]], bytes_total: int | None = None) -> None:
        self.bytes_read = 0
        self.bytes_total = bytes_total
        self._open_file = file if callable(file) else None
        self._file = None if callable(file) else file

    def read(self) -> bytes:
        try:
            if self._file is None:
                assert self._open_file is not None
                self._file = self._open_file()
            chunk = self._file.read(CHUNK_BYTES)
        except OSError as error:
            raise SourceError(f"cannot be read: {error.strerror or error}") from error
        self.bytes_read += len(chunk)
        return chunk

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class _Layer:
    """A reader on top of another."""

    def __init__(self, reader: ByteReader) -> None:
        self._reader = reader

    @property
    def bytes_read(self) -> int:
        return self._reader.bytes_read

    @property
    def bytes_total(self) -> int | None:
        return self._reader.bytes_total

    def close(self) -> None:
        self._reader.close()


class SpooledReader(_Layer):
    """Another reader, whose bytes are appended to a file before they are handed out.

    ``<spool>.end`` is made when the input has ended, so that a later reader knows the spool is whole.
    """

    def __init__(self, reader: ByteReader, spool: Path) -> None:
        super().__init__(reader)
        self._path = spool
        self._spool: IO[bytes] | None = None

    def read(self) -> bytes:
        chunk = self._reader.read()
        try:
            if self._spool is None:
                self._spool = self._path.open("xb", buffering=0)
            view = memoryview(chunk)
            while view:
                view = view[self._spool.write(view) or 0 :]
            if not chunk:
                end_mark(self._path).touch()
        except OSError as error:
            raise SourceError(f"cannot be spooled to {self._path}: {error.strerror or error}") from error
        return chunk

    def close(self) -> None:
        super().close()
        if self._spool is not None:
            self._spool.close()


def end_mark(spool: Path) -> Path:
    """The file whose presence says that the spool holds the whole input."""
    return spool.with_name(spool.name + ".end")


class CutReader(_Layer):
    """A reader of a spool that lacks the input's end: it fails there, and so no torn record is made of it."""

    def read(self) -> bytes:
        chunk = self._reader.read()
        if not chunk:
            raise SourceError("ends here, but the input it was copied from did not: the rest is gone")
        return chunk


class GunzipReader(_Layer):
    """Another reader, unpacked when its first bytes say gzip, else as it is.

    Gzip members may follow one another, as ``cat a.gz b.gz`` makes them.
    """

    def __init__(self, reader: ByteReader) -> None:
        super().__init__(reader)
        self._packed: bytes | None = None  # read, not yet unpacked; None before the first read
        self._inflate: zlib._Decompress | None = None
        self._is_gzip = False

    def read(self) -> bytes:
        if self._packed is None:
            self._packed = self._first_bytes()
            self._is_gzip = self._packed.startswith(_GZIP_MAGIC)
        if not self._is_gzip:
            chunk, self._packed = self._packed, b""
            return chunk or self._reader.read()
        while True:
            if not self._packed:
                self._packed = self._reader.read()
                if not self._packed:
                    if self._inflate is not None:
                        raise SourceError("ends in the middle of its gzip data")
                    return b""
            chunk = self._unpack(self._packed)
            if chunk:
                return chunk

    def _first_bytes(self) -> bytes:
        first = self._reader.read()
        while first and len(first) < len(_GZIP_MAGIC):
            more = self._reader.read()
            if not more:
                break
            first += more
        return first

    def _unpack(self, packed: bytes) -> bytes:
        if self._inflate is None:
            packed = packed.lstrip(b"\0")  # tape and block devices pad with zeros
            if not packed:
                self._packed = b""
                return b""
            self._inflate = zlib.decompressobj(wbits=31)
        try:
            chunk = self._inflate.decompress(packed, CHUNK_BYTES)
        except zlib.error as error:
            raise SourceError(f"is broken gzip data: {error}") from error
        if self._inflate.eof:
            self._packed = self._inflate.unused_data
            self._inflate = None
        else:
            self._packed = self._inflate.unconsumed_tail
        return chunk


class ReadAhead:
    """A blocking reader, awaited: its thread has the next chunk ready while this one is used."""

    def __init__(self, reader: ByteReader) -> None:
        self._reader = reader
        self._wanted: queue.SimpleQueue[asyncio.Future[bytes] | None] = queue.SimpleQueue()
        self._ahead: asyncio.Future[bytes] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed: asyncio.Future[bytes] | None = None
        self._is_over = False

    async def next(self) -> bytes:
        """The next chunk, or nothing at the end. Raises SourceError where the reader does."""
        if self._is_over:
            return b""
        chunk = await (self._ahead or self._ask())
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

    def _ask(self) -> asyncio.Future[bytes]:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._closed = self._loop.create_future()
            threading.Thread(target=self._serve, name="fanout-source", daemon=True).start()
        future: asyncio.Future[bytes] = self._loop.create_future()
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
                self._loop.call_soon_threadsafe(_settle, future, chunk, error)
            self._reader.close()
            self._loop.call_soon_threadsafe(_settle, self._closed, b"", None)
        except RuntimeError:  # the loop is gone, and with it whoever asked
            self._reader.close()


def _settle(future: asyncio.Future[bytes], chunk: bytes, error: SourceError | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(chunk)
