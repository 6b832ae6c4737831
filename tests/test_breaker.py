"""The breaker: failures in a row open it, one probe at a time closes it, waits grow to a minute."""

from __future__ import annotations

import pytest

from fanout.breaker import Breaker
from fanout.errors import ConfigError


def opened(threshold: int = 3, now_s: float = 0.0) -> Breaker:
    """One that has just opened."""
    breaker = Breaker(threshold)
    for _ in range(threshold):
        breaker.on_outcome(False, now_s)
    return breaker


def test_only_failures_in_a_row_open_it() -> None:
    """A success between them starts the count again."""
    breaker = Breaker(3)
    for is_success in (False, False, True, False, False):
        breaker.on_outcome(is_success, 0.0)
        assert breaker.admits(0.0)
    breaker.on_outcome(False, 0.0)
    assert breaker.is_open
    assert not breaker.admits(0.99)
    assert breaker.admits(1.0)


def test_one_probe_at_a_time() -> None:
    """While it is out, nothing else is."""
    breaker = opened()
    assert breaker.on_sent()
    assert not breaker.admits(1000.0)
    assert breaker.probe_at_s is None
    breaker.on_outcome(True, 1000.0, is_probe=True)
    assert not breaker.is_open
    assert breaker.admits(1000.0)
    assert not breaker.on_sent()


def test_waits_double_up_to_a_minute_and_begin_anew_after_a_success() -> None:
    """1, 2, 4 … 60, 60 seconds."""
    breaker, now_s, waits = opened(), 0.0, []
    for _ in range(9):
        assert breaker.probe_at_s is not None
        waits.append(breaker.probe_at_s - now_s)
        now_s = breaker.probe_at_s
        breaker.on_sent()
        breaker.on_outcome(False, now_s, is_probe=True)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    breaker.on_sent()
    breaker.on_outcome(True, now_s, is_probe=True)
    for _ in range(3):
        breaker.on_outcome(False, now_s)
    assert breaker.probe_at_s == now_s + 1


def test_late_failures_of_earlier_calls_change_nothing() -> None:
    """They were sent before it opened; a late success closes it."""
    breaker = opened()
    breaker.on_sent()
    for _ in range(50):
        breaker.on_outcome(False, 0.5)
    assert not breaker.admits(1000.0)
    breaker.on_outcome(True, 0.6)
    assert breaker.admits(0.6)


def test_a_probe_that_said_nothing_lets_another_try() -> None:
    """A throttled probe neither opens nor closes anything."""
    breaker = opened()
    breaker.on_sent()
    breaker.on_silent_probe()
    assert breaker.is_open
    assert breaker.admits(1.0)


def test_a_threshold_below_one_is_refused() -> None:
    """Naming the value."""
    with pytest.raises(ConfigError, match="breaker is 0: give a whole number from 1"):
        Breaker(0)
