"""Tables of any rows: CSV as ``csv.DictWriter`` writes it row by row, and Parquet of the same values."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fanout.outputs import tables
from fanout.outputs.tables import write_csv, write_parquet

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
NAMES = ("a", "b", "key", "value", "output", "output.a", "", 'say "a"', "half \ud800", "é", "=a", "null")
TEXTS = ("", "null", "=1+1", "-5", "a,b", 'a"b', "a\nb", "a\rb", "\r", "\x00", "'", "é", "\ud800", "\uff1d1")
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.sampled_from((2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**70)),
    st.floats(allow_nan=False),
    st.sampled_from(TEXTS),
    st.text(max_size=5),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=2),
)
MEMBERS = st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=4)


@st.composite
def json_lines(draw: st.DrawFn) -> list[str]:
    """Lines that are mostly alike, some of them repeated, and now and then one that is no object."""
    kinds = draw(st.lists(st.lists(st.sampled_from(NAMES), unique=True, max_size=4), min_size=1, max_size=3))
    lines = []
    for _ in range(draw(st.integers(0, 8))):
        names = draw(st.sampled_from(kinds))
        pairs = draw(st.just([(name, draw(VALUES)) for name in names]) | MEMBERS)
        text = "{" + ",".join(f"{as_json(name)}:{as_json(value)}" for name, value in pairs) + "}"
        lines += [draw(VALUES.map(as_json) | st.just(text))] * draw(st.integers(1, 3))
    return lines


def as_json(value: Any) -> str:
    """A member may be named twice, half a character escaped, a number too large."""
    text = json.dumps(value, ensure_ascii="\ud800" in json.dumps(value, ensure_ascii=False))
    return text.replace("-Infinity", "-1e999").replace("Infinity", "1e999")


def rows_of(lines: list[str], nested: str | None) -> list[dict[str, Any]]:
    """Row by row, by the standard library."""
    rows = []
    for line in lines:
        members = json.loads(line)
        if not isinstance(members, dict):
            members = {"value": members}
        elif nested and isinstance(members.get(nested), dict):
            inner = members.pop(nested)
            members.update({f"{nested}.{name}": value for name, value in inner.items()})
        rows.append(members)
    return rows


def text_of(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        return json.dumps(value)


def plain_csv(rows: list[dict[str, Any]], *, is_for_people: bool) -> bytes:
    def cell(value: Any) -> Any:
        if value is None or type(value) is int:
            return value
        if not isinstance(value, str):
            return text_of(value)
        return f"'{value}" if is_for_people and value.startswith(FORMULA) else value

    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, lineterminator="\n")
    if names:
        writer.writerow({name: cell(name) for name in names})
    writer.writerows({name: cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue().encode("utf-8", "replace")


@pytest.mark.timeout(600)  # by the fuzz profile
@given(json_lines(), st.sampled_from((None, "output")), st.booleans(), st.sampled_from((1, 64, 1 << 17)))
@example(['{"a":"b","b":1}'] * 2 + ['{"a":"\\r","b":1}', '{"b":2}'], None, True, 1)
@example(['{"key":1,"output":{"a":1}}'] * 3 + ['{"key":1,"output":null}', '{"key":2}'], "output", True, 1)
@example(['{"a":1,"output":3}'] * 2 + ['{"a":1,"output":{}}', '{"a":1,"output":{"b":2}}'], "output", True, 1)
@example(['{"a":1,"b":[1e999]}', '{"a":true,"b":18446744073709551616}'], None, True, 1 << 17)
@example(['{"a":1}', '{"a":null}', "{}"], None, True, 1)  # one empty cell
@example(['{"output.a":1,"output":{"a":2}}', '{"output.a":1}'], "output", False, 1)
def test_csv_is_what_a_dict_writer_writes(
    lines: list[str], nested: str | None, is_for_people: bool, block_bytes: int
) -> None:
    """To the byte, in whichever blocks the lines are read."""
    written = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "_CSV_BYTES", block_bytes)
        whole = io.BytesIO("".join(line + "\n" for line in lines).encode())
        count = write_csv(whole, written, nested=nested, is_for_people=is_for_people)
    assert count == len(lines)
    assert written.getvalue() == plain_csv(rows_of(lines, nested), is_for_people=is_for_people)


@pytest.mark.timeout(600)  # by the fuzz profile
@given(json_lines(), st.sampled_from((None, "output")), st.sampled_from((1, 2, 5000)))
@example(['{"a":"\\ud800"}', '{"a":"b"}'], None, 1)
def test_parquet_has_the_values_of_the_rows(lines: list[str], nested: str | None, block_rows: int) -> None:
    """Typed, where all values of a column are alike; as JSON text otherwise."""
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = rows_of(lines, nested)
    names = list(dict.fromkeys(name for row in rows for name in row))
    if len({name.encode("utf-8", "replace") for name in names}) < len(names) or not names:
        return
    written = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "_ROWS", block_rows)
        whole = io.BytesIO("".join(line + "\n" for line in lines).encode())
        assert write_parquet(whole, written, nested=nested) == len(lines)
    table = parquet.read_table(written)
    for name, column in zip(names, table.columns, strict=True):
        assert column.to_pylist() == expected([row.get(name) for row in rows])


def expected(values: list[Any]) -> list[Any]:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {str}:
        return [value and value.encode("utf-8", "replace").decode() for value in values]
    is_small = all(-(2**63) <= value < 2**63 for value in values if type(value) is int)
    if kinds == {bool} or (kinds == {int} and is_small):
        return values
    if kinds <= {int, float} and is_small:
        return [None if value is None else float(value) for value in values]
    return [None if value is None else text_of(value) for value in values]
