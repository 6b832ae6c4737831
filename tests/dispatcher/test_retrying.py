"""What is sent again, when, and what an outcome says after several attempts; deadline, patience, breaker."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fanout import Dispatcher, FatalRefusal
from fanout.model import Outcome, Reply
from tests.scripted import (
    RATE_REASON,
    UNAVAILABLE,
    Call,
    Scripted,
    function_error,
    lost,
    ok,
    refused,
    throttled,
    unreached,
)

pytestmark = [pytest.mark.looptime, pytest.mark.usefixtures("no_task_left")]


async def invoke(
    script: Any, payload: Any = 1, *, latency_s: float = 0.0, **options: Any
) -> tuple[Outcome, Scripted]:
    """One call's outcome, and the transport that saw its attempts."""
    transport = Scripted(script, latency_s=latency_s)
    async with Dispatcher("f", transport=transport, concurrency=1, **options) as dispatcher:
        return await dispatcher.invoke(payload), transport


async def test_a_passing_failure_is_sent_again() -> None:
    """Up to ``retries`` more times, and the outcome tells of every attempt."""
    outcome, transport = await invoke([UNAVAILABLE, UNAVAILABLE, ok()], retries=2)
    assert (outcome.status, outcome.attempts, transport.count) == ("succeeded", 3, 3)
    assert outcome.history is not None
    assert [end.verdict for end in outcome.history] == ["transient", "transient", "success"]


async def test_attempts_used_up_leave_it_undelivered() -> None:
    """It never ran, and says so."""
    outcome, transport = await invoke(lambda _: UNAVAILABLE, retries=2)
    assert (outcome.status, outcome.attempts, transport.count) == ("undelivered", 3, 3)


async def test_throttles_cost_no_attempt() -> None:
    """However many there are."""
    outcome, transport = await invoke([throttled()] * 20 + [ok()], retries=0)
    assert (outcome.status, outcome.attempts, outcome.throttles) == ("succeeded", 1, 20)
    assert transport.count == 21


async def test_retry_after_is_waited_for() -> None:
    """It is a lower bound of the wait."""
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    await invoke([throttled(retry_after="7"), ok()])
    assert 7 <= loop.time() - start_s < 9.1


async def test_retry_after_of_an_unreachable_service_is_within_the_patience() -> None:
    """Of one record alone, which is no outage; without patience for outages it is waited for as it is."""
    answers = [Reply(503, b"{}", retry_after="3600"), ok()]
    loop = asyncio.get_running_loop()
    for patience, waited_s in ((7.0, 7.0), (0.0, 300.0)):
        began_s = loop.time()
        outcome, _ = await invoke(list(answers), outage_patience=patience)
        assert outcome.ok
        assert loop.time() - began_s == pytest.approx(waited_s, abs=1)


async def test_retries_are_spread_by_full_jitter() -> None:
    """Records that fail together do not come back together."""
    at: list[float] = []

    def script(call: Call) -> Any:
        if call.attempt == 1:
            return UNAVAILABLE
        at.append(asyncio.get_running_loop().time())
        return ok()

    transport = Scripted(script)
    async with Dispatcher("f", transport=transport, concurrency=50, seed=3, outage_patience=0) as dispatcher:
        outcomes = [outcome async for outcome in dispatcher.map(range(10))]
    assert {outcome.attempts for outcome in outcomes} == {2}
    assert len({round(s, 3) for s in at}) >= 9
    assert max(at) - min(at) > 0.05


async def test_function_errors_are_sent_again_only_if_asked_and_of_the_type() -> None:
    """``retry_function_errors`` says how often, ``retry_on`` which."""
    outcome, transport = await invoke(lambda _: function_error("Busy"))
    assert (outcome.status, transport.count) == ("function_error", 1)
    outcome, transport = await invoke(
        [function_error("Busy"), function_error("Busy"), ok()], retry_function_errors=2, retry_on=["Busy"]
    )
    assert (outcome.status, outcome.attempts) == ("succeeded", 3)
    outcome, transport = await invoke(
        lambda _: function_error("Other"), retry_function_errors=2, retry_on=["Busy"]
    )
    assert (outcome.status, transport.count) == ("function_error", 1)
    outcome, transport = await invoke(lambda _: function_error("Any"), retry_function_errors=2)
    assert (outcome.status, transport.count) == ("function_error", 3)


