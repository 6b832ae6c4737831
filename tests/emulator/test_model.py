"""What the admission rules promise, in virtual time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fanout.emulator.buckets import Scaling, TokenBucket
from fanout.emulator.model import Account, ControlPlane, FunctionLoad, Grant, Reason


def admit_many(account: Account, load: FunctionLoad, count: int, now_s: float) -> list[Grant | Reason]:
    return [account.admit(load, now_s) for _ in range(count)]


def grants(answers: list[Grant | Reason]) -> list[Grant]:
    return [answer for answer in answers if isinstance(answer, Grant)]


def test_reserved_concurrency_binds_its_function_alone() -> None:
    """The eleventh call at ten reserved is refused, and another function's calls are not."""
    account = Account(1_000)
    reserved, other = account.add("a", 10), account.add("b")
    assert len(grants(admit_many(account, reserved, 10, 0))) == 10
    assert account.admit(reserved, 0) is Reason.RESERVED_CONCURRENCY
    assert isinstance(account.admit(other, 0), Grant)


def test_unreserved_functions_share_what_is_left() -> None:
    """Two functions without a reservation together get the account's limit less what is reserved."""
    account = Account(150)
    account.add("r", 50)
    one, two = account.add("a"), account.add("b")
    admit_many(account, one, 60, 0)
    answers = admit_many(account, two, 60, 0)
    assert len(grants(answers)) == 40
    assert answers[-1] is Reason.CONCURRENCY


def test_a_release_makes_room_for_one() -> None:
    """After a release exactly one more call is admitted, in a warm environment."""
    account = Account()
    load = account.add("a", 1)
    first = account.admit(load, 0)
    assert isinstance(first, Grant)
    assert first.is_cold
    account.release(first)
    second = account.admit(load, 0)
    assert isinstance(second, Grant)
    assert not second.is_cold
    assert account.admit(load, 0) is Reason.RESERVED_CONCURRENCY


def test_a_lost_environment_is_started_anew() -> None:
    """After its environment died the next call is a cold start."""
    account = Account()
    load = account.add("a", 1)
    first = account.admit(load, 0)
    assert isinstance(first, Grant)
    account.release(first, environment_lost=True)
    second = account.admit(load, 0)
    assert isinstance(second, Grant)
    assert second.is_cold


def test_rate_is_ten_times_the_reserved_concurrency() -> None:
    """A function with ten reserved runs 100 calls a second in the long run, whatever their length."""
    account = Account()
    load = account.add("a", 10)
    admitted = 0
    for step in range(10_000):
        answer = account.admit(load, step / 1_000)
        if isinstance(answer, Grant):
            admitted += 1
            account.release(answer)
        else:
            assert answer is Reason.RESERVED_RATE
    assert 1_000 <= admitted <= 1_100


def test_account_rate_binds_functions_without_a_reservation() -> None:
    """The account's rate is ten times its concurrency, over all functions together."""
    account = Account(100)
    one, two = account.add("a"), account.add("b")
    reasons = set()
    admitted = 0
    for load in (one, two) * 600:
        answer = account.admit(load, 0.0)
        if isinstance(answer, Grant):
            admitted += 1
            account.release(answer)
        else:
            reasons.add(answer)
    assert admitted == 1_000
    assert reasons == {Reason.RATE}


def test_events_are_not_metered() -> None:
    """Event calls are bound by concurrency, not by the request rate."""
    account = Account()
    load = account.add("a", 1)
    for _ in range(500):
        answer = account.admit(load, 0, is_metered=False)
        assert isinstance(answer, Grant)
        account.release(answer)


def test_a_function_grows_by_a_thousand_environments_per_ten_seconds() -> None:
    """1,000 at once, 100 more a second after that, and pauses save nothing up."""
    account = Account(10_000)
    load = account.add("a", 5_000)
    assert len(grants(admit_many(account, load, 1_500, 0))) == 1_000
    assert len(grants(admit_many(account, load, 500, 1))) == 100
    assert len(grants(admit_many(account, load, 5_000, 60))) == 1_000
    assert account.admit(load, 60) is Reason.CONCURRENCY


def test_a_functions_rate_grows_by_ten_thousand_per_ten_seconds() -> None:
    """A fast function may not go from nothing to 20,000 requests in its first second."""
    account = Account(10_000)
    load = account.add("a")
    admitted = 0
    for _ in range(20_000):
        answer = account.admit(load, 0)
        if isinstance(answer, Grant):
            admitted += 1
            account.release(answer)
    assert admitted == 10_000
    assert load.throttles[Reason.RATE] == 10_000


def test_provisioned_concurrency_is_warm_and_set_aside() -> None:
    """Calls of a provisioned alias start warm and spill over to the shared pool."""
    account = Account(105)
    load = account.add("a")
    account.set_provisioned(load, "live", 5)
    assert account.unreserved == 100
    first = account.admit(load, 0, qualifier="live")
    assert isinstance(first, Grant)
    assert not first.is_cold
    answers = [account.admit(load, 0, qualifier="live") for _ in range(5)]
    assert [answer.is_cold for answer in grants(answers)] == [False] * 4 + [True]
    for grant in [first, *grants(answers)]:
        account.release(grant)
    assert account.in_flight == 0
    assert len(grants(admit_many(account, load, 200, 0))) == 100


def test_a_hundred_stay_unreserved() -> None:
    """A reservation that would leave less than 100 unreserved is refused; changing one's own counts once."""
    account = Account(1_000)
    load, other = account.add("a", 500), account.add("b")
    assert account.may_reserve(load, 900)
    assert not account.may_reserve(load, 901)
    assert not account.may_reserve(other, 401)


