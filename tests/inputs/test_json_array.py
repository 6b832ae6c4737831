"""A JSON array, element by element."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fanout.errors import SourceError
from fanout.inputs.json_array import JsonArray
from fanout.inputs.source import Item
from tests.inputs.test_jsonl import cut


def split(chunks: list[bytes], limit: int = 1 << 20) -> list[Item]:
    splitter = JsonArray(limit)
    items = [item for chunk in chunks for batch in splitter.feed(chunk) for item in batch]
    return items + [item for batch in splitter.finish() for item in batch]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@given(
    st.lists(VALUES, max_size=8),
    st.sampled_from([None, 1, 200]),
    st.booleans(),
    st.lists(st.integers(0, 9999), max_size=10),
)
def test_elements_are_those_of_the_standard_library(
    values: list[Any], indent: int | None, ascii_only: bool, places: list[int]
) -> None:
    """For any array, layout and chunks, the elements are json.loads's, each as its own bytes."""
    data = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    items = split(cut(data, places))
    assert [json.loads(item.payload) for item in items] == values
    assert all(item.error is None and item.payload in data for item in items)


@given(st.lists(VALUES, min_size=1, max_size=5), st.data())
def test_a_cut_array_gives_whole_elements_and_fails(values: list[Any], data: st.DataObject) -> None:
    """An array cut anywhere gives a prefix of its elements and then SourceError; never half a number."""
    whole = json.dumps(values).encode()
    kept = whole[: data.draw(st.integers(0, len(whole) - 1))]
    splitter = JsonArray()
    found = [json.loads(item.payload) for batch in splitter.feed(kept) for item in batch]
    assert found == values[: len(found)]
    with pytest.raises(SourceError):
        list(splitter.finish())


@settings(max_examples=40)
@given(
    st.lists(VALUES, max_size=6),
    st.sampled_from([b" x", b",,1]", b", tru,", b"] {}", b": 1"]),
    st.sampled_from([None, "/a"]),
    st.lists(st.integers(0, 400), max_size=6),
)
def test_what_stands_before_a_break_is_handed_out(
    values: list[Any], broken: bytes, items: str | None, places: list[int]
) -> None:
    """Every element before the place where the document is broken comes out, however the chunks end."""
    data = json.dumps(values).encode()[:-1] + broken
    splitter, found = JsonArray(items=items), []
    with pytest.raises(SourceError):
        for chunk in cut(b'{"a":' + data if items else data, places):
            for batch in splitter.feed(chunk):
                found += batch
        for batch in splitter.finish():
            found += batch
    assert [json.loads(item.payload) for item in found] == values


@pytest.mark.parametrize("number", ["1234", "-0.5", "1.25", "1e5", "1E+10", "1.5e-7"])
def test_a_number_is_whole_wherever_a_chunk_ends(number: str) -> None:
    """Half a number looks like a whole one: it is not taken for it."""
    data = b"[" + number.encode() + b",2]"
    for place in range(len(data)):
        assert [item.payload for item in split([data[:place], data[place:]])] == [number.encode(), b"2"]


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=5))
def test_any_bytes_end_in_elements_or_one_error(data: bytes, places: list[int]) -> None:
    """Nothing but SourceError comes out of any bytes."""
    try:
        items = split(cut(b"[" + data, places))
    except SourceError:
        return
    assert len(items) == len(json.loads((b"[" + data).decode("latin-1").encode().decode()))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b'{"a":1}', "begins with '{' (for one value a line, --format jsonl"),
        (b'{"destinationBucket":"b","fileSchema":"Bucket, Key"}', "give --format s3-inventory"),
        (b"[1 2]", "'2' after element 1, not a comma"),
        (b"[1,]", "element 2"),
        (b"[1] [2]", "more after the end"),
        (b"[1,2", "ends in the middle of its JSON array"),
    ],
)
def test_what_is_no_array_is_told_in_one_line(data: bytes, words: str) -> None:
    """The message says what is wrong and where."""
    with pytest.raises(SourceError) as caught:
        split([data], limit=1000)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [7, 5000, 10**7])
def test_an_element_that_is_given_up_ends_nothing_but_itself(size: int) -> None:
    """One that is too long, or nested too deeply, is a fault of that record; the next one is read."""
    deep = b"[" * 1_000_000 + b"]" * 1_000_000
    long = b'{"a":["]\\"' + b"x" * 2000 + b'"]}'
    data = b"[1," + deep + b", " + long + b" ,[2]]"
    items = split([data[i : i + size] for i in range(0, len(data), size)], limit=1000)
    assert [item.error is None for item in items] == [True, False, False, True]
    assert items[3].payload == b"[2]"
    messages = [item.error.message for item in items if item.error is not None]
    assert messages[1] == "element 3: longer than 1,000 bytes"
    assert len(items[2].payload) <= 1024


@pytest.mark.parametrize("items", [None, "/a"])
@pytest.mark.parametrize("size", [1, 2, 100])
def test_a_byte_order_mark_is_passed_over(items: str | None, size: int) -> None:
    """However it comes."""
    data = b"\xef\xbb\xbf" + (b"[1]" if items is None else b'{"a":[1]}')
    splitter = JsonArray(items=items)
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    found = [item for piece in pieces for batch in splitter.feed(piece) for item in batch]
    found += [item for batch in splitter.finish() for item in batch]
    assert [item.payload for item in found] == [b"1"]


