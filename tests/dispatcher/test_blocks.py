"""The same story with blocks and without them: what a run sees does not hang on how its calls went."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout import Dispatcher
from fanout.config import Options
from fanout.dispatcher import Call as EngineCall
from fanout.dispatcher import InputRecord, IntakeDispatcher
from fanout.dispatcher.feed import RecordFeed
from fanout.dispatcher.senders import Senders
from fanout.inputs import Item
from fanout.model import ErrorDetail, OnChunk, Outcome, Status
from fanout.runs import Intake
from tests.dispatcher.test_properties import CheckedGate
from tests.example_counts import examples
from tests.scripted import (
    UNAVAILABLE,
    Answer,
    Call,
    PromptScripted,
    function_error,
    lost,
    ok,
    refused,
    run_virtual,
    throttled,
    unreached,
)

ANSWERS: dict[str, Callable[[], Answer]] = {
    "ok": ok,
    "throttled": throttled,
    "unavailable": lambda: UNAVAILABLE,
    "unreached": unreached,
    "lost": lost,
    "function error": function_error,
    "refused": lambda: refused(413, "RequestTooLargeException"),
}
ENDS = {"ok": "succeeded", "lost": "unknown", "function error": "function_error", "refused": "rejected"}


class Lines:
    """A source of records, by blocks of some."""

    location, bytes_read, bytes_total, place = "lines", 0, None, None

    def __init__(self, count: int, block: int) -> None:
        self._count, self._block = count, block

    async def batches(self, at: Any = None) -> AsyncIterator[list[Item]]:
        """The records, some at a time."""
        for first in range(0, self._count, self._block):
            yield [Item(b"%d" % n) for n in range(first, min(first + self._block, self._count))]
            await asyncio.sleep(0.01)

    async def aclose(self) -> None:
        """There is nothing to close."""


@dataclass
class Kept:
    """A receiver that keeps everything."""

    outcomes: list[Outcome] = field(default_factory=list)
    admitted: list[int] = field(default_factory=list)
    given_up: list[int] = field(default_factory=list)
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    failure: BaseException | None = None
    is_abandoned = False
    has_room = True
    room = 1_000

    def admit(self, record: InputRecord) -> bool:
        """Keep it."""
        return self.admit_several([record])

    def admit_several(self, records: Sequence[InputRecord]) -> bool:
        """Keep them."""
        self.admitted += [record.seq for record in records]
        return True

    def deliver(self, call: EngineCall, outcomes: list[Outcome]) -> None:
        """Keep them."""
        self.outcomes += outcomes

    def deliver_block(self, outcomes: Sequence[Outcome]) -> None:
        """Keep them."""
        self.outcomes += outcomes

    def give_up(self, call: EngineCall, undelivered: Callable[[ErrorDetail], list[Outcome]]) -> None:
        """Keep its records."""
        self.given_up += [record.seq for record in call.records]

    def end(self) -> None:
        """Say it."""
        self.finished.set()

    def break_off(self, error: BaseException) -> None:
        """Say it."""
        self.failure = error
        self.finished.set()

    def chunk_writer(self, call: EngineCall) -> OnChunk | None:
        """There is none."""
        return None


@dataclass
class Story:
    """Records, what is answered to each, and what happens meanwhile."""

    answers: list[str]
    concurrency: int
    block: int
    latency_s: list[float]
    options: dict[str, Any]
    invokes: int  # single calls beside
    changes: list[tuple[float, int]]  # another concurrency at a time
    pauses_at_s: float | None
    closes_at_s: float | None


async def play(story: Story) -> tuple[dict[int, tuple[Status, int, int]], Counter[int]]:
    """Outcomes of the records, and the calls of each."""
    seen: Counter[int] = Counter()

    def answer(call: Call) -> Answer:
        number = call.json()
        if number >= len(story.answers):
            return ok()
        seen[number] += 1
        name = story.answers[number]
        return ok() if name not in ENDS and seen[number] > 1 else ANSWERS[name]()

    def latency(call: Call) -> float:
        number: int = call.json()
        return story.latency_s[number % len(story.latency_s)]

    world = PromptScripted(answer, latency_s=latency)
    kept = Kept()
    async with Dispatcher(
        "f", transport=world, concurrency=story.concurrency, seed=1, function_timeout=5, **story.options
    ) as dispatcher:
        loop = asyncio.get_running_loop()
        feed = dispatcher.start_feed(Intake(source=Lines(len(story.answers), story.block)), kept)
        for at_s, concurrency in story.changes:
            loop.call_later(at_s, partial(dispatcher.tune, concurrency=concurrency))
        if story.pauses_at_s is not None:
            loop.call_later(story.pauses_at_s, lambda: dispatcher.tune(pause=True))
            loop.call_later(story.pauses_at_s + 5, lambda: dispatcher.tune(pause=False))
        if story.closes_at_s is not None:
            loop.call_later(story.closes_at_s, feed.close)
        calls = [loop.create_task(dispatcher.invoke(10_000 + n)) for n in range(story.invokes)]
        await kept.finished.wait()
        assert all([(await call).ok for call in calls])
        assert kept.failure is None
        assert dispatcher.engine.gate.in_flight == 0
        assert dispatcher.engine.gate.bytes_in_flight == 0
        assert feed.outstanding == 0
    seqs = [outcome.seq for outcome in kept.outcomes]
    assert len(seqs) == len(set(seqs))
    assert sorted(seqs + kept.given_up) == sorted(kept.admitted)
    found = {outcome.seq: (outcome.status, outcome.attempts, outcome.throttles) for outcome in kept.outcomes}
    return found, seen


stories = st.builds(
    Story,
    answers=st.builds(
        lambda count, bad: [bad.get(number, "ok") for number in range(count)],
        st.sampled_from([1, 20, 100, 200]),
        st.dictionaries(st.integers(0, 199), st.sampled_from(list(ANSWERS)), max_size=12),
    ),
    concurrency=st.integers(1, 50),
    block=st.sampled_from([1, 7, 40, 200]),
    latency_s=st.lists(st.sampled_from([0.1, 0.1, 0.1, 0.2, 1.0]), min_size=1, max_size=3),
    options=st.fixed_dictionaries(
        {},
        optional={
            "rate": st.sampled_from([5.0, 100.0]),
            "retries": st.integers(0, 3),
            "max_bytes_in_flight": st.sampled_from([1, 10, 1_000]),
            "breaker": st.integers(2, 10),
        },
    ),
    invokes=st.sampled_from([0, 0, 1, 30]),
    changes=st.lists(st.tuples(st.sampled_from([0.05, 0.1, 0.5]), st.integers(1, 50)), max_size=2),
    pauses_at_s=st.sampled_from([None, None, 0.1, 0.3]),
    closes_at_s=st.sampled_from([None, None, None, 0.1, 0.25]),
)


@given(stories)
@settings(max_examples=examples(150), deadline=None)
def test_blocks_change_nothing_but_the_cost(story: Story) -> None:
    """Each record has one outcome, the same with blocks as without; permits stay within the limit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fanout.dispatcher.assembly.Gate", CheckedGate)
        with_blocks = run_virtual(play(story))
        patch.setattr(Senders, "_settle_block", lambda *_: 0)
        patch.setattr(RecordFeed, "pull_several", lambda *_: [])
        without = run_virtual(play(story))
    found, calls = with_blocks
    expected, expected_calls = without
    # Where an outage may begin or a breaker open, moments decide which records are asked again.
    is_calm = not {"unreached", "unavailable"} & {*story.answers} and "breaker" not in story.options
    if story.closes_at_s is None and is_calm:
        assert sorted(found) == list(range(len(story.answers)))
        assert found == expected
        assert calls == expected_calls
    for seq in found.keys() & expected.keys():
        if story.answers[seq] in ENDS:
            assert found[seq][0] == expected[seq][0] == ENDS[story.answers[seq]]


