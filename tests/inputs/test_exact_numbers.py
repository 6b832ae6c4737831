"""JSON whose numbers keep their text: what comes out is what went in, or an error that says why not."""

from __future__ import annotations

import pytest

from fanout.inputs import SelectionFailed, Selector
from fanout.inputs.exact_numbers import decode, encode


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":[1.10,-0,12345678901234567890,1e400]}',
        b'{"a":"\\ud800","n":1.50}',
        b'[["\\udfff",{"b\\ud801":-0}],null,true]',
    ],
)
def test_numbers_and_lone_surrogates_come_out_as_they_went_in(text: bytes) -> None:
    """Digit for digit, and as the escapes that alone can carry half a character."""
    assert encode(decode(text)) == text


def test_what_is_not_json_has_no_value() -> None:
    """Nor has a value that JSON has no form for a text."""
    with pytest.raises(ValueError, match="NaN has no JSON form"):
        decode(b'{"a":1.5,"b":NaN}')
    with pytest.raises(TypeError, match="object has no JSON form"):
        encode(object())


def test_a_selection_from_what_cannot_be_read_fails() -> None:
    """Too deep, or no JSON after all: the record's fault, in words."""
    selector = Selector(select="a")
    with pytest.raises(SelectionFailed, match="nested too deeply to select from"):
        selector.apply(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    with pytest.raises(SelectionFailed, match="cannot be selected from"):
        selector.apply(b'{"a":}')


def test_a_selection_that_makes_no_json_fails() -> None:
    """An average of enormous numbers is infinite, and JSON has no such number."""
    with pytest.raises(SelectionFailed, match=r"select .*JSON has not: inf"):
        Selector(select="sum(@)").apply(b"[1e308,1e308,1e308]")
    with pytest.raises(SelectionFailed, match=r"select .*not JSON"):
        Selector(select="&a").apply(b"{}")
