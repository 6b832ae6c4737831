"""Marks of the records that may have been sent: on disk, always ahead of the calls.

The file ``mark`` has one line of fixed width for each generation of the run: its number, and the
sequence number below which records may have been sent in it. Written in place, in one piece.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from fanout.errors import JournalError
from fanout.private_files import FILE_MODE, write_whole

MARK_FILE = "mark"
_LINE_BYTES = 32


class MarkFile:
    """The marks of a run directory, open for one generation. ``mark`` is what the disk says."""

    def __init__(self, directory: Path, generation: int) -> None:
        marks = read_marks(directory)
        self._path = directory / MARK_FILE
        self._generation = generation
        try:
            self._file = os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT, FILE_MODE), "r+b", buffering=0)
            self._descriptor = self._file.fileno()
        except OSError as error:
            raise JournalError(f"{self._path} cannot be written: {error.strerror}") from error
        self.mark = 0
        try:
            for missing in range(len(marks), generation):
                self._write_line(missing, 0)
            self.write(marks[generation] if generation < len(marks) else 0)
        except JournalError:
            self._file.close()
            raise

    def write(self, mark: int) -> None:
        """Records of this generation below ``mark`` may have been sent.

        On return the operating system has it, so that it outlives the process; the disk may not yet.
        """
        self._write_line(self._generation, mark)
        self.mark = mark

    def sync(self) -> None:
        """Put the marks on the disk itself."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write_line(self, generation: int, mark: int) -> None:
        try:
            if sys.platform == "win32":
                self._file.seek(generation * _LINE_BYTES)
                self._file.write(_line(generation, mark))
            else:
                os.pwrite(self._descriptor, _line(generation, mark), generation * _LINE_BYTES)
        except OSError as error:
            raise JournalError(f"{self._path} cannot be written: {error.strerror}") from error


def _line(generation: int, mark: int) -> bytes:
    return b"%10d %20d\n" % (generation, mark)


def write_marks(directory: Path, marks: list[int]) -> None:
    """Write the whole file, one mark for each generation from 0. Raises JournalError."""
    path = directory / MARK_FILE
    try:
        write_whole(path, b"".join(_line(generation, mark) for generation, mark in enumerate(marks)))
    except OSError as error:
        raise JournalError(f"{path} cannot be written: {error.strerror}") from error


def read_marks(directory: Path) -> list[int]:
    """The mark of each generation from 0; none when nothing was ever sent. Raises JournalError."""
    path = directory / MARK_FILE
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror}") from error
    marks: list[int] = []
    for at in range(0, len(text), _LINE_BYTES):
        line = text[at : at + _LINE_BYTES].split()
        try:
            generation, mark = map(int, line)
            is_right = generation == len(marks) and mark >= 0
        except ValueError:
            is_right = False
        if not is_right:
            raise JournalError(
                f"{path}: line {len(marks) + 1} is damaged: which records were sent is not known; "
                "put a good copy in its place, or remove it and go on with --may-have-run send or skip"
            )
        marks.append(mark)
    return marks
