"""How many calls may be in flight: samples in, ceilings out."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fanout.errors import ConfigError
from fanout.gate import Gate, Release
from fanout.limit import AdaptiveLimit, Cause, ManagedRamp, Ramp
from fanout.limit.adaptive import KEEP, PLATEAU_CALLS, START, STRAYS_AHEAD
from fanout.limit.ramp import LAG_S
from fanout.model import ThrottleKind

CONCURRENCY = ThrottleKind.CONCURRENCY


def keep_full(limit: AdaptiveLimit, from_s: float, to_s: float, *, calls_per_s: float = 1_000.0) -> int:
    """Let the limit alone hold calls back for a while, while calls succeed; the ceiling at the end."""
    steps = round((to_s - from_s) / 0.01)
    successes = 0.0
    for step in range(1, steps + 1):
        now_s = from_s + step * 0.01
        successes += calls_per_s * 0.01
        while successes >= 1:
            limit.on_successes([now_s - 0.1], now_s, limit.ceiling(now_s))
            successes -= 1
        limit.on_full(limit.ceiling(now_s), now_s)
    return limit.ceiling(to_s)


def throttle(limit: AdaptiveLimit, now_s: float, accepted: int, *, sent_at_s: float | None = None) -> int:
    limit.on_throttle(CONCURRENCY, now_s if sent_at_s is None else sent_at_s, now_s, None, accepted)
    return limit.ceiling(now_s)


def known(budget: int) -> AdaptiveLimit:
    """A known budget whose first refusals, which may be strays, have been."""
    limit = AdaptiveLimit(budget, cause="reserved")
    for _ in range(int(STRAYS_AHEAD * budget)):
        assert throttle(limit, -1.0, accepted=budget - 1) == budget
    return limit


def hundred() -> AdaptiveLimit:
    """A known budget of 100, whose first refusals, which may be strays, have been."""
    return known(100)


@pytest.mark.parametrize("cause", ["reserved", "account", "provisioned", "fixed"])
def test_a_known_budget_is_filled_from_the_first_moment(cause: Cause) -> None:
    """Reserved 50 means 50 at once: no slow start where the number is known."""
    assert AdaptiveLimit(50, cause=cause).ceiling(0.0) == 50


def test_an_assumed_budget_starts_low_and_doubles_every_half_second() -> None:
    """Where nothing is known, the first calls are few and the limit is found in seconds."""
    limit = AdaptiveLimit(800, cause="assumed")
    assert limit.ceiling(0.0) == START
    assert keep_full(limit, 0.0, 0.5) == pytest.approx(21, abs=3)
    assert keep_full(limit, 0.5, 4.0) == 800


def test_an_assumed_budget_smaller_than_the_start_is_the_start() -> None:
    """Never above the budget, not even at the start."""
    assert AdaptiveLimit(3, cause="assumed").ceiling(0.0) == 3


def test_a_throttle_cuts_in_proportion_to_the_share_of_a_known_budget() -> None:
    """Who has all of it gives up half, who has a tenth gives up a twentieth of that."""
    assert throttle(AdaptiveLimit(100), 1.0, accepted=99) == 100  # a few in a hundred may be strays
    assert throttle(hundred(), 1.0, accepted=99) == 43  # plateau 84.4, cut by 49.5 %
    assert throttle(hundred(), 1.0, accepted=10) == 10  # 9.5


def test_an_assumed_budget_keeps_a_fixed_share_of_what_was_accepted() -> None:
    """Without a known budget nobody knows one's share of it."""
    limit = AdaptiveLimit(800, cause="assumed")
    keep_full(limit, 0.0, 2.0)
    assert throttle(limit, 2.0, accepted=60) == round(60 * KEEP)


def test_one_round_trip_cuts_once() -> None:
    """Throttles of calls sent before the last cut do not cut again: they say what was accepted."""
    limit = AdaptiveLimit(800, cause="assumed")
    keep_full(limit, 0.0, 3.0)
    for refused in range(1, 51):  # 100 were sent at once, and 50 of them refused
        throttle(limit, 3.0 + refused / 1e4, 100 - refused, sent_at_s=2.99)
    assert limit.ceiling(3.1) == round(50 * KEEP)


