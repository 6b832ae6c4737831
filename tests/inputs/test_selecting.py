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
    """The payload is what the expression yields, null included; key and name are of the whole record."""
    selector = Selector(key="id", select="body.x", durable_name="name")
    assert selector.apply(b'{"id":1,"name":"n","body":{"x":[1.5,"\xc3\xa9"]}}') == (
        b'[1.5,"\xc3\xa9"]',
        "1",
        "n",
    )
    assert selector.apply(b'{"id":1}') == (b"null", "1", None)


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