async def test_a_function_error_stays_known_when_its_repetition_cannot_be_delivered() -> None:
    """It ran and reported an error: "undelivered: never ran" would be a lie."""
    outcome, _ = await invoke(
        [function_error("Busy"), UNAVAILABLE, UNAVAILABLE], retry_function_errors=1, retries=1
    )
    assert outcome.status == "function_error"
    assert outcome.error is not None
    assert (outcome.error.type, outcome.request_id) == ("Busy", "r")


async def test_a_lost_reply_is_not_sent_again() -> None:
    """The function may have run: only a declared idempotent one is called twice."""
    outcome, transport = await invoke(lambda _: lost())
    assert (outcome.status, transport.count) == ("unknown", 1)
    outcome, transport = await invoke([lost(), ok()], idempotent=True)
    assert (outcome.status, transport.count, outcome.attempts) == ("succeeded", 2, 2)


async def test_what_may_have_run_is_never_called_undelivered() -> None:
    """Lost once, and then refused to the end: it may have run, so it is unknown."""
    outcome, _ = await invoke([lost(), UNAVAILABLE, UNAVAILABLE], idempotent=True, retries=2)
    assert (outcome.status, outcome.attempts) == ("unknown", 3)


async def test_what_may_have_run_is_never_called_rejected() -> None:
    """Lost once, and then refused for good: it may have run, so it is unknown, with the refusal's words."""
    refusal = refused(400, "InvalidRequestContentException", "no JSON")
    outcome, transport = await invoke([lost(), refusal], idempotent=True)
    assert (outcome.status, outcome.attempts, transport.count) == ("unknown", 2, 2)
    assert outcome.error is not None
    assert outcome.error.message == "no JSON"
    outcome, _ = await invoke([refusal])
    assert (outcome.status, outcome.attempts) == ("rejected", 1)


async def test_a_lost_calls_permit_lingers_until_the_functions_timeout() -> None:
    """Handing it on at once would put more executions in Lambda than the budget says."""
    loop = asyncio.get_running_loop()
    transport = Scripted(lambda call: lost() if call.number == 0 else ok(), latency_s=1)
    async with Dispatcher("f", transport=transport, concurrency=1) as dispatcher:
        assert dispatcher.engine.linger_s == 900
        start_s = loop.time()
        assert (await dispatcher.invoke("lost")).status == "unknown"
        assert dispatcher.engine.gate.lingering == 1
        assert (await dispatcher.invoke("next")).ok
        assert loop.time() - start_s == pytest.approx(901, abs=0.1)


async def test_an_idle_dispatcher_counts_no_permit_whose_time_has_passed() -> None:
    """Also where nothing has asked for one since: a health check and ``leave`` see what may still run."""
    transport = Scripted(lambda _: lost(), latency_s=1)
    async with Dispatcher("f", transport=transport, concurrency=2) as dispatcher:
        await asyncio.gather(dispatcher.invoke(1), dispatcher.invoke(2))
        for lingering, wait_s in ((2, 890), (0, 20)):
            await asyncio.sleep(wait_s)
            health, load = dispatcher.snapshot(), dispatcher.load()
            assert (health.in_flight, health.lingering, load.lingering) == (0, lingering, lingering)
            assert (health.lingering_for_s is None) == (load.linger_until_s is None) == (lingering == 0)
            assert dispatcher.budget.own_calls(dispatcher.engine) == lingering


async def test_an_idempotent_call_is_sent_again_within_the_budget() -> None:
    """The repetition takes a permit of its own, beside the one that lingers."""
    loop = asyncio.get_running_loop()
    transport = Scripted(lambda call: lost() if call.attempt == 1 else ok(), latency_s=1)
    async with Dispatcher("f", transport=transport, concurrency=2, idempotent=True) as dispatcher:
        start_s = loop.time()
        outcomes = await asyncio.gather(dispatcher.invoke(1), dispatcher.invoke(2))
        assert loop.time() - start_s >= 900  # both permits linger: neither call goes out before
    assert [outcome.status for outcome in outcomes] == ["succeeded"] * 2


