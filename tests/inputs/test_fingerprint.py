"""Is it still the same input?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fanout.errors import SourceError
from fanout.inputs import fingerprint, fingerprint_difference


def test_the_same_bytes_are_the_same_input(tmp_path: Path) -> None:
    """A copy, or a file touched, is no other input; one of no bytes has a fingerprint, too."""
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    for data in (b"", b"1\n" * 2_000_000):
        first.write_bytes(data)
        second.write_bytes(data)
        os.utime(second, (1, 1))
        assert fingerprint_difference(fingerprint(str(first)), fingerprint(str(second))) is None


def test_the_first_difference_is_named(tmp_path: Path) -> None:
    """Size before content, the beginning before the end."""
    path = tmp_path / "a.jsonl"
    data = bytearray(b"1\n" * 2_000_000)
    path.write_bytes(data)
    before = fingerprint(str(path))

    def difference() -> str | None:
        return fingerprint_difference(before, fingerprint(str(path)))

    path.write_bytes(data + b"2\n")
    assert difference() == "its size was 4,000,000 bytes and is 4,000,002"
    data[-2] = ord("9")
    path.write_bytes(data)
    assert difference() == "its last MiB is not the same"
    data[0] = ord("9")
    path.write_bytes(data)
    assert difference() == "its first MiB is not the same"
    assert fingerprint_difference(before, fingerprint("-")) == "its kind of input was file and is stdin"


def test_what_has_no_content_to_compare_says_its_kind(tmp_path: Path) -> None:
    """A pipe is not read for its fingerprint: what is read of it is gone."""
    os.mkfifo(tmp_path / "pipe")
    assert fingerprint(str(tmp_path / "pipe"))["kind"] == "pipe"
    assert fingerprint("https://example.com/a.jsonl")["kind"] == "url"
    with pytest.raises(SourceError, match="No such file"):
        fingerprint(str(tmp_path / "none.jsonl"))
