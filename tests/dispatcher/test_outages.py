"""Outages through the engine: what was pulled waits, attempts are not spent, and an answer ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import fanout
from fanout import Dispatcher, FatalRefusal
from fanout.errors import OutageError
from fanout.model import Reply
from tests.scripted import (
    CONCURRENCY_REASON,
    MISSING,
    RATE_REASON,
    UNAVAILABLE,
    Call,
    Scripted,
    lost,
    ok,
    refused,
    throttled,
    unreached,
)

pytestmark = [pytest.mark.looptime, pytest.mark.usefixtures("no_task_left")]
PENDING = refused(409, "ResourceConflictException", "The function is Pending")


def _away(from_s: float, until_s: float, failure: Callable[[], Any]) -> Callable[[Call], Any]:
    """Successes but for a stretch of the loop's time."""
    began: list[float] = []

    def answer(call: Call) -> Any:
        now_s = asyncio.get_running_loop().time()
        began.append(now_s)
        return failure() if from_s <= now_s - began[0] < until_s else ok(call.body)

    return answer


@pytest.mark.parametrize("failure", [unreached, lambda: UNAVAILABLE, lambda: PENDING, lambda: MISSING])
async def test_an_outage_of_seconds_loses_no_record(failure: Callable[[], Any]) -> None:
    """Ten seconds without an answer: every record succeeds, and hardly any call is made meanwhile."""
    until_s = 2.5 if failure() == MISSING else 10.0
    transport = Scripted(_away(0.5, until_s, failure), latency_s=0.05)
    async with Dispatcher("f", transport=transport, concurrency=20) as dispatcher:
        outcomes = [outcome async for outcome in dispatcher.map(range(600))]
    assert sorted(outcome.seq for outcome in outcomes) == list(range(600))
    assert {outcome.status for outcome in outcomes} == {"succeeded"}
    assert {outcome.attempts for outcome in outcomes} == {1}  # those that failed first have theirs back
    assert transport.count <= 600 + 20 + 5


async def test_probes_are_of_other_records() -> None:
    """A record that always fails does not keep an outage going."""
    transport = Scripted(
        lambda call: UNAVAILABLE if call.body == b"0" or call.number < 9 else ok(call.body), latency_s=0.01
    )
    async with Dispatcher("f", transport=transport, concurrency=3, retries=2) as dispatcher:
        outcomes = {outcome.seq: outcome.status async for outcome in dispatcher.map(range(30))}
    assert outcomes.pop(0) == "undelivered"
    assert set(outcomes.values()) == {"succeeded"}


async def test_fewer_than_three_records_spend_their_attempts() -> None:
    """The last record that always gets a 503 ends as undelivered, within seconds."""
    transport = Scripted(lambda _: UNAVAILABLE, latency_s=0.01)
    async with Dispatcher("f", transport=transport, concurrency=5) as dispatcher:
        outcomes = [outcome.status async for outcome in dispatcher.map(range(2))]
    assert outcomes == ["undelivered", "undelivered"]
    assert asyncio.get_running_loop().time() < 10


async def test_the_patience_ends_a_map() -> None:
    """With an error; what was pulled is undelivered and was not run."""
    transport = Scripted(_away(0.5, 1e9, lambda: UNAVAILABLE), latency_s=0.05)
    statuses: list[str] = []
    async with Dispatcher("f", transport=transport, concurrency=4, outage_patience=60) as dispatcher:
        outcomes = dispatcher.map(range(10_000))
        with pytest.raises(OutageError, match="ServiceException"):
            statuses.extend([outcome.status async for outcome in outcomes])
        assert 60 <= asyncio.get_running_loop().time() < 62
    assert transport.count < 70


