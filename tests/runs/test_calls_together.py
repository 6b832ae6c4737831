"""Records of a file whose calls are made, and end, several at once: nothing may differ from one by one."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fanout
from fanout.dispatcher.call import Attempt
from fanout.dispatcher.outcomes import OutcomeMaker
from fanout.dispatcher.settlement import Settlement
from fanout.errors import JournalError
from fanout.gate import Gate
from fanout.invoke_request import EVENT_PAYLOAD_BYTES
from fanout.journal.samples import is_sampled, sampled_of
from fanout.journal.writer import Journal
from fanout.limit import AdaptiveLimit
from fanout.model import Outcome, Reply
from fanout.pacer import Pacer
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
    throttled,
)

ANSWERS: dict[str, Callable[[], Answer]] = {
    "ok": ok,
    "throttled": throttled,
    "unavailable": lambda: UNAVAILABLE,
    "lost": lost,
    "function error": function_error,
    "refused": lambda: refused(413, "RequestTooLargeException"),
}
ENDS = {"ok": "succeeded", "lost": "unknown", "function error": "function_error", "refused": "rejected"}


def write_lines(folder: Path, payloads: Sequence[Any]) -> Path:
    """A file of JSON Lines."""
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps(payload) + "\n" for payload in payloads))
    return path


@given(
    answers=st.lists(st.sampled_from(["ok"] * 30 + list(ANSWERS)), min_size=1, max_size=150),
    concurrency=st.integers(1, 60),
    options=st.fixed_dictionaries(
        {},
        optional={
            "take": st.integers(0, 300),
            "key": st.just("n"),
            "max_bytes_in_flight": st.sampled_from([1, 40, 1_000]),
            "rate": st.just(20_000.0),
        },
    ),
)
@settings(max_examples=examples(30), deadline=None)
def test_each_record_has_its_outcome_and_each_call_its_permit(
    answers: list[str], concurrency: int, options: dict[str, Any]
) -> None:
    """Whatever stands between the successes: calls that failed, are repeated, or were refused."""
    seen: dict[int, int] = {}

    def answer(call: Call) -> Answer:
        number = call.json()["n"]
        seen[number] = seen.get(number, 0) + 1
        name = answers[number]
        return ok() if name not in ENDS and seen[number] > 1 else ANSWERS[name]()

    world = PromptScripted(answer, latency_s=None)
    with tempfile.TemporaryDirectory() as folder:
        path = write_lines(Path(folder), [{"n": number} for number in range(len(answers))])
        report = fanout.run(
            "f",
            path,
            out=Path(folder, "run"),
            transport=world,
            concurrency=concurrency,
            function_timeout=0.01,  # a lost call keeps its permit no longer
            seed=1,
            **options,
        )
        outcomes = {outcome.seq: outcome for outcome in report.outcomes()}
        lines = Path(folder, "run", "outcomes.jsonl").read_text().splitlines()
    wanted = min(len(answers), options.get("take", len(answers)))
    assert sorted(outcomes) == list(range(wanted)) == sorted(json.loads(line)["seq"] for line in lines)
    for seq, outcome in outcomes.items():
        assert outcome.status == ENDS.get(answers[seq], "succeeded")
        assert outcome.throttles == (answers[seq] == "throttled")
    assert world.most_in_flight <= concurrency


def test_a_record_that_is_too_large_stands_among_others(tmp_path: Path) -> None:
    """It is rejected unsent, and its permit is the next one's."""
    payloads: list[Any] = [{"n": number} for number in range(50)]
    payloads[20] = payloads[33] = "x" * EVENT_PAYLOAD_BYTES
    world = PromptScripted(lambda _: Reply(202))
    report = fanout.run(
        "f",
        write_lines(tmp_path, payloads),
        out=tmp_path / "run",
        transport=world,
        concurrency=10,
        invocation_type="Event",
    )
    assert (report.counts["accepted"], report.counts["rejected"]) == (48, 2)
    assert world.count == 48


