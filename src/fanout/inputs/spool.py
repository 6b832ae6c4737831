"""The spool of a pipe that is given once more: its beginning is compared, its rest is kept."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO

from fanout.errors import SourceError
from fanout.inputs.readers import CHUNK_BYTES, mark_end, whole_bytes
from fanout.private_files import FILE_MODE, opener

_CHANGED = "standard input is not the input the run began with: it differs"


def complete_spool(spool: Path) -> None:
    """Read standard input to its end: what is spooled must come again, what follows is added.

    Of a spool that was whole once no more and no less may come than it held then.
    A run that stopped before the first byte has no spool yet.
    Blocking. Raises SourceError for another input, and for a spool that cannot be written.
    """
    try:
        spool.touch(mode=FILE_MODE)
        with open(spool, "r+b", opener=opener) as file:
            before = os.fstat(file.fileno()).st_size
            try:
                _compare_and_add(file, whole_bytes(spool))
            except SourceError:
                file.truncate(before)  # another input's bytes are not kept
                raise
            file.truncate()
            os.fsync(file.fileno())
        mark_end(spool)
    except OSError as error:
        raise SourceError(f"{spool} cannot be completed: {error.strerror or error}") from error


def _compare_and_add(file: IO[bytes], length: int | None) -> None:
    at, descriptor = 0, sys.stdin.fileno()
    while chunk := os.read(descriptor, CHUNK_BYTES):
        kept = file.read(len(chunk))
        if kept != chunk[: len(kept)]:
            raise SourceError(f"{_CHANGED} within bytes {at:,} to {at + len(chunk):,}")
        if length is not None and at + len(chunk) > length:
            raise SourceError(f"{_CHANGED}: it goes on after byte {length:,}")
        file.write(chunk[len(kept) :])
        at += len(chunk)
    if at != length and (length is not None or file.read(1)):
        raise SourceError(f"{_CHANGED}: it ends at byte {at:,}")
