"""Messages that may carry a result: whatever a stranger writes is none, and no error."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fanout.queues.message import Message
from fanout.queues.results import read_result

CONTEXT = {"requestId": "r1", "condition": "Success"}


def message(body: Any, **attributes: Any) -> Message:
    return Message(
        message_id="m",
        receipt_handle="h",
        body=body if isinstance(body, str) else json.dumps(body),
        message_attributes=attributes,
    )


@pytest.mark.parametrize(
    "body",
    [
        "no JSON",
        "[" * 100_000,
        [1],
        {"requestContext": 1},
        {"requestContext": {"requestId": 1, "condition": "Success"}},
        {"requestContext": {"requestId": "r1"}},
        {"detail": {"detail": 1, "detail-type": "x"}, "detail-type": "x"},  # an event in an event
        {"Message": 1, "TopicArn": "t"},
        {"Message": "text without a topic"},
        {"Message": "{}", "TopicArn": "t", "MessageAttributes": [1]},
    ],
    ids=lambda body: str(body)[:40],
)
def test_what_is_no_result_belongs_to_others(body: Any) -> None:
    """It is put back."""
    assert read_result(message(body)) is None


def test_a_result_of_which_parts_are_strange_is_one() -> None:
    """What is not of Lambda's shape is left out; the request and its end are what counts."""
    body = {
        "requestContext": {**CONTEXT, "functionArn": 1, "approximateInvokeCount": "x"},
        "responseContext": 3,
    }
    result = read_result(message(body))
    assert result is not None
    assert (result.request_id, result.status, result.output) == ("r1", "succeeded", None)
    assert (result.tries, result.function_arn, result.executed_version) == (None, None, None)


@pytest.mark.parametrize(
    ("payload", "kind", "text"),
    [
        ({"errorType": "E", "errorMessage": "m", "trace": ["a"]}, "E", "m"),
        ({"errorType": "", "errorMessage": 1}, "RetriesExhausted", ""),
        (["no object"], "RetriesExhausted", '["no object"]'),
        (None, "RetriesExhausted", ""),
    ],
)
def test_an_error_of_any_shape_is_one(payload: Any, kind: str, text: str) -> None:
    """By the function's own words where there are any, else by Lambda's reason."""
    context = {"requestId": "r1", "condition": "RetriesExhausted"}
    result = read_result(message({"requestContext": context, "responsePayload": payload}))
    assert result is not None
    assert result.error is not None
    assert (result.status, result.error.type, result.error.message) == ("function_error", kind, text)


@pytest.mark.parametrize(("code", "status"), [("200", "function_error"), ("429", "undelivered")])
def test_a_dead_letter_says_whether_it_ran(code: str, status: str) -> None:
    """200 is of the function; anything else is Lambda's own refusal. Through a topic as well."""
    attributes = {"RequestID": "r1", "ErrorCode": code, "ErrorMessage": "m"}
    plain = read_result(message("x", **{name: {"StringValue": each} for name, each in attributes.items()}))
    topic = read_result(
        message(
            {
                "TopicArn": "t",
                "Message": "x",
                "MessageAttributes": {name: {"Value": each} for name, each in attributes.items()},
            }
        )
    )
    assert plain is not None
    assert (plain.status, plain.request_id, plain.input) == (status, "r1", b"x")
    assert topic == plain
