"""Standard streams that the caller closed, or that cannot be written.

The numbers of closed ones must not become those of other files. Messages that stderr cannot take change
nothing; what stdout cannot take ends the command in one line, or in silence where its reader has gone.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import TYPE_CHECKING, Any, TextIO

from fanout.errors import JournalError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class ReaderGone(JournalError):
    """The reader of standard output has gone, as ``head`` does."""


class _Stream(io.RawIOBase):
    """Writes all of it to another, waiting where that would block."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self.name = getattr(raw, "name", None)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def isatty(self) -> bool:
        return self._raw.isatty()

    def write(self, data: ReadableBuffer, /) -> int:
        left = memoryview(data).cast("B")
        while left:
            count = self._raw.write(left)
            if count is None:
                select.select([], [self], [])
            else:
                left = left[count:]
        return memoryview(data).nbytes


class _Messages(_Stream):
    """Standard error: what it cannot take is lost, and nothing else is."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


class _Results(_Stream):
    """Standard output: the first failure is raised, and what Python still flushes after it goes nowhere."""

    _has_failed = False

    def write(self, data: ReadableBuffer, /) -> int:
        if self._has_failed or not memoryview(data).nbytes:  # click tries a stream with nothing
            return memoryview(data).nbytes
        try:
            return super().write(data)
        except OSError as error:
            self._has_failed = True
            kind = ReaderGone if error.errno == errno.EPIPE else JournalError
            raise kind(f"standard output cannot be written: {error.strerror}") from error


def hold_standard_streams() -> frozenset[int]:
    """Put the null device where descriptor 0, 1 or 2 is closed. Returns which were.

    Otherwise the next file or socket gets the number, and whoever closes "standard input" closes that.
    """
    closed = set()
    for number, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            closed.add(number)
            opened = os.open(os.devnull, flags)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
    return frozenset(closed)


def open_missing_streams() -> frozenset[int]:
    """As ``hold_standard_streams``, and the streams of ``sys`` that are missing go to the null device."""
    closed = hold_standard_streams()
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False, encoding="utf-8", errors="replace"))
    return closed


def guard_streams() -> None:
    """Make failures of stdout ``JournalError``, and those of stderr none at all."""
    if sys.stdout is sys.__stdout__:  # and not a program's own
        sys.stdout = _guarded(sys.stdout, _Results)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _guarded(sys.stderr, _Messages)


def _guarded(stream: Any, kind: type[_Stream]) -> TextIO:
    buffer: Any = stream.buffer
    is_buffered = isinstance(buffer, io.BufferedWriter)  # not with ``python -u``
    guard: Any = kind(buffer.raw if is_buffered else buffer)
    return io.TextIOWrapper(
        io.BufferedWriter(guard) if is_buffered else guard,
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
