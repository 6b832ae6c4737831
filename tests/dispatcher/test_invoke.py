"""One call at a time: what comes back, and what cancelling, closing and bad payloads do."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from fanout import ConfigError, Dispatcher, FanoutError, FatalRefusal, Record
from tests.scripted import (
    MISSING,
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


async def test_an_outcome_holds_what_lambda_said() -> None:
    """Status, reply, request id, version and times are there; a success keeps no input."""
    async with Dispatcher("f", transport=Scripted(latency_s=0.25), concurrency=1) as dispatcher:
        outcome = await dispatcher.invoke({"order": 17}, key="order-17")
    assert (outcome.seq, outcome.key, outcome.status, outcome.ok) == (0, "order-17", "succeeded", True)
    assert outcome.output == outcome.json() == {"order": 17}
    assert outcome.output_bytes == outcome.body == b'{"order":17}'
    assert (outcome.http_status, outcome.request_id, outcome.executed_version) == (200, "r", "$LATEST")
    assert (outcome.attempts, outcome.throttles) == (1, 0)
    assert outcome.duration_ms == 250
    assert outcome.queued_ms == 0
    assert outcome.started_at is not None
    assert outcome.input is None


@pytest.mark.parametrize(
    ("answer", "status", "error"),
    [
        (function_error("ValueError"), "function_error", "ValueError"),
        (refused(413, "RequestTooLargeException"), "rejected", "RequestTooLargeException"),
        (refused(400, "InvalidRequestContentException"), "rejected", "InvalidRequestContentException"),
        (lost(), "unknown", "ReplyLost"),
        (UNAVAILABLE, "undelivered", "ServiceException"),
        (unreached(), "undelivered", "ConnectFailed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_failure_is_an_outcome_with_its_input(answer: Any, status: str, error: str) -> None:
    """Nothing that happens to one call is an exception, and it can be sent again from its outcome."""
    transport = Scripted(lambda _: answer)
    async with Dispatcher("f", transport=transport, concurrency=1, retries=0) as dispatcher:
        outcome = await dispatcher.invoke({"a": 1})
    assert (outcome.status, outcome.ok) == (status, False)
    assert outcome.error is not None
    assert outcome.error.type == error
    assert (outcome.input, outcome.input_bytes) == ({"a": 1}, b'{"a":1}')
    assert transport.count == 1


async def test_a_record_overrides_the_dispatchers_parameters() -> None:
    """Qualifier, client context and tenant of a Record are its own; the next call has the dispatcher's."""
    transport = Scripted()
    record = Record({"a": 1}, key="k", qualifier="live", client_context={"custom": {"x": "y"}}, tenant_id="t")
    async with Dispatcher("f", transport=transport, concurrency=1, qualifier="test") as dispatcher:
        outcome = await dispatcher.invoke(record)
        await dispatcher.invoke({"a": 2})
    own, common = (call.template.sdk_params for call in transport.calls)
    assert (own["Qualifier"], own["TenantId"], outcome.key) == ("live", "t", "k")
    assert "ClientContext" in own
    assert (common["Qualifier"], "TenantId" in common, "ClientContext" in common) == ("test", False, False)


async def test_a_refusal_of_a_records_own_qualifier_does_not_end_the_map() -> None:
    """What one record asked for is its own fault, not that of all."""
    transport = Scripted(lambda call: MISSING if call.template.sdk_params.get("Qualifier") else ok())
    async with Dispatcher("f", transport=transport, concurrency=1) as dispatcher:
        payloads = [1, Record(2, qualifier="gone"), 3]
        statuses = [outcome.status async for outcome in dispatcher.map(payloads, ordered=True)]
    assert statuses == ["succeeded", "rejected", "succeeded"]


