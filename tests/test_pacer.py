"""When calls may start: rates held in virtual time, without bursts and without drift."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from fanout.errors import ConfigError
from fanout.pacer import Pacer

pytestmark = pytest.mark.looptime


class Caller:
    """Takes every token it can get, as the dispatcher's pump does, and notes when."""

    def __init__(self, pacer: Pacer) -> None:
        self.pacer = pacer
        self.taken_at_s: list[float] = []
        self.is_hungry = True

    def pump(self) -> None:
        while self.is_hungry and len(self.taken_at_s) < 200_000 and self.pacer.try_take():
            self.taken_at_s.append(asyncio.get_running_loop().time())

    def between(self, from_s: float, to_s: float) -> int:
        return bisect_left(self.taken_at_s, to_s) - bisect_left(self.taken_at_s, from_s)

    def most_in_a_window(self, seconds: float) -> int:
        times = self.taken_at_s
        return max(bisect_left(times, start + seconds) - i for i, start in enumerate(times))


@asynccontextmanager
async def calling(pacer: Pacer) -> AsyncIterator[Caller]:
    caller = Caller(pacer)
    task = asyncio.create_task(pacer.run(caller.pump))
    caller.pump()
    try:
        yield caller
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def busy_pacer(rate: float) -> Pacer:
    """A pacer whose calls ran at the full rate for the second before time 0."""
    pacer = Pacer(rate)
    for n in range(round(rate) * 2):
        pacer.on_success(n / rate - 2.0)
    return pacer


@pytest.mark.parametrize("rate", [0.5, 3.0, 100.0, 10_000.0])
async def test_the_rate_is_held(rate: float) -> None:
    """Within 3 % over seconds, from the first second on; never more than a few milliseconds' worth above."""
    seconds = max(5.0, 20 / rate)
    async with calling(Pacer(rate)) as caller:
        start_s = asyncio.get_running_loop().time()
        await asyncio.sleep(seconds)
    expected = rate * seconds
    assert caller.between(start_s, start_s + seconds) == pytest.approx(expected, rel=0.03, abs=1.5)
    assert caller.most_in_a_window(1.0) <= rate * 1.006 + 1
    assert caller.most_in_a_window(0.001) <= rate * 0.011 + 1  # no burst at the start either


async def test_without_a_rate_every_call_may_start() -> None:
    """No budget, no wait, no task needed."""
    pacer = Pacer(None)
    assert all(pacer.try_take() for _ in range(10_000))
    assert pacer.rate_now is None


async def test_a_late_waiter_catches_up_by_a_few_milliseconds_worth_only() -> None:
    """A stall of the event loop costs little; after a long one, 3 % of a second's worth at most."""
    async with calling(Pacer(1_000.0)) as caller:
        await asyncio.sleep(1.0)
        for stall_s, caught_up in ((0.02, 20), (1.0, 30)):
            caller.is_hungry = False
            await asyncio.sleep(stall_s)
            caller.is_hungry = True
            resumed_s = asyncio.get_running_loop().time()
            caller.pump()
            await asyncio.sleep(0.5)
            assert caller.between(resumed_s, resumed_s + 0.5) == pytest.approx(500 + caught_up, abs=7)


async def test_unused_time_is_not_saved_up() -> None:
    """After an idle minute the next second has one second's worth of calls."""
    async with calling(Pacer(1_000.0)) as caller:
        await asyncio.sleep(1.0)
        caller.is_hungry = False
        await asyncio.sleep(60.0)
        caller.is_hungry = True
        resumed_s = asyncio.get_running_loop().time()
        caller.pump()
        await asyncio.sleep(1.0)
        assert caller.between(resumed_s, resumed_s + 1.0) <= 1_031


async def test_nobody_waiting_means_no_timer() -> None:
    """The waiter takes tokens only when somebody asked: an idle dispatcher does not wake up."""
    pacer = Pacer(1_000.0)
    woken = 0

    def on_tokens() -> None:
        nonlocal woken
        woken += 1

    task = asyncio.create_task(pacer.run(on_tokens))
    await asyncio.sleep(10.0)
    assert woken == 0
    assert not pacer.try_take()
    await asyncio.sleep(10.0)
    assert woken == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_token_not_used_goes_to_the_next_call() -> None:
    """A pull that found no record costs no token."""
    async with calling(Pacer(1.0)) as caller:
        await asyncio.sleep(2.5)
        caller.is_hungry = False
        taken = len(caller.taken_at_s)
        caller.pacer.give_back()
        assert caller.pacer.try_take()
        assert not caller.pacer.try_take()
        assert taken == len(caller.taken_at_s)


async def test_a_throttle_slows_down_once_per_round_trip() -> None:
    """Throttles of calls sent before the last cut do not cut again."""
    pacer = busy_pacer(100.0)
    for sent_at_s in (0.90, 0.95, 0.99):
        pacer.on_throttle(1.0, sent_at_s=sent_at_s)
    assert pacer.rate_now == pytest.approx(70.0)
    pacer.on_throttle(1.2, sent_at_s=1.1)
    assert pacer.rate_now == pytest.approx(49.0)


