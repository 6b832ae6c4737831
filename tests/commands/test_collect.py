"""The collection of Event calls' results: each record completed once, by its newest call's own result."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fanout
from fanout.commands.changes import Changes
from fanout.commands.collect import collect
from fanout.commands.collection import Collection, CollectionStop
from fanout.commands.live_page import with_live_page
from fanout.commands.redrive import redrive
from fanout.errors import ConfigError, SourceError
from fanout.journal import iter_outcomes
from fanout.model import InvokeTemplate, OnChunk, Reply
from fanout.runs.audience import Audience, Stoppable
from fanout.stats import Stats
from tests.queues.stand_in import ACCOUNT, Queue, serving

pytestmark = pytest.mark.usefixtures("keys")


class Accepting:
    """Takes every event, under a request id of its own, and remembers its payload."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []

    async def send(self, template: InvokeTemplate, body: bytes, on_chunk: OnChunk | None = None) -> Reply:
        request_id = f"request-{id(self)}-{len(self.sent)}"
        self.sent.append((request_id, body))
        return Reply(202, b"", request_id=request_id)

    def set_read_timeout(self, seconds: float) -> None: ...

    async def aclose(self) -> None: ...


def arn(name: str) -> str:
    return f"arn:aws:sqs:eu-west-1:{ACCOUNT}:{name}"


def configured(**destinations: str) -> dict[str, Any]:
    """Lambda's objects for the function ``f``: destinations by ``on_success`` and ``on_failure``."""
    config = {
        name: {"Destination": arn(queue)}
        for name, queue in (
            ("OnSuccess", destinations.get("on_success")),
            ("OnFailure", destinations.get("on_failure")),
        )
        if queue
    }
    settings: dict[str, Any] = {"Timeout": 3}
    if "dead_letters" in destinations:
        settings["DeadLetterConfig"] = {"TargetArn": arn(destinations["dead_letters"])}
    return {
        "/2015-03-31/functions/f": {"Configuration": settings},
        "/2019-09-25/functions/f/event-invoke-config": {"DestinationConfig": config},
    }


def record(request_id: str, payload: bytes, condition: str = "Success", **members: Any) -> dict[str, Any]:
    """A destination record."""
    context = {"requestId": request_id, "condition": condition, "approximateInvokeCount": 1}
    found: dict[str, Any] = {
        "version": "1.0",
        "requestContext": context,
        "requestPayload": json.loads(payload),
        **members,
    }
    if condition == "Success":
        found |= {"responseContext": {"statusCode": 200}, "responsePayload": {"got": json.loads(payload)}}
    return found


def failure(request_id: str, payload: bytes) -> dict[str, Any]:
    return record(
        request_id,
        payload,
        "RetriesExhausted",
        responseContext={"statusCode": 200, "functionError": "Unhandled"},
        responsePayload={"errorType": "ValueError", "errorMessage": "bad"},
    )


async def accepted(out: Path, count: int) -> Accepting:
    """A run of Event calls."""
    transport = Accepting()
    await asyncio.to_thread(
        fanout.run, "f", [{"n": n} for n in range(count)], out=out, transport=transport,
        invocation_type="Event", concurrency=10, report=False,
    )  # fmt: skip
    return transport


async def gather(
    out: Path,
    patch: pytest.MonkeyPatch,
    *queues: Queue,
    objects: Any = None,
    said: Any = None,
    notes: Any = None,
    attach: Any = None,
    **asked: Any,
) -> fanout.RunReport:
    """``collect`` against queues and Lambda's configuration."""
    async with serving(*queues, objects=objects or {}) as url:
        patch.setenv("AWS_ENDPOINT_URL_SQS", url)
        audience = Audience(
            on_message=None if said is None else said.append,
            on_note=None if notes is None else notes.append,
            attach=attach,
        )
        return await collect(out, Collection(endpoint_url=url, **{"wait_s": 1.0, **asked}), audience)


def counted(report: fanout.RunReport) -> dict[str, int]:
    return {status: count for status, count in report.counts.items() if count}


