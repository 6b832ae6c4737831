"""JMESPath: keys, payloads and durable names of records."""

from __future__ import annotations

import pytest

from fanout.errors import ConfigError
from fanout.inputs import SelectionFailed, Selector


@pytest.mark.parametrize(
    ("record", "expression", "key"),
    [
        (b'{"id":"a"}', "id", "a"),
        (b'{"id":17}', "id", "17"),
        (b'{"id":null}', "id", None),
        (b"{}", "id", None),
        (b"[1]", "id", None),
        (b'{"id":{"b":[1,true]}}', "id", '{"b":[1,true]}'),
        (b'{"order":{"id":"x"}}', "order.id", "x"),
        (b'{"a":1,"b":2}', "join('-', [to_string(a), to_string(b)])", "1-2"),
        (b'{"id":"\\ud800"}', "id", "\ud800"),
    ],
)
def test_a_key_is_text_or_nothing(record: bytes, expression: str, key: str | None) -> None:
    """Strings as they are, null none at all, anything else its JSON."""
    assert Selector(key=expression).apply(record) == (record, key, None)


def test_a_payload_is_selected() -> None:
    """The payload is what the expression yields; key and name are of the whole record."""
    selector = Selector(key="id", select="body.x", durable_name="name")
    assert selector.apply(b'{"id":1,"name":"n","body":{"x":[1.5,"\xc3\xa9"]}}') == (
        b'[1.5,"\xc3\xa9"]',
        "1",
        "n",
    )
    with pytest.raises(SelectionFailed, match="finds nothing"):
        selector.apply(b'{"id":1}')


@pytest.mark.parametrize(
    "number", ["1.50", "1e400", "-0", "-0.0", "1E5", "0.1234567890123456789", "9" * 30, "7" * 5000, "12"]
)
def test_numbers_keep_their_digits(number: str) -> None:
    """A number that is selected stands in the payload, and in a key, as it stood in the record."""
    selector = Selector(select="{x: a.b, y: [a.b]}", key="a.b")
    record = b'{"a":{"b":%s},"text":"\\ud800"}' % number.encode()
    payload, key, _ = selector.apply(record)
    assert payload == b'{"x":%s,"y":[%s]}' % (number.encode(), number.encode())
    assert key == number


def test_functions_compute_with_exact_numbers() -> None:
    """JMESPath knows them as numbers: to compare, to add and to name their type."""
    record = b'{"a":[{"x":1.50},{"x":2.25},{"x":12345678901234567890}]}'
    assert Selector(select="a[?x < `2`].x").apply(record)[0] == b"[1.50]"
    assert Selector(select="sum(a[:2].x)").apply(record)[0] == b"3.75"
    assert Selector(select="[type(a[0].x), type(a[2].x)]").apply(record)[0] == b'["number","number"]'


def test_records_without_a_key_are_counted() -> None:
    """So that a key that never fits is noticed."""
    selector = Selector(key="id")
    for record in (b'{"id":1}', b"{}", b"[]"):
        selector.apply(record)
    assert selector.without_key == 2


def test_without_expressions_bytes_pass() -> None:
    """Nothing asked, nothing decoded: the payload need not even be JSON."""
    selector = Selector()
    assert selector.is_identity
    assert selector.apply(b"not json") == (b"not json", None, None)


@pytest.mark.parametrize("option", ["key", "select", "durable_name"])
@pytest.mark.parametrize("expression", ["", "a.", "[", "a ||", "'x", "length("])
def test_a_bad_expression_is_told_in_one_line(option: str, expression: str) -> None:
    """Before anything runs, naming the option and the expression."""
    with pytest.raises(ConfigError) as caught:
        Selector(**{option: expression})
    assert str(caught.value).startswith(f"{option} is {expression!r}: not a JMESPath expression")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("expression", ["length(id)", "no_such()", "abs('x')"])
def test_an_expression_that_does_not_fit_one_record_fails_that_record(expression: str) -> None:
    """It raises SelectionFailed, in one line, which the run makes a rejected outcome."""
    with pytest.raises(SelectionFailed) as caught:
        Selector(select=expression).apply(b'{"id":17}')
    assert "\n" not in str(caught.value)
