"""Tables of odd values: nothing at all, no objects, half characters, more rows than one block."""

from __future__ import annotations

import io
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from fanout.outputs.tables import write_csv, write_parquet


def test_values_that_are_no_objects_have_one_column() -> None:
    """And half a character is a question mark, or an escape inside a value."""
    file = io.BytesIO()
    lines = io.BytesIO(b'1\n{"a":"\\ud800","b":["\\ud800"]}\n')
    assert write_csv(lines, file) == 2
    assert file.getvalue().decode().splitlines() == ["value,a,b", "1,,", ',?,"[""\\ud800""]"']


def test_a_table_of_nothing_has_no_head() -> None:
    """An empty file rather than an empty line."""
    file = io.BytesIO()
    assert write_csv(io.BytesIO(), file) == 0
    assert file.getvalue() == b""


def test_rows_are_written_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as there are, whether or not the last block is full."""
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("fanout.outputs.tables._ROWS", 2)
    for count in (3, 4):
        file = io.BytesIO()
        assert write_parquet(io.BytesIO(b'{"n":1,"s":"\\ud800"}\n' * count), file) == count
        file.seek(0)
        assert parquet.read_table(file).num_rows == count


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_a_table_of_large_values_is_written_as_it_is_read(
    write: Callable[[IO[bytes], IO[bytes]], int],
) -> None:
    """Memory holds some rows, however many there are."""
    pytest.importorskip("pyarrow.parquet")
    lines = io.BytesIO(
        b"".join(b'{"n":%d,"text":"%s"}\n' % (number, b"x" * 100_000) for number in range(600))
    )
    with Path(os.devnull).open("wb") as file:
        tracemalloc.start()
        try:
            assert write(lines, file) == 600
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 30_000_000