async def test_an_invoke_does_not_wait_unless_asked() -> None:
    """A service's caller gets its answer after the attempts; with a patience it waits."""
    transport = Scripted(_away(0.0, 30.0, lambda: UNAVAILABLE), latency_s=0.01)
    async with Dispatcher("f", transport=transport, concurrency=9) as dispatcher:
        given_up = await asyncio.gather(*(dispatcher.invoke(n) for n in range(5)))
        assert {outcome.status for outcome in given_up} == {"undelivered"}
    transport = Scripted(_away(0.0, 30.0, lambda: UNAVAILABLE), latency_s=0.01)
    async with Dispatcher("f", transport=transport, concurrency=9, outage_patience=100) as dispatcher:
        waited = await asyncio.gather(*(dispatcher.invoke(n) for n in range(5)))
        assert {outcome.status for outcome in waited} == {"succeeded"}


async def test_a_lost_reply_neither_begins_nor_ends_an_outage() -> None:
    """It may have run: it is unknown, as ever."""
    transport = Scripted(lambda _: lost(), latency_s=0.01)
    async with Dispatcher("f", transport=transport, concurrency=5) as dispatcher:
        outcomes = [outcome.status async for outcome in dispatcher.map(range(8))]
        assert not dispatcher.engine.outage.is_on
    assert outcomes == ["unknown"] * 8


async def test_a_refusal_that_stays_stops_the_map() -> None:
    """After successes it is asked for 7 s; then it is believed."""
    transport = Scripted(_away(0.5, 1e9, lambda: MISSING), latency_s=0.05)
    async with Dispatcher("f", transport=transport, concurrency=4) as dispatcher:
        with pytest.raises(FatalRefusal, match="ResourceNotFound"):
            _ = [outcome async for outcome in dispatcher.map(range(10_000))]
        assert 7 <= asyncio.get_running_loop().time() < 9


async def test_a_refusal_at_the_first_call_stops_at_once() -> None:
    """Nothing has succeeded: there is nothing to wait for."""
    transport = Scripted(lambda _: MISSING, latency_s=0.05)
    async with Dispatcher("f", transport=transport, concurrency=4) as dispatcher:
        with pytest.raises(FatalRefusal):
            _ = [outcome async for outcome in dispatcher.map(range(100))]
        assert asyncio.get_running_loop().time() < 1


class _Down(Scripted):
    """Answers ten calls, then nothing more."""

    def __init__(self, failure: Any) -> None:
        super().__init__(lambda call: ok(call.body) if call.number < 10 else failure, latency_s=0.001)


@pytest.mark.parametrize(
    ("failure", "options", "halted_by", "exit_code"),
    [
        (UNAVAILABLE, {"outage_patience": 0.2}, "outage", 5),
        (UNAVAILABLE, {"deadline": 0.5}, "deadline", 5),
        (MISSING, {"outage_patience": 0.2}, "fatal", 4),
    ],
)
def test_what_a_run_pulled_stays_pending(
    tmp_path: Path, failure: Reply, options: dict[str, Any], halted_by: str, exit_code: int
) -> None:
    """In an outage that outlasts the patience or the deadline; a resume sends it."""
    report = fanout.run(
        "f", range(100), out=tmp_path / "run", transport=_Down(failure), concurrency=4, retries=0, **options
    )
    assert (report.halted_by, report.exit_code) == (halted_by, exit_code)
    assert report.counts["succeeded"] == 10
    assert report.counts["undelivered"] <= 2  # the first two, before it was an outage
    again = fanout.run(
        "f", range(100), out=tmp_path / "run", transport=Scripted(), concurrency=4, resume=True
    )
    assert again.state == "finished"
    assert again.counts["succeeded"] + again.counts["undelivered"] == 100


async def test_a_stretch_of_outages_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """Not a line for each of ten pauses, between which a call or two were answered."""
    transport = Scripted(
        lambda call: ok(call.body) if call.number < 5 or call.number % 6 == 0 else UNAVAILABLE, latency_s=0.05
    )
    async with Dispatcher("f", transport=transport, concurrency=5, retries=50) as dispatcher:
        with caplog.at_level("WARNING", logger="fanout"):
            outcomes = [outcome async for outcome in dispatcher.map(range(30))]
    assert {outcome.status for outcome in outcomes} == {"succeeded"}
    said = [record.getMessage().split(",")[0].split(":")[0] for record in caplog.records]
    assert said.count("pausing") <= 1 + asyncio.get_running_loop().time() // 30
    assert said[:2] == ["pausing", "going on"]
    assert abs(said.count("pausing") - said.count("going on")) <= 1
    assert transport.count > 60


