"""Windows on disk: what workers may have sent outlives the process, and nothing else is suspected."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fanout.errors import JournalError
from fanout.journal import Journal, RunDir, SeqSet, replay
from fanout.journal.seqs import runs_of
from fanout.journal.windows import WindowFile, merged, read_windows
from fanout.model import Outcome

RANGES = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 30)).map(lambda r: (r[0], r[0] + r[1])))


def _run(path: Path) -> RunDir:
    return RunDir.create(path, {"function": "f", "options": {}, "state": "running"})


@given(RANGES)
def test_merged_ranges_hold_the_same_numbers(ranges: list[tuple[int, int]]) -> None:
    """Merging loses no number and adds none."""
    numbers = {seq for first, end in ranges for seq in range(first, end)}
    found = merged(ranges)
    assert {seq for first, end in found for seq in range(first, end)} == numbers
    assert runs_of(sorted(numbers)) == found


@example(before=[], ranges=[(0, 300)], rng=random.Random(0))
@example(before=[(100, 105)], ranges=[(0, 150), (155, 300)], rng=random.Random(0))
@given(RANGES, RANGES, st.randoms())
def test_numbers_put_in_at_once_are_those_put_in_one_by_one(
    before: list[tuple[int, int]], ranges: list[tuple[int, int]], rng: random.Random
) -> None:
    """Runs over the borders of pages, numbers that are in already, and numbers that come twice."""
    seqs = [65_400 + seq for first, end in ranges for seq in range(first, end)]
    rng.shuffle(seqs)
    singly, at_once = SeqSet(), SeqSet()
    for first, end in before:
        for seq in range(65_400 + first, 65_400 + end):
            singly.add(seq)
            at_once.add(seq)
    repeated = sorted(seq for seq in seqs if not singly.add(seq))
    assert sorted(at_once.add_many(seqs)) == repeated
    assert (at_once.pages(), len(at_once), at_once.max) == (singly.pages(), len(singly), singly.max)


@given(st.sets(st.integers(0, 200_000), max_size=50), st.integers(0, 140_000), st.integers(0, 3000))
def test_missing_numbers_are_those_not_in_the_set(seqs: set[int], first: int, length: int) -> None:
    """Over pages that are there and pages that are not."""
    kept = SeqSet()
    kept.add_many(seqs)
    expected = [seq for seq in range(first, first + length) if seq not in seqs]
    assert list(kept.missing(first, first + length)) == expected


async def test_only_windows_make_suspects(tmp_path: Path) -> None:
    """A record between two windows certainly never ran, however high the numbers that finished."""
    run_dir = _run(tmp_path / "r")
    run_dir.begin_windows(0, [])
    journal = await Journal.open(run_dir.path)
    journal.allow([(0, 3), (10, 12)])
    journal.write([Outcome(seq=11, status="succeeded", attempts=1, throttles=0)])
    await journal.aclose()
    known = replay(run_dir.path)
    assert [seq for seq in range(20) if known.may_have_run(seq)] == [0, 1, 2, 10]
    assert known.may_have_run_count == 4
    assert RunDir.open(run_dir.path).state["format"] == 2


async def test_a_run_of_format_1_goes_on_with_windows(tmp_path: Path) -> None:
    """What the mark said stays said: its suspects become the first windows."""
    run_dir = _run(tmp_path / "r")
    journal = await Journal.open(run_dir.path)
    for seq in range(5):
        journal.mark(seq)
    journal.write([Outcome(seq=1, status="succeeded", attempts=1, throttles=0)])
    await journal.aclose()
    before = replay(run_dir.path)
    suspects = list(before.suspects())
    assert suspects == [0, 2, 3, 4]
    run_dir.begin_windows(0, runs_of(suspects))
    known = replay(run_dir.path)
    assert list(known.suspects()) == suspects
    assert not known.may_have_run(5)


async def test_a_process_without_workers_goes_on_after_workers(tmp_path: Path) -> None:
    """Its mark and the windows before it both count."""
    run_dir = _run(tmp_path / "r")
    run_dir.begin_windows(0, [(50, 52)])
    journal = await Journal.open(run_dir.path)
    journal.mark(3)
    await journal.aclose()
    assert list(replay(run_dir.path).suspects()) == [0, 1, 2, 3, 50, 51]


def test_a_window_cut_short_by_a_crash_was_never_handed_out(tmp_path: Path) -> None:
    """Its line is cut off, and the next one stands by itself."""
    file = WindowFile(tmp_path, 0)
    file.allow([(0, 16)])
    file.close()
    with (tmp_path / "windows").open("ab") as torn:
        torn.write(b"         0          ")
    assert read_windows(tmp_path) == {0: [(0, 16)]}
    file = WindowFile(tmp_path, 1)
    file.allow([(20, 30)])
    file.close()
    assert read_windows(tmp_path) == {0: [(0, 16)], 1: [(20, 30)]}


def test_windows_that_touch_are_made_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file does not grow with the input."""
    monkeypatch.setattr("fanout.journal.windows.COMPACT_AFTER", 10)
    file = WindowFile(tmp_path, 0)
    for first in range(0, 160, 16):
        file.allow([(first, first + 16)])
    file.allow([(200, 201)])
    file.close()
    assert (tmp_path / "windows").stat().st_size == 2 * 53
    assert read_windows(tmp_path) == {0: [(0, 160), (200, 201)]}


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    """Nothing is guessed."""
    (tmp_path / "windows").write_bytes(b"x" * 52 + b"\n")
    with pytest.raises(JournalError, match="line 1 is damaged"):
        read_windows(tmp_path)


async def test_lost_windows_are_damage_unless_told_what_it_means(tmp_path: Path) -> None:
    """Without the file any record without an outcome may have been sent, as without a mark."""
    run_dir = _run(tmp_path / "r")
    run_dir.begin_windows(0, [(0, 16)])
    (tmp_path / "r" / "windows").unlink()
    with pytest.raises(
        JournalError, match="windows is missing or empty: which records were sent is not known"
    ):
        replay(run_dir.path)
    known = replay(run_dir.path, accepts_lost_mark=True)
    assert known.is_mark_lost
    assert known.may_have_run(15)
