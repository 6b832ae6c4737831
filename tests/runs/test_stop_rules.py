"""When a run stops before its end, how it is called then, and which records a redrive may choose."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from fanout.errors import ConfigError
from fanout.runs import Stop, StopRules, statuses_of
from fanout.runs.result import state_and_exit_code


@pytest.mark.parametrize(
    ("rules", "failed", "finished", "reason"),
    [
        ({"tolerated_failure_count": 0}, 0, 50, None),
        ({"tolerated_failure_count": 0}, 1, 50, "threshold"),
        ({"tolerated_failure_count": 3}, 3, 3, None),
        ({"tolerated_failure_percentage": 10}, 99, 99, None),  # fewer than a hundred say little
        ({"tolerated_failure_percentage": 10}, 10, 100, None),
        ({"tolerated_failure_percentage": 10}, 11, 100, "threshold"),
        ({"tolerated_failure_percentage": 0}, 1, 100, "threshold"),
        ({"tolerated_failure_percentage": 100}, 100, 100, None),
        ({"max_cost_usd": 0.5}, 0, 1, None),
        ({"max_cost_usd": 0.4}, 0, 1, "cost"),
        ({}, 100, 100, None),
    ],
)
def test_thresholds(rules: dict[str, Any], failed: int, finished: int, reason: str | None) -> None:
    """More than tolerated, not as many as; the cost as soon as it is reached."""
    broken = StopRules(**rules).broken_by(failed=failed, finished=finished, cost_usd=0.4)
    assert (None if broken is None else broken[0]) == reason
    assert StopRules(**rules).is_needed is bool(rules)


@pytest.mark.parametrize(
    "rules",
    [
        {"tolerated_failure_count": -1},
        {"tolerated_failure_percentage": 101},
        {"tolerated_failure_percentage": -0.1},
        {"max_cost_usd": 0},
        {"max_cost_usd": float("nan")},
    ],
)
def test_thresholds_that_make_no_sense_are_refused(rules: dict[str, Any]) -> None:
    """Naming the option and its value."""
    with pytest.raises(ConfigError, match=r" is .*: give "):
        StopRules(**rules)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (None, ("finished", 0)),
        ("threshold", ("halted", 3)),
        ("fatal", ("fatal", 4)),
        ("deadline", ("halted", 5)),
        ("cost", ("halted", 5)),
        ("journal", ("halted", 5)),
        ("source", ("halted", 2)),
        ("sigint", ("interrupted", 130)),
        ("sigterm", ("interrupted", 143)),
        ("sighup", ("interrupted", 129)),
        ("pipe", ("interrupted", 141)),
    ],
)
def test_states_and_exit_codes(reason: str | None, expected: tuple[str, int]) -> None:
    """As the README's table has them."""
    stop = None if reason is None else Stop(reason)
    assert state_and_exit_code(stop, {"succeeded": 2, "accepted": 1, "valid": 1}) == expected


@pytest.mark.parametrize("status", ["function_error", "rejected", "undelivered", "unknown"])
def test_a_finished_run_with_failures_exits_1(status: str) -> None:
    """Whatever kind of failure it is."""
    assert state_and_exit_code(None, {"succeeded": 5, status: 1}) == ("finished", 1)


def test_what_a_redrive_may_choose() -> None:
    """Failures by default; ``unknown`` only by name; never what succeeded."""
    assert statuses_of([]) == statuses_of(["failed"]) == {"function_error", "rejected", "undelivered"}
    assert statuses_of(["unknown", "rejected"]) == {"unknown", "rejected"}
    for wrong in ("succeeded", "accepted", "nonsense"):
        with pytest.raises(ConfigError, match=f"status is '{wrong}': to send again there are failed, "):
            statuses_of([wrong])


def test_a_spending_cap_holds_calls_back_before_it_is_passed() -> None:
    """Spent, and in flight at the mean, and one more; but one call may always be out."""
    rules = StopRules(max_cost_usd=1.0)
    assert rules.calls_left(spent_usd=0.0, in_flight=9, call_usd=0.1) == 1
    assert rules.calls_left(spent_usd=0.0, in_flight=10, call_usd=0.1) == 0
    assert rules.calls_left(spent_usd=0.95, in_flight=1, call_usd=0.1) == 0
    assert StopRules(max_cost_usd=1e308).calls_left(spent_usd=1.0, in_flight=1, call_usd=0.1) > 0
    assert rules.calls_left(spent_usd=0.95, in_flight=0, call_usd=5.0) == 1
    assert StopRules().calls_left(spent_usd=99.0, in_flight=9, call_usd=9.0) == sys.maxsize
