"""Bytes and JSON: what is JSON, what is sent, and how anything stands in a line and comes back from it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
from collections import OrderedDict, defaultdict
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.payload import (
    MAX_NESTING,
    decode,
    elements_of,
    embed,
    encode,
    indented,
    is_plain_json,
    is_too_deep,
    json_fault,
    unembed,
)

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize(
    "body", [b"1", b' {"a": [1, 2.5e3]} ', b'"\\ud800"', '"ü"'.encode(), b"null", b"[]", b"\r\n1\n", b"-0.0"]
)
def test_json_is_taken_as_it_is(body: bytes) -> None:
    """What JSON's grammar allows is sent byte for byte; a lone surrogate escape too."""
    assert json_fault(body) is None
    assert encode(body) is body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  ",
        b"{",
        b"NaN",
        b"[1,]",
        b"\xff",
        b'"\xff"',
        b"1 2",
        b"'a'",
        b'{"a":Infinity}',
        b"[" * 100_000,
        b"\xef\xbb\xbf1",
    ],
    ids=lambda body: repr(body[:12]),
)
def test_what_is_no_json_is_told_why(body: bytes) -> None:
    """In words, never as an exception."""
    fault = json_fault(body)
    assert fault
    assert "\n" not in fault


@pytest.mark.parametrize("body", [b"{'a':1}", b" [ {'a':1}]", b"'a'"])
def test_single_quotes_are_named(body: bytes) -> None:
    """Values as Python prints them are the commonest of what is no JSON."""
    assert json_fault(body) == "strings stand in single quotes, and JSON has double ones"


@given(values)
def test_a_value_becomes_its_json(value: Any) -> None:
    """As the standard library would read it back."""
    assert json.loads(encode(value)) == value


@pytest.mark.parametrize("value", [{1, object()}, object(), 1j])
def test_a_value_without_json_raises(value: Any) -> None:
    """TypeError or ValueError, as json.dumps does."""
    with pytest.raises((TypeError, ValueError)):
        encode(value)


@given(st.binary(max_size=60) | values.map(lambda value: json.dumps(value, indent=1).encode()))
def test_any_bytes_stand_in_one_line_and_come_back(body: bytes) -> None:
    """JSON keeps its value, anything else its bytes."""
    raw, encoding = embed(body)
    if raw is None:
        assert body == b""
        return
    line = bytes(raw)
    assert b"\n" not in line
    json.loads(line)
    back = unembed(raw, encoding)
    assert (json.loads(back) == json.loads(body)) if encoding is None else (back == body)


@dataclasses.dataclass
class _Order:
    total: object


class _Celsius(float):
    """A float of somebody's own."""


class _Amount(Decimal):
    """A Decimal of somebody's own."""


class _Names(set[int]):
    """A set of somebody's own."""


class _Point(NamedTuple):
    x: float


class _Scalar:
    """As numpy has them."""

    dtype, ndim = "float64", 0

    def __init__(self, value: float) -> None:
        self._value = value

    def item(self) -> float:
        return self._value


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (Decimal("1.10"), b"1.10"),
        ({"d": Decimal("12345678901234567890.123456789")}, b'{"d":12345678901234567890.123456789}'),
        ((1, 2), b"[1,2]"),
        ({"b": b"ab"}, b'{"b":"YWI="}'),
        (dt.date(2026, 1, 2), b'"2026-01-02"'),
        (_Order(Decimal("2.0")), b'{"total":2.0}'),
        (_Celsius(1.5), b"1.5"),
        (10**40, b"1" + b"0" * 40),
        (float("nan"), None),
        ([float("inf")], None),
        ({"a": [Decimal("NaN")]}, None),
        (_Order(float("nan")), None),
        ({1, 2}, None),
        ({"a": frozenset()}, None),
        (range(3), None),
        (object(), None),
        (bytearray(b'{"a":1}'), b'{"a":1}'),
        ("\ud800", b'"\\ud800"'),
        (_Amount("1.10"), b"1.10"),
        (_Scalar(7), b"7"),
        (_Scalar(float("inf")), None),
        (_Celsius("nan"), None),
        (_Amount("NaN"), None),
        (OrderedDict(a=1.5), b'{"a":1.5}'),
        (OrderedDict(a=float("nan")), None),
        ([defaultdict(list, a=[float("inf")])], None),
        (_Point(float("nan")), None),
        (_Point(2), b"[2]"),
        (_Names([1]), None),
    ],
)
def test_a_value_is_encoded_exactly_or_refused(value: object, wanted: bytes | None) -> None:
    """Nothing is changed without a word."""
    if wanted is not None:
        assert encode(value) == wanted
        return
    with pytest.raises((TypeError, ValueError)):
        encode(value)


@pytest.mark.parametrize("count", [0, 1, MAX_NESTING, MAX_NESTING + 1, 5 * MAX_NESTING])
def test_nesting_is_looked_into_where_brackets_are_many(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Many brackets side by side are not deep; as many within each other are, on every Python."""
    monkeypatch.setattr("fanout.payload._deepest", lambda: 2 * MAX_NESTING)
    looked: list[bytes] = []
    monkeypatch.setattr("fanout.payload._validate", looked.append)
    assert not is_too_deep(b"[" + b"[]," * count + b" " * 5000)
    assert bool(looked) == (count >= MAX_NESTING)


@given(st.binary(max_size=40) | values.map(lambda value: json.dumps(value).encode()))
def test_plain_json_is_json(body: bytes) -> None:
    """What the quick look takes, the whole one finds no fault with."""
    if is_plain_json(body):
        assert json_fault(body) is None
        assert body.isascii()


def test_json_that_is_long_or_not_ascii_is_looked_at_again() -> None:
    """The quick look says nothing about it."""
    assert is_plain_json(b'{"order":1}')
    assert not is_plain_json(b"[" * 901 + b"]" * 901)
    assert not is_plain_json('"ä"'.encode())
    assert not is_plain_json(b"")


def test_what_fanout_says_of_names_that_are_no_utf8() -> None:
    """The summary, a plan and run.json hold names of files: as JSON any program can read."""
    value = {"out": "runs/\udced", "n": 1}
    assert json.loads(indented(value)) == value == decode(indented(value))
    with pytest.raises(msgspec.DecodeError):
        decode(b'{"out": "\\udced"')


class _Bill(msgspec.Struct):
    total: float


def test_structs_are_looked_into_and_nothing_is_no_bytes() -> None:
    """NaN has no JSON form, wherever it stands."""
    assert encode(_Bill(1.5)) == b'{"total":1.5}'
    with pytest.raises(ValueError, match="nan"):
        encode([_Bill(math.nan)])
    with pytest.raises(msgspec.DecodeError, match="truncated"):
        decode(b"{")
    assert unembed(None, None) == b""


def test_a_long_array_with_half_a_character_is_taken_apart_in_one_pass() -> None:
    """A batch's reply is read on the event loop; looking at the rest for each element would take hours."""
    elements = [b'{"n":%d,"s":"\\ud83d"}' % number for number in range(100_000)]
    assert elements_of(b"[ " + b" ,\n".join(elements) + b" ]") == elements
