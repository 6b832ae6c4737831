"""What must hold whatever happens: one outcome a record, permits within the limit, nothing left behind."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from fanout import Dispatcher, FatalRefusal
from fanout.errors import OutageError
from fanout.gate import Gate
from fanout.model import Outcome
from tests.example_counts import examples
from tests.scripted import (
    MISSING,
    RATE_REASON,
    UNAVAILABLE,
    Answer,
    Call,
    PromptScripted,
    Scripted,
    function_error,
    lost,
    ok,
    refused,
    run_virtual,
    throttled,
    unreached,
)

ANSWERS: dict[str, Callable[[], Answer]] = {
    "ok": lambda: ok(b'"done"'),
    "throttled": throttled,
    "throttled: rate": lambda: throttled(RATE_REASON),
    "throttled: wait": lambda: throttled("ConcurrentSnapshotCreateLimitExceeded"),
    "throttled: new reason": lambda: throttled("SomethingNew", retry_after="2"),
    "unavailable": lambda: UNAVAILABLE,
    "unreached": unreached,
    "lost": lost,
    "function error": function_error,
    "too large": lambda: refused(413, "RequestTooLargeException"),
    "missing": lambda: MISSING,
    "no sense": lambda: refused(302, "", "moved"),
}
_RAN = {"ok", "function error"}
_MAY_HAVE_RUN = {"lost", "no sense"}


class CheckedGate(Gate):
    """A gate that fails the test when a permit is taken above the limit."""

    __slots__ = ()

    def acquire(self, now_s: float, count: int = 1) -> None:
        ceiling = self.limit.ceiling(now_s)
        assert self.in_flight + self.lingering + count <= ceiling, (self.in_flight, count, ceiling)
        super().acquire(now_s, count)


class BrokenSource(Exception):
    """Raised by an iterator."""


@dataclass
class Story:
    """One way things may go."""

    records: int
    concurrency: int
    answers: list[str]
    latencies_s: list[float]
    options: dict[str, Any] = field(default_factory=dict)
    is_ordered: bool = False
    is_async: bool = False
    raises_at: int | None = None
    budgets: list[tuple[float, int]] = field(default_factory=list)
    calls: list[tuple[float, float | None]] = field(default_factory=list)  # begin, cancelled after
    stops_after: int | None = None  # outcomes
    cancelled_at_s: float | None = None
    pause_s: float = 0.0  # of the consumer, after each outcome
    leaves_by_error_at_s: float | None = None
    is_prompt: bool = False  # the transport sends at once where it can


def seconds(most: float) -> st.SearchStrategy[float]:
    """Moments of the kind that matter: at once, soon, late."""
    return st.sampled_from([0.0, 0.001, 0.05, 0.3, 1.0, 3.0, 20.0]).filter(lambda s: s <= most)


stories = st.builds(
    Story,
    records=st.integers(0, 40),
    concurrency=st.integers(1, 6),
    answers=st.lists(
        st.sampled_from(["ok"] * 6 + [name for name in ANSWERS if name != "missing"] + ["throttled", "lost"])
        | st.sampled_from(list(ANSWERS)),
        min_size=1,
        max_size=30,
    ),
    latencies_s=st.lists(seconds(20), min_size=1, max_size=8),
    options=st.fixed_dictionaries(
        {
            "seed": st.integers(0, 5),
            "throttle_patience": st.sampled_from([1.0, 20.0]),
            "outage_patience": st.sampled_from([None, 0.0, 5.0]),
        },
        optional={
            "retries": st.integers(0, 3),
            "retry_function_errors": st.integers(0, 2),
            "idempotent": st.booleans(),
            "deadline": st.sampled_from([0.2, 2.0, 15.0, 500.0]),
            "rate": st.sampled_from([10.0, 500.0]),
            "breaker": st.integers(1, 4),
            "max_bytes_in_flight": st.integers(1, 60),
        },
    ),
    is_ordered=st.booleans(),
    is_async=st.booleans(),
    raises_at=st.none() | st.integers(0, 40),
    budgets=st.lists(st.tuples(seconds(20), st.integers(0, 8)), max_size=3),
    calls=st.lists(st.tuples(seconds(20), st.none() | seconds(3)), max_size=4),
    stops_after=st.none() | st.integers(0, 20),
    cancelled_at_s=st.none() | seconds(20),
    pause_s=st.sampled_from([0.0, 0.0, 0.02, 1.0]),
    leaves_by_error_at_s=st.none() | seconds(20),
    is_prompt=st.booleans(),
)


class World(PromptScripted):
    """A transport that knows what happened to each record, to compare with what its outcome says."""

    def __init__(self, story: Story) -> None:
        self.fates: dict[bytes, list[str]] = {}
        super().__init__(
            self._answer,
            latency_s=lambda call: story.latencies_s[call.number % len(story.latencies_s)],
            kept=3 if story.is_prompt else 0,
        )
        self._story = story

    def _answer(self, call: Call) -> Answer:
        name = self._story.answers[call.number % len(self._story.answers)]
        self.fates.setdefault(call.body, []).append(name)
        return ANSWERS[name]()

    def check(self, body: bytes, outcome: Outcome, *, was_cut: bool) -> None:
        """An outcome claims no more and no less than what happened."""
        fates = self.fates.get(body, [])
        sent = self._attempts.get(body, 0)
        if self._story.options["outage_patience"] == 0:
            assert outcome.attempts + outcome.throttles == sent
        else:  # what fails in an outage spends no attempt
            assert outcome.attempts + outcome.throttles <= sent
        if sent > len(fates):  # cut off in flight
            assert was_cut
            assert outcome.status == "unknown"
            return
        if outcome.status == "succeeded":
            assert fates[-1] == "ok"
        elif outcome.status in ("undelivered", "rejected"):
            assert not _RAN & set(fates)
            assert not _MAY_HAVE_RUN & set(fates)
        elif outcome.status == "function_error":
            assert "function error" in fates
        else:
            assert outcome.status == "unknown"
            assert _MAY_HAVE_RUN & set(fates)


async def play(story: Story) -> None:  # noqa: C901 - one story, told in one place
    """Let the story happen, and check everything."""
    loop = asyncio.get_running_loop()
    world = World(story)
    pulled = 0
    seen: list[Outcome] = []
    ended_by: list[str] = []
    call_outcomes: list[tuple[bytes, Outcome]] = []

    def records() -> Iterator[str]:
        nonlocal pulled
        for number in range(story.records):
            if number == story.raises_at:
                raise BrokenSource
            pulled += 1
            yield f"r{number}"

    async def records_async() -> AsyncIterator[str]:
        for record in records():
            yield record
            await asyncio.sleep(0)

    async def consume(dispatcher: Dispatcher) -> None:
        source = records_async() if story.is_async else records()
        try:
            async for outcome in dispatcher.map(source, ordered=story.is_ordered):
                seen.append(outcome)
                if story.stops_after is not None and len(seen) > story.stops_after:
                    ended_by.append("stop")
                    return
                if story.pause_s:
                    await asyncio.sleep(story.pause_s)
        except BrokenSource:
            ended_by.append("source")
        except FatalRefusal:
            ended_by.append("fatal")
        except OutageError:
            ended_by.append("outage")
        else:
            ended_by.append("end")

    async def call(dispatcher: Dispatcher, n: int, begin_s: float, cancel_after_s: float | None) -> None:
        await asyncio.sleep(begin_s)
        with suppress(TimeoutError, FatalRefusal):
            outcome = await asyncio.wait_for(dispatcher.invoke(f"c{n}"), cancel_after_s)
            call_outcomes.append((b'"c%d"' % n, outcome))

    def set_budget(budget: int) -> None:
        dispatcher.budget.limit.set_budget(budget, loop.time())
        dispatcher.engine.pump()

    class Left(Exception):
        pass

    dispatcher = Dispatcher("f", transport=world, concurrency=story.concurrency, **story.options)
    tasks: list[asyncio.Task[None]] = []
    was_cut = False
    try:
        async with dispatcher:
            for at_s, budget in [*story.budgets, (25.0, story.concurrency)]:
                loop.call_later(at_s, set_budget, budget)
            tasks = [asyncio.create_task(call(dispatcher, n, *times)) for n, times in enumerate(story.calls)]
            consumer = asyncio.create_task(consume(dispatcher))
            if story.cancelled_at_s is not None:
                loop.call_later(story.cancelled_at_s, consumer.cancel)
            if story.leaves_by_error_at_s is not None:
                await asyncio.sleep(story.leaves_by_error_at_s)
                was_cut = True
                raise Left  # noqa: TRY301
            await asyncio.wait([consumer, *tasks])
    except Left:
        async with asyncio.timeout(1000):
            # The consumer's map ends, calls are answered or refused: nobody is left waiting.
            await asyncio.wait([consumer, *tasks])
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            assert "is closed" in str(error)
    if not consumer.cancelled() and (error := consumer.exception()) is not None:
        assert was_cut
        # Before its first outcome, or after its last.
        assert "is closed" in str(error) or "was closed before the end of the payloads" in str(error)

    seqs = [outcome.seq for outcome in seen]
    assert len(seqs) == len(set(seqs))
    if story.is_ordered:
        assert seqs == sorted(seqs)
    if ended_by and ended_by != ["stop"] and not was_cut:
        # An async source may have been read one element ahead of what was taken up.
        assert len(seqs) in ((pulled, pulled - 1) if story.is_async else (pulled,))
        assert sorted(seqs) == list(range(len(seqs)))
        if ended_by == ["end"] and "deadline" not in story.options:
            assert len(seqs) == story.records
    for outcome in seen:
        world.check(b'"r%d"' % outcome.seq, outcome, was_cut=was_cut)
    for body, outcome in call_outcomes:
        world.check(body, outcome, was_cut=was_cut)
    gate = dispatcher.engine.gate
    assert gate.in_flight == 0
    assert gate.bytes_in_flight == 0
    assert world.in_flight == 0


@pytest.fixture
def checked_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every permit taken in this test is checked."""
    monkeypatch.setattr("fanout.dispatcher.assembly.Gate", CheckedGate)


