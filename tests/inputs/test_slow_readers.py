"""Readers that give a byte at a time, raise what nobody foresaw, or are asked once more after their end."""

from __future__ import annotations

import gzip
import zlib
from typing import Any, cast

import pytest

from fanout.errors import SourceError
from fanout.inputs.compression import UnpackedReader
from fanout.inputs.read_ahead import ReadAhead


class _Pieces:
    """Gives one piece after another; an exception among them is raised."""

    bytes_total = None

    def __init__(self, *pieces: bytes | Exception) -> None:
        self._pieces = list(pieces)
        self.bytes_read = 0
        self.notices: list[str] = []
        self.closed = 0

    def read(self) -> bytes:
        piece = self._pieces.pop(0) if self._pieces else b""
        if isinstance(piece, Exception):
            raise piece
        self.bytes_read += len(piece)
        return piece

    def direct(self) -> None:
        """Not here."""

    def interrupt(self) -> None:
        """Nothing blocks."""

    def close(self) -> None:
        self.closed += 1


def _unpacked(*pieces: bytes, **options: Any) -> bytes:
    reader = UnpackedReader(cast(Any, _Pieces(*pieces)), **options)
    return b"".join(iter(reader.read, b""))


@pytest.mark.parametrize("data", [b"\x1f\x8b", b"\x50", b"\x50\x2a\x4d", b"\x28", b"B", b"plain", b""])
def test_a_pipe_that_gives_a_byte_at_a_time(data: bytes) -> None:
    """What begins like something compressed is waited for; what ends there is plain."""
    packed = gzip.compress(b"records")
    assert _unpacked(*(packed[i : i + 1] for i in range(len(packed)))) == b"records"
    if data != b"\x1f\x8b":
        assert _unpacked(*(data[i : i + 1] for i in range(len(data)))) == data


def test_zeros_between_members_and_what_follows_them() -> None:
    """Padding may come in pieces; other bytes are left out, and in 0.1 were an error."""
    packed = gzip.compress(b"records")
    assert _unpacked(packed, b"\0", b"\0\0", packed) == b"recordsrecords"
    with pytest.raises(SourceError, match="is broken gzip data: other bytes follow it"):
        _unpacked(packed + b"rest", gzip_only=True)


async def test_whatever_a_reader_raises_is_its_inputs_fault() -> None:
    """In its thread nobody would hear of it."""
    reader = _Pieces(b"a", zlib.error("odd"))
    ahead: ReadAhead[bytes] = ReadAhead(cast(Any, reader))
    assert await ahead.next() == b"a"
    with pytest.raises(SourceError, match="cannot be read: error"):
        await ahead.next()
    await ahead.aclose()
    assert reader.closed == 1


async def test_an_end_stays_the_end() -> None:
    """And a reader that was never read is closed all the same."""
    reader = _Pieces(b"a")
    ahead: ReadAhead[bytes] = ReadAhead(cast(Any, reader))
    assert [await ahead.next() for _ in range(4)] == [b"a", b"", b"", b""]
    await ahead.aclose()
    unread = _Pieces()
    await ReadAhead(cast(Any, unread)).aclose()
    assert (reader.closed, unread.closed) == (1, 1)