def test_a_mark_that_cannot_be_kept_stops_all_that_it_was_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of them is sent, as a resume would take them for records that never ran."""
    mark = Journal.mark

    def refuse(journal: Journal, seq: int) -> None:
        if seq > 30:
            raise JournalError("the disk is full")
        mark(journal, seq)

    monkeypatch.setattr(Journal, "mark", refuse)
    world = PromptScripted()
    path = write_lines(tmp_path, [{"n": number} for number in range(100)])
    report = fanout.run("f", path, out=tmp_path / "run", transport=world, concurrency=8)
    assert report.state == "halted"
    assert max(body["n"] for body in world.bodies) <= 30
    assert report.counts["succeeded"] == world.count


def test_a_reply_that_cannot_be_kept_is_its_own_records_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others that end together with it have their outcomes."""
    of_success = OutcomeMaker.of_success

    def fail_at_seven(maker: OutcomeMaker, attempt: Attempt, *args: Any) -> Outcome:
        if attempt.call.records[0].seq == 7:
            raise ZeroDivisionError
        return of_success(maker, attempt, *args)

    monkeypatch.setattr(OutcomeMaker, "of_success", fail_at_seven)
    path = write_lines(tmp_path, [{"n": number} for number in range(40)])
    report = fanout.run("f", path, out=tmp_path / "run", transport=PromptScripted(), concurrency=10)
    assert (report.counts["succeeded"], report.counts["unknown"]) == (39, 1)


def test_calls_that_end_together_are_settled_as_a_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else all these tests would hold by themselves."""
    blocks: list[int] = []
    prepare = Settlement.prepare_block

    def noted(settlement: Settlement, ends: Sequence[tuple[Attempt, Reply]]) -> Any:
        blocks.append(len(ends))
        return prepare(settlement, ends)

    monkeypatch.setattr(Settlement, "prepare_block", noted)
    path = write_lines(tmp_path, [{"n": number} for number in range(400)])
    fanout.run("f", path, out=tmp_path / "run", transport=PromptScripted(), concurrency=40)
    assert sum(blocks) > 200


@given(
    budget=st.integers(1, 40),
    blocks=st.lists(
        st.tuples(st.integers(0, 40), st.lists(st.floats(0, 5), min_size=1, max_size=20)), max_size=20
    ),
)
@settings(max_examples=examples(200), deadline=None)
def test_successes_together_teach_the_limit_what_they_do_one_by_one(
    budget: int, blocks: list[tuple[int, list[float]]]
) -> None:
    """Its level, and what they pay for strays."""
    one_by_one, together = AdaptiveLimit(budget), AdaptiveLimit(budget)
    now_s = 5.0
    for idle, sent_at_s in blocks:
        in_flight = max(len(sent_at_s), budget - idle)
        for place, each_s in enumerate(sent_at_s):
            one_by_one.on_successes([each_s], now_s, in_flight - place)
        together.on_successes(sent_at_s, now_s, in_flight)
        now_s += 1.0
        for limit in (one_by_one, together):
            limit._pay(now_s)
        assert together._strays == pytest.approx(one_by_one._strays)
        assert together._full_at_s == one_by_one._full_at_s


@given(st.integers(0, 300), st.integers(0, 300))
def test_the_sample_of_a_range_is_that_of_its_records(first: int, count: int) -> None:
    """The same records are compared, however they are taken."""
    assert list(sampled_of(first, count)) == [seq for seq in range(first, first + count) if is_sampled(seq)]


def test_tokens_without_a_record_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an input that has less ready than there are permits would slow a rate down."""
    balance = 0
    take_several, give_back = Pacer.take_several, Pacer.give_back

    def took(pacer: Pacer, most: int) -> int:
        nonlocal balance
        taken = take_several(pacer, most)
        balance += taken
        return taken

    def gave(pacer: Pacer, count: int = 1) -> None:
        nonlocal balance
        balance -= count
        give_back(pacer, count)

    monkeypatch.setattr(Pacer, "take_several", took)
    monkeypatch.setattr(Pacer, "give_back", gave)
    monkeypatch.setattr(Pacer, "try_take", lambda _: False)  # all of them by blocks
    path = write_lines(tmp_path, [{"n": number} for number in range(21)])
    world = PromptScripted()
    fanout.run("f", path, out=tmp_path / "run", transport=world, concurrency=16, deadline=1.0)
    assert 0 < balance == world.count


async def test_tokens_are_taken_as_far_as_they_go() -> None:
    """A pause has none; without a rate there are as many as one likes."""
    pacer = Pacer(None)
    assert pacer.take_several(5) == 5
    pacer.pause_until(1e9)
    assert pacer.take_several(5) == 0
    paced = Pacer(10.0)
    assert paced.take_several(5) == 0
    paced.give_back(3)
    assert paced.take_several(5) == 3
    assert not paced.try_take()


def test_a_gate_with_permits_that_may_have_ended_is_asked_one_by_one() -> None:
    """``has_room`` counts them."""
    gate = Gate(AdaptiveLimit(4), max_bytes_in_flight=100)
    assert gate.room(0.0) == 4
    gate.acquire(0.0, 2)
    gate.add_bytes(10)
    gate.linger(5.0, 5, 0.0)
    assert gate.room(1.0) == 2
    assert gate.room(5.0) == 0
    assert gate.has_room(5.0)
    assert gate.room(5.0) == 3
