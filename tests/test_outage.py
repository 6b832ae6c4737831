"""The outage policy, by sequences of ends."""

from __future__ import annotations

import pytest

from fanout.errors import ConfigError
from fanout.model import Classification, ErrorDetail, Verdict
from fanout.outage import Outage

DOWN = Classification(Verdict.TRANSIENT, ErrorDetail("ServiceException", "down"))
PENDING = Classification(Verdict.TRANSIENT, ErrorDetail("ResourceConflictException", "Pending"))
REFUSED = Classification(Verdict.FATAL, ErrorDetail("ResourceNotFoundException", "no such function"))


def _began(*, patience_s: float = 900.0) -> Outage:
    outage = Outage(patience_s)
    assert [outage.on_failure(record, DOWN, 10.0, is_probe=False) for record in "abc"] == [False, False, True]
    return outage


def test_three_different_records_begin_an_outage() -> None:
    """The third failure spends no attempt; the first probe goes out a second later."""
    outage = _began()
    assert outage.is_on
    assert outage.probe_at_s == 11.0
    assert not outage.admits(10.9)
    assert outage.admits(11.0)


def test_one_record_that_always_fails_is_no_outage() -> None:
    """It spends its attempts, however many."""
    outage = Outage()
    assert not any(outage.on_failure("a", DOWN, float(s), is_probe=False) for s in range(100))


def test_an_answer_between_failures_starts_the_count_anew() -> None:
    """Whatever it says."""
    outage = Outage()
    for record in "abcdefg":
        assert not outage.on_failure(record, DOWN, 1.0, is_probe=False)
        assert not outage.on_answer()


def test_probes_come_one_at_a_time_and_ever_slower() -> None:
    """After 1, 2, 4 … 30 s."""
    outage, waits = _began(), []
    now_s = 10.0
    for _ in range(8):
        probe_at_s = outage.probe_at_s
        assert probe_at_s is not None
        waits.append(probe_at_s - now_s)
        now_s = probe_at_s
        outage.on_probe_sent()
        assert outage.probe_at_s is None
        assert not outage.admits(now_s + 100)
        outage.on_failure("d", DOWN, now_s, is_probe=True)
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    assert outage.on_answer()
    assert not outage.is_on


def test_the_patience_is_neither_cut_short_nor_overstepped() -> None:
    """The last probe goes out as it ends."""
    outage = _began(patience_s=10.0)
    now_s = 10.0
    while not outage.is_exhausted(now_s):
        assert outage.probe_at_s is not None
        now_s = outage.probe_at_s
        outage.on_probe_sent()
        outage.on_failure("d", DOWN, now_s, is_probe=True)
    assert now_s == 20.0


def test_a_function_that_is_not_ready_is_waited_for_at_once() -> None:
    """One record is enough: it says nothing of the record."""
    outage = Outage()
    assert outage.on_failure("a", PENDING, 0.0, is_probe=False)
    assert outage.cause == "ResourceConflictException: Pending"


def test_a_refusal_is_believed_after_three_probes() -> None:
    """Asked again after 1, 2 and 4 s."""
    outage = Outage()
    assert outage.on_failure("a", REFUSED, 0.0, is_probe=False)
    asked_s: list[float] = []
    while not outage.is_exhausted(asked_s[-1] if asked_s else 0.0):
        assert outage.probe_at_s is not None
        asked_s.append(outage.probe_at_s)
        outage.on_probe_sent()
        outage.on_failure("a", REFUSED, asked_s[-1], is_probe=True)
    assert asked_s == [1.0, 3.0, 7.0]
    assert outage.is_refusal


def test_a_patience_below_zero_is_refused() -> None:
    """By its name and value."""
    with pytest.raises(ConfigError, match="outage_patience is -1"):
        Outage(-1)


def test_a_throttle_between_outages_does_not_renew_the_patience() -> None:
    """It is an answer, so that calls go on, but nothing went forward."""
    outage = _began(patience_s=100.0)
    now_s = 10.0
    while not outage.is_exhausted(now_s):
        assert now_s < 111
        assert outage.on_answer()
        assert not outage.is_on
        now_s += 0.5
        for record in "abc":
            outage.on_failure(record, DOWN, now_s, is_probe=False)
        assert outage.probe_at_s is not None
        now_s = outage.probe_at_s
        outage.on_probe_sent()
        outage.on_failure("a", DOWN, now_s, is_probe=True)
    assert now_s >= 110


def test_progress_renews_the_patience() -> None:
    """What ran, or was refused for a reason of its own."""
    outage = _began(patience_s=100.0)
    assert outage.on_progress()
    for record in "abc":
        outage.on_failure(record, DOWN, 200.0, is_probe=False)
    assert outage.is_on
    assert not outage.is_exhausted(299.9)
    assert outage.is_exhausted(300.0)


def test_an_idle_time_uses_no_patience_up() -> None:
    """A call an hour after a throttled one."""
    outage = _began(patience_s=100.0)
    assert outage.on_answer()
    outage.on_idle(3600.0)
    for record in "abc":
        outage.on_failure(record, DOWN, 3600.0, is_probe=False)
    assert not outage.is_exhausted(3699.0)


@pytest.mark.parametrize(("between", "is_refusal"), [([], True), ([DOWN], False), ([None], False)])
def test_a_refusal_mixed_with_other_ends_is_not_believed(
    between: list[Classification | None], is_refusal: bool
) -> None:
    """When the patience is over before three probes were refused."""
    outage = Outage(5.0)
    outage.on_failure("a", REFUSED, 0.0, is_probe=False)
    for end in between:
        if end is None:
            outage.on_answer()
        else:
            outage.on_failure("b", end, 1.0, is_probe=True)
    outage.on_failure("a", REFUSED, 5.0, is_probe=True)
    assert outage.is_exhausted(5.0)
    assert outage.stops_by_refusal is is_refusal
