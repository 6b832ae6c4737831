"""Batches through the engine: many records in one call, one outcome for each."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

import fanout
from fanout import ConfigError, Dispatcher, Record
from fanout.dispatcher import call as engine_call
from fanout.dispatcher.outcomes import OutcomeMaker
from fanout.dispatcher.record import InputRecord
from fanout.invoke_request import build_template
from fanout.model import Classification, ErrorDetail, Outcome, Reply, Verdict
from tests.example_counts import examples
from tests.scripted import (
    UNAVAILABLE,
    Call,
    Scripted,
    function_error,
    lost,
    ok,
    refused,
    run_virtual,
    throttled,
)

pytestmark = [pytest.mark.looptime, pytest.mark.usefixtures("no_task_left")]
TOO_LARGE = refused(413, "RequestTooLargeException")


def _doubled(call: Call) -> Reply:
    return ok(json.dumps([item * 2 for item in call.json()]).encode())


def _failing(*bad: Any) -> Any:
    """An SQS handler that names some bodies in batchItemFailures."""

    def answer(call: Call) -> Reply:
        failed = [r["messageId"] for r in call.json()["Records"] if json.loads(r["body"]) in bad]
        return ok(json.dumps({"batchItemFailures": [{"itemIdentifier": i} for i in failed]}).encode())

    return answer


async def _map(transport: Scripted, payloads: Any, **options: Any) -> list[Outcome]:
    async with Dispatcher("f", transport=transport, **{"concurrency": 2, **options}) as dispatcher:
        outcomes = [outcome async for outcome in dispatcher.map(payloads)]
    return sorted(outcomes, key=lambda outcome: outcome.seq)


async def test_records_share_calls_and_each_has_its_outcome() -> None:
    """Ten records in tens, in the input's order; the last batch goes out unfilled, at once."""
    transport = Scripted(_doubled)
    outcomes = await _map(transport, range(25), batch=10, batch_shape="array")
    assert transport.bodies == [list(range(10)), list(range(10, 20)), list(range(20, 25))]
    assert [outcome.json() for outcome in outcomes] == [n * 2 for n in range(25)]
    places = [outcome.batch for outcome in outcomes if outcome.batch is not None]
    assert [(place.index, place.size) for place in places[8:12]] == [(8, 10), (9, 10), (0, 10), (1, 10)]
    assert len({place.id for place in places}) == 3
    assert asyncio.get_running_loop().time() < 0.1


async def test_items_are_as_distributed_map_sends_them() -> None:
    """With BatchInput; the one reply stands at index 0."""
    transport = Scripted(lambda _: ok(b'{"done":true}'))
    outcomes = await _map(transport, [1, 2], batch=2, batch_input={"day": 5})
    assert transport.bodies == [{"BatchInput": {"day": 5}, "Items": [1, 2]}]
    assert [outcome.output for outcome in outcomes] == [{"done": True}, None]
    assert [outcome.status for outcome in outcomes] == ["succeeded", "succeeded"]


@pytest.mark.parametrize("shape", ["items", "array"])
async def test_an_empty_payload_spoils_no_batch(shape: str) -> None:
    """No bytes are a payload, but no element: the record is rejected, and its neighbours go out."""
    transport = Scripted(lambda _: ok(b"[0,0]"))
    outcomes = await _map(transport, [b"1", b"", b"2"], batch=3, batch_shape=shape)
    assert [outcome.status for outcome in outcomes] == ["succeeded", "rejected", "succeeded"]
    assert transport.bodies == [[1, 2] if shape == "array" else {"Items": [1, 2]}]


async def test_failed_records_are_named_and_sent_again_alone() -> None:
    """The others of their batch are finished meanwhile; identifiers stay the same."""
    transport = Scripted(_failing(3), latency_s=0.1)
    outcomes = await _map(
        transport, range(5), batch=5, batch_shape="sqs", retry_function_errors=2, outage_patience=0
    )
    assert [[json.loads(r["body"]) for r in body["Records"]] for body in transport.bodies] == [
        [0, 1, 2, 3, 4],
        [3],
        [3],
    ]
    assert len({body["Records"][-1]["messageId"] for body in transport.bodies[1:]}) == 1
    assert [outcome.status for outcome in outcomes] == [
        *["succeeded"] * 3,
        "function_error",
        "succeeded",
    ]
    bad = outcomes[3]
    assert (bad.attempts, bad.error and bad.error.type, bad.input) == (3, "BatchItemFailure", 3)
    assert [outcome.attempts for outcome in outcomes if outcome.ok] == [1] * 4


