"""The kept listing: which files and objects an input of many is made of, in order, as they were found.

The file ``inputs.gz`` of a run directory holds it: gzip members of JSON Lines, one for each page, so that
a crash costs the last page at the most. A resume reads it and lists only beyond its end: what comes and
goes in a folder or a bucket meanwhile shifts no number.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from fanout.aws.s3_faults import split_location
from fanout.errors import SourceError
from fanout.inputs.dialect import Dialect
from fanout.payload import decode, encode
from fanout.private_files import opener

LISTING_FILE = "inputs.gz"
_PAGE_ENTRIES = 1000
_SHORT_BYTES = 1 << 19  # some 20,000 entries


class Entry(msgspec.Struct, omit_defaults=True):
    """A file or an object. ``input`` is the index of the location that it was found by.

    ``path`` is where a file lies, for a resume from another directory.
    """

    location: str
    input: int = 0
    path: str | None = None
    size: int | None = None
    etag: str | None = None
    modified: str | None = None
    columns: list[str] | None = None  # of a part of an inventory
    md5: str | None = None  # of such a part, as the inventory's manifest has it
    dialect: Dialect | None = None  # as it was found when the entry was first read

    @property
    def identity(self) -> str:
        """The values that tell it from other entries."""
        return self.path or self.location


class Found(msgspec.Struct):
    """All that the location with this index stands for is listed."""

    found: int


class Read(msgspec.Struct, omit_defaults=True):
    """The entry with this identity was read: it has this ETag, or is written in this dialect."""

    read: str
    dialect: Dialect | None = None
    etag: str | None = None


_encode = msgspec.json.Encoder().encode
_READ = b'{"read":'


def object_record(entry: Entry) -> bytes:
    """The record that names an object, where its function is to read it."""
    bucket, key = split_location(entry.location)
    return _encode(
        {
            "Bucket": bucket,
            "Key": key,
            "Size": entry.size,
            "ETag": (entry.etag or "").strip('"'),
            "LastModified": entry.modified,
        }
    )


class KeptListing:
    """The listing in a file, or none for runs without a directory."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    @property
    def is_short(self) -> bool:
        """Whether all of it is quickly read."""
        try:
            return self.path is not None and self.path.stat().st_size <= _SHORT_BYTES
        except OSError:
            return False

    @property
    def is_empty(self) -> bool:
        """Whether no page is kept. Raises SourceError for a damaged listing."""
        return next(self._lines(), None) is None

    def pages(self) -> Iterator[list[Entry | Found]]:
        """The kept entries, page by page; a page cut short by a crash is cut off. Raises SourceError."""
        dialects: dict[str, Dialect | None] = {}
        etags: dict[str, str] = {}
        try:
            for lines in self._lines():
                for line in lines:
                    if line.startswith(_READ):
                        read = msgspec.convert(decode(line), Read)
                        dialects[read.read] = read.dialect or dialects.get(read.read)
                        if read.etag is not None:
                            etags[read.read] = read.etag
            for lines in self._lines():
                page = [_entry(line) for line in lines if not line.startswith(_READ)]
                for each in page:
                    if isinstance(each, Entry):
                        each.dialect = dialects.get(each.identity)
                        each.etag = each.etag or etags.get(each.identity)
                if page:
                    yield page
        except msgspec.MsgspecError as error:
            raise SourceError(f"{self.path} is damaged: {error}") from error

    def _lines(self) -> Iterator[list[bytes]]:
        if self.path is None or not self.path.exists():
            return
        whole = 0
        try:
            with self.path.open("rb") as file:
                pending = b""
                while True:
                    inflate = zlib.decompressobj(wbits=31)
                    page = b""
                    while not inflate.eof:
                        chunk = pending or file.read(1 << 16)
                        pending = b""
                        if not chunk:
                            break
                        page += inflate.decompress(chunk)
                    if not inflate.eof:
                        break
                    pending = inflate.unused_data
                    whole = file.tell() - len(pending)
                    yield page.splitlines()
            if whole != self.path.stat().st_size:
                os.truncate(self.path, whole)
        except (OSError, zlib.error) as error:
            raise SourceError(f"{self.path} is damaged: {error}") from error

    def append(self, page: list[Entry | Found | Read]) -> None:
        """Keep a page, before any record of it is sent. Raises SourceError."""
        if self.path is None or not page:
            return
        try:
            with open(self.path, "ab", opener=opener) as file:
                for start in range(0, len(page), _PAGE_ENTRIES):
                    some = page[start : start + _PAGE_ENTRIES]
                    file.write(gzip.compress(b"".join([_line(each) for each in some]), 6))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise SourceError(f"{self.path} cannot be written: {error.strerror or error}") from error


def _line(each: Entry | Found | Read) -> bytes:
    try:
        return _encode(each) + b"\n"
    except UnicodeEncodeError:  # a file name that is no UTF-8
        return encode(msgspec.to_builtins(each)) + b"\n"


def _entry(line: bytes) -> Entry | Found:
    members = decode(line)
    if "found" in members:
        return msgspec.convert(members, Found)
    return msgspec.convert(members, Entry)
