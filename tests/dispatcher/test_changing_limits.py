"""Limits that change while a run is on are read again and obeyed."""

from __future__ import annotations

import asyncio
import functools

import pytest

import fanout
from fanout.emulator import EmulatorProcess
from fanout.quotas import RECENT_ANSWERS, watch
from tests.transports.wire import http, wire


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tenth of a second instead of every minute."""
    monkeypatch.setattr("fanout.dispatcher.budget.watch", functools.partial(watch, every_s=0.1))
    monkeypatch.setattr("fanout.quotas.recent_answers.KEPT_S", 0.0)
    for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b"), ("REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    RECENT_ANSWERS.clear()


async def test_a_reservation_that_changes_moves_limit_rate_and_timeouts() -> None:
    """Down and up again; the user's own rate is bounded by the new one, and freed with it."""
    with EmulatorProcess(simulate=["name=f,latency=1ms,concurrency=50,timeout=7s"]) as lambda_:
        async with fanout.Dispatcher("f", endpoint_url=lambda_.endpoint_url, rate=400) as dispatcher:
            budget = dispatcher.budget
            assert (budget.limit.budget, budget.pacer.rate_now, budget.linger_s) == (50, 400, 7.0)
            for reserved, rate in ((20, 200), (80, 400)):
                await asyncio.to_thread(lambda_.set_limits, function="f", reserved_concurrency=reserved)
                async with asyncio.timeout(100):
                    while budget.limit.budget != reserved:
                        assert (await dispatcher.invoke({})).ok
                        await asyncio.sleep(0.02)
                assert (budget.quotas.reserved, budget.pacer.rate_now) == (reserved, rate)


async def test_a_denial_in_mid_run_changes_nothing() -> None:
    """What was read once is kept."""
    with EmulatorProcess(simulate=["name=f,latency=1ms,concurrency=50"]) as lambda_:
        async with fanout.Dispatcher("f", endpoint_url=lambda_.endpoint_url) as dispatcher:
            await asyncio.to_thread(lambda_.set_limits, deny=["GetFunction", "GetAccountSettings"])
            await asyncio.sleep(0.5)
            assert (dispatcher.budget.limit.budget, dispatcher.budget.quotas.cause) == (50, "reserved")


@pytest.mark.parametrize("transport", ["direct", "sdk"])
async def test_a_dispatcher_that_is_told_all_asks_lambda_nothing(transport: str) -> None:
    """Concurrency, rate and timeout given: one POST for one call, and no GET."""
    async with wire() as endpoint:
        options = {"concurrency": 2, "rate": 100.0, "timeout": 5.0, "transport": transport}
        async with fanout.Dispatcher("f", endpoint_url=endpoint.url, **options) as dispatcher:  # type: ignore[arg-type]
            assert (await dispatcher.invoke({})).ok
        assert [request.method for request in endpoint.received] == ["POST"]


async def test_many_dispatchers_of_one_process_ask_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first asks for function and account, and the others take its answers."""
    monkeypatch.setattr("fanout.quotas.recent_answers.KEPT_S", 55.0)
    async with wire() as endpoint:
        endpoint.answer(http(200, b'{"Configuration":{"Timeout":3}}'))
        for _ in range(3):
            async with fanout.Dispatcher("f", endpoint_url=endpoint.url) as dispatcher:
                assert (await dispatcher.invoke({})).ok
        assert sorted(request.method for request in endpoint.received) == ["GET"] * 2 + ["POST"] * 3
