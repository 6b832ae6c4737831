"""Compression: bombs are bounded, and what is not what its name says is refused."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
from pathlib import Path
from typing import Any

import pytest

from fanout.errors import SourceError
from fanout.inputs import open_source
from fanout.inputs.compression import UNPACKED_BYTES, UnpackedReader
from fanout.inputs.readers import FileReader
from tests.inputs.reading import read_all, read_until_failure

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PACKS: dict[str, Any] = {
    ".gz": gzip.compress,
    ".zst": zstd.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
each = pytest.mark.parametrize("suffix", list(PACKS))


@each
def test_a_bomb_is_many_small_pieces(suffix: str) -> None:
    """However much comes of a few bytes, it comes a bounded piece at a time."""
    reader = UnpackedReader(FileReader(io.BytesIO(PACKS[suffix](bytes(20_000_000)))))
    total = 0
    while chunk := reader.read():
        assert len(chunk) <= UNPACKED_BYTES
        total += len(chunk)
    assert total == 20_000_000


@each
async def test_members_follow_one_another_and_a_cut_one_is_told(tmp_path: Path, suffix: str) -> None:
    """`cat a b` is one input; an end in the middle is said after the records before it."""
    pack = PACKS[suffix]
    path = tmp_path / f"in.jsonl{suffix}"
    path.write_bytes(pack(b"1\n2\n") + pack(b"3\n"))
    assert [item.payload for item in await read_all(open_source(str(path)))] == [b"1", b"2", b"3"]
    path.write_bytes(pack(b"1\n2\n") + pack(b"3\n" * 1000)[:-5])
    items, failure = await read_until_failure(open_source(str(path)))
    assert [item.payload for item in items[:2]] == [b"1", b"2"]
    assert failure is not None
    assert "ends in the middle" in str(failure)


@each
async def test_other_bytes_after_the_data_end_the_input_and_are_told(tmp_path: Path, suffix: str) -> None:
    """The records are all there; a run of them can finish."""
    path = tmp_path / f"in.jsonl{suffix}"
    path.write_bytes(PACKS[suffix](b"1\n") + b"signature of some tool")
    said: list[str] = []
    items = await read_all(open_source(str(path), on_notice=said.append))
    assert [item.payload for item in items] == [b"1"]
    assert "follow the compressed data" in said[0]


async def test_a_name_that_promises_something_else_is_refused(tmp_path: Path) -> None:
    """In one line, instead of thousands of rejected ones; the suffix may be written in capitals."""
    path = tmp_path / "in.jsonl.GZ"
    path.write_bytes(gzip.compress(b"1\n"))
    assert len(await read_all(open_source(str(path)))) == 1
    damaged = b"\x1e" + gzip.compress(b"1\n", mtime=0)[1:]
    for content, begins in ((b"<html>\n", r"b'<html>\\n'"), (damaged, r"b'\\x1e\\x8b\\x08")):
        path.write_bytes(content)
        with pytest.raises(
            SourceError, match=rf"is named \.gz, but begins with {begins}.* rename it; else it is d"
        ):
            await read_all(open_source(str(path)))
    path.write_bytes(bz2.compress(b"1\n"))
    with pytest.raises(SourceError, match=r"is named \.gz, but holds bzip2 data: rename it"):
        await read_all(open_source(str(path)))
