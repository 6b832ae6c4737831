"""The lock of a run directory: one process at a time writes in it, and the lock dies with its holder."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from fanout.errors import JournalError
from fanout.private_files import FILE_MODE

LOCK_FILE = "lock"
_LOOK_TAKES_S = 0.05

if sys.platform == "win32":
    import msvcrt

    _LOCKED_BYTE = 1 << 30  # far behind the text, which others must be able to read

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError from error

    def _look(descriptor: int) -> None:
        _lock(descriptor)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _look(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)


class RunLock:
    """Hold a run directory, from construction to ``release`` or the end of the process, however it ends.

    Raises JournalError naming the process that holds it.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / LOCK_FILE
        try:
            self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE)
        except OSError as error:
            raise JournalError(f"{path} cannot be written: {error.strerror}") from error
        try:
            self._take(self._descriptor)
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.write(self._descriptor, b"%d\n" % os.getpid())
        except BlockingIOError:
            holder = _holder(path)
            self.release()
            raise JournalError(f"{directory} is in use by {holder}: wait for it, or stop it") from None
        except OSError as error:
            self.release()
            raise JournalError(f"{path} cannot be locked: {error.strerror}") from error

    @staticmethod
    def _take(descriptor: int) -> None:
        try:
            _lock(descriptor)
        except BlockingIOError:
            time.sleep(_LOOK_TAKES_S)  # somebody may only have looked whether it is held
            _lock(descriptor)

    def release(self) -> None:
        """Let go. The file stays: to remove it would race with the next holder."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def is_locked(directory: Path) -> bool:
    """True if a process holds this run directory now. Changes nothing."""
    try:
        descriptor = os.open(directory / LOCK_FILE, os.O_RDONLY)
    except OSError:
        return False
    try:
        _look(descriptor)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _holder(path: Path) -> str:
    try:
        return f"process {int(path.read_text())}"
    except (OSError, ValueError):
        return "another process"