@pytest.mark.usefixtures("checked_gate")
@hypothesis.settings(
    max_examples=examples(100),
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(story=stories)
def test_whatever_happens_each_record_has_one_outcome(story: Story) -> None:
    """For any replies, limits, cancellations, deadlines, consumers and endings."""
    run_virtual(play(story))


@pytest.mark.slow
@pytest.mark.usefixtures("checked_gate")
@hypothesis.settings(
    max_examples=4000, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(story=stories)
@pytest.mark.timeout(900)
def test_whatever_happens_at_length(story: Story) -> None:
    """The same, for many more stories."""
    run_virtual(play(story))


MIX: dict[str, Callable[[], Answer]] = {
    "throttled": throttled,
    "throttled: rate": lambda: throttled(RATE_REASON),
    "throttled: wait": lambda: throttled(retry_after="40"),
    "unavailable": lambda: UNAVAILABLE,
    "unreached": unreached,
    "not ready": lambda: refused(409, "ResourceConflictException", "Pending"),
    "refused": lambda: MISSING,
    "lost": lost,
}


@hypothesis.settings(max_examples=examples(60), deadline=None)
@hypothesis.given(
    mix=st.lists(st.sampled_from(list(MIX)), min_size=1, max_size=8),
    is_random=st.booleans(),
    records=st.integers(1, 12),
    latency_s=st.sampled_from([0.0, 0.02, 5.0]),
    options=st.fixed_dictionaries(
        {"concurrency": st.integers(1, 6), "seed": st.integers(0, 5)},
        optional={
            "retries": st.integers(0, 3),
            "idempotent": st.just(True),
            "breaker": st.integers(1, 4),
            "throttle_patience": st.sampled_from([10.0, 300.0]),
            "outage_patience": st.sampled_from([0.0, 30.0, 900.0]),
            "batch": st.just(3),
        },
    ),
)
@hypothesis.example(  # a breaker that holds back the probe of an outage
    mix=["throttled", "lost", "throttled", "not ready"],
    is_random=True,
    records=11,
    latency_s=5.0,
    options={"concurrency": 6, "seed": 4, "breaker": 4},
)
@hypothesis.example(  # a breaker that waits before nearly every attempt
    mix=["unavailable", "throttled: rate", "throttled: rate"],
    is_random=True,
    records=8,
    latency_s=0.02,
    options={
        "concurrency": 6,
        "seed": 5,
        "breaker": 1,
        "throttle_patience": 10.0,
        "outage_patience": 0.0,
    },
)
def test_an_endless_mix_of_refusals_ends_when_the_patience_does(
    mix: list[str], is_random: bool, records: int, latency_s: float, options: dict[str, Any]
) -> None:
    """Whatever the last records get for ever: every one of them has its outcome, and the map its end."""

    async def story() -> None:
        dice = random.Random(options["seed"])
        hard = itertools.count()

        def answer(call: Call) -> Answer:
            if call.number < 5:
                return ok()
            return MIX[dice.choice(mix) if is_random else mix[next(hard) % len(mix)]]()

        world = Scripted(answer, latency_s=lambda call: 0.01 if call.number < 5 else latency_s)
        seen: list[Outcome] = []
        patience_s = max(options.get("throttle_patience", 300.0), options.get("outage_patience", 900.0))
        ended_by = ""
        async with Dispatcher("f", transport=world, function_timeout=1, **options) as dispatcher:
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            payloads = range(5 * options.get("batch", 1) + records)
            try:
                async for outcome in dispatcher.map(payloads):
                    seen.append(outcome)
            except (OutageError, FatalRefusal) as error:
                ended_by = type(error).__name__
            took_s = loop.time() - began_s
        # Both patiences one after the other, and calls under way; spent attempts are bounded by themselves:
        # an open breaker waits up to a minute before each.
        assert took_s < 2 * patience_s + (400 if "breaker" in options else 100) * records
        assert len({outcome.seq for outcome in seen}) == len(seen)
        assert ended_by or len(seen) == len(payloads)
        if ended_by == "FatalRefusal":
            assert {"refused", "throttled", "throttled: rate", "throttled: wait"} & set(mix)
        if ended_by == "OutageError":
            assert {"unavailable", "unreached", "not ready", "refused"} & set(mix)

    run_virtual(story(), at_most_s=10_000)


@pytest.mark.parametrize("records", [8_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_many_records_through_a_transport_that_fails_in_every_way(records: int) -> None:
    """Outcomes are as many as records, each seq once, and each status is one that can be."""
    dice = random.Random(5)
    # A lost call's permit lingers for 900 s, and a rate that is throttled at random goes down and down.
    rare = {"lost", "no sense", "throttled: rate", "throttled: new reason"}
    names = [name for name in ANSWERS if name != "missing"]
    weights = [4.0 if name == "ok" else 0.00002 if name in rare else 0.15 for name in names]

    answers = [ANSWERS[name]() for name in dice.choices(names, weights, k=200_000)]

    def script(call: Call) -> Answer:
        return answers[call.number % len(answers)]

    async def main() -> Counter[str]:
        transport = Scripted(script, latency_s=None, keeps_calls=False)
        counts: Counter[str] = Counter()
        seen = bytearray(records)
        async with Dispatcher(
            "f", transport=transport, concurrency=256, retry_function_errors=1, outage_patience=0
        ) as dispatcher:
            async for outcome in dispatcher.map(b"%d" % number for number in range(records)):
                seen[outcome.seq] += 1
                counts[outcome.status] += 1
        assert set(seen) == {1}
        return counts

    began_s = time.process_time()  # other processes on the machine do not count
    counts = run_virtual(main(), at_most_s=10_000_000)
    assert time.process_time() - began_s < 30
    assert sum(counts.values()) == records
    assert set(counts) <= {"succeeded", "function_error", "rejected", "undelivered", "unknown"}
    assert counts["succeeded"] > 0.8 * records