async def test_every_accepted_record_gets_its_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Successes and failures from two queues; the exit code is that of the final statuses.

    Meanwhile it says how much longer it waits at the most.
    """
    out, notes = tmp_path / "run", list[str]()
    monkeypatch.setattr("fanout.commands.collect._SAY_EVERY_S", 0)
    monkeypatch.setattr("fanout.queues.collector._LOOK_EVERY_S", 0.001)
    calls = await accepted(out, 30)
    ok, bad = Queue("ok"), Queue("bad")
    for number, (request_id, payload) in enumerate(calls.sent):
        if number % 10:
            ok.send(record(request_id, payload))
        else:
            bad.send(failure(request_id, payload))
    wanted = configured(on_success="ok", on_failure="bad")
    report = await gather(out, monkeypatch, ok, bad, objects=wanted, notes=notes, wait_s=60.0)
    said = [
        re.match(r"collecting: (\d+) still out, (\d+) collected; (1m00|5\d)s more", note)
        for note in notes[:-1]
    ]
    assert said
    assert {each and int(each[1]) + int(each[2]) for each in said} == {30}
    assert counted(report) == {"succeeded": 27, "function_error": 3}
    assert report.exit_code == 1
    assert not ok.messages
    assert not bad.messages
    outcomes = list(iter_outcomes(out))
    assert sorted(outcome.seq for outcome in outcomes) == list(range(30))
    for outcome in outcomes:
        assert outcome.request_id is not None
        assert outcome.collected_at is not None
        if outcome.ok:
            assert outcome.output == {"got": {"n": outcome.seq}}
        else:
            assert outcome.error is not None
            assert (outcome.error.type, outcome.input) == ("ValueError", {"n": outcome.seq})


async def test_a_signal_before_the_first_receive_ends_a_collection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is heeded from the start, and what is missing stays open; nothing can be tuned."""
    out = tmp_path / "run"
    await accepted(out, 3)

    def attach(stop: Stoppable) -> Callable[[], None]:
        with pytest.raises(ConfigError, match="its results are collected"):
            stop.tune({"rate": 1})
        stop.stop("sigint")
        assert stop.is_stopping
        return lambda: None

    wanted = configured(on_success="ok", on_failure="ok")
    async with asyncio.timeout(100):
        report = await gather(out, monkeypatch, Queue("ok"), objects=wanted, attach=attach, wait_s=60.0)
    assert counted(report) == {"accepted": 3}
    assert (report.exit_code, report.state) == (130, "finished")


async def test_a_live_page_goes_on_into_the_collection() -> None:
    """What is attached then is a collection, which has no figures to draw."""
    attached: list[Stoppable] = []

    async def begin(audience: Audience) -> fanout.RunReport:
        assert audience.attach is not None
        audience.attach(CollectionStop())()
        return fanout.RunReport.from_stats(Stats(), {"state": "finished"})

    def attach(run: Stoppable) -> Callable[[], None]:
        attached.append(run)
        return lambda: None

    report = await with_live_page(begin, Audience(attach=attach), port=0, title="f")
    assert report.state == "finished"
    assert [type(each) for each in attached] == [CollectionStop]


async def test_duplicates_and_late_copies_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A redriven record's first result comes late and twice: the second generation's stands."""
    out = tmp_path / "run"
    calls = await accepted(out, 3)
    queue = Queue("all")
    for request_id, payload in calls.sent:
        queue.send(failure(request_id, payload))
    wanted = configured(on_success="all", on_failure="all")
    await gather(out, monkeypatch, queue, objects=wanted)
    again = Accepting()
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", "http://127.0.0.1:1")
    await redrive(out, Changes(given={"transport": again}), Audience())
    assert len(again.sent) == 3
    for request_id, payload in calls.sent:  # late copies of the first generation
        queue.send(failure(request_id, payload))
    for request_id, payload in again.sent:
        queue.send(record(request_id, payload))
        queue.send(record(request_id, payload))
    report = await gather(out, monkeypatch, queue, objects=wanted)
    assert counted(report) == {"succeeded": 3}
    assert {outcome.generation for outcome in iter_outcomes(out)} == {1}
    await gather(out, monkeypatch, queue, objects=wanted)
    assert len(list(iter_outcomes(out, latest=False))) == 12


async def test_a_failure_queue_alone_leaves_the_rest_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody tells of successes: they are not called unknown, and the person is told first."""
    out = tmp_path / "run"
    calls = await accepted(out, 10)
    bad = Queue("bad")
    bad.send(failure(*calls.sent[0]))
    said: list[str] = []
    report = await gather(out, monkeypatch, bad, objects=configured(on_failure="bad"), said=said)
    assert counted(report) == {"accepted": 9, "function_error": 1}
    assert "stay accepted" in said[0]