async def test_a_reply_that_does_not_fit_fails_every_record() -> None:
    """Nothing is guessed."""
    outcomes = await _map(Scripted(lambda _: ok(b"[1]")), range(3), batch=3, batch_shape="array")
    assert {(o.status, o.error and o.error.type) for o in outcomes} == {
        ("function_error", "BatchReplyInvalid")
    }


async def test_a_batch_that_is_too_large_is_split() -> None:
    """By Lambda's answer, at no cost in attempts; one record alone is rejected."""
    transport = Scripted(lambda call: TOO_LARGE if len(call.json()) > 2 else _doubled(call))
    outcomes = await _map(transport, range(8), batch=8, batch_shape="array", retries=0)
    assert [outcome.status for outcome in outcomes] == ["succeeded"] * 8
    assert {outcome.attempts for outcome in outcomes} == {1}
    transport = Scripted(lambda call: TOO_LARGE if 7 in call.json() else _doubled(call))
    outcomes = await _map(transport, range(8), batch=8, batch_shape="array", retries=0)
    assert [outcome.status for outcome in outcomes] == [*["succeeded"] * 7, "rejected"]


async def test_bisection_leaves_the_culprit_with_its_own_error() -> None:
    """Halves go out at once and draw nothing from the retry budget."""
    transport = Scripted(lambda call: function_error() if 37 in call.json() else _doubled(call))
    outcomes = await _map(
        transport, range(100), batch=100, batch_shape="array", bisect=True, idempotent=True, retries=0
    )
    assert [outcome.seq for outcome in outcomes if not outcome.ok] == [37]
    culprit = outcomes[37]
    assert (culprit.status, culprit.error and culprit.error.type) == ("function_error", "ValueError")
    assert transport.count <= 15
    assert asyncio.get_running_loop().time() < 1


@pytest.mark.parametrize(
    ("answer", "options", "status"),
    [
        (lost(), {}, "unknown"),
        (UNAVAILABLE, {"retries": 1}, "undelivered"),
        (function_error(), {}, "function_error"),
        (refused(400, "InvalidRequestContentException"), {}, "rejected"),
    ],
)
async def test_what_ends_a_call_ends_all_its_records(
    answer: Any, options: dict[str, Any], status: str
) -> None:
    """Each with its own input, so that it can be sent again."""
    outcomes = await _map(Scripted(lambda _: answer), list("abc"), batch=3, outage_patience=0, **options)
    assert [outcome.status for outcome in outcomes] == [status] * 3
    assert [outcome.input for outcome in outcomes] == ["a", "b", "c"]


async def test_a_throttle_spends_no_attempt() -> None:
    """The batch goes out again as it was."""
    transport = Scripted([throttled(), ok(b"{}")])
    outcomes = await _map(transport, range(3), batch=3)
    assert [(o.status, o.attempts, o.throttles) for o in outcomes] == [("succeeded", 1, 1)] * 3


async def test_records_of_other_parameters_do_not_share_a_call() -> None:
    """A call carries records of like parameters."""
    transport = Scripted(_doubled)
    payloads = [Record(n, qualifier="blue" if n % 2 else None) for n in range(6)]
    outcomes = await _map(transport, payloads, batch=10, batch_shape="array")
    assert sorted(transport.bodies) == [[0, 2, 4], [1, 3, 5]]
    assert all(outcome.ok for outcome in outcomes)


async def test_bytes_bound_a_batch_and_faults_go_out_alone() -> None:
    """No call has more than was asked; a record that is not JSON is rejected beside its batch."""
    transport = Scripted(_doubled)
    outcomes = await _map(transport, [b"11", b"22", b"{", b"33"], batch=9, batch_bytes=7, batch_shape="array")
    assert transport.bodies == [[11, 22], [33]]
    assert [outcome.status for outcome in outcomes] == ["succeeded", "succeeded", "rejected", "succeeded"]


