"""Calls that go out at once and are settled by their replies; no task waits for them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fanout import Dispatcher
from fanout.dispatcher.call import CALLS_A_TURN, Attempt
from fanout.dispatcher.schedule import Schedule
from fanout.dispatcher.settlement import Settlement
from fanout.model import Outcome
from tests.scripted import PromptScripted, function_error, lost, ok, throttled, unreached

pytestmark = pytest.mark.looptime


async def warm(dispatcher: Dispatcher, calls: int = 1) -> None:
    """Let calls leave their connections behind."""
    await asyncio.gather(*(dispatcher.invoke(f"warm {number}") for number in range(calls)))


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (ok(), "succeeded"),
        (function_error(), "function_error"),
        (lost(), "unknown"),
        (unreached(), "undelivered"),
        (ZeroDivisionError("of the transport"), "unknown"),
    ],
)
async def test_whatever_the_end_the_outcome_is_the_same(answer: Any, status: str) -> None:
    """As where a task sends; and the permit comes back, or lingers."""
    world = PromptScripted(lambda call: ok() if call.number == 0 else answer, latency_s=0.1)
    async with Dispatcher("f", transport=world, concurrency=1, retries=0, outage_patience=0) as dispatcher:
        await warm(dispatcher)
        outcome = await dispatcher.invoke({"n": 1})
        assert outcome.status == status
        assert outcome.attempts == 1
        assert outcome.duration_ms == pytest.approx(100, abs=1)
        assert dispatcher.snapshot().in_flight == 0
        assert dispatcher.snapshot().lingering == (status == "unknown")
    assert world.begun == 1


async def test_a_refusal_is_sent_again_the_ordinary_way() -> None:
    """A throttle costs no attempt here either."""
    world = PromptScripted([ok(), throttled(), ok()], latency_s=0.1)
    async with Dispatcher("f", transport=world, concurrency=1) as dispatcher:
        await warm(dispatcher)
        outcome = await dispatcher.invoke(1)
    assert (outcome.status, outcome.attempts, outcome.throttles) == ("succeeded", 1, 1)


async def test_a_caller_who_gives_up_leaves_his_call_out() -> None:
    """It keeps its permit until the reply comes; then the next goes out."""
    world = PromptScripted(latency_s=1.0)
    loop = asyncio.get_running_loop()
    async with Dispatcher("f", transport=world, concurrency=1) as dispatcher:
        await warm(dispatcher)
        began_s = loop.time()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(dispatcher.invoke("given up"), 0.2)
        assert dispatcher.snapshot().in_flight == 1
        assert (await dispatcher.invoke("next")).ok
        assert loop.time() - began_s == pytest.approx(2.0, abs=0.01)
        assert dispatcher.snapshot().counts == {"succeeded": 3}
    assert world.most_in_flight == 1


async def test_callers_are_served_in_the_order_of_asking() -> None:
    """Who comes as a permit comes free does not pass those that wait."""
    world = PromptScripted(latency_s=1.0)
    async with Dispatcher("f", transport=world, concurrency=1) as dispatcher:
        await warm(dispatcher)
        waiting = [asyncio.create_task(dispatcher.invoke(number)) for number in range(3)]
        await asyncio.sleep(1.0)
        waiting.append(asyncio.create_task(dispatcher.invoke(3)))
        await asyncio.gather(*waiting)
    assert world.bodies[1:] == [0, 1, 2, 3]


async def test_closing_waits_for_calls_that_no_task_waits_for() -> None:
    """And those that wait for a permit are undelivered, as ever."""
    world = PromptScripted(latency_s=1.0)
    dispatcher = await Dispatcher("f", transport=world, concurrency=2).open()
    await warm(dispatcher, 2)
    calls = [asyncio.create_task(dispatcher.invoke(number)) for number in range(3)]
    await asyncio.sleep(0.1)
    await dispatcher.aclose()
    assert [(await call).status for call in calls] == ["succeeded", "succeeded", "undelivered"]
    assert world.begun == 2


async def test_closing_in_time_cuts_them_off() -> None:
    """They may have run; their late ends change nothing."""
    world = PromptScripted(latency_s=1.0)
    dispatcher = await Dispatcher("f", transport=world, concurrency=2).open()
    await warm(dispatcher, 2)
    calls = [asyncio.create_task(dispatcher.invoke(number)) for number in range(2)]
    await asyncio.sleep(0.1)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    await dispatcher.aclose(0.3)
    assert loop.time() - began_s == pytest.approx(0.3, abs=0.01)
    assert [(await call).status for call in calls] == ["unknown", "unknown"]
    await asyncio.sleep(2.0)
    assert dispatcher.engine.gate.in_flight == 0


async def test_a_hedged_call_is_sent_by_a_task() -> None:
    """Which can be cut off when its copy succeeds."""
    world = PromptScripted(latency_s=0.1)
    async with Dispatcher("f", transport=world, concurrency=2, idempotent=True, hedge=True) as dispatcher:
        await warm(dispatcher, 2)
        assert (await dispatcher.invoke(1)).ok
    assert world.begun == 0


async def test_a_payload_that_is_no_json_holds_no_permit() -> None:
    """It is found out when nothing else waits, with a permit free: the next call gets that one."""
    world = PromptScripted(latency_s=0.1)
    async with Dispatcher("f", transport=world, concurrency=1) as dispatcher:
        await warm(dispatcher)
        rejected = await dispatcher.invoke(b"{")
        assert (rejected.status, rejected.seq, rejected.input_raw is None) == ("rejected", 1, False)
        health = dispatcher.snapshot()
        assert (health.in_flight, health.queued) == (0, 0)
        async with asyncio.timeout(1):
            assert (await dispatcher.invoke(b"{}", key="own")).key == "own"


async def test_a_call_with_a_free_permit_overtakes_nobody() -> None:
    """While the dispatcher is paused calls wait; what comes when it goes on comes after them."""
    world = PromptScripted(latency_s=0.1)
    async with Dispatcher("f", transport=world, concurrency=1) as dispatcher:
        await warm(dispatcher)
        dispatcher.tune(pause=True)
        order: list[int] = []

        async def call(number: int) -> None:
            await dispatcher.invoke(number)
            order.append(number)

        calls = [asyncio.create_task(call(number)) for number in range(3)]
        await asyncio.sleep(0.5)
        dispatcher.tune(pause=False)
        await asyncio.gather(call(3), *calls)
    assert order == [0, 1, 2, 3]


async def test_replies_that_come_together_leave_turns_of_the_loop_to_others() -> None:
    """Of a hundred at once some are settled in each turn: whoever else is on the loop waits for no more."""
    world = PromptScripted(latency_s=0.1)
    loop = asyncio.get_running_loop()
    turn = 0
    turns: list[int] = []

    def next_turn() -> None:
        nonlocal turn
        turn += 1
        if len(turns) < 100:
            loop.call_soon(next_turn)

    async def call(number: int) -> None:
        assert (await dispatcher.invoke(number)).ok
        turns.append(turn)

    async with Dispatcher("f", transport=world, concurrency=100) as dispatcher:
        await warm(dispatcher, 100)
        calls = [asyncio.create_task(call(number)) for number in range(100)]
        await asyncio.sleep(0.1)
        next_turn()
        await asyncio.gather(*calls)
    counts = [turns.count(number) for number in set(turns)]
    assert sum(counts) == 100
    assert max(counts) <= CALLS_A_TURN + 1


async def test_calls_that_end_together_are_settled_and_then_the_next_are_sent_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first on the spot, as one alone would be; the others in a row, and their successors' writes too."""
    events = ""

    class Noted(PromptScripted):
        def begin(self, *args: Any) -> None:
            nonlocal events
            super().begin(*args)
            events += f"({'b' * len(args[-1])})"

    settle = Settlement.settle

    def settled(*args: Any) -> None:
        nonlocal events
        events += "s"
        settle(*args)

    monkeypatch.setattr(Settlement, "settle", settled)
    async with Dispatcher("f", transport=Noted(latency_s=0.1), concurrency=10) as dispatcher:
        await warm(dispatcher, 10)
        events = ""
        await asyncio.gather(*(dispatcher.invoke(number) for number in range(30)))
    first, then = "s(b)", "s" * 9 + f"({'b' * 9})"
    assert events == "(b)" * 10 + (first + then) * 2 + "s" * 10


