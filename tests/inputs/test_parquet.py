"""Parquet: the whole row is the record, exactly, or a fault."""

from __future__ import annotations

import datetime as dt
import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fanout.errors import SourceError
from fanout.inputs import InputOptions, open_source
from fanout.inputs.parquet import ParquetSource, RangeFile
from tests.inputs.reading import read_all


def written(path: Path, columns: dict[str, Any], **options: Any) -> str:
    """A file of these columns."""
    pq.write_table(pa.table(columns), path, **options)
    return str(path)


async def test_values_have_one_form_each(tmp_path: Path) -> None:
    """Decimals are strings, times ISO 8601, bytes base64; nested types are objects and lists."""
    when = dt.datetime(2026, 11, 27, 10, 0, 0, 123456, tzinfo=dt.UTC)
    location = written(
        tmp_path / "in.parquet",
        {
            "n": pa.array([2**62]),
            "price": pa.array([Decimal("1.50")], pa.decimal128(10, 2)),
            "day": pa.array([dt.date(2026, 11, 27)]),
            "at": pa.array([when], pa.timestamp("us", "UTC")),
            "ns": pa.array([1_795_773_600_123_456_789], pa.timestamp("ns")),
            "raw": pa.array([b"\xff\0"]),
            "deep": pa.array([{"x": [1.5, None], "y": "é"}]),
            "gone": pa.array([None], pa.string()),
        },
    )
    [item] = await read_all(open_source(location))
    assert json.loads(item.payload) == {
        "n": 2**62,
        "price": "1.50",
        "day": "2026-11-27",
        "at": "2026-11-27T10:00:00.123456Z",
        "ns": "2026-11-27T10:00:00.123456789",
        "raw": "/wA=",
        "deep": {"x": [1.5, None], "y": "é"},
        "gone": None,
    }


async def test_a_file_whose_name_is_no_utf8_is_read(tmp_path: Path) -> None:
    """pyarrow opens no such name."""
    named = Path(f"{tmp_path}/in\udcff.parquet")
    Path(written(tmp_path / "in.parquet", {"n": [1, 2]})).rename(named)
    items = await read_all(open_source(str(named)))
    assert [item.payload for item in items] == [b'{"n":1}', b'{"n":2}']


async def test_nan_is_a_fault_or_null(tmp_path: Path) -> None:
    """JSON has neither NaN nor infinities, wherever in the row they stand."""
    nan = float("nan")
    location = written(
        tmp_path / "in.parquet",
        {"x": pa.array([1.0, nan, 2.0]), "y": pa.array([{"z": 1.0}, {"z": 1.0}, {"z": -float("inf")}])},
    )
    items = await read_all(open_source(location))
    assert [item.error is None for item in items] == [True, False, False]
    assert items[2].error is not None
    assert items[2].error.message.startswith("row 3: y is NaN or infinite")
    items = await read_all(open_source(location, InputOptions(nan="null")))
    assert [json.loads(item.payload)["x"] for item in items] == [1.0, None, 2.0]


async def test_rows_are_entered_anywhere(tmp_path: Path) -> None:
    """By row group, and inside one."""
    location = written(tmp_path / "in.parquet", {"i": list(range(5000))}, row_group_size=1700)
    source = open_source(location)
    seq, entries = 0, []
    async for batch in source.batches():
        seq += len(batch)
        entries.append((seq, source.place))
    await source.aclose()
    assert seq == 5000
    for seq, place in entries[::5]:
        source = open_source(location)
        items = [item async for batch in source.batches(place) for item in batch]
        await source.aclose()
        assert [json.loads(item.payload)["i"] for item in items] == list(range(seq, 5000))