async def test_throttles_of_calls_with_unknown_sending_time_cut_ten_times_a_second_at_most() -> None:
    """Without the sending time, a tenth of a second stands for the round trip."""
    pacer = busy_pacer(100.0)
    for hundredth in range(10):
        pacer.on_throttle(1.0 + hundredth / 100)
    assert pacer.rate_now == pytest.approx(70.0)


async def test_a_rate_far_above_what_lambda_takes_is_found_in_two_cuts() -> None:
    """An assumed rate of 10,000/s where 100/s pass: down by tenths to the pace that passed."""
    pacer = Pacer(10_000.0)
    for n in range(200):
        pacer.on_success(10.0 + n / 100)
    pacer.on_throttle(12.0, sent_at_s=11.99)
    pacer.on_throttle(12.1, sent_at_s=12.09)
    assert pacer.rate_now == pytest.approx(70.0, rel=0.1)
    for tenth in range(1, 11):
        pacer.on_success(12.1 + tenth / 10)
    assert (pacer.rate_now or 0.0) < 100.0  # and does not shoot up again towards the assumption


async def test_the_rate_recovers_to_the_budget_and_no_further() -> None:
    """Five seconds after a cut, all is as before."""
    pacer = busy_pacer(100.0)
    pacer.on_throttle(0.0)
    rates = []
    for tenth in range(1, 100):
        pacer.on_success(tenth / 10)
        rates.append(pacer.rate_now or 0.0)
    assert rates == sorted(rates)
    assert rates[0] > 70.0  # by every twentieth of a second, not in steps of one
    assert rates[24] < 90.0
    assert rates[-1] == 100.0


async def test_a_rate_throttle_without_a_budget_starts_from_the_measured_rate() -> None:
    """Nobody gave a rate; the pace of the last second is where slowing down begins."""
    pacer = Pacer(None)
    for n in range(2_000):
        pacer.on_success(n / 400)
    pacer.on_throttle(5.0)
    assert pacer.rate_now == pytest.approx(0.7 * 400, rel=0.05)


async def test_the_measured_rate_is_that_of_one_whole_second() -> None:
    """A window ends with its second, and the next counts from nothing."""
    pacer = Pacer(None)
    for tenth in range(1, 11):
        pacer.on_success(tenth / 10, count=40)
    for tenth in range(11, 16):
        pacer.on_success(tenth / 10, count=2)
    pacer.on_throttle(1.5)
    assert pacer.rate_now == pytest.approx(0.7 * 400)


@pytest.mark.parametrize("rate", [100.0, None])
async def test_retry_after_pauses_all_calls(rate: float | None) -> None:
    """Nothing starts before the time that Lambda named, with a rate or without."""
    pacer = Pacer(rate)
    pacer.on_throttle(asyncio.get_running_loop().time(), 2.0)
    async with calling(pacer) as caller:
        await asyncio.sleep(1.99)
        assert not caller.taken_at_s
        await asyncio.sleep(0.5)
        assert caller.taken_at_s


async def test_a_new_rate_holds_within_a_tenth_of_a_second() -> None:
    """Turned up or down in mid-run, even while a slow token is being waited for."""
    async with calling(Pacer(0.01)) as caller:
        await asyncio.sleep(1.0)
        caller.pacer.set_rate(100.0)
        start_s = asyncio.get_running_loop().time()
        await asyncio.sleep(2.0)
        assert caller.between(start_s, start_s + 2.0) == pytest.approx(198, abs=8)
        caller.pacer.set_rate(10.0)
        start_s = asyncio.get_running_loop().time()
        await asyncio.sleep(2.0)
        assert caller.between(start_s, start_s + 2.0) == pytest.approx(20, abs=2)
        caller.is_hungry = False
        caller.pacer.set_rate(None)
        assert caller.pacer.try_take()


async def test_a_rate_slowed_by_throttles_is_not_raised_by_a_higher_budget() -> None:
    """The budget says what may be, the throttles what is."""
    pacer = busy_pacer(100.0)
    pacer.on_throttle(1.0)
    pacer.set_rate(200.0)
    assert pacer.rate_now == pytest.approx(70.0)
    pacer.set_rate(50.0)
    assert pacer.rate_now == 50.0


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
async def test_an_impossible_rate_is_refused(rate: float) -> None:
    """Named with its value and what is allowed."""
    with pytest.raises(ConfigError, match="rate is"):
        Pacer(rate)


async def test_cancelling_leaves_nothing_behind() -> None:
    """The waiter ends at once, also in the middle of a wait, and can be started again."""
    pacer = Pacer(1.0)
    for _ in range(2):
        async with calling(pacer) as caller:
            await asyncio.sleep(0.3)
        assert len(caller.taken_at_s) <= 1
    assert len(asyncio.all_tasks()) == 1


async def test_a_pause_without_a_rate_holds_all_calls() -> None:
    """And ends by itself."""
    pacer = Pacer(None)
    assert pacer.try_take()
    loop = asyncio.get_running_loop()
    pacer.pause_until(loop.time() + 3.0)
    assert not pacer.try_take()
    woken = asyncio.Event()
    running = asyncio.create_task(pacer.run(woken.set))
    began_s = loop.time()
    await woken.wait()
    assert loop.time() - began_s == pytest.approx(3.0, abs=0.01)
    assert pacer.try_take()
    running.cancel()