async def test_what_was_taken_is_sent_though_taking_more_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a permit, and its caller waits."""
    dispatcher = await Dispatcher("f", transport=PromptScripted(latency_s=0.1), concurrency=10).open()
    await warm(dispatcher, 10)
    calls = [asyncio.create_task(dispatcher.invoke(number)) for number in range(20)]
    await asyncio.sleep(0.05)
    take, taken = Schedule.take, 0

    def fail_at_the_fifth(schedule: Schedule) -> Attempt | None:
        nonlocal taken
        taken += 1
        if taken == 5:
            raise RuntimeError("no more")
        return take(schedule)

    monkeypatch.setattr(Schedule, "take", fail_at_the_fifth)
    outcomes = await asyncio.gather(*calls)
    assert [outcome.status for outcome in outcomes] == ["succeeded"] * 20
    assert taken > 5
    await dispatcher.aclose()


async def with_replies_that_wait(world: PromptScripted) -> tuple[Dispatcher, list[asyncio.Task[Outcome]]]:
    """A hundred of 150 calls have been answered at once; some are settled, the others wait for their turn."""
    dispatcher = await Dispatcher("f", transport=world, concurrency=100).open()
    await warm(dispatcher, 100)
    calls = [asyncio.create_task(dispatcher.invoke(number)) for number in range(150)]
    await asyncio.sleep(0.1)
    for _ in range(20):  # until some have been settled, and their permits taken again
        if world.begun > 100:
            break
        await asyncio.sleep(0)
    return dispatcher, calls


async def test_replies_that_wait_for_their_turn_are_not_cut_off() -> None:
    """Their functions have run, and what they said is there."""
    world = PromptScripted(latency_s=0.1)
    dispatcher, calls = await with_replies_that_wait(world)
    assert world.begun < 150
    dispatcher.engine.cut_off()
    await dispatcher.aclose(0)
    statuses = [(await call).status for call in calls]
    assert statuses[:100].count("succeeded") == 100
    assert set(statuses[100:]) == {"unknown", "undelivered"}


async def test_a_pause_set_while_waiting_replies_are_settled_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever hears of an outcome may pause the dispatcher."""
    world = PromptScripted(latency_s=0.1)
    dispatcher, calls = await with_replies_that_wait(world)
    settle = Settlement.settle

    def settle_and_pause(self: Settlement, *args: Any) -> None:
        settle(self, *args)
        dispatcher.tune(pause=True)

    monkeypatch.setattr(Settlement, "settle", settle_and_pause)
    dispatcher.engine.cut_off()
    assert dispatcher.tune()["pause"]
    count = world.count
    calls.append(asyncio.create_task(dispatcher.invoke("another")))
    await asyncio.sleep(1)
    assert world.count == count
    await dispatcher.aclose(0)
    assert {(await call).status for call in calls} == {"succeeded", "unknown", "undelivered"}
