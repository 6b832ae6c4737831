"""Patience: half a minute of tries, however each of them fails."""

from __future__ import annotations

import pytest

from fanout.aws.session import SERVICE_READ_TIMEOUT_S
from fanout.patience import UNREACHED_S, Patience


def tries(takes_s: float, *, silent_s: float = 0.0, patience_s: float | None = None) -> list[float]:
    """When each try of a request that always fails begins, and when the last one ends."""
    patience, now_s, begun = Patience(), 0.0, [0.0]
    while True:
        now_s += takes_s
        wait_s = patience.wait_s(now_s, silent_s=silent_s, patience_s=patience_s)
        if wait_s is None:
            return [*begun, now_s]
        now_s += wait_s
        begun.append(now_s)


def test_refusals_are_waited_out_for_half_a_minute() -> None:
    """In a few tries, ever farther apart; the last one comes when the half minute is over."""
    begun = tries(0.0)
    assert begun[-1] == pytest.approx(30.0)
    assert len(begun) <= 9


def test_silence_counts_from_its_beginning() -> None:
    """A server that never answers is asked twice, and given up after half a minute."""
    assert tries(SERVICE_READ_TIMEOUT_S, silent_s=SERVICE_READ_TIMEOUT_S) == pytest.approx([0, 15.1, 30.1])


def test_a_slow_try_that_fails_is_made_again() -> None:
    """An upload of two minutes that breaks off has used up no patience."""
    assert tries(120.0) == pytest.approx([0, 120.1, 240.1])


def test_an_address_that_nothing_has_answered_at_is_soon_given_up() -> None:
    """It may be a wrong one."""
    assert tries(0.0, patience_s=UNREACHED_S)[-1] == pytest.approx(5.0)


def test_a_wait_that_is_asked_for_does_not_count() -> None:
    """But there is an end to those, too."""
    patience, now_s, waits = Patience(), 0.0, []
    while (wait_s := patience.wait_s(now_s, asked_s=20.0)) is not None:
        waits.append(wait_s)
        now_s += wait_s
    assert waits == [20.0] * 7
    assert patience.wait_s(now_s) is None
