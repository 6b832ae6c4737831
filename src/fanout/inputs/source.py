"""The source of a run's records: a lazy, ordered stream of items, each with its place in the input."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

import msgspec

from fanout.model import ErrorDetail

MAX_RECORD_BYTES = 16 * 1024 * 1024
KEPT_BYTES = 1024  # of a record too long to be kept
BATCH_ITEMS = 256  # few enough that checking them holds the event loop for less than a millisecond

Place = dict[str, Any]  # JSON; only the source that made it reads it


class Item(msgspec.Struct, gc=False):
    """One record of the input. With ``error`` it is rejected as it stands, and ``payload`` is what was read.

    ``line`` is 1-based, and None where the input has no lines. ``source`` is the location the record
    came from, where a run has several.
    """

    payload: bytes
    line: int | None = None
    error: ErrorDetail | None = None
    source: str | None = None


class Jump(msgspec.Struct):
    """Among the items: the next one has this seq, as a resumed run passes over what it has finished."""

    seq: int


class Source(Protocol):
    """An input. ``seq`` is the running count of its items from 0, over all batches.

    ``bytes_read`` and ``bytes_total`` are bytes of the input as it is stored, compressed or not;
    ``bytes_read`` says, within a record or so, where the records handed out end.
    """

    location: str

    @property
    def bytes_read(self) -> int: ...

    @property
    def bytes_total(self) -> int | None: ...

    @property
    def place(self) -> Place | None:
        """The place where the next batch begins: ``batches(at=place)`` enters there. None: nowhere."""
        ...

    def batches(self, at: Place | None = None) -> AsyncIterator[list[Item]]:
        """The records, in order, pulled when asked for. Raises SourceError when the input fails halfway.

        Called once for a source.
        """
        ...

    async def aclose(self) -> None:
        """Let go of the input, read to its end or not."""
        ...


class WrappedSource:
    """A source around another one: what is known of the input is asked of that."""

    def __init__(self, source: Source) -> None:
        self.location = source.location
        self._source = source

    @property
    def bytes_read(self) -> int:
        return self._source.bytes_read

    @property
    def bytes_total(self) -> int | None:
        return self._source.bytes_total

    @property
    def place(self) -> Place | None:
        return self._source.place

    async def aclose(self) -> None:
        """Let go of the input."""
        await self._source.aclose()