async def test_what_a_success_queue_should_have_brought_is_unknown_and_may_still_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the wait; a later collection completes it."""
    out = tmp_path / "run"
    calls = await accepted(out, 3)
    queue = Queue("all")
    queue.send(record(*calls.sent[0]))
    wanted = configured(on_success="all", on_failure="all")
    report = await gather(out, monkeypatch, queue, objects=wanted)
    assert counted(report) == {"succeeded": 1, "unknown": 2}
    queue.send(record(*calls.sent[1]))
    report = await gather(out, monkeypatch, queue, objects=wanted)
    assert counted(report) == {"succeeded": 2, "unknown": 1}


async def test_no_receive_is_left_behind_and_quiet_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receive that is given up takes messages all the same, and the next collection misses them."""
    out = tmp_path / "run"
    calls = await accepted(out, 2)
    queue, said = Queue("all"), list[str]()
    queue.send(record(*calls.sent[0]))
    wanted = configured(on_success="all")
    await gather(out, monkeypatch, queue, objects=wanted, said=said, wait_s=0.3)
    queue.send(record(*calls.sent[1]))
    report = await gather(out, monkeypatch, queue, objects=wanted, said=said)
    assert counted(report) == {"succeeded": 2}
    assert queue.abandoned == 0
    assert said == []


async def test_messages_of_others_are_put_back_with_a_delay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs on one queue get each its own."""
    first, second = tmp_path / "first", tmp_path / "second"
    calls, others = await accepted(first, 5), await accepted(second, 5)
    queue = Queue("all")
    for request_id, payload in [*others.sent, *calls.sent]:
        queue.send(record(request_id, payload))
    queue.send("nobody's")
    wanted = configured(on_success="all")
    report = await gather(first, monkeypatch, queue, objects=wanted)
    assert counted(report) == {"succeeded": 5}
    assert len(queue.messages) == 6
    now_s = queue.clock()
    assert all(50 < each.visible_s - now_s <= 60 for each in queue.messages.values())
    for each in queue.messages.values():
        each.visible_s = 0
    assert counted(await gather(second, monkeypatch, queue, objects=wanted)) == {"succeeded": 5}
    assert [each.body for each in queue.messages.values()] == ["nobody's"]


async def test_a_redrive_policy_makes_strangers_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each receive counts: their messages would be moved away."""
    out = tmp_path / "run"
    await accepted(out, 1)
    queue = Queue("all", {"RedrivePolicy": "{}"})
    queue.send("somebody's")
    with pytest.raises(SourceError, match="--allow-strangers"):
        await gather(out, monkeypatch, queue, objects=configured(on_success="all"))
    assert len(queue.visible) == 1
    report = await gather(out, monkeypatch, queue, objects=configured(on_success="all"), allow_strangers=True)
    assert counted(report) == {"unknown": 1}


async def test_envelopes_and_dead_letters_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SNS, EventBridge, and dead letters whose attributes say what happened."""
    out = tmp_path / "run"
    calls = await accepted(out, 5)
    queue = Queue("all")
    topic, bus, dead, never, aged = calls.sent
    queue.send({"Type": "Notification", "TopicArn": "t", "Message": json.dumps(record(*topic))})
    queue.send({"detail-type": "Lambda Function Invocation Result - Success", "detail": record(*bus)})
    queue.send(dead[1].decode(), RequestID=dead[0], ErrorCode="200", ErrorMessage="bad")
    queue.send(never[1].decode(), RequestID=never[0], ErrorCode="429", ErrorMessage="Rate Exceeded.")
    queue.send(record(*aged, condition="EventAgeExceeded"))
    report = await gather(out, monkeypatch, queue, queues=["sqs://all"])
    assert counted(report) == {"succeeded": 2, "function_error": 1, "undelivered": 2}
    assert all(outcome.input == {"n": outcome.seq} for outcome in iter_outcomes(out) if not outcome.ok)


async def test_without_any_queue_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said at once, with what to do."""
    out = tmp_path / "run"
    await accepted(out, 1)
    with pytest.raises(ConfigError, match="--from"):
        await gather(out, monkeypatch, Queue("q"), objects=configured())


