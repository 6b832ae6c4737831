"""Permits: never more than the ceiling, never lost, never kept."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fanout.errors import ConfigError
from fanout.gate import Gate, Release
from fanout.limit import AdaptiveLimit, Ramp
from fanout.model import ThrottleKind
from tests.example_counts import examples

MIB = 1 << 20


def make_gate(permits: int, max_bytes: int = MIB) -> Gate:
    return Gate(AdaptiveLimit(permits), max_bytes_in_flight=max_bytes)


def fill(gate: Gate, now_s: float) -> int:
    """Take every permit there is; how many it were."""
    taken = 0
    while gate.has_room(now_s):
        gate.acquire(now_s)
        taken += 1
    return taken


@pytest.mark.parametrize("how", [Release.SUCCESS, Release.IGNORED])
def test_a_permit_that_comes_back_goes_out_again(how: Release) -> None:
    """A full gate has room again after one call ended, for one call."""
    gate = make_gate(3)
    assert fill(gate, 0.0) == 3
    gate.release(how, 0, 0.0, 1.0)
    assert fill(gate, 1.0) == 1
    assert (gate.in_flight, gate.peak) == (3, 3)


def test_a_dropped_permit_teaches_the_limit() -> None:
    """A throttle frees the permit and lowers the limit, with no other call to the limit."""
    gate = make_gate(10)
    fill(gate, 0.0)
    gate.release(Release.DROPPED, 0, 0.0, 1.0, ThrottleKind.CONCURRENCY)
    assert gate.in_flight == 9
    assert not gate.has_room(1.0)
    assert gate.limit.ceiling(1.0) < 9


def test_a_limit_lowered_below_what_is_in_flight_admits_nothing_until_enough_came_back() -> None:
    """No permit is taken back, and none is handed out too early."""
    gate = make_gate(10)
    fill(gate, 0.0)
    gate.limit.set_budget(4, 1.0)
    for _ in range(6):
        gate.release(Release.SUCCESS, 0, 0.0, 2.0)
        assert not gate.has_room(2.0)
    gate.release(Release.SUCCESS, 0, 0.0, 2.0)
    assert fill(gate, 2.0) == 1


def test_a_lost_call_keeps_its_permit_until_the_function_must_have_ended() -> None:
    """The bytes are free at once, the permit is not."""
    gate = make_gate(2)
    fill(gate, 0.0)
    gate.add_bytes(100)
    gate.linger(5.0, 100, 1.0)
    assert (gate.in_flight, gate.lingering, gate.bytes_in_flight) == (1, 1, 0)
    assert not gate.has_room(4.9)
    assert gate.next_change_s(4.9) == 5.0
    assert gate.has_room(5.0)
    assert gate.lingering == 0


def test_a_call_lost_after_its_timeout_does_not_linger() -> None:
    """Its function has ended already."""
    gate = make_gate(1)
    gate.acquire(0.0)
    gate.linger(1.0, 0, 1.0)
    assert gate.has_room(1.0)
    assert gate.lingering == 0


def test_payload_bytes_are_bounded_too() -> None:
    """Large payloads stop admission long before the permits are used up; one always fits."""
    gate = make_gate(1_000, max_bytes=10)
    for _ in range(2):
        assert gate.has_room(0.0)
        gate.acquire(0.0)
        gate.add_bytes(6)
    assert not gate.has_room(0.0)
    assert gate.next_change_s(0.0) is None
    gate.release(Release.SUCCESS, 6, 0.0, 1.0)
    assert gate.has_room(1.0)


def test_being_full_of_bytes_does_not_make_the_limit_grow() -> None:
    """Growth only where the limit is what holds the calls back."""
    gate = Gate(AdaptiveLimit(800, cause="assumed"), max_bytes_in_flight=10)
    gate.acquire(0.0)
    gate.add_bytes(10)
    for tick in range(100):
        assert not gate.has_room(tick / 10)
    assert gate.limit.ceiling(10.0) == 10


def test_the_timer_follows_what_opens_first() -> None:
    """A lingering permit's end, or the limit's own growth, whichever comes first."""
    gate = Gate(AdaptiveLimit(2_000, ramp=Ramp()), max_bytes_in_flight=1)
    assert gate.next_change_s(0.0) is None
    assert fill(gate, 0.0) == 1_000
    growth_s = gate.next_change_s(0.0)
    assert growth_s is not None
    assert 0.0 < growth_s < 0.5
    gate.linger(0.001, 0, 0.0)
    assert gate.next_change_s(0.0) == 0.001


def test_a_gate_without_bytes_is_refused() -> None:
    """Named with its value and what is allowed."""
    with pytest.raises(ConfigError, match="max_bytes_in_flight is 0"):
        make_gate(1, max_bytes=0)


class Calls(RuleBasedStateMachine):
    """Any sequence of calls, replies, throttles, losses, limit changes, pauses and cancellations."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.budget = 20
        self.limit = AdaptiveLimit(self.budget, cause="reserved", ramp=Ramp())
        self.gate = Gate(self.limit, max_bytes_in_flight=500)
        self.calls: list[tuple[float, int]] = []  # sent at, bytes
        self.lingering: list[float] = []

    def used(self) -> int:
        return len(self.calls) + sum(until_s > self.now_s for until_s in self.lingering)

    @rule(most=st.integers(1, 30), n_bytes=st.integers(0, 100))
    def start(self, most: int, n_bytes: int) -> None:
        for _ in range(most):
            before = self.used()
            if not self.gate.has_room(self.now_s):
                break
            assert before < self.budget, "a permit above the budget"
            assert before < self.limit.ceiling(self.now_s), "a permit above the ceiling"
            assert sum(n for _, n in self.calls) < 500, "a payload above the bound"
            self.gate.acquire(self.now_s)
            self.gate.add_bytes(n_bytes)
            self.calls.append((self.now_s, n_bytes))

    @rule(payloads=st.lists(st.integers(0, 100), min_size=1, max_size=30))
    def start_several(self, payloads: list[int]) -> None:
        before, room = self.used(), self.gate.room(self.now_s)
        if self.gate.bytes_left <= 0:
            assert not room, "a payload above the bound"
        taken = payloads[:room]
        if not taken:
            return
        assert before + len(taken) <= min(self.budget, self.limit.ceiling(self.now_s))
        self.gate.acquire(self.now_s, len(taken))
        has_more = self.gate.add_bytes(sum(taken))
        assert not has_more or before + len(taken) < self.budget
        self.calls += [(self.now_s, n_bytes) for n_bytes in taken]

    @precondition(lambda self: self.calls)
    @rule(count=st.integers(1, 30))
    def succeed_together(self, count: int) -> None:
        ended, self.calls = self.calls[:count], self.calls[count:]
        n_bytes = sum(n_bytes for _, n_bytes in ended)
        self.gate.release_successes([sent_at_s for sent_at_s, _ in ended], n_bytes, self.now_s)

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), how=st.sampled_from(Release), kind=st.sampled_from(ThrottleKind))
    def end(self, data: st.DataObject, how: Release, kind: ThrottleKind) -> None:
        sent_at_s, n_bytes = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        self.gate.release(how, n_bytes, sent_at_s, self.now_s, kind)

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), for_s=st.floats(-1, 30))
    def lose(self, data: st.DataObject, for_s: float) -> None:
        _, n_bytes = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        self.gate.linger(self.now_s + for_s, n_bytes, self.now_s)
        self.lingering.append(self.now_s + for_s)

    @rule(budget=st.integers(0, 50))
    def change_budget(self, budget: int) -> None:
        self.budget = budget
        self.limit.set_budget(budget, self.now_s)

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @rule()
    def wait_for_the_timer(self) -> None:
        change_s = self.gate.next_change_s(self.now_s)
        if change_s is not None:
            self.now_s = max(self.now_s, change_s)

    @invariant()
    def nothing_is_lost(self) -> None:
        self.gate.has_room(self.now_s)  # lets what has ended go
        assert self.gate.bytes_in_flight == sum(n for _, n in self.calls)
        if self.gate.bytes_in_flight < 500:
            assert self.gate.in_flight == len(self.calls)
            assert self.gate.lingering == self.used() - len(self.calls)

    def teardown(self) -> None:
        for sent_at_s, n_bytes in self.calls:
            self.gate.release(Release.IGNORED, n_bytes, sent_at_s, self.now_s)
        self.calls.clear()
        self.now_s += 100.0
        opens = self.gate.has_room(self.now_s)
        assert opens == (self.budget > 0), "a permit leaked, or the limit is stuck"
        assert (self.gate.in_flight, self.gate.lingering, self.gate.bytes_in_flight) == (0, 0, 0)


TestCalls = Calls.TestCase
TestCalls.settings = settings(max_examples=examples(100), stateful_step_count=40, deadline=None)
