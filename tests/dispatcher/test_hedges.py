"""Hedged calls through the engine: one copy of a late call, and one outcome whatever becomes of both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

import fanout
from fanout import ConfigError, Dispatcher, FatalRefusal, Outcome
from fanout.cost import CostMeter
from fanout.errors import OutageError
from fanout.model import OnChunk, Reply
from tests.example_counts import examples
from tests.scripted import (
    UNAVAILABLE,
    Answer,
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
STUCK = b"7"


def _stuck(copy: Answer, original: Answer | None = None, **latency_s: float) -> Scripted:
    """Calls of 100 ms; the first of one record takes ``original`` seconds, its copy ``copy``."""
    first_s, second_s = latency_s.get("original_s", 100.0), latency_s.get("copy_s", 0.1)

    def answer(call: Call) -> Answer:
        if call.body != STUCK:
            return ok(call.body)
        if call.attempt == 1:
            return ok(b'"original"') if original is None else original
        return copy if call.attempt == 2 else ok(b'"third"')

    def latency(call: Call) -> float:
        return 0.1 if call.body != STUCK or call.attempt > 2 else (first_s, second_s)[call.attempt - 1]

    return Scripted(answer, latency_s=latency)


async def _map(transport: Scripted, count: int = 100, **options: Any) -> tuple[dict[int, Outcome], float]:
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    keywords = {"concurrency": 20, "idempotent": True, "hedge": True, **options}
    async with Dispatcher("f", transport=transport, **keywords) as dispatcher:
        outcomes = [outcome async for outcome in dispatcher.map(range(count))]
        ended_s = loop.time() - began_s
        if transport.in_flight == 0:
            assert dispatcher.load().in_flight == 0
    assert sorted(outcome.seq for outcome in outcomes) == list(range(count))
    return {outcome.seq: outcome for outcome in outcomes}, ended_s


async def test_a_copy_that_succeeds_first_ends_the_run() -> None:
    """The original would have taken 100 s; neither the consumer nor the leaving waits for it."""
    transport = _stuck(ok(b'"copy"'))
    outcomes, took_s = await _map(transport)
    late = outcomes[7]
    assert (late.status, late.output, late.copies, late.attempts) == ("succeeded", "copy", 1, 2)
    assert took_s < 1.5
    assert asyncio.get_running_loop().time() < 5
    assert transport.count == 101
    assert late.history is not None
    assert [end.verdict for end in late.history] == ["ambiguous", "success"]
    assert late.history[0].error.startswith("Superseded")
    meter = CostMeter(memory_mb=128)
    meter.add(late)
    assert meter.usd > 2 * 128 / 1024 * 0.4 * 1.6e-5  # both, the original for what it ran until then
    assert meter.estimate().is_lower_bound


async def test_the_permit_of_the_slower_attempt_lingers() -> None:
    """It runs on in Lambda: a copy makes no room."""
    transport = _stuck(ok(b'"copy"'))
    async with Dispatcher(
        "f", transport=transport, concurrency=20, idempotent=True, hedge=True, function_timeout=60
    ) as dispatcher:
        assert [True async for _ in dispatcher.map(range(100))] == [True] * 100
        await asyncio.sleep(0.01)
        load = dispatcher.load()
        assert (load.in_flight, load.lingering) == (0, 1)


async def test_an_original_that_succeeds_first_wins() -> None:
    """The copy is cut off, and counted."""
    transport = _stuck(ok(b'"copy"'), original_s=1.0, copy_s=50.0)
    outcomes, took_s = await _map(transport)
    assert (outcomes[7].output, outcomes[7].copies) == ("original", 1)
    assert took_s < 1.5


@pytest.mark.parametrize(
    "copy",
    [
        throttled(),
        refused(409, "DurableExecutionAlreadyStartedException", "already in progress"),
        refused(400, "InvalidParameterValueException"),
        refused(403, "AccessDeniedException"),
        UNAVAILABLE,
        function_error(),
        lost(),
    ],
)
async def test_a_copy_that_fails_is_dropped(copy: Answer) -> None:
    """Throttled, in progress, refused, raised, lost: the original's success is the record's."""
    transport = _stuck(copy, original_s=5.0)
    outcomes, _ = await _map(transport)
    assert {outcome.status for outcome in outcomes.values()} == {"succeeded"}
    assert outcomes[7].output == "original"
    assert transport.count == 101


@pytest.mark.parametrize(
    ("original", "copy", "status"),
    [
        (function_error("First"), function_error("Second"), "function_error"),
        (lost(), function_error("Second"), "unknown"),
        (refused(400, "First"), throttled(), "rejected"),
        (refused(400, "First"), lost(), "unknown"),  # it may have run
    ],
)
@pytest.mark.parametrize("copy_s", [0.1, 9.0])
async def test_two_failures_are_the_originals(
    original: Answer, copy: Answer, status: str, copy_s: float
) -> None:
    """Whichever ends first."""
    transport = _stuck(copy, original, original_s=3.0, copy_s=copy_s)
    outcomes, _ = await _map(transport, retries=0)
    assert outcomes[7].status == status
    assert outcomes[7].copies == 1
    assert outcomes[7].duration_ms == pytest.approx(3000, abs=1)
    if isinstance(original, fanout.model.Reply) and outcomes[7].error is not None:
        assert outcomes[7].error.type == "First"
    assert transport.count == 101


async def test_a_copy_may_succeed_after_its_original_failed() -> None:
    """The record has succeeded."""
    transport = _stuck(ok(b'"copy"'), function_error(), original_s=1.0, copy_s=5.0)
    outcomes, _ = await _map(transport)
    assert (outcomes[7].status, outcomes[7].output) == ("succeeded", "copy")


async def test_an_original_is_repeated_once_its_copy_has_failed() -> None:
    """A copy is no retry: the attempts are the original's."""
    transport = _stuck(UNAVAILABLE, UNAVAILABLE, original_s=1.0, copy_s=3.0)
    outcomes, _ = await _map(transport, retries=1)
    assert (outcomes[7].status, outcomes[7].output) == ("succeeded", "third")


