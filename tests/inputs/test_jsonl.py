"""JSON Lines: what is a record, what is not, and that chunks do not matter."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout.errors import SourceError
from fanout.inputs.jsonl import JsonLines, TextLines
from fanout.inputs.source import KEPT_BYTES, MAX_RECORD_BYTES, Item
from fanout.payload import MAX_NESTING


def split(chunks: list[bytes], *, max_line_bytes: int = MAX_RECORD_BYTES) -> list[Item]:
    splitter = JsonLines(max_line_bytes)
    items = [item for chunk in chunks for batch in splitter.feed(chunk) for item in batch]
    return items + [item for batch in splitter.finish() for item in batch]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in pairwise(edges)]


JSON_LINES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
).map(lambda value: json.dumps(value, ensure_ascii=False).encode())
LINES = st.one_of(JSON_LINES, st.binary(max_size=20).map(lambda b: b.replace(b"\n", b"")), st.just(b"  "))


@given(st.lists(LINES, max_size=12), st.booleans(), st.booleans(), st.lists(st.integers(0, 5000), max_size=8))
def test_chunks_do_not_matter(lines: list[bytes], crlf: bool, ends: bool, places: list[int]) -> None:
    """However the bytes come, the records are those of a naive splitter."""
    data = (b"\r\n" if crlf else b"\n").join(lines) + (b"\n" if ends else b"")
    naive = [line.removesuffix(b"\r") for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n")]
    if next((line.strip() for line in naive if line.strip()), b"") in (b"{", b"["):
        return  # a document of many lines is refused: see below
    items = split(cut(data, places))
    assert [item.payload for item in items] == [line for line in naive if line.strip()]
    assert [item.line for item in items] == [i for i, line in enumerate(naive, 1) if line.strip()]
    for item in items:
        assert (item.error is None) == is_json(item.payload)


def is_json(line: bytes) -> bool:
    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        json.loads(line.decode(), parse_constant=refuse)
    except ValueError:
        return False
    return True


def test_bytes_are_sent_as_they_are() -> None:
    """Nothing is encoded again: spaces, escapes, long numbers and the order of members stay."""
    lines = [b'{ "b":1.00, "a" : "\\u00e9\\/" }', b"123456789012345678901234567890", b' "x" ']
    assert [item.payload for item in split([b"\n".join(lines)])] == lines


def test_byte_order_mark_and_carriage_returns_are_left_out() -> None:
    """A file from Windows gives the same payloads, even when the mark comes in pieces."""
    assert [item.payload for item in split([b"\xef", b"\xbb", b'\xbf{"a":1}\r', b"\n2\r\n"])] == [
        b'{"a":1}',
        b"2",
    ]


TOKENS = [
    b"1",
    b"[",
    b"]",
    b"{}",
    b",",
    b" ",
    b"\n",
    b"\n\n",
    b"\r\n",
    b'"\xc3\xa9"',
    b"\xff",
    b'"',
    b"[1,\n2]",
]


@settings(max_examples=60)
@given(st.lists(st.sampled_from(TOKENS), max_size=12), st.integers(1, 20))
def test_lines_checked_as_a_block_are_those_checked_alone(tokens: list[bytes], piece_bytes: int) -> None:
    """A value over two lines, two in one, a blank line, what is no text: each line is judged alone."""
    data = b"0\n" + b"".join(tokens)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fanout.inputs.lines.PIECE_BYTES", piece_bytes)
        items = split([data])
    lines = [line.removesuffix(b"\r") for line in data.split(b"\n")]
    assert [(item.payload, item.error is None) for item in items] == [
        (line, is_json(line)) for line in lines if line.strip()
    ]


def test_nesting_too_deep_is_that_beside_any_neighbour() -> None:
    """A line that another Python could not read is a fault, checked in a block or alone."""
    deep = b"[" * (MAX_NESTING + 1) + b"]" * (MAX_NESTING + 1)
    deep = deep.replace(b"[]", b"[" + b" " * 2000 + b"]")
    alone, among = split([deep]), split([b"1\n" + deep + b"\n2\n"])
    assert [item.error is None for item in among] == [True, alone[0].error is None, True]


@pytest.mark.parametrize("first", [b"{", b"[", b"\n {\r"])
def test_a_document_of_many_lines_is_refused(first: bytes) -> None:
    """Its fragments are never sent: the first line that is a bracket alone ends it, with advice."""
    with pytest.raises(SourceError, match="jq -c"):
        split([first + b'\n  "a": 1,\n  "b": "blue"\n}\n'])
    assert len(split([b'{"a":1}\n{\n'])) == 2  # further down it is a line as any other


def test_a_line_that_is_no_json_says_where_and_why() -> None:
    """A bad line is a record with an error; its bytes and its line number are kept, and the next goes on."""
    items = split([b'1\n\n{"a":\n{"a":"\xff"}\n4'])
    assert [(item.payload, item.line, item.error is None) for item in items] == [
        (b"1", 1, True),
        (b'{"a":', 3, False),
        (b'{"a":"\xff"}', 4, False),
        (b"4", 5, True),
    ]
    errors = [item.error for item in items if item.error is not None]
    assert [error.type for error in errors] == ["InvalidJson", "InvalidJson"]
    assert errors[0].message.startswith("line 3: ")
    assert errors[1].message == "line 4: not UTF-8 (byte 6)"


def test_deep_nesting_is_an_error_of_the_record() -> None:
    """A line nested deeper than can be read ends nothing but itself."""
    items = split([b"[" * 1_000_000 + b"]" * 1_000_000 + b"\n1\n"])
    assert [item.error is None for item in items] == [False, True]


@given(st.lists(st.integers(0, 60), min_size=1, max_size=8), st.lists(st.integers(0, 400), max_size=8))
def test_long_lines_are_cut(sizes: list[int], places: list[int]) -> None:
    """A line over the limit is an error with its number, wherever the chunks end; its neighbours live."""
    limit = 30
    lines = [b"1" * size for size in sizes]
    items = split(cut(b"\n".join(lines), places), max_line_bytes=limit)
    expected = [(i, len(line) > limit) for i, line in enumerate(lines, 1) if line]
    assert [(item.line, item.error is not None) for item in items] == expected
    for item in items:
        if item.error is not None:
            assert item.error.message == f"line {item.line}: longer than 30 bytes"


def test_the_kept_beginning_of_a_long_line_is_no_record() -> None:
    """The first KiB of a long number is a number, too: it must not be sent for it."""
    items = split([b"1" * 3000, b"1" * 3000 + b"\n2\n"], max_line_bytes=2000)
    assert [(item.line, item.error is None) for item in items] == [(1, False), (2, True)]


def test_a_line_without_end_takes_no_memory() -> None:
    """Of 100 MB without a line break a KiB is kept, at every moment."""
    splitter = JsonLines(max_line_bytes=1 << 20)
    for _ in range(400):
        assert list(splitter.feed(b"x" * (256 * 1024))) == []
        assert sum(map(len, splitter._lines._parts)) <= (1 << 20)
    [[item]] = splitter.finish()
    assert len(item.payload) == KEPT_BYTES
    assert item.error is not None


def test_lines_of_text_are_json_strings() -> None:
    """Blank lines are none; CRLF ends a line too; what is not UTF-8, or too long, is a fault."""
    splitter = TextLines(40)
    data = b'one\r\n\n\xc3\xa9 "two"\n' + b"x" * 50 + b"\n\xff\nlast"
    items = [
        item for at in range(0, len(data), 7) for batch in splitter.feed(data[at : at + 7]) for item in batch
    ]
    items += [item for batch in splitter.finish() for item in batch]
    assert [(item.line, item.error and item.error.type) for item in items] == [
        (1, None),
        (3, None),
        (4, "InvalidText"),
        (5, "InvalidText"),
        (6, None),
    ]
    good = [json.loads(item.payload) for item in items if item.error is None]
    assert good == ["one", 'é "two"', "last"]
    assert str(items[3].error and items[3].error.message) == "line 5: not UTF-8 (byte 0)"
