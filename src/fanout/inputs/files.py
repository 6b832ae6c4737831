"""Local files, pipes and standard input as readers of bytes."""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from typing import IO

from fanout.errors import SourceError
from fanout.inputs.readers import FileReader


def file_reader(location: str) -> FileReader:
    """The reader of a path, or of standard input as ``-``. Raises SourceError for what cannot be read."""
    if location == "-":
        return FileReader(_standard_input)
    path = Path(location)
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise SourceError(
                f"{location} is a directory: give a file, a pattern such as '{location}/*.jsonl', - or a URL"
            )
        if not stat.S_ISREG(found.st_mode):
            return FileReader(lambda: path.open("rb", buffering=0))
        file = path.open("rb", buffering=0)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        hint = (
            ": give a file, - (standard input), s3://… or a URL"
            if isinstance(error, FileNotFoundError)
            else ""
        )
        raise SourceError(f"{location}: {reason}{hint}") from error
    return FileReader(file, found.st_size)


def _standard_input() -> IO[bytes]:
    # Unbuffered and by number: a thread that is left waiting in sys.stdin would hold its lock at exit.
    try:
        return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    except (OSError, ValueError, AttributeError):  # closed, or no file at all, as in a notebook
        return sys.stdin.buffer