async def test_an_event_does_not_linger() -> None:
    """A function called by Event does not hold the caller's concurrency."""
    async with Dispatcher(
        "f", transport=Scripted(lambda _: lost()), concurrency=1, invocation_type="Event"
    ) as dispatcher:
        await dispatcher.invoke(1)
        assert dispatcher.engine.gate.lingering == 0


async def test_nothing_but_throttles_ends_after_the_patience() -> None:
    """FatalRefusal says so; every pulled record has an outcome."""
    loop = asyncio.get_running_loop()
    async with Dispatcher(
        "f", transport=Scripted(lambda _: throttled()), concurrency=4, throttle_patience=30
    ) as dispatcher:
        start_s = loop.time()
        seen = []
        with pytest.raises(FatalRefusal, match="nothing but throttles"):
            async for outcome in dispatcher.map(range(1000)):
                seen.append(outcome)
    assert 30 <= loop.time() - start_s < 40
    assert sorted(outcome.seq for outcome in seen) == list(range(len(seen)))
    assert {outcome.status for outcome in seen} == {"undelivered"}


async def test_patience_counts_from_the_last_answer_of_another_kind() -> None:
    """A throttle long ago, followed by a refusal of one record, is not a stretch of throttles."""
    from tests.scripted import refused

    too_large = refused(413, "RequestTooLargeException")
    transport = Scripted([throttled(), too_large, throttled(), ok()])
    async with Dispatcher("f", transport=transport, concurrency=1, throttle_patience=30) as dispatcher:
        assert (await dispatcher.invoke(1)).status == "rejected"
        await asyncio.sleep(3600)
        assert (await dispatcher.invoke(2)).status == "succeeded"


async def test_the_deadline_leaves_what_waits_undelivered() -> None:
    """A call's deadline holds while it waits for its turn, and for a retry."""
    loop = asyncio.get_running_loop()
    transport = Scripted(latency_s=100)
    async with Dispatcher("f", transport=transport, concurrency=1, deadline=5) as dispatcher:
        start_s = loop.time()
        first, second = (asyncio.create_task(dispatcher.invoke(n)) for n in range(2))
        outcome = await second
        assert loop.time() - start_s == pytest.approx(5)
        assert (outcome.status, outcome.attempts) == ("undelivered", 0)
        assert outcome.error is not None
        assert outcome.error.type == "DeadlineExceeded"
        assert (await first).ok  # it was out, and is heard
    assert transport.count == 1


async def test_the_deadline_holds_for_a_retry_without_a_permit() -> None:
    """A retry that was due before the deadline and found no room is not sent after it."""
    loop = asyncio.get_running_loop()

    def script(call: Call) -> Any:
        return UNAVAILABLE if call.json() == "fails" else ok()

    transport = Scripted(script, latency_s=lambda call: 0.0 if call.json() == "fails" else 100.0)
    async with Dispatcher("f", transport=transport, concurrency=1, deadline=5) as dispatcher:
        start_s = loop.time()
        failing = asyncio.create_task(dispatcher.invoke("fails"))
        await asyncio.sleep(0)
        other = asyncio.create_task(dispatcher.invoke("other"))
        outcome = await failing
        assert loop.time() - start_s == pytest.approx(5)
        assert (outcome.status, outcome.attempts) == ("undelivered", 1)
        await other


async def test_a_maps_deadline_stops_pulling_and_reports_what_was_pulled() -> None:
    """In flight finishes; nothing more is pulled; the loop ends by itself."""
    pulled = 0

    def payloads() -> Any:
        nonlocal pulled
        while True:
            pulled += 1
            yield pulled

    transport = Scripted(lambda call: throttled() if call.number % 7 == 3 else ok(), latency_s=1)
    async with Dispatcher("f", transport=transport, concurrency=5, deadline=10) as dispatcher:
        outcomes = [outcome async for outcome in dispatcher.map(payloads())]
    assert sorted(outcome.seq for outcome in outcomes) == list(range(pulled))
    assert 10 < pulled <= 56


