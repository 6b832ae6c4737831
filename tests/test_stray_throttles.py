"""A wall told from stray refusals: Lambda counts on many hosts, and refuses far below its limit too."""

from __future__ import annotations

import statistics

import pytest
from benchmarks.limits_sweep import simulate

from fanout.limit import AdaptiveLimit
from fanout.model import ThrottleKind

BUDGET = 200
STRAYS = 0.005
PAID_AHEAD = 5  # three, and a hundredth of the budget


def run_full(limit: AdaptiveLimit, calls: int, from_s: float, per_s: float = 200.0) -> float:
    """Calls that run while the level is what holds calls back; returns when the last one ended."""
    now_s = from_s
    for _ in range(calls):
        now_s += 1 / per_s
        limit.on_successes([now_s - 1.0], now_s, limit.ceiling(now_s))
    return now_s


def refuse(limit: AdaptiveLimit, now_s: float) -> int:
    """Refuse a call that was sent just now; returns the ceiling that follows."""
    limit.on_throttle(ThrottleKind.CONCURRENCY, now_s - 0.01, now_s, None, BUDGET - 1)
    return limit.ceiling(now_s)


def spend(limit: AdaptiveLimit, now_s: float) -> None:
    """Refuse as many calls as the budget paid ahead."""
    for _ in range(PAID_AHEAD):
        assert refuse(limit, now_s) == BUDGET


def test_a_refusal_that_many_calls_paid_for_changes_nothing() -> None:
    """One in two hundred is no wall."""
    limit, now_s = AdaptiveLimit(BUDGET, cause="reserved"), 0.0
    for _ in range(20):
        now_s = run_full(limit, 200, now_s)
        assert refuse(limit, now_s) == BUDGET


def test_a_wall_is_one_after_a_few_refusals() -> None:
    """However long all went well before: what is refused again and again is no stray."""
    limit = AdaptiveLimit(BUDGET, cause="reserved")
    now_s = run_full(limit, 10_000, 0.0)
    refused = 0
    while refused < 10:
        refused += 1
        now_s += 0.01
        if refuse(limit, now_s) < BUDGET:
            break
    assert refused <= 6


def test_calls_below_the_level_pay_for_nothing() -> None:
    """That a few run says nothing about many."""
    limit = AdaptiveLimit(BUDGET, cause="reserved")
    for n in range(1_000):
        limit.on_successes([n / 200], n / 200, 21)
    spend(limit, 6.0)
    assert refuse(limit, 6.0) < BUDGET


def test_strays_among_the_first_calls_change_nothing() -> None:
    """Nothing has paid for them yet; but one in two hundred is likely among the first two hundred."""
    spend(AdaptiveLimit(BUDGET, cause="reserved"), 0.01)
    limit = AdaptiveLimit(BUDGET, cause="reserved")
    limit.on_throttle(ThrottleKind.CONCURRENCY, 0.0, 0.01, None, BUDGET // 5)  # while connections are made
    assert limit.ceiling(0.01) == BUDGET


def test_a_level_that_was_cut_has_no_bunch_of_strays_to_spend() -> None:
    """Below its budget there is a wall, more likely than not: each probe of it is to cost a few refusals."""
    limit, refused = AdaptiveLimit(800, cause="reserved"), 0
    while limit.ceiling(0.0) == 800:
        limit.on_throttle(ThrottleKind.CONCURRENCY, 0.0, 0.0, None, 600)
        refused += 1
    assert refused == 12  # three and a hundredth of 800 were strays, perhaps
    now_s = run_full(limit, 10_000, 0.0, per_s=10.0)
    ceiling = limit.ceiling(now_s)
    for _ in range(3):
        limit.on_throttle(ThrottleKind.CONCURRENCY, now_s - 0.01, now_s, None, 500)
        assert limit.ceiling(now_s) == ceiling
    limit.on_throttle(ThrottleKind.CONCURRENCY, now_s - 0.01, now_s, None, 500)
    assert limit.ceiling(now_s) < ceiling


def test_calls_that_end_in_one_turn_pay_although_fewer_are_in_flight_after_each() -> None:
    """They ran while the level held calls back; replies come in bunches."""
    limit = AdaptiveLimit(BUDGET, cause="reserved")
    spend(limit, 0.1)
    limit.on_full(BUDGET, 1.0)
    for n in range(BUDGET):
        limit.on_successes([0.5], 1.1, BUDGET - 1 - n + 1)
    assert refuse(limit, 1.2) == BUDGET


def test_calls_that_end_together_at_a_full_level_all_pay() -> None:
    """Nobody asks for more room in between: as many others take their places at once."""
    limit = AdaptiveLimit(BUDGET, cause="reserved")
    spend(limit, 0.1)
    for n in range(BUDGET):
        limit.on_successes([0.5], 1.1, BUDGET - 1 - n + 1)
    assert refuse(limit, 1.2) == BUDGET


def test_an_assumed_budget_takes_every_refusal_for_a_wall() -> None:
    """It is found by probing until one is refused."""
    limit = AdaptiveLimit(BUDGET, cause="assumed")
    now_s = run_full(limit, 1_000, 0.0)
    ceiling = limit.ceiling(now_s)
    assert refuse(limit, now_s) <= ceiling
    assert limit.cause(now_s) == "throttles"


@pytest.mark.parametrize(
    ("budget", "latency_s", "seconds"),
    [
        (BUDGET, 1.0, 20.0),
        (BUDGET, 0.1, 6.0),
        (BUDGET, 0.02, 2.0),
        (800, 1.0, 5.0),
        pytest.param(800, 0.1, 2.0, id="800 of a default account, 100 ms"),
    ],
)
def test_stray_refusals_leave_nine_tenths_of_the_throughput(
    budget: int, latency_s: float, seconds: float
) -> None:
    """Half a percent of all calls, whatever is running, from the first second on."""

    def finished(stray_rate: float, seed: int) -> int:
        result = simulate(
            [AdaptiveLimit(budget, cause="reserved")],
            lambda _: 10**6,
            seconds=seconds,
            latency=lambda _: latency_s,
            stray_rate=stray_rate,
            seed=seed,
        )
        return result.clients[0].finished

    without = finished(0.0, 1)
    assert statistics.median(finished(STRAYS, seed) for seed in range(1, 6)) >= 0.95 * without
    assert finished(STRAYS, 1) >= 0.9 * without


def test_a_real_squeeze_is_obeyed_at_once_and_left_within_three_seconds() -> None:
    """200, 40 and 200 again, with calls of about a second."""
    result = simulate(
        [AdaptiveLimit(BUDGET, cause="reserved")],
        lambda t: 40 if 5 <= t < 12 else 200,
        seconds=16,
        latency=lambda rng: rng.uniform(0.8, 1.2),
    )
    throttles = [sample[3] for sample in result.samples]
    running = [sample[1] for sample in result.samples]
    assert throttles[119] - throttles[49] <= 45
    assert max(running[65:119]) <= 40
    assert max(running[120:150]) >= 170