async def test_a_slow_input_waits_for_so_long_and_no_longer() -> None:
    """A batch goes out unfilled after batch_wait."""
    at: list[float] = []

    def answer(call: Call) -> Reply:
        at.append(asyncio.get_running_loop().time())
        return _doubled(call)

    async def slow() -> AsyncIterator[int]:
        for n in range(4):
            yield n
            await asyncio.sleep(0.3)

    transport = Scripted(answer)
    began_s = asyncio.get_running_loop().time()
    await _map(transport, slow(), batch=10, batch_shape="array", batch_wait=0.5)
    assert transport.bodies == [[0, 1], [2, 3]]
    assert [round(s - began_s, 1) for s in at] == [0.5, 1.1]


async def test_of_batches_that_wait_the_oldest_goes_first() -> None:
    """Records of several parameters fill several batches, and each waits no longer than asked."""
    at: list[float] = []

    def answer(call: Call) -> Reply:
        at.append(asyncio.get_running_loop().time())
        return _doubled(call)

    async def slow() -> AsyncIterator[Record]:
        for n in range(6):
            yield Record(n, qualifier=f"v{n % 3}")
            await asyncio.sleep(0.3)

    transport = Scripted(answer)
    began_s = asyncio.get_running_loop().time()
    await _map(transport, slow(), batch=10, batch_shape="array", batch_wait=1.0)
    assert transport.bodies == [[0, 3], [1, 4], [2, 5]]
    assert [round(s - began_s, 1) for s in at] == [1.0, 1.3, 1.6]


async def test_concurrent_invokes_share_a_call() -> None:
    """Full at once, else after batch_wait; a caller who was cancelled leaves the batch."""
    transport = Scripted(_doubled)
    async with Dispatcher(
        "f", transport=transport, concurrency=4, batch=3, batch_shape="array", batch_wait=0.05
    ) as dispatcher:
        outcomes = await asyncio.gather(*(dispatcher.invoke(n) for n in range(7)))
        assert [outcome.json() for outcome in outcomes] == [n * 2 for n in range(7)]
        assert sorted(len(body) for body in transport.bodies) == [1, 3, 3]
        one = await dispatcher.invoke(100)
        assert one.json() == 200


async def test_a_cancelled_caller_leaves_the_batch() -> None:
    """Before it is complete: waiting for its turn, or for the batch to fill; its records is never sent."""
    transport = Scripted(_doubled)
    options: dict[str, Any] = {"batch": 5, "batch_shape": "array", "batch_wait": 0.5}
    async with Dispatcher("f", transport=transport, concurrency=1, **options) as dispatcher:
        asks = [asyncio.create_task(dispatcher.invoke(n)) for n in range(3)]
        await asyncio.sleep(0.1)  # all three are in a batch that waits
        asks[1].cancel()
        outcomes = await asyncio.gather(asks[0], asks[2])
        assert transport.bodies == [[0, 2]]
        assert [outcome.json() for outcome in outcomes] == [0, 4]
        alone = asyncio.create_task(dispatcher.invoke(9))
        await asyncio.sleep(0.1)
        alone.cancel()
        await asyncio.sleep(1)
        assert transport.count == 1
        assert (await dispatcher.invoke(7)).json() == 14


@pytest.mark.parametrize("is_paused", [False, True])
async def test_closing_answers_callers_whose_turn_has_not_come(is_paused: bool) -> None:
    """Behind a full budget, or a pause: at once, and without a call; none waits for ever."""
    transport = Scripted(_doubled, latency_s=10)
    options: dict[str, Any] = {"batch": 2, "batch_shape": "array", "batch_wait": 0.1}
    dispatcher = await Dispatcher("f", transport=transport, concurrency=1, **options).open()
    dispatcher.tune(pause=is_paused)
    asks = [asyncio.create_task(dispatcher.invoke(n)) for n in range(7)]
    await asyncio.sleep(1)
    closing = asyncio.create_task(dispatcher.aclose())
    await asyncio.sleep(0.1)
    assert [ask.done() for ask in asks] == [is_paused] * 2 + [True] * 5
    await closing
    out = ["undelivered" if is_paused else "succeeded"] * 2
    assert [(await ask).status for ask in asks] == out + ["undelivered"] * 5
    assert transport.count == (0 if is_paused else 1)