def test_taking_a_reservation_away_moves_its_calls_to_the_shared_pool() -> None:
    """Calls in flight are counted where they belong after the change, and leave nothing behind."""
    account = Account(10)
    load, other = account.add("a", 5), account.add("b")
    held = grants(admit_many(account, load, 5, 0))
    account.set_reserved(load, None, 0)
    assert len(grants(admit_many(account, other, 10, 0))) == 5
    account.set_reserved(load, 5, 0)
    for grant in held:
        account.release(grant)
    assert load.in_flight == 0


def test_a_lowered_limit_lets_calls_finish() -> None:
    """Halving a limit under load admits nothing until enough calls have left."""
    account = Account()
    load = account.add("a", 10)
    held = grants(admit_many(account, load, 10, 0))
    account.set_reserved(load, 5, 0)
    for grant in held[:5]:
        assert account.admit(load, 0) is Reason.RESERVED_CONCURRENCY
        account.release(grant)
    assert account.admit(load, 0) is Reason.RESERVED_CONCURRENCY
    account.release(held[5])
    assert isinstance(account.admit(load, 0), Grant)


def test_reset_forgets_calls_in_flight() -> None:
    """Calls from before a reset are not counted after it, nor when they end."""
    account = Account()
    load = account.add("a", 2)
    held = grants(admit_many(account, load, 2, 0))
    account.reset()
    for grant in held:
        account.release(grant)
    assert (load.in_flight, account.in_flight, load.max_in_flight) == (0, 0, 0)


def test_unenforced_limits_only_count() -> None:
    """Without enforcement nothing is refused, and the counts are still right."""
    account = Account(10, is_enforced=False)
    load = account.add("a", 1)
    held = grants(admit_many(account, load, 5_000, 0))
    assert len(held) == account.max_in_flight == load.max_in_flight == 5_000
    assert sum(grant.is_cold for grant in held) == 5_000


def test_control_plane_has_two_buckets() -> None:
    """GetFunction has 100 a second of its own; the other operations share 15."""
    plane = ControlPlane()
    assert sum(plane.admit("GetFunction", 0) for _ in range(150)) == 100
    assert sum(plane.admit("GetAccountSettings", 0) for _ in range(10)) == 10
    assert sum(plane.admit("ListFunctions", 0) for _ in range(10)) == 5
    assert plane.throttles == 55
    assert sum(plane.admit("ListFunctions", 1) for _ in range(20)) == 15


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(0, 30)), max_size=60), st.integers(1, 50))
def test_a_token_bucket_never_gives_more_than_burst_and_rate(
    steps: list[tuple[float, int]], rate: int
) -> None:
    """Over any span from the start, at most one second's burst and the rate times the span."""
    bucket, now_s, taken = TokenBucket(rate), 0.0, 0
    for pause_s, wanted in steps:
        now_s += pause_s
        for _ in range(wanted):
            if bucket.has_token(now_s):
                bucket.take()
                taken += 1
        assert taken <= rate + rate * now_s + 1e-6


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 40)), max_size=60))
def test_scaling_never_outruns_its_step(steps: list[tuple[float, int]]) -> None:
    """The level never exceeds one step at once and one step per ten seconds after."""
    scaling, now_s = Scaling(20), 0.0
    for pause_s, more in steps:
        now_s += pause_s
        if scaling.allows(scaling.level + more, now_s):
            scaling.reach(scaling.level + more)
        assert scaling.level <= 20 + 20 * now_s / 10 + 1e-6


ACTIONS = st.one_of(
    st.tuples(st.just("admit"), st.integers(0, 2)),
    st.tuples(st.just("release"), st.integers(0, 1_000)),
    st.tuples(st.just("lose"), st.integers(0, 1_000)),
    st.tuples(st.just("reserve"), st.integers(0, 6)),
    st.tuples(st.just("unreserve"), st.just(0)),
    st.tuples(st.just("wait"), st.integers(0, 500)),
    st.tuples(st.just("event"), st.integers(0, 2)),
)


@given(st.lists(ACTIONS, max_size=150))
def test_admission_never_exceeds_a_limit_and_loses_no_place(actions: list[tuple[str, int]]) -> None:
    """Whatever happens: no admission above the limit of its moment, and every count is what is held."""
    account = Account(12)
    loads = [account.add("reserved", 3), account.add("a"), account.add("b")]
    held: list[Grant] = []
    now_s = 0.0
    for action, number in actions:
        match action:
            case "admit" | "event":
                load = loads[number]
                answer = account.admit(load, now_s, is_metered=action == "admit")
                if isinstance(answer, Grant):
                    held.append(answer)
                    shared = sum(other.in_flight for other in loads if other.reserved is None)
                    if load.reserved is not None:
                        assert load.in_flight <= load.reserved
                    else:
                        assert shared <= account.unreserved
            case "release" | "lose" if held:
                account.release(held.pop(number % len(held)), environment_lost=action == "lose")
            case "reserve":
                account.set_reserved(loads[0], number, now_s)
            case "unreserve":
                account.set_reserved(loads[0], None, now_s)
            case "wait":
                now_s += number / 100
        for load in loads:
            assert load.in_flight == sum(grant.load is load for grant in held)
            assert load.in_flight <= load.max_in_flight
        assert account.in_flight == len(held)
    for grant in held:
        account.release(grant)
    assert account.in_flight == 0
    account.set_reserved(loads[0], 0, now_s)
    assert len(grants([account.admit(loads[1], now_s + 100) for _ in range(20)])) == 12
