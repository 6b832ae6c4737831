"""Compression of inputs: gzip, zstd, bzip2 and xz, recognised by their first bytes, unpacked in pieces.

Every piece is bounded, whatever the ratio: a bomb is as many pieces as it is long, one at a time.
"""

from __future__ import annotations

import bz2
import lzma
import sys
import zlib
from collections.abc import Callable
from typing import Any, Protocol

from fanout.errors import EndsEarly, SourceError
from fanout.inputs.read_ahead import DirectStream
from fanout.inputs.readers import CHUNK_BYTES, ByteReader, Layer

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_XZ_MEMORY_BYTES = 512 * 1024 * 1024  # what xz -9 asks for is 65 MiB
_ZSTD_WINDOW_LOG = 31
_SHOWN_BYTES = 8
_MAGIC_BYTES = 6
_SKIPPABLE = b"\x50\x2a\x4d\x18"  # a frame of zstd
UNPACKED_BYTES = CHUNK_BYTES


class _Decompressor(Protocol):
    """One member of compressed data. ``pending`` is input that was not used for want of room."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    @property
    def needs_input(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gunzip:
    """zlib's decompressor, with the interface that those of bz2, lzma and zstd share."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._inflate.unconsumed_tail

    def decompress(self, data: bytes, max_length: int) -> bytes:
        tail = self._inflate.unconsumed_tail
        return self._inflate.decompress(tail + data if tail else data, max_length)


class Compression:
    """One kind of compression: its name, the suffix and the first bytes it is known by."""

    def __init__(self, name: str, suffix: str, magic: bytes, make: Callable[[], Any]) -> None:
        self.name = name
        self.suffix = suffix
        self.magic = magic
        self.make: Callable[[], _Decompressor] = make

    def begins(self, data: bytes) -> bool:
        """True if a member begins here."""
        if self.name == "zstd":  # a skippable frame may come first
            return data.startswith(self.magic) or (data[1:4] == _SKIPPABLE[1:] and data[0] & 0xF0 == 0x50)
        return data.startswith(self.magic)


COMPRESSIONS = (
    Compression("gzip", ".gz", b"\x1f\x8b", _Gunzip),
    Compression(
        "zstd",
        ".zst",
        b"\x28\xb5\x2f\xfd",
        lambda: zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}),
    ),
    Compression("bzip2", ".bz2", b"BZh", bz2.BZ2Decompressor),
    Compression("xz", ".xz", b"\xfd7zXZ\0", lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES)),
)
SUFFIXES = {each.suffix: each for each in COMPRESSIONS}


def _may_go_on(first: bytes) -> bool:
    """True if more bytes could make this the beginning of something compressed: a pipe may be slow."""
    if len(first) < len(_SKIPPABLE) and first[0] & 0xF0 == 0x50 and _SKIPPABLE[1:].startswith(first[1:]):
        return True
    return any(len(first) < len(each.magic) and each.magic.startswith(first) for each in COMPRESSIONS)


class UnpackedReader(Layer):
    """Another reader, unpacked when its first bytes name a compression, else as it is.

    Members may follow one another, as ``cat a.gz b.gz`` makes them, with zeros between. Other bytes
    after a member are left out, and ``notices`` says so. ``suffix`` is the compression that the name
    promises: other contents are refused.
    """

    def __init__(self, reader: ByteReader, *, suffix: str = "", gzip_only: bool = False) -> None:
        super().__init__(reader)
        self._promised = SUFFIXES.get(suffix.lower())
        self._gzip_only = gzip_only  # as fanout 0.1 did
        self._packed: bytes | None = None  # read, not yet unpacked; None before the first read
        self._kind: Compression | None = None
        self._member: _Decompressor | None = None
        self._has_begun = False
        self._is_over = False

    def seek(self, offset: int) -> bool:
        """Only where nothing is packed."""
        return self._packed == b"" and self._kind is None and self._reader.seek(offset)

    def direct(self) -> DirectStream | None:
        return self._reader.direct() if self._packed == b"" and self._kind is None else None

    def read(self) -> bytes:
        if self._packed is None:
            self._packed = self._first_bytes()
            self._kind = self._found(self._packed)
        if self._kind is None:
            chunk, self._packed = self._packed, b""
            return chunk or self._reader.read()
        try:
            return self._unpacked(self._kind)
        # Of the piece that fails nothing is handed out: damaged data unpacks to wrong records, many of them
        # valid JSON, before the damage is noticed.
        except (zlib.error, OSError, EOFError, lzma.LZMAError, zstd.ZstdError, MemoryError) as error:
            reason = "too much memory is needed" if isinstance(error, MemoryError) else str(error)
            raise SourceError(f"is broken {self._kind.name} data: {reason}") from error

    def _found(self, first: bytes) -> Compression | None:
        found = next((each for each in COMPRESSIONS if each.begins(first)), None)
        if self._gzip_only:
            return found if found is not None and found.name == "gzip" else None
        if self._promised is not None and found is not self._promised and first:
            promised = self._promised
            if found is not None:
                raise SourceError(f"is named {promised.suffix}, but holds {found.name} data: rename it")
            raise SourceError(
                f"is named {promised.suffix}, but begins with {first[:_SHOWN_BYTES]!r}, as no "
                f"{promised.name} data does: if it is not packed, rename it; else it is damaged"
            )
        return found

    def _first_bytes(self) -> bytes:
        first = self._reader.read()
        while first and _may_go_on(first):
            more = self._reader.read()
            if not more:
                break
            first += more
        return first

    def _unpacked(self, kind: Compression) -> bytes:
        while not self._is_over:
            member, packed = self._member, self._packed or b""
            if member is None:
                member = self._next_member(kind)
                if member is None:
                    break
                packed = self._packed or b""
            elif not packed and member.needs_input:
                packed = self._reader.read()
                if not packed:
                    raise EndsEarly(f"ends in the middle of its {kind.name} data")
            self._packed = b""
            chunk = member.decompress(packed, UNPACKED_BYTES)
            if member.eof:
                self._packed = member.unused_data
                self._member = None
            if chunk:
                return chunk
        return b""

    def _next_member(self, kind: Compression) -> _Decompressor | None:
        """The decompressor of the member that begins here; None at the end."""
        is_first = self._member is None and not self._has_begun
        packed = (self._packed or b"").lstrip(b"\0")  # tape and block devices pad with zeros
        while len(packed) < _MAGIC_BYTES:
            more = self._reader.read()
            if not more:
                break
            packed = (packed + more).lstrip(b"\0")
        self._packed = packed
        if not packed:
            self._is_over = True
            return None
        if not is_first and not kind.begins(packed):
            self._is_over = True
            if self._gzip_only:
                raise SourceError(f"is broken {kind.name} data: other bytes follow it")
            self.notices.append(f"bytes that are not {kind.name} data follow the compressed data: left out")
            return None
        self._has_begun = True
        self._member = kind.make()
        return self._member