class _Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no repr either")


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        (b"{broken", "InvalidJson"),
        (b"\xff", "InvalidJson"),
        ({1, object()}, "InvalidPayload"),
        (_Hostile(), "InvalidPayload"),
        (b'"' + b"x" * 6_291_456 + b'"', "PayloadTooLarge"),
        (Record(1, qualifier="no such thing!"), "InvalidParameter"),
    ],
    ids=["no JSON", "no UTF-8", "no JSON form", "hostile", "too large", "bad parameter"],
)
async def test_a_payload_that_cannot_be_sent_is_rejected_unsent(payload: Any, error: str) -> None:
    """It is an outcome that says why, and the calls around it go on."""
    transport = Scripted()
    async with Dispatcher("f", transport=transport, concurrency=1) as dispatcher:
        outcome = await dispatcher.invoke(payload)
        assert (outcome.status, outcome.attempts) == ("rejected", 0)
        assert outcome.error is not None
        assert outcome.error.type == error
        assert (await dispatcher.invoke(1)).ok
    assert transport.count == 1


async def test_a_value_without_a_json_form_is_named() -> None:
    """What cannot be written, and of what it is part."""
    async with Dispatcher("f", transport=Scripted(), concurrency=1) as dispatcher:
        outcome = await dispatcher.invoke({"id": object()})
    assert outcome.error is not None
    assert outcome.error.message == "dict has no JSON form: values of type object cannot be written as JSON"


async def test_many_bad_payloads_leave_the_loop_its_turns() -> None:
    """A million faulty records in a row must not starve everything else on the event loop."""
    async with Dispatcher("f", transport=Scripted(), concurrency=4) as dispatcher:
        outcomes = [outcome async for outcome in dispatcher.map([b"{"] * 5000)]
    assert len(outcomes) == 5000
    assert {outcome.status for outcome in outcomes} == {"rejected"}


async def test_calls_beyond_the_concurrency_wait_in_order() -> None:
    """First come, first served."""
    transport = Scripted(latency_s=1)
    async with Dispatcher("f", transport=transport, concurrency=2) as dispatcher:
        await asyncio.gather(*(dispatcher.invoke(n) for n in range(20)))
    assert transport.bodies == list(range(20))
    assert transport.most_in_flight == 2


async def test_cancelling_a_call_that_waits_sends_nothing() -> None:
    """Neither now nor later; the permit goes to the next."""
    transport = Scripted(latency_s=10)
    async with Dispatcher("f", transport=transport, concurrency=1) as dispatcher:
        first = asyncio.create_task(dispatcher.invoke("first"))
        second = asyncio.create_task(dispatcher.invoke("second"))
        third = asyncio.create_task(dispatcher.invoke("third"))
        await asyncio.sleep(1)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert (await first).ok
        assert (await third).ok
    assert transport.bodies == ["first", "third"]


async def test_cancelling_a_call_in_flight_keeps_its_permit_until_the_reply() -> None:
    """The function runs on, whoever gave up waiting: the budget must know."""
    transport = Scripted(latency_s=10)
    loop = asyncio.get_running_loop()
    async with Dispatcher("f", transport=transport, concurrency=1) as dispatcher:
        start_s = loop.time()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(dispatcher.invoke("slow"), 1)
        assert dispatcher.engine.gate.in_flight == 1
        await dispatcher.invoke("next")
        assert loop.time() - start_s == pytest.approx(20)
    assert transport.most_in_flight == 1


async def test_cancelling_a_call_that_waits_for_a_retry_sends_it_no_more() -> None:
    """The caller has gone, so another attempt would be for nobody."""
    transport = Scripted(lambda _: throttled(retry_after="5"))
    async with Dispatcher("f", transport=transport, concurrency=1) as dispatcher:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(dispatcher.invoke(1), 1)
        await asyncio.sleep(30)
        assert transport.count == 1


async def test_leaving_waits_for_calls_in_flight() -> None:
    """Their callers get their outcomes."""
    async with Dispatcher("f", transport=Scripted(latency_s=10), concurrency=3) as dispatcher:
        calls = [asyncio.create_task(dispatcher.invoke(n)) for n in range(3)]
        await asyncio.sleep(1)
    assert [call.done() for call in calls] == [True] * 3
    assert all(call.result().ok for call in calls)


