"""Readers of an input's bytes: a file, a pipe or standard input, spooled or not, in another encoding.

They block: ``read_ahead`` runs them in a thread.
"""

from __future__ import annotations

import codecs
import select
from collections.abc import Callable
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import IO, Any, Protocol

from fanout.errors import SourceError
from fanout.inputs.dialect import USUAL, Dialect
from fanout.inputs.read_ahead import DirectStream
from fanout.private_files import opener

CHUNK_BYTES = 1 << 20  # each one wakes two threads


class ByteReader(Protocol):
    """Blocking bytes, in order. ``bytes_read`` and ``bytes_total`` as in a Source.

    ``notices`` are for the user: they grow as the bytes are read.
    """

    notices: list[str]

    @property
    def bytes_read(self) -> int: ...

    @property
    def bytes_total(self) -> int | None: ...

    def read(self) -> bytes:
        """The next bytes, at least one, as soon as there are any; nothing at the end. Raises SourceError."""
        ...

    def seek(self, offset: int) -> bool:
        """Go on reading at this offset, if that is possible. Called from the thread that reads."""
        ...

    def direct(self) -> DirectStream | None:
        """The stream that the event loop may read itself, where its bytes are handed on as they are.

        Asked between two reads; what it returns takes the place of ``read``.
        """
        ...

    def interrupt(self) -> None:
        """Called from another thread: a ``read`` that waits may give up."""
        ...

    def close(self) -> None:
        """Let go. Called from the thread that reads."""
        ...


class FileReader:
    """An open file, or one opened when it is first read: opening a named pipe waits for its other end."""

    def __init__(self, file: IO[bytes] | Callable[[], IO[bytes]], bytes_total: int | None = None) -> None:
        self.notices: list[str] = []
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

    def seek(self, offset: int) -> bool:
        if self.bytes_total is None or self._file is None:  # a pipe
            return False
        self._file.seek(offset)
        self.bytes_read = offset
        return True

    def direct(self) -> DirectStream | None:
        """Nothing: files block."""

    def interrupt(self) -> None:
        """Nothing: a silent pipe cannot be woken."""

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class Layer:
    """A reader on top of another."""

    def __init__(self, reader: ByteReader) -> None:
        self._reader = reader
        self.notices = reader.notices

    @property
    def bytes_read(self) -> int:
        return self._reader.bytes_read

    @property
    def bytes_total(self) -> int | None:
        return self._reader.bytes_total

    def seek(self, offset: int) -> bool:  # noqa: ARG002 - of those that can
        return False

    def direct(self) -> DirectStream | None:
        """Nothing, but of those that hand bytes on."""

    def interrupt(self) -> None:
        self._reader.interrupt()

    def close(self) -> None:
        self._reader.close()


class SpooledReader(Layer):
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
                mark_end(self._path)
        except OSError as error:
            raise SourceError(f"cannot be spooled to {self._path}: {error.strerror or error}") from error
        return chunk

    def close(self) -> None:
        super().close()
        if self._spool is not None:
            self._spool.close()


def end_mark(spool: Path) -> Path:
    """The file whose presence says that the spool holds the whole input. In it is how long the spool is."""
    return spool.with_name(spool.name + ".end")


def mark_end(spool: Path) -> None:
    """Say that the spool, as it is now, holds the whole input. Raises OSError."""
    with open(end_mark(spool), "wb", opener=opener) as file:
        file.write(b"%d\n" % spool.stat().st_size)


def whole_bytes(spool: Path) -> int | None:
    """The length of the whole input, of which the spool may have lost some since; None: it never was whole.

    Earlier marks say no length: then it is the spool's own.
    """
    try:
        length = end_mark(spool).read_bytes().strip()
        return int(length) if length else spool.stat().st_size
    except (OSError, ValueError):  # none, or what it became is no mark
        return None


def is_whole(spool: Path) -> bool:
    """True if the spool holds the whole input, and has not been cut since."""
    length = whole_bytes(spool)
    return length is not None and spool.exists() and spool.stat().st_size == length


class CutReader(Layer):
    """A reader of a spool that lacks the input's end: it fails there, and so no torn record is made of it."""

    def read(self) -> bytes:
        chunk = self._reader.read()
        if not chunk:
            raise SourceError(
                "ends here, but the input it was copied from did not: for the rest, "
                "pipe the same input in once more (fanout run --resume)"
            )
        return chunk

    def seek(self, offset: int) -> bool:
        return self._reader.seek(offset)