@pytest.mark.parametrize("reason", [CONCURRENCY_REASON, RATE_REASON])
@pytest.mark.parametrize("options", [{"throttle_patience": 5}, {"deadline": 5}])
@pytest.mark.parametrize("way", ["invoke", "map"])
async def test_retry_after_outlasts_neither_patience_nor_deadline(
    reason: str, options: dict[str, Any], way: str
) -> None:
    """An hour is asked for, and seconds are left."""
    began_s = asyncio.get_running_loop().time()
    transport = Scripted(lambda _: throttled(reason, retry_after="3600"), latency_s=0.01)
    async with Dispatcher("f", transport=transport, concurrency=4, **options) as dispatcher:
        if way == "invoke":
            statuses = [(await dispatcher.invoke(1)).status]
        else:
            statuses = []
            with suppress(FatalRefusal):
                statuses.extend([outcome.status async for outcome in dispatcher.map(range(20))])
    took_s = asyncio.get_running_loop().time() - began_s
    assert took_s < 7  # a call whose next attempt would come after the deadline ends at once
    assert took_s > 4 or "deadline" in options
    assert set(statuses) <= {"undelivered"}


@pytest.mark.parametrize("reason", [CONCURRENCY_REASON, RATE_REASON])
@pytest.mark.parametrize("options", [{"throttle_patience": 0.4}, {"deadline": 0.4}])
def test_retry_after_holds_no_run_up(tmp_path: Path, reason: str, options: dict[str, Any]) -> None:
    """Nor a run: what was throttled stays pending, or is undelivered."""
    report = fanout.run(  # which takes an hour otherwise
        "f",
        range(20),
        out=tmp_path / "run",
        transport=Scripted(lambda _: throttled(reason, retry_after="3600"), latency_s=0.01),
        concurrency=4,
        **options,
    )
    assert report.exit_code in (4, 5)
    assert report.pending + report.counts["undelivered"] == report.records


async def test_a_probe_that_waits_for_a_lingering_permit_is_made_in_the_end() -> None:
    """The only permit lingers for a lost probe: the outage ends when it comes back, not never."""
    transport = Scripted([ok(b"1"), MISSING, lost()], latency_s=0.01)
    async with Dispatcher("f", transport=transport, concurrency=1) as dispatcher:
        outcomes = [outcome async for outcome in dispatcher.map(range(2))]
    assert [outcome.status for outcome in outcomes] == ["succeeded", "unknown"]


@pytest.mark.parametrize("options", [{}, {"batch": 2, "batch_shape": "array"}], ids=["single", "batches"])
async def test_an_invoke_in_an_outage_says_why_it_was_given_up(options: dict[str, Any]) -> None:
    """The patience or its deadline was over, or a refusal was confirmed; the dispatcher was not closed."""

    async def answers(failure: Callable[[], Any], **more: Any) -> set[Any]:
        transport = Scripted(_away(0.5, 1e9, failure), latency_s=0.05)
        async with Dispatcher("f", transport=transport, concurrency=4, **options, **more) as dispatcher:
            assert (await dispatcher.invoke(0)).ok
            await asyncio.sleep(1)
            found = await asyncio.gather(*(dispatcher.invoke(n) for n in range(9)), return_exceptions=True)
        return {
            (each.status, each.error and each.error.type, each.error and each.error.message)
            if isinstance(each, fanout.Outcome)
            else type(each)
            for each in found
        }

    down = await answers(lambda: UNAVAILABLE, outage_patience=60)
    assert [(status, kind) for status, kind, _ in down] == [("undelivered", "Stopped")]
    assert "nothing was answered for too long" in str(down)
    late = await answers(lambda: UNAVAILABLE, outage_patience=60, deadline=9)
    assert [(status, kind) for status, kind, _ in late] == [("undelivered", "DeadlineExceeded")]
    assert await answers(lambda: MISSING, outage_patience=60) == {FatalRefusal}
