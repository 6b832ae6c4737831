"""Windows of the records that workers may have sent: ranges on disk, written before they are handed out.

The file ``windows`` (format 2 of a run directory) has one line of fixed width for each: the generation, the
first number, and one past the last. Lines are appended; what a crash cut short was never handed out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from fanout.errors import JournalError
from fanout.private_files import FILE_MODE, write_whole

WINDOWS_FILE = "windows"
_LINE_BYTES = 53
COMPACT_AFTER = 20_000  # lines
Ranges = list[tuple[int, int]]


class WindowFile:
    """The windows of a run directory, open for one generation."""

    def __init__(self, directory: Path, generation: int) -> None:
        self._directory = directory
        self._path = directory / WINDOWS_FILE
        self._generation = generation
        self._lines = sum(len(ranges) for ranges in read_windows(directory).values())
        self._compact_at = self._lines + COMPACT_AFTER
        self._descriptor = self._open()

    def allow(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Append ranges. On return the operating system has them; the disk may not yet."""
        lines = b"".join(_line(self._generation, first, end) for first, end in ranges)
        try:
            written = os.write(self._descriptor, lines)
            if written < len(lines):
                raise JournalError(f"{self._path} cannot be written: the disk is full")
        except OSError as error:
            raise JournalError(f"{self._path} cannot be written: {error.strerror}") from error
        self._lines += len(ranges)
        if self._lines >= self._compact_at:
            self._compact()

    def sync(self) -> None:
        """Put the windows on the disk itself."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _open(self) -> int:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, FILE_MODE)
            size = os.fstat(descriptor).st_size
            os.ftruncate(descriptor, size - size % _LINE_BYTES)
        except OSError as error:
            raise JournalError(f"{self._path} cannot be written: {error.strerror}") from error
        return descriptor

    def _compact(self) -> None:
        """Windows come to touch each other: few ranges are left of many lines."""
        windows = read_windows(self._directory)
        write_windows(self._directory, windows)
        os.close(self._descriptor)
        self._descriptor = self._open()
        self._lines = sum(len(ranges) for ranges in windows.values())
        self._compact_at = self._lines + COMPACT_AFTER


def merged(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Ranges in order, without overlaps."""
    result: Ranges = []
    for first, end in sorted(ranges):
        if result and first <= result[-1][1]:
            result[-1] = result[-1][0], max(end, result[-1][1])
        elif end > first:
            result.append((first, end))
    return result


def read_windows(directory: Path) -> dict[int, Ranges]:
    """The windows by generation, merged; none where no worker was ever at work. Raises JournalError."""
    path = directory / WINDOWS_FILE
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror}") from error
    windows: dict[int, Ranges] = {}
    whole = len(text) - len(text) % _LINE_BYTES
    for at in range(0, whole, _LINE_BYTES):
        try:
            generation, first, end = map(int, text[at : at + _LINE_BYTES].split())
        except ValueError:
            number = at // _LINE_BYTES + 1
            raise JournalError(
                f"{path}: line {number} is damaged: which records were sent is not known; "
                "put a good copy in its place, or remove it and go on with --may-have-run send or skip"
            ) from None
        windows.setdefault(generation, []).append((first, end))
    return {generation: merged(ranges) for generation, ranges in windows.items()}


def write_windows(directory: Path, windows: dict[int, Ranges]) -> None:
    """Write the whole file. Raises JournalError."""
    path = directory / WINDOWS_FILE
    lines = (_line(generation, first, end) for generation, ranges in windows.items() for first, end in ranges)
    try:
        write_whole(path, b"".join(lines))
    except OSError as error:
        raise JournalError(f"{path} cannot be written: {error.strerror}") from error


def _line(generation: int, first: int, end: int) -> bytes:
    return b"%10d %20d %20d\n" % (generation, first, end)
