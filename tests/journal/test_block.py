"""Blocks of outcomes: what is counted by their sums is what is counted one by one, and no line changes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout.cost import CostMeter
from fanout.journal.block import BlockMaker, OutcomeBlock
from fanout.model import AttemptEnd, BatchPlace, ErrorDetail, Outcome
from fanout.payload import append_line
from fanout.stats import Stats


def _outcome(seq: int, kind: str, ms: float) -> Outcome:
    outcome = Outcome(seq=seq, status="succeeded", attempts=1, throttles=0, duration_ms=ms)
    if kind == "billed":
        outcome.billed_ms, outcome.memory_mb, outcome.max_memory_mb = int(ms) + 1, 256, seq % 200
    elif kind == "cold":
        outcome.init_ms = 12.0
    elif kind == "failed":
        outcome.status, outcome.error = "function_error", ErrorDetail("E", "no")
    elif kind == "retried":
        outcome.attempts = 2
        outcome.history = [
            AttemptEnd("transient", "2026-01-01T00:00:00Z", 1.0),
            AttemptEnd("success", "", ms),
        ]
    elif kind == "throttled":
        outcome.throttles = 3
    elif kind == "accepted":
        outcome.status = "accepted"
    elif kind == "batched":
        outcome.batch = BatchPlace("b", seq % 3, 3)
    elif kind == "undelivered":
        outcome.status, outcome.duration_ms, outcome.attempts = "undelivered", None, 0
    return outcome


KINDS = ["plain", "billed", "cold", "failed", "retried", "throttled", "accepted", "batched", "undelivered"]
OUTCOMES = st.lists(st.tuples(st.sampled_from(KINDS), st.floats(0.5, 5000)), max_size=60).map(
    lambda drawn: [_outcome(seq, kind, ms) for seq, (kind, ms) in enumerate(drawn)]
)


@settings(max_examples=60, deadline=None)
@given(OUTCOMES, st.integers(1, 20), st.sampled_from([None, 512]))
def test_sums_are_what_single_outcomes_come_to(
    outcomes: list[Outcome], size: int, memory_mb: int | None
) -> None:
    """Counts, retries, latencies, the slowest, the sampled, and what it costs."""
    singly, by_blocks = Stats(started_s=0.0), Stats(started_s=0.0)
    meter, block_meter = CostMeter(memory_mb=memory_mb), CostMeter(memory_mb=memory_mb)
    lines = bytearray()
    maker = BlockMaker()
    for first in range(0, len(outcomes), size):
        chunk = outcomes[first : first + size]
        singly.add_many(chunk)
        meter.add_many(chunk)
        for outcome in chunk:
            maker.add(outcome)
            append_line(lines, outcome)
        block = OutcomeBlock(maker.cut())
        by_blocks.add_plain(block.plain, block.durations_ms, block.plain_at)
        by_blocks.add_many(block.special())
        block_meter.add_plain(block.plain)
        block_meter.add_many(block.special())
        assert block.lines == lines
        assert [each.to_dict() for each in block] == [each.to_dict() for each in chunk]
        assert list(block.seqs) == [each.seq for each in chunk]
        lines.clear()
    for name in ("counts", "attempts", "copies", "carried", "outcome_throttles", "cold_starts", "init_ms"):
        assert getattr(by_blocks, name) == getattr(singly, name)
    for name in ("billed_records", "billed_ms", "billed_mb_ms", "max_memory_mb", "retries", "calls"):
        assert getattr(by_blocks, name) == getattr(singly, name)
    assert by_blocks.latency_ms() == pytest.approx(singly.latency_ms())
    assert {each.seq for each in by_blocks.executions()} == {each.seq for each in singly.executions()}
    assert sorted(each.duration_ms for each in by_blocks.slowest()) == pytest.approx(
        sorted(each.duration_ms for each in singly.slowest())
    )
    if memory_mb is not None or not any(each.memory_mb for each in outcomes):
        assert block_meter.usd == pytest.approx(meter.usd)
        assert block_meter.estimate().basis == meter.estimate().basis


def test_a_long_run_is_sampled_evenly() -> None:
    """The same records are kept, in the same number, as when each is counted by itself."""
    singly, by_blocks = Stats(started_s=0.0), Stats(started_s=0.0)
    for first in range(0, 8000, 500):
        chunk = [_outcome(seq, "plain", 10.0) for seq in range(first, first + 500)]
        singly.add_many(chunk)
        maker = BlockMaker()
        for outcome in chunk:
            maker.add(outcome)
        block = OutcomeBlock(maker.cut())
        by_blocks.add_plain(block.plain, block.durations_ms, block.plain_at)
    kept = [each.seq for each in by_blocks.executions()]
    assert kept == [each.seq for each in singly.executions()]
    assert len(kept) == 600
