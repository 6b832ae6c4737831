"""The history of a run: all that a resume or a redrive must know of its journal, read in one pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fanout.commands.checkpointer import Restored, restored_from
from fanout.cost import CostMeter, meter_of
from fanout.journal import Figures, Head, JournalBlocks, Replay, RunDir, Tally
from fanout.model import Outcome
from fanout.quantities import unix_s
from fanout.report.outcomes import JournalTail, SentTwice, counted, read_latest_blocks
from fanout.runs import RedriveSearch
from fanout.runs.queue_records import Settled
from fanout.stats import Stats, read_timeline
from fanout.stats.story import Story, stats_of_blocks, told
from fanout.stats.timeline import NAME as TIMELINE
from fanout.stats.timeline import TimelineTail


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """``stats`` leave out the records of the refusal that stopped the run; ``refused`` has their statuses."""

    known: Replay
    stats: Stats
    meter: CostMeter  # of every outcome, also of those that others took the place of
    refused: dict[int, str]
    settled: Settled  # the endings of its records, where they were wanted

    @property
    def is_sent_once(self) -> bool:
        """True if no record has two outcomes, nor will have one of another generation."""
        return not len(self.known.superseded) and not self.known.generation


def read_history(run_dir: RunDir, *, accepts_lost_mark: bool, wants_endings: bool = False) -> History:
    """Read the journal once, or on from its checkpoint; twice where records were sent again.

    ``wants_endings``: how each record ended, which no checkpoint says. Blocking. Raises JournalError.
    """
    if not run_dir.state.get("generation"):
        try:
            return _in_one_pass(run_dir, accepts_lost_mark, Settled() if wants_endings else None)
        except SentTwice:
            pass
    return _of_latest(run_dir, accepts_lost_mark, Settled() if wants_endings else None)


def _in_one_pass(run_dir: RunDir, accepts_lost_mark: bool, settled: Settled | None) -> History:
    refused, statuses = _refused(run_dir), dict[int, str]()
    found = _restored(run_dir, refused)
    started_s, timeline = _begun_s(run_dir), run_dir.path / TIMELINE
    if found is None:
        tally, meter, journal = Tally(), meter_of(run_dir.state), JournalTail(run_dir.path)
        story = Story(read_timeline(timeline), started_s=started_s)
    else:
        before = found.checkpoint
        tally, meter = Tally(before), found.meter
        journal = JournalTail(run_dir.path, position=before.position, lines_before=before.lines)
        samples = TimelineTail(timeline, position=before.timeline_bytes)
        story = Story.going_on(found.stats, samples, at_s=before.at_s)
        if settled is not None:
            for heads in JournalBlocks(run_dir.path, Head, end=before.position).read():
                settled.add(heads.outcomes)

    def blocks() -> Iterator[list[Outcome]]:
        for block in journal.read():
            if tally.add(block):
                raise SentTwice
            meter.add_many(block)
            yield _without_refused(block, refused, statuses, settled)

    stats = told(story, blocks())
    tally.whole_bytes = journal.position
    known = tally.replay(run_dir.path, accepts_lost_mark=accepts_lost_mark)
    return History(known=known, stats=stats, meter=meter, refused=statuses, settled=settled or Settled())


def _without_refused(
    block: list[Outcome], refused: frozenset[int], statuses: dict[int, str], settled: Settled | None
) -> list[Outcome]:
    """The outcomes that count, put into ``settled`` too; the ``statuses`` of the others are noted."""
    if refused:
        statuses.update((outcome.seq, outcome.status) for outcome in block if outcome.seq in refused)
        block = [outcome for outcome in block if outcome.seq not in refused]
    if settled is not None:
        settled.add(block)
    return block


def _restored(run_dir: RunDir, refused: frozenset[int]) -> Restored | None:
    """The knowledge of the checkpoint; None where it counts records that a refusal stopped."""
    found = restored_from(run_dir)
    if found is None or not refused:
        return found
    finished = found.checkpoint.seqs()
    return None if any(seq in finished for seq in refused) else found


def _of_latest(run_dir: RunDir, accepts_lost_mark: bool, settled: Settled | None) -> History:
    """In two passes: over the heads, which say what is superseded, and over all that is counted."""
    path, refused, statuses = run_dir.path, _refused(run_dir), dict[int, str]()
    tally, meter, counts = Tally(), meter_of(run_dir.state), Counter[str]()
    heads = JournalBlocks(path, Head)
    for block in heads.read():
        tally.add(block.outcomes)
    tally.whole_bytes = heads.position

    def blocks() -> Iterator[list[Outcome]]:
        for latest in read_latest_blocks(path, meter.add_many, superseded=tally.superseded):
            counts.update([outcome.status for outcome in latest])
            yield _without_refused(latest, refused, statuses, settled)

    stats = stats_of_blocks(blocks(), read_timeline(path / TIMELINE), started_s=_begun_s(run_dir))
    known = tally.replay(path, accepts_lost_mark=accepts_lost_mark, latest_counts=counts)
    return History(known=known, stats=stats, meter=meter, refused=statuses, settled=settled or Settled())


def search(
    run_dir: RunDir, searches: Sequence[RedriveSearch], *, accepts_lost_mark: bool
) -> tuple[Replay, CostMeter]:
    """Let ``searches`` see the whole journal. Returns what is known of the run, and what it cost so far.

    One pass, of which little is decoded up to the checkpoint; where records were sent again, their latest
    outcomes are counted in another. Blocking. Raises JournalError.
    """
    path, found = run_dir.path, restored_from(run_dir)
    if found is None:
        tally, meter, journal = Tally(), meter_of(run_dir.state), JournalBlocks(path, Figures)
    else:
        before = found.checkpoint
        tally, meter = Tally(before), found.meter
        for heads in JournalBlocks(path, Head, end=before.position).read():
            for each in searches:
                each.add(heads, ())  # up to a checkpoint no record has two outcomes
        journal = JournalBlocks(path, Figures, position=before.position, lines_before=before.lines)
    for block in journal.read():
        repeated = tally.add(block.outcomes)
        meter.add_many(counted(block))
        for each in searches:
            each.add(block, repeated)
    tally.whole_bytes = journal.position
    return tally.replay(path, accepts_lost_mark=accepts_lost_mark), meter


def _refused(run_dir: RunDir) -> frozenset[int]:
    return frozenset(run_dir.state.get("refused") or ())


def _begun_s(run_dir: RunDir) -> float:
    return unix_s(str(run_dir.state.get("started_at") or ""))