async def test_one_record_in_a_hundred_has_a_copy() -> None:
    """Of 300, three; the other late ones are waited for."""
    stuck = {f"{number}".encode() for number in range(290, 300)}
    transport = Scripted(
        lambda call: ok(call.body),
        latency_s=lambda call: 20.0 if call.body in stuck and call.attempt == 1 else 0.1,
    )
    outcomes, _ = await _map(transport, 300)
    assert sum(outcome.copies for outcome in outcomes.values()) == 3
    assert transport.count == 303
    assert transport.most_in_flight <= 20


async def test_no_copy_before_the_input_has_ended() -> None:
    """However late the call is."""
    transport = _stuck(ok(b'"copy"'), original_s=30.0)

    async def slow() -> Any:
        for number in range(60):
            yield number
        await asyncio.sleep(20)
        assert transport.count == 60
        yield 60

    async with Dispatcher(
        "f", transport=transport, concurrency=20, idempotent=True, hedge=True
    ) as dispatcher:
        outcomes = {outcome.seq: outcome async for outcome in dispatcher.map(slow())}
    assert (outcomes[7].output, outcomes[7].copies) == ("copy", 1)
    assert 20 < asyncio.get_running_loop().time() < 25


@pytest.mark.parametrize("options", [{"concurrency": 1}, {"hedge": False}])
async def test_no_copy_without_a_permit_or_the_option(options: dict[str, Any]) -> None:
    """With one permit the late call has it."""
    transport = _stuck(ok(b'"copy"'), original_s=30.0)
    outcomes, _ = await _map(transport, **options)
    assert outcomes[7].output == "original"
    assert transport.count == 100


@pytest.mark.parametrize("latency_s", [0.35, 2.0])
async def test_leaving_early_cuts_both_attempts_off(latency_s: float) -> None:
    """No task is left, and no outcome comes twice."""
    transport = _stuck(ok(), original_s=50.0, copy_s=50.0)
    seen: list[int] = []
    with pytest.raises(TimeoutError):
        async with Dispatcher(
            "f", transport=transport, concurrency=20, idempotent=True, hedge=True
        ) as dispatcher:
            async with asyncio.timeout(0.5 + latency_s):
                async for outcome in dispatcher.map(range(100)):
                    seen.append(outcome.seq)
    assert len(seen) == len(set(seen)) == 99
    assert transport.in_flight == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "idempotent"),
        ({"idempotent": True, "invocation_type": "Event"}, "invocation_type Event"),
        ({"idempotent": True, "invocation_type": "DryRun"}, "invocation_type DryRun"),
        ({"idempotent": True, "stream": True}, "stream"),
        ({"idempotent": True, "batch": 5}, "batch"),
        ({"idempotent": True, "workers": 2}, "workers"),
    ],
)
@pytest.mark.parametrize("way", ["iterable", "path"])
def test_what_does_not_go_with_hedge_is_refused(
    tmp_path: Path, way: str, options: dict[str, Any], says: str
) -> None:
    """In one line, before anything is made."""
    (tmp_path / "in.jsonl").write_text("1\n")
    payloads: Any = [1] if way == "iterable" else str(tmp_path / "in.jsonl")
    with pytest.raises(ConfigError, match=says):
        fanout.run("f", payloads, out=tmp_path / "run", hedge=True, **options)
    assert not (tmp_path / "run").exists()


