"""CSV: rows to objects."""

from __future__ import annotations

import csv
import io
import json
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fanout.errors import SourceError
from fanout.inputs.csv_rows import CsvRows
from fanout.inputs.manifest_rows import BatchManifestRows
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


@given(
    st.lists(st.sampled_from(['"', '""', "a", "a,b", ",", "\n", "\na,b\n", '","', "\n\n"]), max_size=40),
    st.lists(st.integers(0, 120), max_size=6),
)
@example(['"', *["aaaaaaaaaa\n"] * 4, '",b\n'], [30, 40])
def test_a_row_over_the_limit_is_the_same_however_it_comes(parts: list[str], places: list[int]) -> None:
    """A quote that is closed beyond the limit was never closed: so a resume counts as the run did."""
    data = ("a,b\n" + "".join(parts)).encode()

    def read(chunks: list[bytes]) -> list[tuple[bytes, int | None, bool]] | str:
        try:
            return [(item.payload, item.line, item.error is None) for item in split(chunks, limit=20)]
        except SourceError as error:
            return str(error)

    assert read(cut(data, places)) == read([data])


@given(
    st.lists(
        st.sampled_from(['"', '""', "a", "a,b\n", ",", "\n", '","', '",b\n', '"x\ny",b\n']), max_size=40
    ),
    st.lists(st.integers(0, 160), max_size=6),
    st.sampled_from([20, 1 << 20]),
)
def test_rows_entered_at_any_place_are_the_rest(parts: list[str], places: list[int], limit: int) -> None:
    """A resume counts as the run did, also where quotes are missing before, behind or at the place."""
    data = ("a,b\n" + "".join(parts)).encode()

    def shown(items: list[Item]) -> list[tuple[bytes, int | None, bool]]:
        return [(item.payload, item.line, item.error is None) for item in items]

    splitter = CsvRows(limit)
    items: list[Item] = []
    entries = [(0, splitter.place)]
    with suppress(SourceError):  # an odd header
        for chunk in cut(data, places):
            for batch in splitter.feed(chunk):
                items += batch
                entries.append((len(items), splitter.place))
        for batch in splitter.finish():
            items += batch
    for before, place in entries:
        if place is not None:
            again = CsvRows(limit, place)
            rest = [*again.feed(data[int(place["offset"]) :]), *again.finish()]
            assert shown([item for batch in rest for item in batch]) == shown(items[before:])


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


ROWS_BELOW = "".join(f"{n},some text,{n}\n" for n in range(4, 200))


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize(
    ("after", "last_line"),
    [
        ('200,"Doe, John",7\n', 200),  # text follows the second quote
        ('200,"Doe\nJohn",7\n', 200),  # that row spans lines itself
        ('200,"\nJohn",7\n', 200),  # the second quote ends a line: too few fields
        ('"200",x,7\n', 200),
    ],
)
def test_a_quote_that_a_later_row_closes_costs_its_own_line_alone(
    after: str, last_line: int, size: int
) -> None:
    """The rows that it would take in are read, the later one with its quoted field too."""
    data = ('a,b,c\n1,x,1\n3,"open,3\n' + ROWS_BELOW + after + "201,x,1\n").encode()
    items = split([data[i : i + size] for i in range(0, len(data), size)])
    assert [item.line for item in items if item.error is not None] == [3]
    assert [item.line for item in items] == [*range(2, last_line + 1), last_line + 1 + after.count("\n") - 1]
    assert items[1].payload == b'3,"open,3'
    assert items[1].error is not None
    assert f"line {last_line}" in items[1].error.message


@pytest.mark.parametrize(
    ("rows", "last_line"),
    [
        ('1,"one\ntwo"x,7\n', 3),  # the second quote is the wrong one
        ('1,"one\ntwo, three\nfour"x,7\n', 4),
        ('1,"one\n2,x,y\nfour"\n', 4),  # too few fields
        ('1,"one\n2,a,b\n3,5" pipe,c\n', 4),  # an inch, at which no field begins
    ],
)
def test_lines_of_a_field_are_never_sent_as_rows(rows: str, last_line: int) -> None:
    """Where the lines below are not rows by themselves, the whole of it is one fault."""
    fault, after = split([f"a,b,c\n{rows}9,9,9\n".encode()])
    assert fault.error is not None
    assert fault.payload == rows.encode()[:-1]
    assert f"goes on to line {last_line}" in fault.error.message
    assert after.payload == b'{"a":"9","b":"9","c":"9"}'


