"""Files that only their owner can read: what a run keeps may hold payloads and secrets.

Directories are made with mode 0700, files with 0600, whatever the umask allows. Raises OSError.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600


def opener(path: str, flags: int) -> int:
    """For ``open(…, opener=opener)``: a file that is made belongs to its owner alone."""
    return os.open(path, flags, FILE_MODE)


def make_directory(path: Path) -> None:
    """Make a directory that only its owner can enter; its parents are made as usual.

    One that is there and empty is closed to others too: it is about to become a run's.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
    if not any(path.iterdir()):
        path.chmod(DIRECTORY_MODE)


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file so that after a crash it is the old one or the new one, and on the disk."""
    draft = path.with_name(path.name + ".new")
    try:
        with open(draft, "wb", opener=opener) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync_directory(path.parent)
    except OSError:
        remove_if_possible(draft)
        raise


def remove_if_possible(path: Path) -> None:
    """Remove a file that may be there; on a read-only disk it stays, or never was."""
    with suppress(OSError):
        path.unlink()


def sync_directory(path: Path) -> None:
    """Put a directory's entries on the disk itself, where the platform can."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