async def test_a_queue_that_never_answers_is_not_waited_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most likely the address is wrong. One that has answered is waited for two minutes."""
    out = tmp_path / "run"
    await accepted(out, 1)
    monkeypatch.setattr("fanout.queues.requests.FIRST_PATIENCE_S", 0.1)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:1")
    async with asyncio.timeout(100), serving(objects=configured(on_success="all")) as url:
        with pytest.raises(SourceError, match="cannot be reached: no connection"):
            await collect(out, Collection(endpoint_url=url), Audience())


async def test_a_collection_that_dies_at_any_delete_comes_to_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No message is deleted before its line is synced; those that come again are duplicates."""
    out = tmp_path / "run"
    calls = await accepted(out, 25)
    queue = Queue("all")
    for request_id, payload in calls.sent:
        queue.send(record(request_id, payload))
    queue.faults["DeleteMessageBatch"] = lambda number: (403, "AccessDenied")
    wanted = configured(on_success="all")
    with pytest.raises(SourceError, match="DeleteMessage"):
        await gather(out, monkeypatch, queue, objects=wanted)
    assert len(queue.messages) == 25
    queue.faults.clear()
    for each in queue.messages.values():
        each.visible_s = 0
    report = await gather(out, monkeypatch, queue, objects=wanted)
    assert counted(report) == {"succeeded": 25}
    assert sorted(outcome.seq for outcome in iter_outcomes(out)) == list(range(25))


async def test_a_run_collects_at_its_own_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``collect=True``: the destinations are looked at before the first call."""
    queue = Queue("all")

    class Delivering(Accepting):
        async def send(self, template: InvokeTemplate, body: bytes, on_chunk: OnChunk | None = None) -> Reply:
            reply = await super().send(template, body, on_chunk)
            assert queue.actions["DeleteMessage"] == 1  # the look that comes before the first call
            queue.send(record(str(reply.request_id), body))
            return reply

    async with serving(queue, objects=configured(on_success="all")) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", url)
        report = await asyncio.to_thread(
            fanout.run, "f", [{"n": 1}, {"n": 2}], out=tmp_path / "run", transport=Delivering(),
            invocation_type="Event", concurrency=1, collect=True, endpoint_url=url,
        )  # fmt: skip
    assert counted(report) == {"succeeded": 2}
    assert not queue.messages


async def test_one_result_completes_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten records in two calls, one destination record each: an outcome for each, by --batch-reply."""
    out = tmp_path / "run"
    transport = Accepting()
    await asyncio.to_thread(
        fanout.run, "f", [{"n": n} for n in range(10)], out=out, transport=transport,
        invocation_type="Event", concurrency=1, report=False, batch=5, batch_shape="array",
    )  # fmt: skip
    assert len(transport.sent) == 2
    queue = Queue("all")
    for request_id, payload in transport.sent:
        result = record(request_id, payload)
        result["responsePayload"] = [each["n"] * 2 for each in json.loads(payload)]
        queue.send(result)
    report = await gather(out, monkeypatch, queue, objects=configured(on_success="all"))
    assert counted(report) == {"succeeded": 10}
    assert {outcome.seq: outcome.output for outcome in iter_outcomes(out)} == {n: 2 * n for n in range(10)}
    assert not queue.messages


async def test_an_event_from_a_queue_that_failed_can_be_redriven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message was deleted when it was accepted, so the journal is the only place that has it."""
    out = tmp_path / "run"
    jobs, results = Queue("jobs"), Queue("results")
    for number in range(3):
        jobs.send({"n": number})
    jobs.send("no JSON")
    transport, again = Accepting(), Accepting()
    async with serving(jobs) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", url)
        await asyncio.to_thread(
            fanout.run, "f", "sqs://jobs", out=out, transport=transport, invocation_type="Event",
            concurrency=2, report=False, empty_after=1,
        )  # fmt: skip
    assert [each.body for each in jobs.messages.values()] == ["no JSON"]
    for request_id, payload in transport.sent:
        results.send(failure(request_id, payload))
    report = await gather(out, monkeypatch, results, objects=configured(on_failure="results"))
    assert counted(report) == {"function_error": 3, "rejected": 1}
    said: list[str] = []
    await redrive(out, Changes(given={"transport": again}), Audience(on_message=said.append))
    assert sorted(body for _, body in again.sent) == sorted(body for _, body in transport.sent)


def test_a_function_of_this_machine_has_nothing_to_collect_from(tmp_path: Path) -> None:
    """Refused before anything is made or anybody is asked."""
    (tmp_path / "h.py").write_text("def handler(event, context):\n    return event\n")
    with pytest.raises(fanout.ConfigError, match="collect and local are both given"):
        fanout.run(
            "f", [1], out=tmp_path / "run", local=f"{tmp_path / 'h.py'}:handler",
            invocation_type="Event", collect=True,
        )  # fmt: skip
    assert not (tmp_path / "run").exists()