async def test_a_deadline_bounds_records_that_share_calls() -> None:
    """One that is not out by then is undelivered; one that waits for another attempt gets no other."""
    transport = Scripted(_doubled, latency_s=3)
    options: dict[str, Any] = {"batch": 2, "batch_shape": "array", "batch_wait": 0.01, "deadline": 1}
    clock = asyncio.get_running_loop().time
    async with Dispatcher("f", transport=transport, concurrency=1, **options) as dispatcher:
        began_s = clock()
        asks = [asyncio.create_task(dispatcher.invoke(n)) for n in range(4)]
        late = await asyncio.gather(*asks[2:])
        assert round(clock() - began_s, 2) == 1
        assert [(o.status, o.error and o.error.type) for o in late] == [
            ("undelivered", "DeadlineExceeded")
        ] * 2
        assert [outcome.status for outcome in await asyncio.gather(*asks[:2])] == ["succeeded"] * 2
    assert transport.bodies == [[0, 1]]
    transport = Scripted(lambda _: throttled(retry_after="30"))
    async with Dispatcher("f", transport=transport, concurrency=1, **options) as dispatcher:
        began_s = clock()
        outcomes = await asyncio.gather(*(dispatcher.invoke(n) for n in range(2)))
        assert clock() - began_s <= 1.1
        assert [outcome.status for outcome in outcomes] == ["undelivered"] * 2


async def test_a_batch_is_not_repeated_beyond_its_deadline() -> None:
    """A call that fails after the deadline has no other attempt."""
    transport = Scripted(lambda _: UNAVAILABLE, latency_s=1.5)
    options: dict[str, Any] = {"batch": 2, "batch_shape": "array", "deadline": 1, "retries": 5}
    async with Dispatcher("f", transport=transport, concurrency=1, **options) as dispatcher:
        outcomes = await asyncio.gather(*(dispatcher.invoke(n) for n in range(2)))
        assert [outcome.status for outcome in outcomes] == ["undelivered"] * 2
    assert transport.count == 1


async def test_a_deadline_ends_a_batch_that_waits_for_a_permit() -> None:
    """Its next attempt is due, and another call has the only permit."""
    transport = Scripted(
        lambda call: UNAVAILABLE if call.number == 0 else _doubled(call),
        latency_s=lambda call: 10 if call.number else 0,
    )
    options: dict[str, Any] = {"batch": 2, "batch_shape": "array", "deadline": 1, "seed": 1}
    clock = asyncio.get_running_loop().time
    async with Dispatcher("f", transport=transport, concurrency=1, **options) as dispatcher:
        began_s = clock()
        asks = [asyncio.create_task(dispatcher.invoke(n)) for n in range(4)]
        ended = await asyncio.gather(*asks[:2])
        assert round(clock() - began_s, 2) == 1
        assert [(o.status, o.error and o.error.type) for o in ended] == [
            ("undelivered", "DeadlineExceeded")
        ] * 2
        assert [outcome.status for outcome in await asyncio.gather(*asks[2:])] == ["succeeded"] * 2
    assert transport.bodies == [[0, 1], [2, 3]]


async def test_a_deadline_ends_a_batch_that_waits_to_fill() -> None:
    """It never goes out, as its records' time is over first."""
    transport = Scripted(_doubled)
    options: dict[str, Any] = {"batch": 9, "batch_shape": "array", "batch_wait": 5, "deadline": 1}
    async with Dispatcher("f", transport=transport, concurrency=1, **options) as dispatcher:
        outcome = await dispatcher.invoke(1)
        assert (outcome.status, outcome.error and outcome.error.type) == ("undelivered", "DeadlineExceeded")
        await asyncio.sleep(10)
    assert transport.count == 0