async def test_what_is_no_parquet_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is a missing extra, which names what to install."""
    (tmp_path / "in.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(SourceError, match="cannot be read as Parquet"):
        await read_all(open_source(str(tmp_path / "in.parquet")))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SourceError, match=r"pip install 'lambda-fanout\[parquet\]'"):
        await read_all(open_source(str(tmp_path / "in.parquet")))


@pytest.mark.parametrize("which", [0, -1], ids=["of the file", "of a row group"])
async def test_another_count_of_rows_in_the_footer_is_told(tmp_path: Path, which: int) -> None:
    """A file so damaged does not pass for a shorter one."""
    path = Path(written(tmp_path / "in.parquet", {"id": list(range(1000))}))
    data = path.read_bytes()
    parts = data.split(b"\x16\xd0\x0f")  # a thousand, as the footer writes it
    changed = b"\x16\xce\x0f"
    path.write_bytes(
        b"\x16\xd0\x0f".join([changed.join(parts[:2]), *parts[2:]])
        if which == 0
        else changed.join([b"\x16\xd0\x0f".join(parts[:-1]), parts[-1]])
    )
    with pytest.raises(SourceError, match="is broken Parquet"):
        await read_all(open_source(str(path)))


async def test_a_page_that_is_not_the_one_written_is_told(tmp_path: Path) -> None:
    """Where the file has checksums of its pages."""
    columns = {"text": [f"some text {number}" for number in range(100)]}
    options = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
    path = Path(written(tmp_path / "in.parquet", columns, **options))
    path.write_bytes(path.read_bytes().replace(b"text 55", b"text 56", 1))
    with pytest.raises(SourceError, match="cannot be read as Parquet"):
        await read_all(open_source(str(path)))


async def test_rows_read_are_a_share_of_the_file(tmp_path: Path) -> None:
    """So a run knows how far it is, also where it goes on from a row."""
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"n": list(range(8000))}), path, row_group_size=1000)
    source = open_source(str(path))
    assert source.bytes_total == path.stat().st_size
    rows = 0
    async for batch in source.batches({"row": 2000}):
        rows += len(batch)
        assert source.bytes_read == source.bytes_total * (2000 + rows) // 8000
    assert rows == 6000
    await source.aclose()


@pytest.mark.parametrize(
    "kind",
    [
        pa.float16(),
        pa.map_(pa.string(), pa.float64()),
        pa.list_(pa.float32()),
        pa.large_list(pa.float64()),
        pa.list_(pa.float64(), 1),
        pa.struct([("x", pa.list_(pa.float64()))]),
    ],
    ids=str,
)
async def test_nan_is_found_in_columns_of_every_kind(tmp_path: Path, kind: pa.DataType) -> None:
    """The row is a fault that names the column; the rows beside it are sent."""

    def value(number: float) -> Any:
        if pa.types.is_map(kind):
            return [("k", number)]
        if pa.types.is_struct(kind):
            return {"x": [number]}
        return number if pa.types.is_float16(kind) else [number]

    column = pa.array([value(1.5), value(float("nan"))], kind)
    items = await read_all(open_source(written(tmp_path / "in.parquet", {"c": column})))
    assert [item.error is None for item in items] == [True, False]
    assert items[1].error is not None
    assert "row 2: c is NaN or infinite" in items[1].error.message


async def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    """A JSON object has room for one of them."""
    pq.write_table(pa.table([[1], [2]], names=["a", "a"]), tmp_path / "in.parquet")
    with pytest.raises(SourceError, match="has two columns named 'a': rename one"):
        await read_all(open_source(str(tmp_path / "in.parquet")))


class Ranges:
    """An object's bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.bytes_total = len(data)
        self.is_closed = False

    def read_range(self, start: int, length: int) -> bytes:
        return self.data[start : start + length]

    def interrupt(self) -> None: ...

    def close(self) -> None:
        self.is_closed = True


async def test_ranges_are_a_file_that_can_be_read_and_sought() -> None:
    """By whichever of its methods a version of pyarrow reads it; one never read is let go of too."""
    ranges = Ranges(b"0123456789")
    file = RangeFile(ranges)
    assert (file.readable(), file.seekable(), file.writable(), file.size()) == (True, True, False, 10)
    assert (file.seek(4), file.read(2), file.tell()) == (4, b"45", 6)
    assert (file.seek(1, 1), file.read()) == (7, b"789")
    assert (file.seek(-2, 2), file.read(), file.read(1)) == (8, b"89", b"")
    file.flush()
    file.close()
    assert file.closed
    assert not ranges.is_closed
    await ParquetSource("s3://bucket/in.parquet", ranges).aclose()
    assert ranges.is_closed
