"""Files that grow and may be cut short by a crash, with space set aside for a full disk.

Blocking; called from threads. Raises OSError as it comes.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from fanout.private_files import FILE_MODE, opener, sync_directory

RESERVE_FILE = "reserve"
RESERVE_BYTES = 1024 * 1024
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_TAIL_BYTES = 64 * 1024


class AppendFile:
    """A file that only grows. What a crash cut short at its end is cut off when it is opened.

    The end of the last whole entry is after the last line break, or a multiple of ``entry_bytes``.
    ``size`` is how long it was then.
    """

    def __init__(self, path: Path, *, entry_bytes: int | None = None) -> None:
        self.path = path
        self._file = os.fdopen(
            os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, FILE_MODE), "r+b", buffering=0
        )
        try:
            size = self._file.seek(0, os.SEEK_END)
            whole = self._after_last_line(size) if entry_bytes is None else size - size % entry_bytes
            if whole < size:
                self._file.truncate(whole)
            self.size = whole
        except OSError:
            self._file.close()
            raise

    def append(self, data: memoryview) -> int:
        """Write some of ``data``; returns how many bytes."""
        return self._file.write(data) or 0

    def check(self) -> None:
        """Raise FileNotFoundError when the file was removed: what is written now is lost with it."""
        if os.fstat(self._file.fileno()).st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, "it was removed", str(self.path))

    def sync(self) -> None:
        """Put the file on the disk itself."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _after_last_line(self, size: int) -> int:
        end = size
        while end > 0:
            start = max(0, end - _TAIL_BYTES)
            self._file.seek(start)
            found = self._file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
        return 0


class Reserve:
    """A MiB of the disk kept aside: given up when the disk is full, it holds the last outcomes.

    Without it, a full disk would leave a resume not knowing whether the calls in flight at that moment ran.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / RESERVE_FILE
        self._is_held = False
        with contextlib.suppress(OSError):  # no room for it even now: then there is none
            with open(self._path, "wb", opener=opener) as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
                else:
                    file.write(bytes(RESERVE_BYTES))
            self._is_held = True
        if not self._is_held:
            self.release()

    def release_for(self, error: OSError) -> bool:
        """Give the room up if this error says that the disk is full. Returns whether to try again."""
        if not self._is_held or error.errno not in _FULL:
            return False
        self.release()
        return True

    def release(self) -> None:
        """Give the room up."""
        self._is_held = False
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
            sync_directory(self._path.parent)