_BOMS = (  # the longer ones first: that of UTF-32 begins with that of UTF-16
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


class TextReader(Layer):
    """Another reader, as UTF-8: of the encoding that is given, or that a byte order mark names.

    With ``mends_cr`` a carriage return alone, as old spreadsheets write it, becomes a line feed where
    the first bytes have no other line break.
    """

    def __init__(
        self,
        reader: ByteReader,
        encoding: str | None = None,
        *,
        mends_cr: bool = False,
        known: Dialect | None = None,
    ) -> None:
        super().__init__(reader)
        self.found = USUAL  # once the first bytes were read
        self._known = known
        self._encoding = self._given = encoding
        self._mends_cr = mends_cr
        self._decoder: codecs.IncrementalDecoder | None = None
        self._fault: SourceError | None = None  # of the bytes after those that were handed out last
        self._has_begun = False
        self._ends_in_cr = False

    def read(self) -> bytes:
        if self._has_begun and self._decoder is None and not self._ends_in_cr:
            return self._reader.read()
        while self._fault is None and (chunk := self._next()):
            text = self._decoded(chunk, final=False)
            if text:
                return text.replace(b"\r", b"\n") if self._ends_in_cr else text
        return self._decoded(b"", final=True)

    def seek(self, offset: int) -> bool:
        return self._decoder is None and self._has_begun and self._reader.seek(offset)

    def direct(self) -> DirectStream | None:
        is_plain = self._has_begun and self._decoder is None and not self._ends_in_cr
        return self._reader.direct() if is_plain else None

    def _next(self) -> bytes:
        chunk = self._reader.read()
        if self._has_begun or not chunk:
            return chunk
        while any(len(chunk) < len(bom) and bom.startswith(chunk) for bom, _ in _BOMS) and (
            more := self._reader.read()
        ):
            chunk += more
        self._has_begun = True
        encoding = self._encoding
        if encoding is None and self._known is not None:
            encoding = self._known.encoding
        elif encoding is None:
            encoding = next((name for bom, name in _BOMS if chunk.startswith(bom)), None)
            if encoding is not None:
                self.notices.append(f"is {encoding.upper()}, by its byte order mark: read as that")
        if encoding is not None and codecs.lookup(encoding).name != "utf-8":
            self._decoder = codecs.getincrementaldecoder(encoding)()
            self._encoding = encoding
        else:
            self._ends_in_cr = self._mends_cr and b"\n" not in chunk and b"\r" in chunk.rstrip(b"\r")
            if self._known is not None:
                self._ends_in_cr = self._known.line_end == "cr"
        self.found = Dialect(
            encoding=None if encoding == self._given else encoding,
            line_end="cr" if self._ends_in_cr else None,
        )
        return chunk

    def _decoded(self, chunk: bytes, *, final: bool) -> bytes:
        if self._decoder is None:
            return chunk
        if self._fault is not None:
            raise self._fault
        before = self._decoder.getstate()
        try:
            text = self._decoder.decode(chunk, final)
        except UnicodeError as error:
            reason = getattr(error, "reason", error)
            self._fault = SourceError(f"is not {self._encoding}: {reason}: give another --encoding")
            self._decoder.setstate(before)
            text = ""
            with suppress(UnicodeError):
                text = self._decoder.decode(chunk[: _first_wrong(error, chunk)])
            if not text:
                raise self._fault from error
        return text.encode(errors="surrogatepass")


def _first_wrong(error: UnicodeError, chunk: bytes) -> int:
    """The place in a chunk of the first bytes that are no characters; 0 where they begin before it."""
    if not isinstance(error, UnicodeDecodeError):
        return 0
    return max(0, len(chunk) - len(error.object) + error.start)


class EntryReader(Layer):
    """Another reader, entered at an offset of its (unpacked) bytes: by seeking, or else by reading on."""

    def __init__(self, reader: ByteReader, offset: int) -> None:
        super().__init__(reader)
        self._offset = offset
        self._is_there = offset == 0

    def direct(self) -> DirectStream | None:
        return self._reader.direct() if self._is_there else None

    def read(self) -> bytes:
        if self._is_there:
            return self._reader.read()
        chunk = self._reader.read()  # what the bytes are is known only now
        self._is_there = True
        if len(chunk) <= self._offset and self._reader.seek(self._offset):
            return self._reader.read()
        behind = len(chunk)
        while chunk and behind <= self._offset:
            chunk = self._reader.read()
            behind += len(chunk)
        if not chunk and behind < self._offset:
            raise SourceError(f"ends before byte {self._offset:,}, where the run had got to")
        rest = behind - self._offset
        return chunk[len(chunk) - rest :] if rest else self._reader.read()