def test_the_beginning_of_a_long_element_is_kept_as_it_comes() -> None:
    """As far as a report shows it; an array that ends within it was cut short."""
    pieces = [b'["' + b"x" * 1010, *[b"y" * 10] * 4]
    (item,) = split([*pieces, b'"]'], limit=1000)
    assert item.payload == b'"' + b"x" * 1010 + b"y" * 13
    with pytest.raises(SourceError, match="ends in the middle of its JSON array"):
        split(pieces, limit=1000)


@given(st.lists(st.integers(0, 60), max_size=4))
def test_an_array_inside_an_object_is_found_by_its_pointer(places: list[int]) -> None:
    """However the bytes come; what stands before it and behind it is passed over."""
    data = b'{"x":[{"a~/b":"no"}], "q\\"":"}]", "n":-1.5e3,"y":[0, {"a~/b" : [1, {"z":[2]}], "]}":0}]} \n'
    splitter = JsonArray(items="/y/1/a~0~1b")
    items = [item for chunk in cut(data, places) for batch in splitter.feed(chunk) for item in batch]
    items += [item for batch in splitter.finish() for item in batch]
    assert [item.payload for item in items] == [b"1", b'{"z":[2]}']


@given(st.lists(st.integers(0, 30), max_size=4))
@example([])
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"a":[1,2],"b":{"}":"]"}', "ends in the middle of its JSON document, after the array"),
        (b'{"a":[1,2]}\n{"a":[3]}', "has more after the end of its JSON document"),
        (b'{"a":[1,2]}]', "has more after the end of its JSON document"),
    ],
)
def test_no_second_document_is_passed_over(data: bytes, reason: str, places: list[int]) -> None:
    """Its records would be lost without a word; so might be those of one that was cut short."""
    splitter = JsonArray(items="/a")
    with pytest.raises(SourceError, match=reason):
        for chunk in cut(data, places):
            list(splitter.feed(chunk))
        list(splitter.finish())


@pytest.mark.parametrize("size", [1, 10**6])
@pytest.mark.parametrize(
    ("data", "pointer", "words"),
    [
        (b'{"b":1}', "/a", "has nothing at /a: check --items"),
        (b'{"b":[1,{"c":2}],"d":"\\"}"}', "/a", "has nothing at /a: check --items"),
        (b"{ }", "/a", "has nothing at /a: check --items"),
        (b"[[1],[2]]", "/a", "has nothing at /a: check --items"),
        (b"[[1],[2]]", "/2", "has nothing at /2: check --items"),
        (b"[ ]", "/0", "has nothing at /0: check --items"),
        (b"[ ]", "/7", "has nothing at /7: check --items"),
        (b"[[1],[2]]", "/\u00b2", "has nothing at /\u00b2: check --items"),
        (b"[[1],[2]]", "/" + 5000 * "1", "check --items"),
        (b'"text"', "/a", "has nothing at /a: check --items"),
        (b'{"b":1', "/a", "has nothing at /a: it ends before"),
        (b'{"b" 1}', "/a", "is not JSON: '1' where ':' should be"),
        (b'{"b":1 "a":2}', "/a", "is not JSON: '\"' where ',' should be"),
        (b'[1 2]', "/1", "is not JSON: '2' where ',' should be"),
        (b'{"\\x":1}', "/a", "is not JSON: the member name"),
        (b'{"' + b"k" * 2_000_000 + b'":1}', "/a", "has a member name longer than"),
    ],
)  # fmt: skip
def test_a_pointer_that_finds_nothing_says_so(data: bytes, pointer: str, words: str, size: int) -> None:
    """Whatever stands in its way, in bytes one by one too."""
    if size == 1 and len(data) > 1000:
        size = 100_000
    splitter = JsonArray(items=pointer)
    with pytest.raises(SourceError) as caught:
        for at in range(0, len(data), size):
            list(splitter.feed(data[at : at + size]))
        list(splitter.finish())
    assert words in str(caught.value)


def test_an_element_that_is_no_json_is_an_error_of_the_record() -> None:
    """What only looks like an element (NaN, bytes that are not UTF-8) ends nothing but itself."""
    items = split([b'[NaN, "\xff", "\xc3\xa9", 1e999999999, ' + b"1" * 5000 + b"]"])
    assert [item.error is None for item in items] == [False, False, True, True, True]
    assert items[0].error is not None
    assert items[0].error.message.startswith("element 1: ")


def test_an_array_is_never_held() -> None:
    """11 MB of elements pass through less than 4 MB of memory."""
    splitter = JsonArray()
    element = b'{"id":1,"text":"' + b"x" * 200 + b'"},\n'
    chunk = element * 1200
    tracemalloc.start()
    count = sum(len(batch) for batch in splitter.feed(b"["))
    for _ in range(40):
        count += sum(len(batch) for batch in splitter.feed(chunk))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count >= 40 * 1200 - 1
    assert peak_bytes < 4_000_000
