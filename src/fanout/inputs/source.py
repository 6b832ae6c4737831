"""What a source is: a lazy, ordered stream of records, each with its place in the input."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from fanout.model import ErrorDetail

MAX_RECORD_BYTES = 16 * 1024 * 1024
KEPT_BYTES = 1024  # of a record too long to be kept
BATCH_ITEMS = 256  # few enough that checking them holds the event loop for less than a millisecond


class Item(msgspec.Struct):
    """One record of the input. With ``error`` it is rejected as it stands, and ``payload`` is what was read.

    ``line`` is 1-based, and None where the input has no lines.
    """

    payload: bytes
    line: int | None = None
    error: ErrorDetail | None = None


class Source(Protocol):
    """An input. ``seq`` is the running count of its items from 0, over all batches.

    ``bytes_read`` and ``bytes_total`` are bytes of the file as it lies there, compressed or not;
    ``bytes_read`` says, within a record or so, where the records handed out end.
    """

    location: str

    @property
    def bytes_read(self) -> int: ...

    @property
    def bytes_total(self) -> int | None: ...

    def batches(self) -> AsyncIterator[list[Item]]:
        """The records, in order, pulled when asked for. Raises SourceError when the input fails halfway."""
        ...

    async def aclose(self) -> None:
        """Let go of the input, read to its end or not."""
        ...