def test_of_one_column_any_line_could_be_a_row() -> None:
    """So nothing is taken for one that stood within quotes."""
    fault, after = split([b'a\n"one\ntwo\n"three"\n9\n'])
    assert (fault.line, after.line) == (2, 5)


def test_a_row_whose_lines_could_be_rows_is_sent_and_told() -> None:
    """It is valid CSV, so it is one record; once in an input the user is told where."""
    splitter = CsvRows()
    data = b'a,b\n1,"x\n2,y\n3,y\n4,y\n5,y\n6,"\n7,z\n'
    items = [item for batch in splitter.feed(data + data[4:]) for item in batch]
    assert [item.error for item in items] == [None] * 4
    assert json.loads(items[0].payload) == {"a": "1", "b": "x\n2,y\n3,y\n4,y\n5,y\n6,"}
    [notice] = splitter.notices
    assert "from line 2 to 7" in notice
    prose = CsvRows()
    list(prose.feed(b'a,b\n1,"x\nDear all\nthank you\nfor it\nthe end\n"\n'))
    assert prose.notices == []


def test_an_open_quote_of_old_runs_takes_what_follows() -> None:
    """Runs of fanout 0.1 are resumed by the numbers that they were begun with."""
    old = CsvRows(1 << 20, rules=1)
    items = [item for batch in old.feed(b'a,b\n1,"x\n2,y\n3,"z",4\n5,6\n') for item in batch]
    assert [(item.line, item.error is None) for item in items] == [(2, False), (5, True)]


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


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"a" * 50 + b"\n1\n", "has a header longer than 20 bytes"),
        (b"a;b|c\n1\n", "one column that holds ; and | or a tab: give --csv-delimiter"),
    ],
)
def test_a_header_that_could_be_several_things_is_refused(data: bytes, words: str) -> None:
    """Its rows would be of one column, or of a name that was cut."""
    with pytest.raises(SourceError, match=words):
        split([data], limit=20)


def test_lines_before_the_header_and_a_comma_behind_it_mean_nothing() -> None:
    """Lines without a letter may stand there; a comma at the end of each row is no column."""
    items = split([b"\n", b" \n\n", b"a,b,\n", b"1,2,\n"])
    assert [(item.payload, item.line) for item in items] == [(b'{"a":"1","b":"2"}', 5)]


def test_an_open_quote_of_old_runs_is_given_up_at_the_limit() -> None:
    """All that has come is that row; a quote that is not one is a fault of its own line."""
    old = CsvRows(40, rules=1)
    items = [item for batch in old.feed(b'a,b\n"1"x,2\n5,6\n1,"x\n' + b"y\n" * 40) for item in batch]
    assert [(item.line, item.error is None) for item in items] == [(2, False), (3, True), (4, False)]
    assert items[2].error is not None
    assert items[2].error.message == "line 4: a row longer than 40 bytes"


def test_no_rows_are_no_records() -> None:
    """An empty file, and a header alone, are inputs of no records."""
    assert split([]) == []
    assert split([b"a,b\n"]) == []


@pytest.mark.parametrize(
    ("data", "want"),
    [
        (b'b,"k\n1"\nb,k2\n', [("k\n1", None), ("k2", None)]),
        (b'b,"k1\nb,k2\nb,"k3"\n', [(None, 1), ("k2", None), ("k3", None)]),
        (b"b,k\x80\nb,k2,v\nb\n", [(None, 1), ("k2", None), (None, 3)]),
    ],
    ids=["a key of two lines", "a quote that is not closed", "bytes and rows that are none"],
)
def test_rows_of_a_batch_manifest_have_two_fields_or_three(
    data: bytes, want: list[tuple[str | None, int | None]]
) -> None:
    """As of any CSV: a row may span lines, a lost quote costs its line, and what is no text is a fault."""
    splitter = BatchManifestRows()
    batches = [*splitter.feed(data), *splitter.finish()]
    assert [
        (json.loads(item.payload)["Key"], None) if item.error is None else (None, item.line)
        for batch in batches
        for item in batch
    ] == want
