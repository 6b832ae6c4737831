"""The fingerprint of an input: its size, and the hash of its first and last MiB."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path
from typing import Any

from fanout.errors import SourceError
from fanout.inputs.locations import is_url

_MIB = 1024 * 1024
_WORDS = {
    "kind": "kind of input",
    "format": "format",
    "size_bytes": "size",
    "first_mib_sha256": "first MiB",
    "last_mib_sha256": "last MiB",
}


def fingerprint(location: str, *, format: str | None = None) -> dict[str, Any]:  # noqa: A002
    """The marks by which an input is known again. Only a regular file has more than its kind and format.

    Reads 2 MiB at most. Raises SourceError when the file cannot be read.
    """
    if location == "-" or is_url(location):
        return {"kind": "stdin" if location == "-" else "url", "format": format}
    path = Path(location)
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            return {"kind": "pipe", "format": format}
        with path.open("rb") as file:
            first = hashlib.sha256(file.read(_MIB)).hexdigest()
            file.seek(max(0, found.st_size - _MIB))
            last = hashlib.sha256(file.read(_MIB)).hexdigest()
    except OSError as error:
        raise SourceError(f"{location}: {error.strerror or error}") from error
    return {
        "kind": "file",
        "format": format,
        "size_bytes": found.st_size,
        "first_mib_sha256": first,
        "last_mib_sha256": last,
    }


def has_grown(old: dict[str, Any], location: str) -> bool:
    """True if a file has more than it had, after all that the fingerprint was made of."""
    size = int(old["size_bytes"])
    try:
        with Path(location).open("rb") as file:
            first = hashlib.sha256(file.read(min(size, _MIB))).hexdigest()
            file.seek(max(0, size - _MIB))
            last = hashlib.sha256(file.read(min(size, _MIB))).hexdigest()
            has_more = bool(file.read(1))
    except OSError:
        return False
    return has_more and (first, last) == (old["first_mib_sha256"], old["last_mib_sha256"])


def fingerprint_difference(old: dict[str, Any], new: dict[str, Any]) -> str | None:
    """The first difference in words, or None. Members that only one of the two has are no difference."""
    for member, word in _WORDS.items():
        if member not in old or member not in new or old[member] == new[member]:
            continue
        if member == "size_bytes":
            return f"its size was {old[member]:,} bytes and is {new[member]:,}"
        if member in ("kind", "format"):
            return f"its {word} was {old[member]} and is {new[member]}"
        return f"its {word} is not the same"
    return None
