"""Where an input's bytes come from: a file, a pipe or standard input, plain or gzip, spooled or not.

Readers block: ``ahead`` runs them in a thread.
"""

from __future__ import annotations

import select
import zlib
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import IO, Any, Protocol

from fanout.errors import SourceError
from fanout.private_files import FILE_MODE, opener

CHUNK_BYTES = 256 * 1024
_GZIP_MAGIC = b"\x1f\x8b"


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
        self._file: Any = None if callable(file) else file

    def read(self) -> bytes:
        try:
            if self._file is None:
                assert self._open_file is not None
                self._file = self._open_file()
            while (chunk := self._file.read(CHUNK_BYTES)) is None:  # a pipe that somebody made non-blocking
                select.select([self._file], [], [])
        except OSError as error:
            raise SourceError(f"cannot be read: {error.strerror or error}") from error
        self.bytes_read += len(chunk)
        return bytes(chunk)

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
                self._spool = FileIO(self._path, "xb", opener=opener)
            view = memoryview(chunk)
            while view:
                view = view[self._spool.write(view) or 0 :]
            if not chunk:
                end_mark(self._path).touch(mode=FILE_MODE)
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