class SomeTooLarge(Lines):
    """Every seventh record is more than Lambda takes."""

    async def batches(self, at: Any = None) -> AsyncIterator[list[Item]]:
        """The records, some at a time."""
        async for items in super().batches(at):
            yield [item if int(item.payload) % 7 else Item(b"0" * 7_000_000) for item in items]


def test_whoever_hears_of_a_record_that_is_not_sent_may_tune(monkeypatch: pytest.MonkeyPatch) -> None:
    """That starts calls at once, and those that are taken with it have their permits by then."""
    monkeypatch.setattr("fanout.dispatcher.assembly.Gate", CheckedGate)
    world = PromptScripted(latency_s=0.1, keeps_calls=False)

    async def main() -> None:
        kept = Kept()

        def heard(outcome: Outcome, _: Any) -> None:
            if not outcome.ok:
                dispatcher.tune(rate=1e6)

        options = Options(function="f", concurrency=30)
        async with IntakeDispatcher(options, transport=world, on_outcome=heard) as dispatcher:
            dispatcher.start_feed(Intake(source=SomeTooLarge(400, 200)), kept)
            await kept.finished.wait()
        assert Counter(outcome.ok for outcome in kept.outcomes) == {True: 342, False: 58}

    run_virtual(main())
    assert world.most_in_flight == 30
