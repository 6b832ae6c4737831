"""Which end is final, and how long the others wait."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.model import Classification, ErrorDetail, ThrottleKind, Verdict
from fanout.retry import (
    BUDGET_RESERVE,
    CAP_S,
    THROTTLE_CAP_S,
    RetryBudget,
    RetryPolicy,
    ThrottlePatience,
)

TRANSIENT = Classification(Verdict.TRANSIENT)
AMBIGUOUS = Classification(Verdict.AMBIGUOUS)
THROTTLED = Classification(Verdict.THROTTLED, throttle=ThrottleKind.CONCURRENCY)
TIMED_OUT = Classification(Verdict.FUNCTION_ERROR, error=ErrorDetail("Sandbox.Timedout"))
FAILED = Classification(Verdict.FUNCTION_ERROR, error=ErrorDetail("ValueError"))


def policy(**settings: object) -> RetryPolicy:
    return RetryPolicy(rng=random.Random(1), **settings)  # type: ignore[arg-type]


def test_a_transient_failure_is_sent_again_as_often_as_allowed() -> None:
    """Three retries mean four attempts."""
    decided = [policy(retries=3).decide(TRANSIENT, attempts=n) for n in range(1, 6)]
    assert [delay_s is not None for delay_s in decided] == [True, True, True, False, False]


@pytest.mark.parametrize("verdict", [Verdict.SUCCESS, Verdict.REJECTED, Verdict.FATAL])
def test_some_ends_are_always_final(verdict: Verdict) -> None:
    """What worked, and what was refused for good, is never sent again."""
    generous = policy(retries=9, retry_function_errors=9, idempotent=True)
    assert generous.decide(Classification(verdict), attempts=1) is None


def test_a_lost_reply_is_sent_again_only_if_the_function_is_idempotent() -> None:
    """It may have run."""
    assert policy().decide(AMBIGUOUS, attempts=1) is None
    assert policy(idempotent=True).decide(AMBIGUOUS, attempts=1) is not None
    assert policy(idempotent=True, retries=1).decide(AMBIGUOUS, attempts=2) is None


def test_function_errors_are_sent_again_only_on_request() -> None:
    """By default an error that the function reported is the record's outcome."""
    assert policy().decide(FAILED, attempts=1) is None
    asked = policy(retry_function_errors=2)
    assert asked.decide(FAILED, attempts=1, function_error_retries=1) is not None
    assert asked.decide(FAILED, attempts=1, function_error_retries=2) is None


def test_function_errors_are_chosen_by_their_type() -> None:
    """--retry-on names the types; others are final, and so is an error without a type."""
    asked = policy(retry_function_errors=2, retry_on=["Sandbox.Timedout"])
    assert asked.decide(TIMED_OUT, attempts=1) is not None
    assert asked.decide(FAILED, attempts=1) is None
    assert asked.decide(Classification(Verdict.FUNCTION_ERROR), attempts=1) is None


def test_naming_types_without_a_number_asks_for_nothing() -> None:
    """--retry-on alone repeats nothing."""
    asked = policy(retry_on=["Sandbox.Timedout"])
    assert asked.decide(TIMED_OUT, attempts=1) is None


def test_throttles_cost_neither_attempts_nor_budget() -> None:
    """A throttled call did not run: it comes again, hundreds of times if need be."""
    strict = policy(retries=0, budget=RetryBudget(reserve=0.0))
    for throttles in range(1, 500):
        assert strict.decide(THROTTLED, attempts=1, throttles=throttles) is not None
    assert strict.decide(TRANSIENT, attempts=1) is None


def test_nothing_but_throttles_is_tolerated_for_the_patience() -> None:
    """From the first throttle of the run without any other answer."""
    patience = ThrottlePatience(300.0)
    patience.note_throttle(10.0)
    assert not patience.is_exhausted(309.0)
    assert patience.is_exhausted(310.0)


def test_patience_begins_again_with_any_progress() -> None:
    """One answer other than a throttle, and the clock starts anew."""
    patience = ThrottlePatience(300.0)
    assert not patience.is_exhausted(1e9)
    patience.note_throttle(10.0)
    patience.note_throttle(200.0)
    left_s = [patience.left_s(200.0)]
    patience.note_progress()
    left_s.append(patience.left_s(200.0))
    patience.note_throttle(260.0)
    assert [*left_s, patience.left_s(260.0)] == [110.0, 300.0, 300.0]
    assert not patience.is_exhausted(559.9)
    assert patience.is_exhausted(560.0)