async def test_a_dispatcher_refuses_hedge_for_calls_that_may_not_run_twice() -> None:
    """On entering."""
    with pytest.raises(ConfigError, match="idempotent"):
        async with Dispatcher("f", transport=Scripted(), concurrency=1, hedge=True):
            pass


class Stuck(Scripted):
    """Answers at once, but one number only after a copy of a call has come."""

    def __init__(self, number: int) -> None:
        super().__init__(lambda call: ok(call.body), latency_s=0.005)
        self._stuck = str(number).encode()

    async def _answered(self, call: Call, on_chunk: OnChunk | None = None) -> Reply:
        while call.body == self._stuck and not any(each.attempt == 2 for each in self.calls):
            await asyncio.sleep(0.005)
        return await super()._answered(call, on_chunk)


def test_a_resume_keeps_hedge_and_the_report_counts_copies(tmp_path: Path) -> None:
    """The option is the run's; the figures are in the summary's data."""

    def make(count: int, **options: Any) -> Any:
        transport = Stuck(count - 1)
        return fanout.run(
            "f", range(100), out=tmp_path / "run", transport=transport, concurrency=5, take=count, **options
        )

    report = make(40, hedge=True, idempotent=True)
    assert (report.copies, report.to_dict()["copies"], report.retries) == (1, 1, 0)
    again = make(100, resume=True)
    assert again.copies == 2
    assert again.state == "finished"


ANSWERS: dict[str, Callable[[Call], Answer]] = {
    "ok": lambda call: ok(call.body),
    "throttled": lambda _: throttled(),
    "function error": lambda _: function_error(),
    "unavailable": lambda _: UNAVAILABLE,
    "refused": lambda _: refused(400, "InvalidParameterValueException"),
    "lost": lambda _: lost(),
}
_seconds = st.sampled_from([0.0, 0.001, 0.05, 0.31, 0.4, 1.0, 5.0])


@hypothesis.settings(max_examples=examples(40), deadline=None)
@hypothesis.given(
    answers=st.lists(st.sampled_from(list(ANSWERS)), min_size=2, max_size=8),
    latencies_s=st.lists(_seconds, min_size=2, max_size=8),
    late=st.integers(1, 6),
    options=st.fixed_dictionaries(
        {
            "concurrency": st.integers(1, 9),
            "retries": st.integers(0, 2),
            "throttle_patience": st.just(10.0),  # with five minutes an example may take seconds
        },
        optional={
            "breaker": st.integers(1, 3),
            "retry_function_errors": st.integers(0, 1),
            "deadline": st.sampled_from([0.9, 2.0]),
            "rate": st.just(50.0),
            "function_timeout": st.just(2.0),
        },
    ),
    cut_at_s=st.none() | st.sampled_from([0.5, 0.91, 1.0, 1.5]),
)
def test_every_record_has_one_outcome_whatever_becomes_of_both_attempts(
    answers: list[str], latencies_s: list[float], late: int, options: dict[str, Any], cut_at_s: float | None
) -> None:
    """No permit is lost or used twice, no task is left, and one record has a copy at the most."""

    async def play() -> None:
        hard = {str(number).encode() for number in range(60 - late, 60)}
        turn: dict[int, int] = {}

        def of(call: Call) -> int:
            return turn.setdefault(call.number, len(turn))

        world = Scripted(
            lambda call: (
                ANSWERS[answers[of(call) % len(answers)]](call) if call.body in hard else ok(call.body)
            ),
            latency_s=lambda call: latencies_s[of(call) % len(latencies_s)] if call.body in hard else 0.1,
        )
        seen: list[Outcome] = []
        dispatcher = Dispatcher("f", transport=world, idempotent=True, hedge=True, **options)
        is_whole = False
        with suppress(TimeoutError, FatalRefusal, OutageError):
            async with dispatcher, asyncio.timeout(cut_at_s):
                async for outcome in dispatcher.map(range(60)):
                    seen.append(outcome)
                is_whole = True
        assert len({outcome.seq for outcome in seen}) == len(seen)
        if is_whole and "deadline" not in options:
            assert len(seen) == 60
        for outcome in seen:
            if outcome.copies:
                assert outcome.attempts + outcome.throttles >= 1
        assert sum(outcome.copies for outcome in seen) <= 1
        gate = dispatcher.engine.gate
        assert (gate.in_flight, gate.bytes_in_flight, world.in_flight) == (0, 0, 0)
        assert gate.peak <= options["concurrency"]

    run_virtual(play())