def test_a_throttle_of_a_call_sent_after_the_cut_cuts_again() -> None:
    """Still refused at the lower level: it is too high."""
    limit = hundred()
    first = throttle(limit, 1.0, accepted=60)
    assert throttle(limit, 1.2, accepted=first - 1, sent_at_s=1.1) < first


def test_a_late_answer_from_before_the_cut_says_nothing() -> None:
    """After the level has grown again, a throttle from before the cut changes nothing."""
    limit = hundred()
    throttle(limit, 1.0, accepted=60)
    grown = keep_full(limit, 1.0, 1.5)
    assert throttle(limit, 1.5, accepted=40, sent_at_s=0.9) == grown


def test_the_level_comes_back_fast_then_waits_on_the_plateau() -> None:
    """Most of a cut is won back in half a second; the last known answer is tested carefully."""
    limit = hundred()
    cut = throttle(limit, 0.0, accepted=40)
    half_way = keep_full(limit, 0.0, 0.5)
    assert half_way - cut >= 0.8 * (40 - cut)
    assert keep_full(limit, 0.5, 1.1) == 40


def test_capacity_that_comes_back_is_found_within_five_seconds() -> None:
    """A limit that was doubled: the probe beyond the plateau gets faster and faster."""
    for budget in (100, 4_000):
        limit = AdaptiveLimit(budget)
        throttle(limit, 0.0, accepted=50)
        assert keep_full(limit, 0.0, 5.0) >= 100
    for plateau in (5, 50, 500):
        limit = AdaptiveLimit(4_000, cause="assumed")
        keep_full(limit, -10.0, 0.0)
        throttle(limit, 0.0, accepted=plateau)
        assert keep_full(limit, 0.0, 5.0, calls_per_s=10 * plateau) >= 2 * plateau


def test_calls_that_ran_pay_for_the_next_probe_of_an_assumed_budget() -> None:
    """Few calls, few probes: refused attempts stay a small share of all."""
    slow, fast = AdaptiveLimit(800, cause="assumed"), AdaptiveLimit(800, cause="assumed")
    for limit, calls_per_s in ((slow, PLATEAU_CALLS / 4), (fast, PLATEAU_CALLS * 4)):
        throttle(limit, 0.0, accepted=10)
        keep_full(limit, 0.0, 2.5, calls_per_s=calls_per_s)
    assert slow.ceiling(2.5) <= 10 < fast.ceiling(2.5)


def test_it_grows_only_while_it_holds_calls_back() -> None:
    """No demand, no growth: an idle client does not come back with a burst."""
    limit = hundred()
    cut = throttle(limit, 0.0, accepted=50)
    for tenth in range(100):
        limit.on_successes([tenth / 10], tenth / 10, 4)
    assert limit.ceiling(10.0) == cut
    assert limit.on_full(cut, 10.0)
    assert limit.ceiling(10.0) <= cut + 4  # the time without demand does not count


def test_it_stands_still_while_more_is_in_flight_than_it_says() -> None:
    """A cut takes effect first, however long the calls take."""
    limit = hundred()
    cut = throttle(limit, 0.0, accepted=60)
    for tick in range(500):
        assert not limit.on_full(60, tick / 100)
        assert limit.ceiling(tick / 100) == cut