@pytest.mark.parametrize(
    ("function", "arn"),
    [
        ("orders", "arn:aws:sqs:us-east-1:000000000000:fanout-orders"),
        (
            "arn:aws:lambda:eu-west-1:123456789012:function:orders:live",
            "arn:aws:sqs:eu-west-1:123456789012:fanout-orders",
        ),
    ],
)
async def test_sqs_records_name_a_queue_of_the_function(function: str, arn: str) -> None:
    """With its Region and, where the function's name has it, its account."""
    transport = Scripted(lambda _: ok(b"null"))
    async with Dispatcher(
        function, transport=transport, concurrency=1, batch=2, batch_shape="sqs"
    ) as dispatcher:
        assert [outcome.status async for outcome in dispatcher.map([1, 2])] == ["succeeded"] * 2
    records = transport.bodies[0]["Records"]
    assert {(each["eventSourceARN"], each["awsRegion"]) for each in records} == {(arn, arn.split(":")[3])}


async def test_a_dispatcher_with_batches_streams_nothing() -> None:
    """A streamed reply is one record's."""
    async with Dispatcher("f", transport=Scripted(), concurrency=1, batch=2) as dispatcher:
        with pytest.raises(ConfigError, match="stream and batch"):
            dispatcher.stream(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, "batch is 0"),
        ({"batch": 2, "stream": True}, "stream and batch"),
        ({"batch": 2, "durable_name": "x"}, "durable_name and batch"),
        ({"batch": 2, "bisect": True}, "idempotent"),
        ({"bisect": True, "idempotent": True}, "bisect goes with batch"),
        ({"batch": 2, "batch_shape": "array", "batch_input": {}}, "batch_input"),
        ({"batch": 2, "batch_reply": "batchItemFailures"}, "batch_shape"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], message: str) -> None:
    """At construction."""
    with pytest.raises(ConfigError, match=message):
        Dispatcher("f", concurrency=1, transport=Scripted(), **options)


def test_a_run_resumes_and_redrives_its_batches(tmp_path: Path) -> None:
    """Batched anew; identifiers are the run's, and each line stands for itself."""
    out = tmp_path / "run"
    options: dict[str, Any] = {"batch": 4, "batch_shape": "sqs", "concurrency": 2}
    first = Scripted(_failing(1, 2))
    report = fanout.run("f", range(10), out=out, take=6, transport=first, **options)
    assert report.counts["function_error"] == 2
    assert report.counts["succeeded"] == 4
    lines = [json.loads(line) for line in (out / "outcomes.jsonl").read_text().splitlines()]
    assert sorted((line["seq"], line["batch"]["size"]) for line in lines)[3:5] == [(3, 4), (4, 2)]
    second = Scripted(_failing(1, 2))
    again = fanout.run("f", range(10), out=tmp_path / "other", transport=second, **options)
    assert again.records == 10
    name = first.bodies[0]["Records"][0]["messageId"]
    assert name != second.bodies[0]["Records"][0]["messageId"]


def test_one_batch_that_fails_breaks_no_threshold() -> None:
    """A share of failures is judged from ten calls on."""
    transport = Scripted(lambda call: function_error() if call.number == 0 else _doubled(call))
    options: dict[str, Any] = {"batch": 100, "batch_shape": "array", "concurrency": 1}
    report = fanout.run("f", range(1000), transport=transport, tolerated_failure_percentage=20, **options)
    assert (report.state, report.counts["function_error"]) == ("finished", 100)
    report = fanout.run(
        "f",
        range(10_000),
        transport=Scripted(lambda _: function_error()),
        tolerated_failure_percentage=20,
        **options,
    )
    assert report.halted_by == "threshold"


ANSWERS: dict[str, Callable[[Call], Any]] = {
    "ok": _doubled,
    "failed": lambda _: function_error(),
    "lost": lambda _: lost(),
    "throttled": lambda _: throttled(),
    "unavailable": lambda _: UNAVAILABLE,
    "too large": lambda _: TOO_LARGE,
    "no sense": lambda _: ok(b'{"not":"a list"}'),
}


