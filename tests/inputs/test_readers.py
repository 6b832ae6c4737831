"""Readers of bytes, one around the other: files that fail, pipes that cannot be sought, odd inputs."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from fanout.errors import SourceError
from fanout.inputs import InputOptions, open_source
from fanout.inputs.files import file_reader
from fanout.inputs.fingerprint import fingerprint, has_grown
from fanout.inputs.places import Places
from fanout.inputs.readers import CutReader, EntryReader, FileReader
from tests.inputs.reading import read_all

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@LINUX
def test_a_file_that_fails_as_it_is_read_is_one_line() -> None:
    """As a disk does that breaks."""
    reader = file_reader("/proc/self/mem")
    with pytest.raises(SourceError, match="cannot be read: Input/output error"):
        reader.read()
    reader.close()


def test_a_place_behind_the_end_is_told(tmp_path: Path) -> None:
    """A file is sought; what cannot be is read on to the place; neither has records beyond its end."""
    (tmp_path / "in").write_bytes(b"0123456789")
    for offset, rest in ((0, b"0123456789"), (4, b"456789"), (10, b"")):
        reader = EntryReader(file_reader(str(tmp_path / "in")), offset)
        assert reader.read() == rest
        reader.close()
    given, taken = os.pipe()
    os.write(taken, b"0123")
    os.close(taken)
    pipe = FileReader(os.fdopen(given, "rb", buffering=0))
    assert not pipe.seek(0)
    assert not CutReader(pipe).seek(0)
    with pytest.raises(SourceError, match="ends before byte 9, where the run had got to"):
        EntryReader(pipe, 9).read()
    pipe.close()


async def test_standard_input_without_a_number_is_read_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a notebook, or where a program put something of its own in its place."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"1\n2\n")))
    items = await read_all(open_source("-", InputOptions(format="jsonl")))
    assert [item.payload for item in items] == [b"1", b"2"]


def test_parquet_is_read_from_what_can_be_sought(tmp_path: Path) -> None:
    """Its metadata stands at its end."""
    os.mkfifo(tmp_path / "pipe")
    holding = os.open(tmp_path / "pipe", os.O_RDWR)
    for location, said in (
        ("-", "Parquet is read from a file or S3: save it first"),
        ("http://127.0.0.1:9/in.parquet", "save it first"),
        (str(tmp_path / "pipe"), "is a pipe"),
    ):
        with pytest.raises(SourceError, match=said):
            open_source(location, InputOptions(format="parquet"))
    os.close(holding)


def test_places_that_cannot_be_kept_are_done_without(tmp_path: Path) -> None:
    """A resume then reads from the beginning; a run without a directory keeps none."""
    nowhere, gone = Places(None), Places(tmp_path / "gone" / "places")
    for places in (nowhere, gone):
        for seq in range(0, 10**6, 10**5):
            places.note(seq, {"offset": seq})
        assert not places.is_due(10**7)
    assert not (tmp_path / "gone").exists()


def test_a_file_that_is_gone_has_not_grown(tmp_path: Path) -> None:
    """Nor has one that became another."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"1\n")
    before = fingerprint(str(path))
    path.write_bytes(b"1\n2\n")
    assert has_grown(before, str(path))
    path.write_bytes(b"3\n2\n")
    assert not has_grown(before, str(path))
    path.unlink()
    assert not has_grown(before, str(path))