async def test_leaving_answers_calls_that_wait_their_turn() -> None:
    """No caller waits for ever: what never went out is undelivered, and says so."""
    transport = Scripted(latency_s=10)
    async with Dispatcher("f", transport=transport, concurrency=1) as dispatcher:
        calls = [asyncio.create_task(dispatcher.invoke(n)) for n in range(3)]
        await asyncio.sleep(1)
    async with asyncio.timeout(1):
        outcomes = await asyncio.gather(*calls)
    assert [outcome.status for outcome in outcomes] == ["succeeded", "undelivered", "undelivered"]
    assert transport.count == 1


@pytest.mark.parametrize("answer", [throttled(), UNAVAILABLE, lost(), function_error()])
async def test_leaving_answers_calls_whose_retry_would_come_later(answer: Any) -> None:
    """A call that comes back for a retry while the dispatcher is left is answered with what is known."""
    transport = Scripted(lambda _: answer, latency_s=10)
    options: dict[str, Any] = {"idempotent": True, "retry_function_errors": 3}
    async with Dispatcher("f", transport=transport, concurrency=2, **options) as dispatcher:
        call = asyncio.create_task(dispatcher.invoke(1))
        await asyncio.sleep(1)
    async with asyncio.timeout(1):
        outcome = await call
    expected = {"ReplyLost": "unknown", "ValueError": "function_error"}
    assert outcome.error is not None
    assert outcome.status == expected.get(outcome.error.type, "undelivered")
    assert transport.count == 1


@pytest.mark.parametrize("use", ["invoke", "map", "stream"])
async def test_a_dispatcher_that_was_left_refuses_calls(use: str) -> None:
    """It says so, instead of waiting for ever."""
    dispatcher = Dispatcher("f", transport=Scripted(), concurrency=1)
    with pytest.raises(FanoutError, match="is not open: use it inside"):
        await dispatcher.invoke(1)
    async with dispatcher:
        pass
    async with asyncio.timeout(1):
        with pytest.raises(FanoutError, match="is closed"):
            if use == "invoke":
                await dispatcher.invoke(1)
            elif use == "map":
                await anext(dispatcher.map([1]))
            else:
                await anext(dispatcher.stream(1))
    with pytest.raises(FanoutError, match="used already"):
        await dispatcher.__aenter__()


async def test_a_call_made_while_the_dispatcher_is_being_left_is_refused() -> None:
    """Not sent, not forgotten."""
    transport = Scripted(latency_s=10)
    refusals: list[str] = []

    async def late() -> None:
        await asyncio.sleep(5)
        try:
            await dispatcher.invoke("late")
        except FanoutError as error:
            refusals.append(str(error))

    async with Dispatcher("f", transport=transport, concurrency=5) as dispatcher:
        task = asyncio.create_task(late())
        call = asyncio.create_task(dispatcher.invoke("early"))
        await asyncio.sleep(1)
    await task
    assert (await call).ok
    assert len(refusals) == 1
    assert transport.count == 1


async def test_an_exception_inside_cuts_calls_off() -> None:
    """Leaving by an exception does not wait: the exception comes out as it was, outcomes are unknown."""
    transport = Scripted(latency_s=1000)
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    calls = []
    with pytest.raises(ZeroDivisionError):
        async with Dispatcher("f", transport=transport, concurrency=3) as dispatcher:
            calls = [asyncio.create_task(dispatcher.invoke(n)) for n in range(5)]
            await asyncio.sleep(1)
            raise ZeroDivisionError
    assert loop.time() - start_s < 2
    statuses = [(await call).status for call in calls]
    assert statuses == ["unknown"] * 3 + ["undelivered"] * 2
    assert transport.in_flight == 0


async def test_cancelling_the_drain_cuts_calls_off() -> None:
    """A caller that has no time to wait for the calls in flight gets out, and no task stays."""
    transport = Scripted(latency_s=1000)

    async def use() -> None:
        async with Dispatcher("f", transport=transport, concurrency=3) as dispatcher:
            calls.append(asyncio.create_task(dispatcher.invoke(1)))
            await asyncio.sleep(1)

    calls: list[asyncio.Task[Any]] = []
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await use()
    assert (await calls[0]).status == "unknown"
    assert transport.in_flight == 0


