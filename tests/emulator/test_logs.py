"""What a call's log and error objects say."""

from __future__ import annotations

import json

import pytest

from fanout.emulator.function_errors import error_message_of, error_type_of
from fanout.emulator.logs import Measures, render


def test_an_error_is_named_in_a_report_of_json() -> None:
    """One object a line, also after output that does not end its line."""
    measures = Measures(
        duration_ms=1.5, memory_mb=128, max_memory_mb=40, init_ms=7.0, status="error", error_type="ValueError"
    )
    log = render("r", "1", b'"own"', measures, as_json=True)
    start, own, report = map(json.loads, log.splitlines())
    assert start["record"] == {"requestId": "r", "version": "1"}
    assert own == "own"
    assert report["record"]["status"] == "error"
    assert report["record"]["errorType"] == "ValueError"
    assert report["record"]["metrics"]["initDurationMs"] == 7.0


@pytest.mark.parametrize("body", [b"no json", b"[]", b"{}"])
def test_an_error_that_is_no_error_object_is_its_own_message(body: bytes) -> None:
    """As the runtime of another language may send one."""
    assert error_type_of(body) == "Unhandled"
    assert error_message_of(body) == body.decode()


@pytest.mark.parametrize("half", [rb"\ud83d", rb"\ud83d\u0041"])
def test_half_of_a_character_in_an_error_object_is_a_question_mark(half: bytes) -> None:
    """Attributes of a dead letter and lists of executions are UTF-8; nothing else of the error is lost."""
    body = b'{"errorType":"E%s","errorMessage":"bad %s"}' % (half, half)
    assert error_type_of(body) in ("E?", "E?A")
    assert error_message_of(body) in ("bad ?", "bad ?A")


def test_an_error_object_that_is_no_text_is_no_object() -> None:
    """It is handed on as far as it can be read."""
    body = b'{"errorMessage":"\xed\xa0\xbd"}'
    assert error_type_of(body) == "Unhandled"
    assert error_message_of(body) == body.decode("utf-8", "replace")
