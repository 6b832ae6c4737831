"""The hedging policy: durations in, lateness out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.hedging import LEAST_PEERS, Hedging


def _learnt(durations_s: list[float]) -> Hedging:
    policy = Hedging()
    for duration_s in durations_s:
        policy.on_finished(duration_s)
    return policy


@pytest.mark.parametrize(
    ("durations_s", "late_after_s"),
    [
        ([1.0] * (LEAST_PEERS - 1), None),
        ([1.0] * LEAST_PEERS, 3.0),
        ([1.0] * 98 + [50.0] * 2, 50.0),  # the 99th percentile, where it is more
        ([1.0] * 99 + [50.0], 3.0),
    ],
)
def test_late_is_beyond_three_medians_and_the_99th_percentile(
    durations_s: list[float], late_after_s: float | None
) -> None:
    """Of at least twenty peers."""
    policy = _learnt(durations_s)
    assert policy.late_after_s == late_after_s
    if late_after_s is not None:
        assert not policy.is_late(10.0, 10.0 + late_after_s)
    assert policy.is_late(10.0, 10.001 + (late_after_s or 1e9)) is (late_after_s is not None)


def test_lateness_follows_calls_that_become_slower() -> None:
    """The latest calls count."""
    policy = _learnt([0.1] * 1_000)
    assert policy.late_after_s == pytest.approx(0.3)
    for _ in range(1_000):
        policy.on_finished(2.0)
        assert policy.late_after_s is not None
    assert policy.late_after_s == pytest.approx(6.0)


@given(records=st.integers(0, 10_000))
def test_at_most_one_record_in_a_hundred_is_copied(records: int) -> None:
    """One is always allowed."""
    copies = 0
    while Hedging.may_copy(records=records, copies=copies):
        copies += 1
    assert copies == max(1, records // 100)
