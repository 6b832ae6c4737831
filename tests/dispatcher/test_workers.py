"""Workers that wait for a job instead of ending: they are few, they end, and they lose no record."""

from __future__ import annotations

import asyncio

import pytest

from fanout import Dispatcher
from tests.scripted import Scripted

pytestmark = [pytest.mark.looptime, pytest.mark.usefixtures("no_task_left")]


async def test_one_caller_after_the_other_is_served_by_one_worker() -> None:
    """No task is made for a call that comes when another has ended."""
    async with Dispatcher("f", transport=Scripted(latency_s=0.1), concurrency=10) as dispatcher:
        await dispatcher.invoke(0)
        tasks = asyncio.all_tasks()
        for number in range(20):
            await dispatcher.invoke(number)
            assert asyncio.all_tasks() == tasks


async def test_callers_at_once_are_served_at_once() -> None:
    """Waiting workers do not stand for permits: more callers than they are get workers of their own."""
    transport = Scripted(latency_s=0.1)
    async with Dispatcher("f", transport=transport, concurrency=10) as dispatcher:
        await dispatcher.invoke(0)
        await asyncio.gather(*(dispatcher.invoke(number) for number in range(10)))
    assert transport.most_in_flight == 10


async def test_a_job_handed_to_a_worker_that_is_cut_off_has_one_outcome() -> None:
    """Between the handing over and the sending, cancellation finds nothing in flight, and nothing is sent."""
    transport = Scripted(latency_s=0.1)
    caller: asyncio.Task[object] | None = None
    with pytest.raises(KeyError):
        async with Dispatcher("f", transport=transport, concurrency=10) as dispatcher:
            await dispatcher.invoke(0)
            caller = asyncio.create_task(dispatcher.invoke(1))
            # The worker has the job, and has not run yet: it is woken in the next turn of the loop.
            while not dispatcher.engine.gate.in_flight:
                await asyncio.sleep(0)
            raise KeyError
    assert caller is not None
    outcome = await caller
    assert transport.count == 1
    assert getattr(outcome, "status", None) == "undelivered"
