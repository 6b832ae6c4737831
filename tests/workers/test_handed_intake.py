"""The records that a worker was handed, taken one by one and several at once."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fanout.dispatcher import InputRecord
from fanout.model import ErrorDetail, Record
from fanout.workers.handed_intake import HandedIntake
from tests.example_counts import examples

KINDS = {
    "plain": lambda seq: InputRecord(seq, b"12345"),
    "faulty": lambda seq: InputRecord(seq, b"{", fault=ErrorDetail("InvalidJson")),
    "own": lambda seq: InputRecord(seq, b"1", own=Record(1, qualifier="live")),
    "may have run": lambda seq: InputRecord(seq, b"1", may_have_run=True),
}


@given(
    kinds=st.lists(st.sampled_from(["plain"] * 5 + list(KINDS)), max_size=60),
    asked=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 60)), max_size=40),
)
@settings(max_examples=examples(200), deadline=None)
def test_several_are_those_that_would_have_come_one_by_one(
    kinds: list[str], asked: list[tuple[int, int]]
) -> None:
    """In their order, each counted once; and what needs a look of its own is left to ``next``."""
    intake = HandedIntake()
    intake.add([KINDS[kind](seq) for seq, kind in enumerate(kinds)])
    intake.end()
    taken: list[int] = []
    for most, most_bytes in asked:
        several = intake.next_several(most, most_bytes)
        assert len(several) <= most
        assert sum(len(record.body) for record in several[:-1]) < most_bytes
        assert all(kinds[record.seq] == "plain" for record in several)
        taken += [record.seq for record in several]
        if not several and (record := intake.next(0.0)) is not None:
            assert kinds[record.seq] != "plain"
            taken.append(record.seq)
    assert taken == list(range(len(taken)))
    assert (intake.records_read, intake.take_started(), intake.waiting) == (
        len(taken),
        len(taken),
        len(kinds) - len(taken),
    )
