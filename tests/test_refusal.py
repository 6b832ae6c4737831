"""Refusals that are known before the first call."""

from typing import Any

import pytest
from msgspec.structs import replace

from fanout.config import parse_concurrency
from fanout.quotas import Quotas, assumed, refusal_before_calls


def read(**figures: Any) -> Quotas:
    quotas = assumed(parse_concurrency(10), invocation_type="RequestResponse", function_timeout_s=None)
    return replace(quotas, **figures)


@pytest.mark.parametrize(
    ("figures", "code", "said"),
    [
        ({"unreachable": "no such host", "is_host_unknown": True}, "Unreachable", "no such host"),
        ({"refusal": "the credentials have expired"}, "Refused", "the credentials have expired"),
        ({"state": "Failed"}, "Failed", "f: the function is in state Failed"),
        ({"reserved": 0}, "ReservedConcurrencyZero", "f: reserved concurrency is 0"),
    ],
)
def test_a_function_that_no_call_can_run(figures: dict[str, Any], code: str, said: str) -> None:
    """One line says why, before anything is sent."""
    refusal = refusal_before_calls("f", read(**figures), invocation_type="RequestResponse")
    assert refusal is not None
    assert (refusal.code, str(refusal).startswith(said)) == (code, True)


@pytest.mark.parametrize(
    ("figures", "invocation_type"),
    [
        ({}, "RequestResponse"),
        ({"unreachable": "refused just now"}, "RequestResponse"),
        ({"state": "Pending"}, "RequestResponse"),
        ({"reserved": 0}, "Event"),
    ],
)
def test_a_call_that_can_be_tried(figures: dict[str, Any], invocation_type: str) -> None:
    """An endpoint that is down for now, a function that is not ready yet, and a queue are no reasons."""
    assert refusal_before_calls("f", read(**figures), invocation_type=invocation_type) is None
