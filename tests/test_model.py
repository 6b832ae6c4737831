"""An outcome as a program holds it: decoded, as bytes, as plain data, and readable when it is printed."""

from __future__ import annotations

import json

import msgspec
import pytest

from fanout.model import ErrorDetail, Outcome
from fanout.payload import append_line, append_lines, embed


def outcome(reply: bytes, **members: object) -> Outcome:
    """A success with this reply."""
    raw, encoding = embed(reply)
    given: dict[str, object] = {"seq": 3, "status": "succeeded", "attempts": 1, "throttles": 0} | members
    return Outcome(output_raw=raw, output_encoding=encoding, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reply", "value", "as_bytes"),
    [
        (b'{"x": 1}', {"x": 1}, b'{"x": 1}'),
        (b"null", None, b"null"),
        (b"", None, b""),
        ("grüß dich".encode(), "grüß dich", "grüß dich".encode()),
        (b"\xff\x00", b"\xff\x00", b"\xff\x00"),
        (rb'["a\ud83d"]', ["a\ud83d"], rb'["a\ud83d"]'),
    ],
)
def test_a_reply_is_there_as_a_value_and_as_bytes(reply: bytes, value: object, as_bytes: bytes) -> None:
    """JSON is decoded; what is no JSON is text, or bytes; the bytes are those that the function sent."""
    made = outcome(reply)
    assert made.output == made.json() == value
    assert made.output_bytes == as_bytes
    raw, encoding = embed(reply)
    failed = Outcome(seq=0, status="unknown", attempts=1, throttles=0, input_raw=raw, input_encoding=encoding)
    assert (failed.input, failed.input_bytes) == (value, as_bytes)


def test_as_plain_data_it_is_its_line() -> None:
    """to_dict has the members of the journal's line, by the names that they have there."""
    made = outcome(b'{"x":1}', key="k", error=ErrorDetail("E"))
    line = bytearray()
    append_line(line, made)
    assert made.to_dict() == msgspec.json.decode(line)
    assert made.to_dict()["output"] == {"x": 1}
    assert line.startswith(b'{"seq":3,"key":"k","status":"succeeded"')


def test_a_line_with_a_lone_surrogate_has_the_same_names() -> None:
    """Those that only ASCII escapes can carry are written by another way, with the same members."""
    line = bytearray()
    made = outcome(b'{"x":1}', key="\ud800")
    append_line(line, made)
    members = json.loads(line)
    assert (members["output"], members["key"]) == ({"x": 1}, "\ud800")
    assert set(members) == set(outcome(b"{}", key="k").to_dict())
    assert made.to_dict() == members
    assert outcome(rb'"\ud800"').to_dict()["output"] == "\ud800"


def test_lines_put_down_together_are_those_put_down_one_by_one() -> None:
    """Among common ones: a lone surrogate, a line break between the tokens of a reply, and no outcome."""
    common = outcome(b'{"x":1}', key="k")
    broken = Outcome(seq=1, status="succeeded", attempts=1, throttles=0, output_raw=msgspec.Raw(b'{"a":\n1}'))
    for several in ([], [common, common], [common, broken], [outcome(b"2", key="\ud800"), broken, common]):
        singly, together = bytearray(), bytearray(b"before\n")
        for one in several:
            append_line(singly, one)
        append_lines(together, several)
        assert together == b"before\n" + singly
        assert singly.count(b"\n") == len(several)


@pytest.mark.parametrize(
    ("made", "shown"),
    [
        (outcome(b'{"x":1}', duration_ms=103.2), '<Outcome 3 succeeded in 103 ms: {"x":1}>'),
        (outcome(b"", key="order-17"), "<Outcome 3 'order-17' succeeded>"),
        (
            outcome(
                b"", status="function_error", attempts=2, error=ErrorDetail("ValueError", "bad\x1b[31m total")
            ),
            "<Outcome 3 function_error after 2 attempts: ValueError: bad\\x1b[31m total>",
        ),
    ],
)
def test_it_can_be_read_when_it_is_printed(made: Outcome, shown: str) -> None:
    """Which record, what became of it, how long it took, and the beginning of what was said."""
    assert repr(made) == shown
    assert len(repr(outcome(b"[" + b"1," * 10_000 + b"1]"))) < 150
