"""Rows of a Parquet file that follow each other, by where they are: for a reader elsewhere.

Their numbers follow from the metadata, so a coordinator hands them out unread.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec

from fanout.errors import SourceError
from fanout.inputs.listing import Entry

_END = 8  # bytes: the footer's length, and PAR1


class Rows(msgspec.Struct, array_like=True):
    """Among the items it stands for ``count`` of them. ``first_row`` is 0-based in the file or object.

    ``source`` is what its items have as theirs. ``footer`` is a digest of the file's, where it has no ETag.
    """

    entry: Entry
    first_row: int
    count: int
    source: str | None = None
    footer: bytes = b""


def records_in(batch: Sequence[Any]) -> int:
    """The number of records that the elements of a batch stand for."""
    if not batch or type(batch[-1]) is not Rows:  # a batch of a source holds one kind
        return len(batch)
    return sum(each.count for each in batch)


def footer_digest(path: str) -> bytes:
    """A digest of a Parquet file's footer, which says where all of it is; empty where it has none.

    Files of one name and size on two machines are told apart by it.
    """
    try:
        with Path(path).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _END))
            length = int.from_bytes(file.read(4), "little") + _END
            if length > size:
                return b""
            file.seek(size - length)
            return blake2b(file.read(length), digest_size=16).digest()
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from error
