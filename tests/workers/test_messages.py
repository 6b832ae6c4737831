"""Records on their way to a worker arrive as they were."""

from __future__ import annotations

import msgspec
import pytest

from fanout.dispatcher import InputRecord
from fanout.inputs import Item, Rows
from fanout.inputs.listing import Entry
from fanout.workers.messages import (
    Order,
    handed,
    handed_lane,
    lines_of,
    unpacked,
    unpacked_lines,
    unpacked_rows,
)


@pytest.mark.parametrize("text", [None, "plain", "grün", "lone \ud800", "no UTF-8 \udced"])
def test_a_key_and_a_file_name_arrive_whatever_they_hold(text: str | None) -> None:
    """JSON's grammar allows lone surrogates in a key, and a file's name may be no UTF-8."""
    record = InputRecord(7, b"1", text, 3, text)
    items = [Item(b"1", line=4), Item(b"2", line=5)]
    for item in items:
        item.source = text
    order = Order(1, None, records=[handed(record)], handed_lines=[lines_of(8, items)])
    arrived = msgspec.msgpack.decode(msgspec.msgpack.encode(order), type=Order)
    assert unpacked(arrived.records[0]) == record
    assert [(each.seq, each.line, each.source) for each in unpacked_lines(arrived.handed_lines[0])] == [
        (8, 4, text),
        (9, 5, text),
    ]


@pytest.mark.parametrize("name", ["in.parquet", "grün.parquet", "no UTF-8 \udced.parquet"])
@pytest.mark.parametrize("source", [None, "in.parquet", "no UTF-8 \udced.parquet"])
def test_rows_arrive_whatever_the_name_of_their_file(name: str, source: str | None) -> None:
    """A file's name may be no UTF-8; that of an object has no path."""
    for path in (None, f"/data/{name}"):
        rows = Rows(Entry(name, 1, path, size=9), 10, 20, source, b"digest")
        order = Order(1, None, lanes=[handed_lane(1, 100, rows)])
        arrived = msgspec.msgpack.decode(msgspec.msgpack.encode(order), type=Order)
        assert unpacked_rows(arrived.lanes[0]) == rows
