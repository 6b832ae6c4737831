"""CSV: rows to objects."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.errors import SourceError
from fanout.inputs.csv_rows import CsvRows
from fanout.inputs.source import Item
from tests.inputs.test_jsonl import cut


def split(chunks: list[bytes], limit: int = 1 << 20) -> list[Item]:
    splitter = CsvRows(limit)
    items = [item for chunk in chunks for batch in splitter.feed(chunk) for item in batch]
    return items + [item for batch in splitter.finish() for item in batch]


FIELDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x00"), max_size=12)


@given(
    st.lists(st.tuples(FIELDS, FIELDS, FIELDS), max_size=6),
    st.sampled_from(["\n", "\r\n"]),
    st.lists(st.integers(0, 999), max_size=8),
)
def test_rows_are_those_of_the_standard_library(
    rows: list[tuple[str, str, str]], line_end: str, places: list[int]
) -> None:
    """Whatever is in the fields, quoted as need be, and however the bytes come: one object a row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=line_end)
    writer.writerow(["id", "näme", "c"])
    writer.writerows(rows)
    items = split(cut(b"\xef\xbb\xbf" + text.getvalue().encode(), places))
    assert [json.loads(item.payload) for item in items if item.error is None] == [
        {"id": a, "näme": b, "c": c} for a, b, c in rows if (a + b + c).strip(" \t")
    ]
    assert all(item.error is None for item in items)


@given(st.binary(max_size=80), st.lists(st.integers(0, 80), max_size=4))
def test_any_bytes_give_the_same_however_they_come(data: bytes, places: list[int]) -> None:
    """Chunks never matter, and nothing but SourceError comes out."""

    def read(chunks: list[bytes]) -> list[tuple[bytes, int | None, bool]] | str:
        try:
            return [(item.payload, item.line, item.error is None) for item in split(chunks)]
        except SourceError as error:
            return str(error)

    assert read(cut(b"a,b\n" + data, places)) == read([b"a,b\n" + data])


def test_line_numbers_count_lines_of_the_file() -> None:
    """A quoted line break moves the numbers of the rows after it; a blank line does, too."""
    items = split([b'a,b\n1,"x\ny"\n\n2,z\n3\n4,5,6\n7,8'])
    assert [(item.line, item.error.message if item.error else None) for item in items] == [
        (2, None),
        (5, None),
        (6, "line 6: 1 fields, but the header has 2"),
        (7, "line 7: 3 fields, but the header has 2"),
        (8, None),
    ]
    assert items[2].payload == b"3"


def test_a_row_that_is_not_utf8_is_an_error_of_the_record() -> None:
    """Latin-1 in one row ends nothing but that row, whose bytes are kept."""
    items = split([b"a\n\xe9\nb\n"])
    assert [(item.payload, item.error is None) for item in items] == [(b"\xe9", False), (b'{"a":"b"}', True)]


@pytest.mark.parametrize("chunks", [1, 1000])
def test_a_first_line_for_excel_names_the_delimiter(chunks: int) -> None:
    """It is no row, whatever else is known; numbers are those of the file's lines."""
    for hint, options in (
        (b"sep=;", {}),
        (b'"SEP=;"\r', {"delimiter": ";"}),
        (b"sep=;", {"header": ["a", "b"]}),
    ):
        header = b"" if "header" in options else b"a;b\n"
        data = hint + b"\n" + header + b"1;x,y\n2;z\n"
        splitter = CsvRows(1000, **options)
        pieces = [data[at : at + chunks] for at in range(0, len(data), chunks)]
        items = [item for piece in pieces for batch in splitter.feed(piece) for item in batch]
        items += [item for batch in splitter.finish() for item in batch]
        first = 2 if "header" in options else 3
        assert [(item.line, item.payload) for item in items] == [
            (first, b'{"a":"1","b":"x,y"}'),
            (first + 1, b'{"a":"2","b":"z"}'),
        ]
    assert [item.payload for item in split([b"separate\n1\n"])] == [b'{"separate":"1"}']
    old = CsvRows(1000, rules=1)
    assert [item.payload for batch in old.feed(b"sep=;\n1\n") for item in batch] == [b'{"sep=;":"1"}']


def test_a_quote_that_is_never_closed_is_an_error() -> None:
    """The line it stands in is an error of its own, and the lines after it are read as rows."""
    [first, bad, last] = split([b'a,b\n1,2\n3,"4\n5,6\n'])
    assert first.error is None
    assert bad.error is not None
    assert (bad.line, bad.payload) == (3, b'3,"4')
    assert "never closed" in bad.error.message
    assert (last.line, last.payload) == (4, b'{"a":"5","b":"6"}')


def test_a_row_without_end_takes_no_memory() -> None:
    """A row over the limit, in one line or many, is an error; the rows before it live."""
    long_line = split([b"a\n1\n" + b"x" * 3000 + b"\n2\n"], limit=1000)
    assert [(item.line, item.error is None) for item in long_line] == [(2, True), (3, False), (4, True)]
    splitter = CsvRows(1000)
    items = [item for batch in splitter.feed(b'a\n1\n"') for item in batch]
    for _ in range(1000):
        items += [item for batch in splitter.feed(b"xxxxxxxxxxxxxxxxxxx\n") for item in batch]
        assert sum(map(len, splitter._lines)) < 5000
    assert [item.line for item in items[:2]] == [2, 3]
    assert items[1].error is not None


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"a,b,a\n", "column 'a' twice"), (b"\xff\n1\n", "header that is not UTF-8"), (b'"a\n', "not CSV")],
)
def test_a_header_that_names_nothing_is_refused(data: bytes, words: str) -> None:
    """Without a good header no row means anything: the source fails at once."""
    with pytest.raises(SourceError, match=words):
        split([data])


def test_no_rows_are_no_records() -> None:
    """An empty file, and a header alone, are inputs of no records."""
    assert split([]) == []
    assert split([b"a,b\n"]) == []
