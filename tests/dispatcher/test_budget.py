"""The budget in use: limits lowered and raised while calls are out, and payload bytes in flight."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fanout import Dispatcher
from tests.scripted import Call, Scripted, ok, throttled

pytestmark = [pytest.mark.looptime, pytest.mark.usefixtures("no_task_left")]


async def test_a_lowered_limit_holds_from_the_next_call_on() -> None:
    """Calls in flight stay; nothing goes out until there are fewer than the new limit."""
    loop = asyncio.get_running_loop()
    seen: list[tuple[float, int]] = []

    def script(call: Call) -> Any:
        seen.append((loop.time() - start_s, transport.in_flight))
        return ok()

    transport = Scripted(script, latency_s=1)
    start_s = loop.time()
    async with Dispatcher("f", transport=transport, concurrency=20) as dispatcher:

        def set_budget(budget: int) -> None:
            dispatcher.budget.limit.set_budget(budget, dispatcher.engine.clock())
            dispatcher.engine.pump()

        loop.call_later(3.5, set_budget, 5)
        loop.call_later(10.5, set_budget, 30)
        outcomes = [outcome async for outcome in dispatcher.map(range(300))]
    assert len(outcomes) == 300
    assert max(n for s, n in seen if s < 3.5) == 20
    assert max(n for s, n in seen if 4.5 < s < 10.5) == 5
    assert max(n for s, n in seen if s > 11.4) == 30


async def test_a_limit_of_nothing_holds_everything_until_it_is_raised() -> None:
    """And what waits goes out then."""
    loop = asyncio.get_running_loop()
    async with Dispatcher("f", transport=Scripted(latency_s=1), concurrency=5) as dispatcher:

        def set_budget(budget: int) -> None:
            dispatcher.budget.limit.set_budget(budget, dispatcher.engine.clock())
            dispatcher.engine.pump()

        start_s = loop.time()
        set_budget(0)
        loop.call_later(100, set_budget, 5)
        assert (await dispatcher.invoke(1)).ok
        assert loop.time() - start_s == pytest.approx(101)


async def test_throttles_lower_what_is_in_flight() -> None:
    """A function that takes ten at once is soon called by about ten at once."""
    throttles = 0

    def script(call: Call) -> Any:
        nonlocal throttles
        if transport.in_flight > 10:
            throttles += 1
            return throttled()
        return ok()

    transport = Scripted(script, latency_s=0.1)
    async with Dispatcher("f", transport=transport, concurrency=100) as dispatcher:
        outcomes = [outcome async for outcome in dispatcher.map(range(1000))]
    assert all(outcome.ok and outcome.attempts == 1 for outcome in outcomes)
    assert len(outcomes) == 1000
    assert throttles < 200


async def test_payload_bytes_in_flight_are_bounded() -> None:
    """Large payloads at a high concurrency must not take gigabytes; one always goes."""
    most = in_flight_bytes = 0

    def latency_s(call: Call) -> float:
        nonlocal most, in_flight_bytes
        in_flight_bytes += len(call.body)
        most = max(most, in_flight_bytes)
        return 1.0

    def script(call: Call) -> Any:
        nonlocal in_flight_bytes
        in_flight_bytes -= len(call.body)
        return ok()

    transport = Scripted(script, latency_s=latency_s)
    payloads = ["x" * 1000] * 50 + ["x" * 20_000] + ["x" * 1000] * 50
    async with Dispatcher(
        "f", transport=transport, concurrency=100, max_bytes_in_flight=10_000
    ) as dispatcher:
        outcomes = [outcome async for outcome in dispatcher.map(payloads)]
    assert len(outcomes) == 101
    assert all(outcome.ok for outcome in outcomes)
    assert most <= 10_000 + 20_002
    assert transport.most_in_flight == 10


async def test_a_dispatcher_closes_no_transport_of_the_callers() -> None:
    """Who opened it closes it."""
    transport = Scripted()
    async with Dispatcher("f", transport=transport, concurrency=1) as dispatcher:
        await dispatcher.invoke(1)
    assert transport.closed == 0
