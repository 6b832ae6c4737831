"""One destination record, a batch of records: each gets its own outcome, read as the reply asks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fanout.commands.outcome_completer import OutcomeCompleter
from fanout.config import Options
from fanout.model import BatchPlace, ErrorDetail, Outcome
from fanout.queues.results import CallResult


def accepted(size: int) -> list[Outcome]:
    return [
        Outcome(
            seq=10 + at, status="accepted", attempts=1, throttles=0, request_id="r",
            batch=BatchPlace(id="b", index=at, size=size),
        )
        for at in range(size)
    ]  # fmt: skip


def complete(options: dict[str, Any], payload: Any, reply: Any = None, **members: Any) -> list[Outcome]:
    result = CallResult(
        "r", "succeeded", "destination", output=json.dumps(reply).encode(), input=json.dumps(payload).encode()
    )
    for name, value in members.items():
        setattr(result, name, value)
    return OutcomeCompleter(Options.of("f", options))(accepted(3), result)


ITEMS = {"Items": [{"n": 0}, {"n": 1}, {"n": 2}]}
RECORDS = {"Records": [{"messageId": f"m{n}", "body": json.dumps({"n": n})} for n in range(3)]}


def test_one_result_for_all_stands_at_the_first() -> None:
    """Shape items: the output is the call's."""
    outcomes = complete({"batch": 3}, ITEMS, "done")
    assert [outcome.status for outcome in outcomes] == ["succeeded"] * 3
    assert [outcome.output for outcome in outcomes] == ["done", None, None]


def test_one_element_for_each() -> None:
    """Shape array."""
    outcomes = complete({"batch": 3, "batch_shape": "array"}, [{"n": 0}, {"n": 1}, {"n": 2}], [5, 6, 7])
    assert [outcome.output for outcome in outcomes] == [5, 6, 7]


def test_the_named_ones_failed_and_can_be_redriven() -> None:
    """Shape sqs: by the identifiers of the event that was sent."""
    reply = {"batchItemFailures": [{"itemIdentifier": "m1"}]}
    outcomes = complete({"batch": 3, "batch_shape": "sqs"}, RECORDS, reply)
    assert [outcome.status for outcome in outcomes] == ["succeeded", "function_error", "succeeded"]
    assert outcomes[1].error is not None
    assert (outcomes[1].error.type, outcomes[1].input) == ("BatchItemFailure", {"n": 1})


@pytest.mark.parametrize(
    ("options", "payload"), [({"batch": 3}, ITEMS), ({"batch": 3, "batch_shape": "sqs"}, RECORDS)]
)
def test_a_failed_call_fails_each_record_with_its_own_payload(options: dict[str, Any], payload: Any) -> None:
    """So that each can be sent again by itself."""
    error = ErrorDetail("ValueError", "bad")
    outcomes = complete(options, payload, status="function_error", output=None, error=error)
    assert [outcome.status for outcome in outcomes] == ["function_error"] * 3
    assert [outcome.input for outcome in outcomes] == [{"n": 0}, {"n": 1}, {"n": 2}]


@pytest.mark.parametrize(
    ("options", "payload"),
    [
        ({"batch": 3}, {"BatchInput": ["\ud83d"], "Items": ["\ud83d", "b", "c"]}),
        ({"batch": 3, "batch_shape": "array"}, ["\ud83d", "b", "c"]),
    ],
)
def test_payloads_with_half_of_a_character_are_kept(options: dict[str, Any], payload: Any) -> None:
    """They are JSON, as a cut string leaves it, and can be sent again."""
    error = ErrorDetail("ValueError", "bad")
    outcomes = complete(options, payload, status="function_error", output=None, error=error)
    assert [outcome.input_bytes for outcome in outcomes] == [rb'"\ud83d"', b'"b"', b'"c"']


def test_a_reply_that_does_not_fit_is_no_success() -> None:
    """Nothing is guessed."""
    outcomes = complete({"batch": 3, "batch_shape": "array"}, [1, 2, 3], [5])
    assert [outcome.status for outcome in outcomes] == ["function_error"] * 3