async def test_cancelling_inside_cuts_calls_off() -> None:
    """As with any exception; asyncio's timeout works around it."""
    transport = Scripted(latency_s=1000)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5), Dispatcher("f", transport=transport, concurrency=3) as dispatcher:
            await dispatcher.invoke(1)
    assert transport.in_flight == 0


@pytest.mark.parametrize("n", [1, 5])
async def test_a_defect_of_the_transport_hangs_nothing(n: int) -> None:
    """An exception that no transport should raise: every caller gets an answer, and leaving works."""

    def script(call: Call) -> Any:
        return RuntimeError("defect") if call.number == 0 else ok()

    async with Dispatcher("f", transport=Scripted(script, latency_s=1), concurrency=2) as dispatcher:
        async with asyncio.timeout(60):
            outcomes = await asyncio.gather(*(dispatcher.invoke(n) for n in range(n)))
            assert outcomes[0].status == "unknown"
            assert outcomes[0].error is not None
            assert "RuntimeError" in outcomes[0].error.type
            assert (await dispatcher.invoke("after")).ok  # and the dispatcher goes on


async def test_an_unexpected_error_is_one_records_outcome() -> None:
    """Whatever is raised while a call is out: it may have run, and the others go on."""

    def script(call: Call) -> Any:
        return RuntimeError("defect") if call.number == 3 else ok()

    async with Dispatcher("f", transport=Scripted(script, latency_s=1), concurrency=2) as dispatcher:
        outcomes = [outcome async for outcome in dispatcher.map(range(100))]
    unknown = [outcome for outcome in outcomes if not outcome.ok]
    assert [(o.seq, o.status, o.error and o.error.type) for o in unknown] == [(3, "unknown", "RuntimeError")]
    assert sorted(outcome.seq for outcome in outcomes) == list(range(100))


async def test_a_refusal_that_befalls_all_is_raised() -> None:
    """As by ``map``; one of the record's own qualifier is its outcome."""
    async with Dispatcher("f", transport=Scripted(lambda _: MISSING), concurrency=1) as dispatcher:
        with pytest.raises(FatalRefusal, match="ResourceNotFoundException"):
            await dispatcher.invoke(1)
        outcome = await dispatcher.invoke(Record(1, qualifier="7"))
        assert (outcome.status, outcome.error and outcome.error.type) == (
            "rejected",
            "ResourceNotFoundException",
        )


def test_a_dispatcher_of_another_loop_is_refused() -> None:
    """At once, whichever way it is used, from another thread's loop or from one that is closed."""
    transport = Scripted()

    async def enter() -> Dispatcher:
        return await Dispatcher("f", transport=transport, concurrency=1).__aenter__()

    async def use(dispatcher: Dispatcher) -> None:
        with pytest.raises(FanoutError, match="another event loop"):
            await dispatcher.invoke(1)
        with pytest.raises(FanoutError, match="another event loop"):
            await anext(dispatcher.map([1]))
        with pytest.raises(FanoutError, match="another event loop"):
            await anext(dispatcher.stream(1))

    home = asyncio.new_event_loop()
    try:
        dispatcher = home.run_until_complete(enter())
        thread = threading.Thread(target=asyncio.run, args=(use(dispatcher),))
        thread.start()
        thread.join()
        assert home.run_until_complete(dispatcher.invoke(1)).ok
        assert transport.count == 1
        assert dispatcher.engine.gate.in_flight == 0
        home.run_until_complete(dispatcher.__aexit__(None, None, None))
    finally:
        home.close()


async def test_invalid_options_raise_at_construction() -> None:
    """Before anything is opened, naming the option."""
    with pytest.raises(ConfigError, match="concurrency is 0"):
        Dispatcher("f", concurrency=0)
    with pytest.raises(TypeError, match="unknown option 'concurency': there are"):
        Dispatcher("f", concurency=3)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="function"):
        Dispatcher("no such function!")


async def test_a_transport_of_ones_own_needs_a_number() -> None:
    """There is nobody to ask for limits."""
    with pytest.raises(ConfigError, match="concurrency must be a number"):
        async with Dispatcher("f", transport=Scripted()):
            pass
