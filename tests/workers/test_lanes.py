"""Lanes: which worker reads which rows."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from fanout.inputs import Rows
from fanout.inputs.listing import Entry
from fanout.workers.lanes import Lane, LanePool, part_of


def _rows(count: int, first_row: int = 0) -> Rows:
    return Rows(Entry("in.parquet"), first_row, count)


def test_the_longest_lane_is_halved() -> None:
    """For a worker that has none; its owner hears of the new end, and keeps what it was handed out."""
    pool = LanePool()
    pool.add(1000, _rows(100, 50))
    first = pool.give("a", 10)
    assert first is not None
    first.next_seq = 1020
    second = pool.give("b", 10)
    assert second is not None
    assert (first.end_seq, first.is_changed) == (1060, True)
    assert (second.next_seq, second.end_seq, second.rows.first_row, second.rows.count) == (
        1060,
        1100,
        110,
        40,
    )
    assert pool.give("c", 21) is None


def test_what_a_worker_has_read_stays_with_it_unless_it_is_lost() -> None:
    """The rest waits for others."""
    pool = LanePool()
    pool.add(0, _rows(100))
    lane = pool.give("a", 1)
    assert lane is not None
    lane.next_seq, lane.read_to = 20, 30
    assert [(each.next_seq, each.end_seq) for each in pool.give_back("a")] == [(30, 100)]
    assert (lane.left, lane.ready) == (10, 10)
    assert [(each.next_seq, each.end_seq) for each in pool.give_back("a", is_lost=True)] == [(20, 30)]
    assert pool.left == 80


@given(st.integers(0, 2**32), st.lists(st.integers(1, 300), min_size=1, max_size=6))
def test_every_row_is_handed_out_once(seed: int, counts: list[int]) -> None:
    """However workers read, give back, are lost and take from each other; and by its place in the file."""
    rng, pool, names = random.Random(seed), LanePool(), ["a", "b", "c"]
    total = 0
    for count in counts:
        pool.add(total, _rows(count, first_row=total))
        total += count
    handed_out: list[int] = []

    def read(lane: Lane) -> None:
        lane.read_to = max(lane.read_to, min(lane.end_seq, lane.next_seq + rng.randint(0, 90)))
        first, lane.next_seq = lane.next_seq, lane.next_seq + rng.randint(0, max(0, lane.ready))
        for seq in range(first, lane.next_seq):
            assert part_of(lane, seq, seq + 1).first_row == seq
            handed_out.append(seq)

    for _ in range(10_000):
        name = rng.choice(names)
        if rng.random() < 0.05:
            pool.give_back(name, is_lost=rng.random() < 0.5)
        elif not pool.of(name):
            pool.give(name, 1)
        for lane in pool.of(name)[:1]:
            read(lane)
        if not pool.left:
            break
    assert sorted(handed_out) == list(range(total))
