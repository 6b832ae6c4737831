"""A projection is Little's law under the rate and the ramp, with ranges that hold the truth."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.commands.projection import duration_s, project


def test_time_is_records_by_duration_over_concurrency() -> None:
    """10,000 records of 100 ms at 50 at once take 20 s."""
    assert duration_s(10_000, 0.1, 50, None) == pytest.approx(20.0)


def test_the_rate_bounds_short_functions() -> None:
    """1 ms functions at 10 at once would do 10,000/s; 100/s are allowed."""
    assert duration_s(1_000, 0.001, 10, 100.0) == pytest.approx(10.0)


def test_the_ramp_slows_the_beginning_of_a_wide_run() -> None:
    """With 3,000 allowed and 2 s each, 1,000 run at once and 100 more each second: slower than without."""
    without_ramp = 30_000 * 2.0 / 3_000
    assert without_ramp + 3 < duration_s(30_000, 2.0, 3_000, None) < 2.5 * without_ramp


def test_few_records_take_as_long_as_one() -> None:
    """Ten records at 100 at once take the time of one."""
    assert duration_s(10, 0.5, 100, None) == pytest.approx(0.5)
    assert duration_s(0, 0.5, 100, None) == 0.0


@given(
    records=st.integers(1, 10**6),
    mean_s=st.floats(0.001, 60),
    concurrency=st.integers(1, 10_000),
    rate=st.none() | st.floats(1, 100_000),
)
def test_more_room_never_takes_longer(
    records: int, mean_s: float, concurrency: int, rate: float | None
) -> None:
    """Twice the concurrency is never slower, and no run beats its rate or its permits."""
    took_s = duration_s(records, mean_s, concurrency, rate)
    assert duration_s(records, mean_s, concurrency * 2, rate) <= took_s * 1.001 + mean_s
    assert took_s >= records * mean_s / concurrency * 0.99 - 1e-9
    if rate is not None:
        assert took_s >= records / rate * 0.99 - 1e-9


def test_ranges_hold_the_mean_and_narrow_with_the_canary() -> None:
    """Nine times in ten the truth lies inside; five times the canary makes it narrower."""
    dice = random.Random(1)
    hits, widths = 0, {20: 0.0, 500: 0.0}
    for round_number in range(20):
        for size in widths:
            durations = [dice.lognormvariate(-2.3, 0.5) for _ in range(size)]
            found = project(
                records=100_000,
                concurrency=100,
                rate_per_s=None,
                durations_s=durations,
                costs_usd=None,
                failures=0,
                seed=round_number,
            )
            widths[size] += found.duration_s.high - found.duration_s.low
            true_s = 100_000 * 0.1003 * 1.1331 / 100  # exp(-2.3) * exp(0.5**2 / 2)
            hits += found.duration_s.low <= true_s <= found.duration_s.high
    assert hits / 40 > 0.75
    assert widths[500] < widths[20] / 3


def test_no_failure_in_a_canary_is_no_promise() -> None:
    """Twenty successes leave room for some 10 % of failures."""
    found = project(
        records=1_000,
        concurrency=10,
        rate_per_s=None,
        durations_s=[0.1] * 20,
        costs_usd=[1e-6] * 20,
        failures=0,
    )
    assert found.failure_share.value == 0
    assert 0.05 < found.failure_share.high < 0.2
    assert found.cost_usd is not None
    assert found.cost_usd.value == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("concurrency", "rate", "bound"),
    [(10, None, "concurrency"), (10, 5.0, "rate"), (5_000, None, "ramp"), (100_000, None, "records")],
)
def test_what_binds_is_named(concurrency: int, rate: float | None, bound: str) -> None:
    """Concurrency, rate, ramp, or just too few records."""
    found = project(
        records=50_000,
        concurrency=concurrency,
        rate_per_s=rate,
        durations_s=[1.0] * 9,
        costs_usd=None,
        failures=0,
    )
    assert found.bound_by == bound