def test_a_limit_that_accepts_nothing_is_asked_more_and_more_rarely() -> None:
    """20 ms, 40, 80 … half a second; one success and it begins again."""
    limit, now_s, pauses = known(50), 0.0, []
    for _ in range(8):
        throttle(limit, now_s, accepted=0)
        assert limit.ceiling(now_s) == 0
        resumes_s = limit.next_growth_s(now_s)
        assert resumes_s is not None
        assert limit.cause(now_s) == "throttles"
        pauses.append(round(resumes_s - now_s, 3))
        now_s = resumes_s
        assert limit.ceiling(now_s) == 1
    assert pauses == [0.02, 0.04, 0.08, 0.16, 0.32, 0.5, 0.5, 0.5]
    limit.on_successes([now_s], now_s + 0.1, 1)
    throttle(limit, now_s + 1, accepted=0)
    assert limit.next_growth_s(now_s + 1) == pytest.approx(now_s + 1.02)


def test_retry_after_keeps_the_level_down_until_then() -> None:
    """No growth before the time that Lambda named."""
    limit = hundred()
    limit.on_throttle(CONCURRENCY, 0.0, 0.0, 3.0, 50)
    cut = limit.ceiling(0.0)
    assert keep_full(limit, 0.0, 2.9) == cut
    assert keep_full(limit, 2.9, 4.5) > cut


def test_an_unknown_kind_cuts_half_as_deep_and_rates_not_at_all() -> None:
    """The pacer answers for rates; what nobody knows is taken gently by both."""
    ceilings = {}
    for kind in ThrottleKind:
        limit = hundred()
        limit.on_throttle(kind, 0.0, 0.0, None, 50)
        ceilings[kind] = limit.ceiling(0.0)
    assert ceilings[ThrottleKind.RATE] == 100
    assert ceilings[ThrottleKind.WAIT] == 0
    assert ceilings[CONCURRENCY] == 38
    assert ceilings[ThrottleKind.UNKNOWN] == 44


def test_a_wait_pauses_admission_and_cuts_nothing() -> None:
    """A snapshot is being made: all calls wait, once per round trip and at least as long as Lambda says."""
    limit = hundred()
    for refused in range(1, 51):
        limit.on_throttle(ThrottleKind.WAIT, 0.0, refused / 1e4, None, 100 - refused)
    assert limit.ceiling(0.02) == 0
    assert limit.ceiling(0.021) == 100
    limit.on_throttle(ThrottleKind.WAIT, 1.0, 1.0, 3.0, 99)
    assert limit.ceiling(3.9) == 0
    assert limit.ceiling(4.0) == 100


def test_a_higher_budget_is_filled_at_once_unless_throttles_had_set_the_level() -> None:
    """A limit that was raised is used at once; a level that others hold down is not blown up."""
    free, held = AdaptiveLimit(50), known(50)
    throttle(held, 0.0, accepted=30)
    for limit in (free, held):
        limit.set_budget(200, 1.0)
    assert free.ceiling(1.0) == 200
    assert held.ceiling(1.0) < 30


def test_a_lower_budget_holds_at_once() -> None:
    """What is in flight finishes; nothing is added."""
    limit = AdaptiveLimit(50)
    limit.set_budget(20, 1.0)
    assert limit.ceiling(1.0) == 20


def test_a_budget_found_after_all_is_filled_at_once() -> None:
    """Discovery was denied at the start and works now."""
    limit = AdaptiveLimit(800, cause="assumed")
    limit.set_budget(50, 1.0, "reserved")
    assert limit.ceiling(1.0) == 50
    assert limit.cause(1.0) == "reserved"


def test_a_refreshed_assumption_is_not_filled_at_once() -> None:
    """Another guess is still a guess."""
    limit = AdaptiveLimit(800, cause="assumed")
    limit.set_budget(900, 1.0, "assumed")
    assert limit.ceiling(1.0) == START


def test_the_cause_names_what_holds_the_calls_back() -> None:
    """For the progress line and `fanout limits`."""
    assert AdaptiveLimit(50, cause="reserved").cause(0.0) == "reserved"
    assert AdaptiveLimit(800, cause="assumed").cause(0.0) == "assumed"
    assert AdaptiveLimit(3_000, cause="account", ramp=Ramp()).cause(0.0) == "ramp"
    limit = known(50)
    throttle(limit, 0.0, accepted=30)
    assert limit.cause(0.0) == "throttles"


