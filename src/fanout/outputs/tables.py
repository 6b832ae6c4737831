"""Tables of JSON lines: CSV that a spreadsheet opens without running formulas, and Parquet.

Both take constant memory and two passes, of which the first finds the columns.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import IO, Any

from fanout.errors import ConfigError
from fanout.outputs.columns import ColumnReader, Columns, json_text
from fanout.outputs.csv_cells import CsvCells

_ROWS = 5000  # in a batch of Parquet, at the most
_BLOCK_BYTES = 8 << 20  # of the lines that they were
_CSV_BYTES = 1 << 17  # of lines at once: what is made of them fits into a processor's second cache
_INT64 = 1 << 63
_KINDS = {type(None): "none", bool: "bool", float: "float", str: "text"}
_MISSING = "Parquet needs pyarrow: pip install 'lambda-fanout[parquet]'"


def write_csv(
    lines: IO[bytes], file: IO[bytes], *, nested: str | None = None, is_for_people: bool = True
) -> int:
    """Returns the number of rows. ``is_for_people``: text that is a formula gets a leading apostrophe.

    Without it the text stays as it is, for a program that reads it.
    """
    reader, cells = ColumnReader(nested), CsvCells(is_for_people=is_for_people)
    for block in _csv_blocks(lines):
        reader.learn(block)
    names = list(reader.names)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    if names:
        writer.writerow(cells.of_row(names))
    count = 0
    for block in _csv_blocks(lines):
        found = reader.read(block)
        if isinstance(found, Columns):
            columns = [found.values(name) for name in names]
            done = cells.lines(columns)
            if done is None:
                writer.writerows(map(cells.of_row, zip(*columns, strict=True)))
            else:
                text.write(done)
        else:
            writer.writerows(cells.of_row(map(row.get, names)) for row in found)
        file.write(text.getvalue().encode("utf-8", "replace"))
        text.seek(0)
        text.truncate()
        count += len(found)
    return count


def _csv_blocks(lines: IO[bytes]) -> Iterator[bytes]:
    lines.seek(0)
    while block := lines.read(_CSV_BYTES):
        yield block + lines.readline()


def check_parquet() -> None:
    """Raise ConfigError where pyarrow is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise ConfigError(_MISSING) from None


def write_parquet(lines: IO[bytes], file: IO[bytes], *, nested: str | None = None) -> int:
    """Returns the number of rows. The first pass finds the types, too.

    A column of whole numbers, numbers, truth values or text has that type; of anything else, or of a
    mixture, JSON text. Raises ConfigError without pyarrow.
    """
    check_parquet()
    import pyarrow as pa
    import pyarrow.parquet as pq

    reader = ColumnReader(nested)
    kinds: dict[str, str] = {}
    for block in _parquet_blocks(lines):
        found = reader.read(block)
        for name in reader.names:
            for kind in _kinds(_values(found, name)):
                kinds[name] = _wider(kinds.get(name), kind)
    types = {"none": pa.string(), "bool": pa.bool_(), "int": pa.int64(), "float": pa.float64()}
    schema = pa.schema([pa.field(_text(name), types.get(kind, pa.string())) for name, kind in kinds.items()])
    count = 0
    with pq.ParquetWriter(file, schema) as writer:
        for block in _parquet_blocks(lines):
            found = reader.read(block)
            arrays = [
                pa.array(_typed(_values(found, name), kind, is_plain=isinstance(found, Columns)), field.type)
                for (name, kind), field in zip(kinds.items(), schema, strict=True)
            ]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
            count += len(found)
    return count


def _parquet_blocks(lines: IO[bytes]) -> Iterator[bytearray]:
    lines.seek(0)
    rows, block = 0, bytearray()
    for line in lines:
        block += line
        rows += 1
        if rows == _ROWS or len(block) > _BLOCK_BYTES:
            yield block
            rows, block = 0, bytearray()
    if block:
        yield block


def _values(found: Columns | list[dict[str, Any]], name: str) -> Sequence[Any]:
    return found.values(name) if isinstance(found, Columns) else [row.get(name) for row in found]


def _kinds(values: Sequence[Any]) -> set[str]:
    kinds = set(map(type, values))
    found = {_KINDS.get(kind, "json") for kind in kinds if kind is not int}
    if int in kinds:
        whole = values if len(kinds) == 1 else [value for value in values if type(value) is int]
        found.add("int" if min(whole) >= -_INT64 and max(whole) < _INT64 else "json")
    return found


def _wider(one: str | None, other: str) -> str:
    if one is None or one in ("none", other):
        return other
    if other == "none":
        return one
    return "float" if {one, other} == {"int", "float"} else "json"


def _typed(values: Sequence[Any], kind: str, *, is_plain: bool) -> Sequence[Any]:
    """Values of a column for Arrow. ``is_plain``: there are no half characters in them."""
    if kind == "json":
        return [None if value is None else json_text(value) for value in values]
    if kind == "float":
        return [None if value is None else float(value) for value in values]
    if kind == "text" and not is_plain:
        return [None if value is None else _text(value) for value in values]
    return values


def _text(value: str) -> str:
    return value.encode("utf-8", "replace").decode()