def test_retries_are_at_most_a_fifth_of_fresh_calls_and_a_reserve() -> None:
    """A dying function is not hammered with four times the load."""
    hammered = policy(retries=3)
    retries = 0
    for _ in range(10_000):
        hammered.budget.on_fresh_calls(1)
        retries += hammered.decide(TRANSIENT, attempts=1) is not None
    assert retries == pytest.approx(10_000 * 0.2 + BUDGET_RESERVE, abs=1)


def test_few_calls_have_a_reserve_of_retries() -> None:
    """One record alone can be tried again."""
    assert policy().decide(TRANSIENT, attempts=1) is not None


def test_a_long_good_run_saves_up_no_storm() -> None:
    """The bucket holds five hundred retries at most."""
    budget = RetryBudget()
    for _ in range(100_000):
        budget.on_fresh_calls(1)
    assert sum(budget.try_take() for _ in range(1_000)) == 500


def test_retry_after_is_a_lower_bound() -> None:
    """Lambda's word is kept, whatever the jitter says."""
    told = Classification(Verdict.THROTTLED, throttle=ThrottleKind.RATE, retry_after_s=7.0)
    assert policy().decide(told, attempts=1) == 7.0
    late = Classification(Verdict.TRANSIENT, retry_after_s=60.0)
    assert policy().decide(late, attempts=1) == 60.0


def test_the_same_seed_waits_the_same() -> None:
    """Delays come from the random source given, and from nothing else."""
    first, second = policy(retries=9), policy(retries=9)
    delays = [first.decide(TRANSIENT, attempts=n) for n in range(1, 9)]
    assert delays == [second.decide(TRANSIENT, attempts=n) for n in range(1, 9)]
    assert len(set(delays)) == len(delays)


class Longest(random.Random):
    """Draws the most that there may be."""

    def uniform(self, a: float, b: float) -> float:
        """The upper bound, whatever the lower."""
        return max(a, b)


def test_each_kind_of_end_has_its_own_count_by_which_the_bound_doubles() -> None:
    """From 0.2 s by attempts or by repeated errors, from 0.05 s by throttles; never beyond the cap."""
    chosen = RetryPolicy(retries=99, retry_function_errors=99, rng=Longest())
    by_attempts = [chosen.decide(TRANSIENT, attempts=n, throttles=5) for n in (1, 2, 3, 7, 8, 9)]
    assert by_attempts == [0.2, 0.4, 0.8, 12.8, CAP_S, CAP_S]
    by_throttles = [chosen.decide(THROTTLED, attempts=7, throttles=n) for n in (0, 1, 2, 6, 7)]
    assert by_throttles == [0.05, 0.05, 0.1, 1.6, THROTTLE_CAP_S]
    by_errors = [chosen.decide(FAILED, attempts=7, function_error_retries=n) for n in (0, 1, 2)]
    assert by_errors == [0.2, 0.4, 0.8]


@given(st.integers(1, 10_000), st.integers(0, 2**32))
def test_delays_are_full_jitter_below_a_cap(n: int, seed: int) -> None:
    """Between nothing and a bound that doubles with each attempt, up to the cap."""
    chosen = RetryPolicy(retries=10_001, rng=random.Random(seed))
    delay_s = chosen.decide(TRANSIENT, attempts=n)
    assert delay_s is not None
    assert 0.0 <= delay_s <= min(CAP_S, 0.2 * 2 ** min(n - 1, 50))
    delay_s = chosen.decide(THROTTLED, attempts=1, throttles=n)
    assert delay_s is not None
    assert 0.0 <= delay_s <= min(THROTTLE_CAP_S, 0.05 * 2 ** min(n - 1, 50))


def test_retries_that_pay_off_cost_nothing() -> None:
    """A function that fails each first attempt and then recovers never runs out of retries."""
    budget = RetryBudget()
    for _ in range(100_000):
        budget.on_fresh_calls(1)
        assert budget.try_take()
        budget.on_recovery(1)


def test_retries_in_vain_run_out_and_come_back_with_recovery() -> None:
    """With the reserve spent on a dying function, every recovery pays for one more retry."""
    budget = RetryBudget(share=0.0, reserve=3.0)
    assert [budget.try_take() for _ in range(4)] == [True, True, True, False]
    budget.on_recovery(2)
    assert [budget.try_take() for _ in range(3)] == [True, True, False]