def test_a_full_known_budget_needs_no_timer() -> None:
    """Nothing can grow without an event."""
    assert AdaptiveLimit(50).next_growth_s(1.0) is None


def test_a_negative_budget_is_refused() -> None:
    """Named with its value and what is allowed; zero is Lambda's own way to say no."""
    with pytest.raises(ConfigError, match="budget is -1"):
        AdaptiveLimit(-1)
    with pytest.raises(ConfigError, match="budget is -1"):
        AdaptiveLimit(1).set_budget(-1, 0.0)
    assert AdaptiveLimit(0).ceiling(0.0) == 0


def test_the_ramp_lets_a_thousand_start_at_once_and_a_hundred_more_a_second() -> None:
    """Lambda's scaling rule, refilled continuously."""
    limit = AdaptiveLimit(3_000, ramp=Ramp())
    assert limit.ceiling(0.0) == 1_000
    limit.on_peak(1_000, 0.0)
    assert limit.ceiling(LAG_S) == 1_000
    assert limit.next_growth_s(LAG_S) == pytest.approx(LAG_S + 0.01)
    assert limit.ceiling(LAG_S + 0.011) == 1_001
    used = 1_000
    for second in range(1, 30):
        used = limit.ceiling(LAG_S + second)
        limit.on_peak(used, LAG_S + second)
    assert used == 3_000
    assert limit.cause(40.0) == "fixed"


def test_growth_that_is_not_used_is_not_carried_over() -> None:
    """After any pause, one thousand above what was warm: never two."""
    ramp = Ramp()
    ramp.on_peak(500, 0.0)
    assert ramp.ceiling(200.0) == 1_500


def test_what_was_in_flight_before_is_free() -> None:
    """Warm environments take no token."""
    ramp = Ramp()
    ramp.on_peak(1_000, 0.0)
    ramp.on_peak(1_000, 0.1)
    assert ramp.ceiling(0.1) == 1_000
    assert ramp.ceiling(5 + LAG_S) == 1_500


def test_environments_go_cold_when_idle_for_minutes() -> None:
    """A burst after a long pause starts with a thousand again."""
    ramp = Ramp()
    ramp.on_peak(1_000, 0.0)
    ramp.on_peak(1_700, 20.0)
    ramp.on_peak(1, 700.0)
    assert ramp.warm == 1
    assert ramp.ceiling(700.0) == 1_001


def test_a_gate_idle_for_an_hour_starts_cold() -> None:
    """The first call after the pause tells the ramp that time has passed."""
    gate = Gate(AdaptiveLimit(5_000, ramp=Ramp(3_000)), max_bytes_in_flight=1)
    for now_s in (0.0, 3_600.0):
        used = 0
        while gate.has_room(now_s):
            gate.acquire(now_s)
            used += 1
        assert used == (4_000 if now_s == 0.0 else 1_001)  # the first call found the old peak
        for _ in range(used):
            gate.release(Release.IGNORED, 0, now_s, now_s + 1)


def test_environments_in_steady_use_stay_warm() -> None:
    """Hours of the same load never look like a cold start, and take no token."""
    gate = Gate(AdaptiveLimit(5_000, ramp=Ramp()), max_bytes_in_flight=1)
    for _ in range(900):
        gate.acquire(0.0)
    for minute in range(120):
        gate.release(Release.SUCCESS, 0, minute * 60.0 - 1, minute * 60.0)
        gate.acquire(minute * 60.0)
    assert gate.limit.ceiling(7_200.0) == 1_900


def test_provisioned_environments_are_warm_from_the_start() -> None:
    """They need no scaling."""
    assert AdaptiveLimit(2_500, cause="provisioned", ramp=Ramp(2_500)).ceiling(0.0) == 2_500


EVENT = st.one_of(
    st.tuples(st.just("success"), st.floats(0, 1), st.integers(0, 50)),
    st.tuples(st.sampled_from(list(ThrottleKind)), st.floats(0, 2), st.integers(0, 50)),
    st.tuples(st.just("full"), st.floats(0, 1), st.integers(0, 3)),
    st.tuples(st.just("budget"), st.floats(0, 1), st.integers(0, 3_000)),
)