@hypothesis.settings(max_examples=examples(60), deadline=None)
@hypothesis.given(
    records=st.integers(0, 40),
    size=st.integers(1, 9),
    names=st.lists(st.sampled_from(["ok", "ok", *ANSWERS]), min_size=1, max_size=20),
    options=st.fixed_dictionaries(
        {"seed": st.integers(0, 3), "outage_patience": st.sampled_from([0.0, 5.0])},
        optional={"retries": st.integers(0, 2), "retry_function_errors": st.integers(0, 2)},
    ),
    is_idempotent=st.booleans(),
)
def test_whatever_happens_each_record_of_a_batch_has_one_outcome(
    records: int, size: int, names: list[str], options: dict[str, Any], is_idempotent: bool
) -> None:
    """None is sent after it succeeded, no call carries too many, and order within a batch is the input's."""
    succeeded: Counter[int] = Counter()

    def answer(call: Call) -> Any:
        items = call.json()
        assert 0 < len(items) <= size
        assert items == sorted(items)
        assert not any(succeeded[item] for item in items)
        name = names[call.number % len(names)]
        if name == "ok":
            succeeded.update(items)
        return ANSWERS[name](call)

    async def main() -> list[Outcome]:
        return await _map(
            Scripted(answer),
            range(records),
            batch=size,
            batch_shape="array",
            idempotent=is_idempotent,
            bisect=is_idempotent and size > 1,
            throttle_patience=2,
            **options,
        )

    try:
        outcomes = run_virtual(main(), at_most_s=100_000)
    except (fanout.OutageError, fanout.FatalRefusal):
        return
    assert [outcome.seq for outcome in outcomes] == list(range(records))
    assert all(succeeded[outcome.seq] == outcome.ok for outcome in outcomes)


def test_a_record_of_a_lost_worker_keeps_its_doubt_in_a_batch() -> None:
    """It may have run elsewhere; the others of its batch certainly did not."""
    records = (InputRecord(0, b"0"), InputRecord(1, b"1", may_have_run=True))
    call = engine_call.Call(engine_call.Feed(), records, b"[0,1]", build_template(function="f"), 0.0)
    end = Classification(Verdict.TRANSIENT, error=ErrorDetail("ServiceException"))
    outcomes = OutcomeMaker(keeps_tail_of_successes=False).of_failure(call, None, None, end, 1.0)
    assert [outcome.status for outcome in outcomes] == ["undelivered", "unknown"]


@pytest.mark.parametrize("latency_s", [0.1, 100])
async def test_callers_who_wait_for_a_batch_are_answered_at_the_end(latency_s: float) -> None:
    """At once when the dispatcher closes, however long the calls in flight take; nobody waits for ever."""
    transport = Scripted(_doubled, latency_s=latency_s)
    clock = asyncio.get_running_loop().time
    async with Dispatcher(
        "f", transport=transport, concurrency=1, batch=2, batch_shape="array"
    ) as dispatcher:
        asks = [asyncio.create_task(dispatcher.invoke(n)) for n in range(9)]
        await asyncio.sleep(0.05)
        closing = asyncio.create_task(dispatcher.aclose())
        late = await asyncio.wait_for(asyncio.gather(*asks[2:]), 200)
        assert clock() < 0.1
        assert {(o.status, o.error and o.error.type) for o in late} == {("undelivered", "Stopped")}
        await closing
        assert [outcome.json() for outcome in await asyncio.gather(*asks[:2])] == [0, 2]


async def test_callers_who_wait_for_a_batch_hear_of_a_refusal() -> None:
    """Theirs would be refused alike: none is left without an answer, and none is sent."""
    transport = Scripted(lambda _: refused(403, "AccessDeniedException"), latency_s=0.1)
    async with Dispatcher(
        "f", transport=transport, concurrency=1, batch=2, batch_shape="array"
    ) as dispatcher:
        asks = [dispatcher.invoke(n) for n in range(7)]
        answers = await asyncio.wait_for(asyncio.gather(*asks, return_exceptions=True), 10)
    assert {type(answer) for answer in answers} == {fanout.FatalRefusal}
    assert transport.count == 1


def test_a_fault_is_no_call(tmp_path: Path) -> None:
    """Records that are never sent count among the records of a batched run, and not among its calls."""
    path = tmp_path / "in.jsonl"
    path.write_text("".join(f'{{"id":{n}}}\n' if n % 5 else "{}\n" for n in range(20)))
    report = fanout.run(
        "f", path, out=tmp_path / "r", transport=Scripted(), batch=4, select="id", report=False, concurrency=1
    )
    assert (report.counts["succeeded"], report.counts["rejected"], report.calls) == (16, 4, 4)
