"""The counts of a redrive: those that a reading of the whole journal finds, without one."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fanout.commands.history import search
from fanout.journal import OUTCOMES_FILE, BlockMaker, OutcomeBlock, SeqSet, Superseded, replay
from fanout.model import Outcome, Status
from fanout.report.outcomes import read_latest_blocks
from fanout.runs.redrive import DEFAULT_STATUSES, RedriveSearch
from fanout.runs.redrive_counts import RedriveCounts
from tests.example_counts import examples
from tests.journal.outcomes import new_run

EACH: list[Status] = ["succeeded", "function_error", "undelivered", "unknown", "rejected"]


def ended(seq: int, status: Status, generation: int) -> Outcome:
    """An outcome that a journal may hold."""
    return Outcome(seq=seq, status=status, attempts=1, throttles=0, generation=generation, duration_ms=1.0)


def append(path: Path, outcomes: Sequence[Outcome]) -> OutcomeBlock:
    """Write the lines; returns them as a worker would bring them."""
    maker = BlockMaker()
    for outcome in outcomes:
        maker.add(outcome)
    with (path / OUTCOMES_FILE).open("ab") as file:
        file.write(maker.lines)
    return OutcomeBlock(maker.cut())


def latest_of(path: Path, superseded: Superseded | None = None) -> list[tuple[int, str, int]]:
    """The latest outcomes in order of finishing, as a report reads them."""
    blocks = read_latest_blocks(path, lambda _: None, superseded=superseded)
    return [(each.seq, each.status, each.generation) for block in blocks for each in block]


def by_hand(path: Path) -> list[tuple[int, str, int]]:
    """The same, by plain reading."""
    rows = [json.loads(line) for line in (path / OUTCOMES_FILE).read_bytes().splitlines()]
    last = {row["seq"]: place for place, row in enumerate(rows)}
    return [
        (row["seq"], row["status"], row.get("generation", 0))
        for place, row in enumerate(rows)
        if last[row["seq"]] == place
    ]


@given(
    st.lists(st.sampled_from(EACH), min_size=1, max_size=40),
    st.lists(st.lists(st.tuples(st.sampled_from(EACH), st.booleans()), max_size=40), max_size=3),
    st.booleans(),
)
@settings(max_examples=examples(60))
def test_counts_are_those_of_the_whole_journal(
    first: list[Status], redrives: list[list[tuple[Status, bool]]], comes_in_blocks: bool
) -> None:
    """After any redrives of any of the records that failed, one after the other, cut off or not."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run")
        run_dir = new_run(path)
        append(path, [ended(seq, status, 0) for seq, status in enumerate(first)])
        for generation, ends in enumerate(redrives, 1):
            wanted = RedriveSearch(path, statuses=DEFAULT_STATUSES, before_generation=generation)
            known, _ = search(run_dir, [wanted], accepts_lost_mark=True)
            found = wanted.found()
            counts = RedriveCounts(known, found, SeqSet())
            sent = [
                ended(seq, status, generation)
                for seq, (status, is_sent) in zip(found.seqs, ends, strict=False)
                if is_sent
            ]
            half = len(sent) // 2
            for part in (sent[:half], sent[half:]):
                block = append(path, part)
                counts.add(block if comes_in_blocks else part)
            again = replay(path, accepts_lost_mark=True)
            assert counts.counts == again.counts
            assert latest_of(path, counts.superseded) == latest_of(path) == by_hand(path)
            if sent:
                assert {seq for seq in range(len(first)) if seq in counts.redone} == {
                    seq for seq in range(len(first)) if seq in again.redone
                }
