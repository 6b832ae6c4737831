"""Tables of JSON lines: CSV that a spreadsheet opens without running formulas, and Parquet.

A line that is an object has a column for each of its members; anything else is one column, ``value``.
``nested`` names a member whose own members become columns, such as ``output.total``.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import IO, Any

import msgspec

from fanout.errors import ConfigError

_STARTS_FORMULA = frozenset(
    (
        "=",
        "+",
        "-",
        "@",
        "\t",
        "\r",
        "\n",
        "\uff1d",
        "\uff0b",
        "\uff0d",
        "\uff20",
    )
)  # full width, too
_ROWS = 5000  # in a batch of Parquet, at the most
_BLOCK_BYTES = 8 << 20  # of the lines that they were
_CSV_CHARS = 1 << 18  # written at once
_INT64 = 1 << 63
_MISSING = "Parquet needs pyarrow: pip install 'lambda-fanout[parquet]'"


def write_csv(
    lines: IO[bytes], file: IO[bytes], *, nested: str | None = None, is_for_people: bool = True
) -> int:
    """Returns the number of rows. ``is_for_people``: text that is a formula gets a leading apostrophe.

    Without it the text stays as it is, for a program that reads it.
    """
    columns: dict[str, None] = {}
    shapes: set[tuple[str, ...]] = set()  # most rows have the same members
    for row in _rows(lines, nested):
        if (shape := tuple(row)) not in shapes:
            shapes.add(shape)
            columns.update(dict.fromkeys(shape))
    cell = _safe_cell if is_for_people else _cell
    starts_formula = _STARTS_FORMULA if is_for_people else frozenset()
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    count = 0
    if columns:
        writer.writerow([cell(name) for name in columns])
    for row in _rows(lines, nested):
        writer.writerow(
            [  # the cells of nearly all values as they are, without a call
                value
                if value is None
                or (kind := type(value)) is int
                or (kind is str and value[:1] not in starts_formula)
                else cell(value)
                for value in map(row.get, columns)
            ]
        )
        count += 1
        if text.tell() > _CSV_CHARS:
            file.write(text.getvalue().encode("utf-8", "replace"))
            text.seek(0)
            text.truncate()
    file.write(text.getvalue().encode("utf-8", "replace"))
    return count


def check_parquet() -> None:
    """Raise ConfigError where pyarrow is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise ConfigError(_MISSING) from None


def write_parquet(lines: IO[bytes], file: IO[bytes], *, nested: str | None = None) -> int:
    """Returns the number of rows. Constant memory; two passes, of which the first finds the types.

    A column of whole numbers, numbers, truth values or text has that type; of anything else, or of a
    mixture, JSON text. Raises ConfigError without pyarrow.
    """
    check_parquet()
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds: dict[str, str] = {}
    for row in _rows(lines, nested):
        for name, value in row.items():
            kinds[name] = _wider(kinds.get(name), _kind(value))
    types = {"none": pa.string(), "bool": pa.bool_(), "int": pa.int64(), "float": pa.float64()}
    schema = pa.schema([pa.field(_text(name), types.get(kind, pa.string())) for name, kind in kinds.items()])
    count = 0
    with pq.ParquetWriter(file, schema) as writer:
        for block in _blocks(lines, nested):
            arrays = [
                pa.array([_typed(row.get(name), kind) for row in block], field.type)
                for (name, kind), field in zip(kinds.items(), schema, strict=True)
            ]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
            count += len(block)
    return count


def _blocks(lines: IO[bytes], nested: str | None) -> Iterator[list[dict[str, Any]]]:
    block: list[dict[str, Any]] = []
    begin = 0
    for row in _rows(lines, nested):
        block.append(row)
        if len(block) == _ROWS or lines.tell() - begin > _BLOCK_BYTES:
            yield block
            block, begin = [], lines.tell()
    if block:
        yield block


def _kind(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -_INT64 <= value < _INT64 else "json"
    if isinstance(value, float):
        return "float"
    return "text" if isinstance(value, str) else "json"


def _wider(one: str | None, other: str) -> str:
    if one is None or one in ("none", other):
        return other
    if other == "none":
        return one
    return "float" if {one, other} == {"int", "float"} else "json"


def _typed(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind == "json":
        return _json(value)
    if kind == "text":
        return _text(value)
    return float(value) if kind == "float" else value


def _rows(lines: IO[bytes], nested: str | None) -> Iterator[dict[str, Any]]:
    lines.seek(0)
    for members in _decoded(lines):
        if not isinstance(members, dict):
            yield {"value": members}
        elif nested is not None and isinstance(inner := members.get(nested), dict):
            outer = {name: value for name, value in members.items() if name != nested}
            yield {**outer, **{f"{nested}.{name}": value for name, value in inner.items()}}
        else:
            yield members


def _decoded(lines: Iterable[bytes]) -> Iterator[Any]:
    decode = msgspec.json.Decoder().decode
    for line in lines:
        try:
            yield decode(line)
        except msgspec.DecodeError:  # lone surrogates
            yield json.loads(line)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else _json(value)


def _safe_cell(value: Any) -> str:
    """Text that a spreadsheet would take for a formula has an apostrophe in front; numbers stay numbers."""
    cell = _cell(value)
    return f"'{cell}" if isinstance(value, str) and cell[:1] in _STARTS_FORMULA else cell


def _json(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:  # lone surrogates
        return json.dumps(value)


def _text(value: str) -> str:
    return value.encode("utf-8", "replace").decode()