async def test_a_rate_throttle_slows_down() -> None:
    """The pacer is cut, not the limit."""
    at: list[float] = []

    def script(call: Call) -> Any:
        at.append(asyncio.get_running_loop().time())
        return throttled(RATE_REASON) if call.number == 50 else ok()

    async with Dispatcher("f", transport=Scripted(script), concurrency=5, rate=100) as dispatcher:
        outcomes = [outcome async for outcome in dispatcher.map(range(200))]
        assert dispatcher.engine.limit.ceiling(0) == 5
    assert all(outcome.ok for outcome in outcomes)
    assert at[-1] - at[0] > 200 / 100 * 1.05


async def test_the_rate_holds_over_a_run() -> None:
    """200 calls at 100 per second take two seconds, not less."""
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    async with Dispatcher("f", transport=Scripted(), concurrency=50, rate=100) as dispatcher:
        assert len([outcome async for outcome in dispatcher.map(range(200))]) == 200
    assert 1.9 <= loop.time() - start_s <= 2.1


# --- the breaker -------------------------------------------------------------------------------------


async def test_a_breaker_pauses_after_failures_in_a_row_and_goes_on_after_a_probe() -> None:
    """One probe at a time, with growing waits; a success opens the way again."""
    broken_until_s = asyncio.get_running_loop().time() + 20
    at: list[float] = []

    def script(call: Call) -> Any:
        now_s = asyncio.get_running_loop().time()
        at.append(now_s - broken_until_s + 20)
        return function_error() if now_s < broken_until_s else ok()

    async with Dispatcher("f", transport=Scripted(script), concurrency=4, breaker=4) as dispatcher:
        outcomes = [outcome async for outcome in dispatcher.map(range(40))]
    failed = [outcome for outcome in outcomes if not outcome.ok]
    assert len(outcomes) == 40
    assert [round(s) for s in at[: len(failed)]] == [0] * 7 + [1, 3, 7, 15]  # 3 were out when it opened
    assert all(s >= 31 for s in at[len(failed) :])


@pytest.mark.parametrize("answer", [UNAVAILABLE, unreached(), function_error(), throttled()])
async def test_a_probe_that_must_be_repeated_does_not_lock_the_breaker(answer: Any) -> None:
    """The probe's own retry goes out as the next probe."""
    loop = asyncio.get_running_loop()
    mended_at_s = loop.time() + 3

    def script(call: Call) -> Any:
        if call.number < 2:
            return function_error("Other")
        return answer if loop.time() < mended_at_s else ok()

    options: dict[str, Any] = {
        "breaker": 2,
        "retries": 50,
        "retry_function_errors": 50,
        "retry_on": ["ValueError"],
    }
    async with Dispatcher("f", transport=Scripted(script), concurrency=2, **options) as dispatcher:
        async with asyncio.timeout(200):
            outcomes = [outcome async for outcome in dispatcher.map(range(10))]
    assert len(outcomes) == 10
    assert sum(outcome.ok for outcome in outcomes) >= 5


async def test_calls_sent_before_the_breaker_opened_are_no_probes() -> None:
    """Their failures come late, and neither let another probe out nor lengthen the wait."""
    at: list[float] = []

    def script(call: Call) -> Any:
        return function_error() if call.number < 12 else ok()

    def latency_s(call: Call) -> float:
        at.append(asyncio.get_running_loop().time())
        return 0.1 if call.number < 3 else 3.0 + call.number / 100

    start_s = asyncio.get_running_loop().time()
    async with Dispatcher(
        "f", transport=Scripted(script, latency_s=latency_s), concurrency=10, breaker=3
    ) as d:
        assert len([outcome async for outcome in d.map(range(30))]) == 30
    sent_s = [s - start_s for s in at]
    probes = [s for s in sent_s if 1 <= s < 4]
    assert len(probes) == 1