@given(
    st.integers(0, 3_000),
    st.sampled_from(["assumed", "reserved", "fixed"]),
    st.booleans(),
    st.lists(EVENT, max_size=60),
)
def test_whatever_happens_the_ceiling_stays_between_nothing_and_the_budget(
    budget: int, cause: Cause, has_ramp: bool, events: list[tuple[str | ThrottleKind, float, int]]
) -> None:
    """Never above the budget; never stuck: with a budget, some time brings at least one permit."""
    limit = AdaptiveLimit(budget, cause=cause, ramp=Ramp() if has_ramp else None)
    now_s = 0.0
    for what, wait_s, n in events:
        now_s += wait_s
        if what == "success":
            limit.on_successes([now_s - wait_s], now_s, n + 1)
        elif what == "full":
            limit.on_full(limit.ceiling(now_s) + n, now_s)
        elif what == "budget":
            budget = n
            limit.set_budget(n, now_s)
        else:
            assert isinstance(what, ThrottleKind)
            limit.on_throttle(what, now_s - wait_s, now_s, None, n)
        assert 0 <= limit.ceiling(now_s) <= budget
    assert limit.ceiling(now_s + 1.0) >= min(1, budget)


def test_managed_instances_double_every_five_minutes_at_the_most() -> None:
    """Beginning with what a new version takes; what is not used does not grow."""
    ramp = ManagedRamp(48)
    assert [ramp.ceiling(now_s) for now_s in (0.0, 1_000.0)] == [48, 48]
    ramp.on_peak(48, 1_000.0)
    assert [ramp.ceiling(now_s) for now_s in (1_001.0, 1_299.0)] == [48, 48]
    assert ramp.next_growth_s(1_100.0) == 1_300.0
    assert ramp.ceiling(1_300.0) == 96
    ramp.on_peak(60, 1_301.0)
    assert [ramp.ceiling(1_599.0), ramp.ceiling(1_600.0)] == [96, 120]
    assert ramp.ceiling(10_000.0) == 120


def test_a_limit_on_managed_instances_is_held_back_by_their_scaling() -> None:
    """The budget is there, the instances are not yet."""
    limit = AdaptiveLimit(800, cause="managed", ramp=ManagedRamp(48))
    assert (limit.ceiling(0.0), limit.cause(0.0)) == (48, "ramp")


@settings(max_examples=30)
@example(budget=1_500, steps=[(0, 800), (20, 700), (0, -1_500), (700, 1), (0.1, -1), (0.1, 1_500)])
@given(
    budget=st.integers(1, 4_000),
    steps=st.lists(
        st.tuples(st.sampled_from([0.0, 0.1, 2.0, 250.0, 700.0]), st.integers(-800, 800)), max_size=40
    ),
)
def test_what_the_ramp_allowed_before_never_allows_more_than_it_does_now(
    budget: int, steps: list[tuple[float, int]]
) -> None:
    """The ramp is asked only where it may hold calls back; the ceiling is as if it were always asked."""
    ramp, gate_ramp = Ramp(), Ramp()
    gate = Gate(AdaptiveLimit(budget, ramp=gate_ramp), max_bytes_in_flight=1 << 30)
    used, now_s = 0, 0.0
    for wait_s, change in steps:
        now_s += wait_s
        for _ in range(change):
            allowed = used < min(budget, max(ramp.warm, ramp.ceiling(now_s)))
            assert gate.has_room(now_s) == allowed
            if not allowed:
                break
            gate.acquire(now_s)
            used += 1
            if used > ramp.peak or now_s >= ramp.peak_until_s:
                ramp.on_peak(used, now_s)
        for _ in range(min(used, -change)):
            gate.release(Release.SUCCESS, 0, now_s, now_s)
            used -= 1
