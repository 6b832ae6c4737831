"""The history of a run: all that a resume or a redrive must know of its journal, read in one pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fanout.commands.checkpointer import Restored, restored_from
from fanout.cost import CostMeter, meter_of
from fanout.journal import Figures, Head, JournalBlocks, Replay, RunDir, SeqSet, Tally, iter_outcomes, replay
from fanout.model import Outcome
from fanout.quantities import unix_s
from fanout.report.outcomes import JournalTail, SentTwice, counted
from fanout.runs import RedriveSearch
from fanout.stats import Stats, read_timeline, stats_of
from fanout.stats.story import Story, told
from fanout.stats.timeline import NAME as TIMELINE
from fanout.stats.timeline import TimelineTail


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """``stats`` leave out the records of the refusal that stopped the run; ``refused`` has their statuses.

    ``is_sent_once``: no record has two outcomes.
    """

    known: Replay
    stats: Stats
    meter: CostMeter  # of every outcome, also of those that others took the place of
    refused: dict[int, str]
    is_sent_once: bool


def read_history(run_dir: RunDir, *, accepts_lost_mark: bool) -> History:
    """Read the journal once, or on from its checkpoint; where records were sent again, as often as needed.

    Blocking. Raises JournalError.
    """
    if not run_dir.state.get("generation"):
        try:
            return _in_one_pass(run_dir, accepts_lost_mark=accepts_lost_mark)
        except SentTwice:
            pass
    return _of_latest(run_dir, accepts_lost_mark=accepts_lost_mark)


def _in_one_pass(run_dir: RunDir, *, accepts_lost_mark: bool) -> History:
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

    def blocks() -> Iterator[list[Outcome]]:
        for block in journal.read():
            if tally.add(block):
                raise SentTwice
            meter.add_many(block)
            if refused:
                statuses.update((outcome.seq, outcome.status) for outcome in block if outcome.seq in refused)
                yield [outcome for outcome in block if outcome.seq not in refused]
            else:
                yield block

    stats = told(story, blocks())
    tally.whole_bytes = journal.position
    known = tally.replay(run_dir.path, accepts_lost_mark=accepts_lost_mark)
    is_sent_once = known.is_sent_once and not known.generation
    return History(known=known, stats=stats, meter=meter, refused=statuses, is_sent_once=is_sent_once)


def _restored(run_dir: RunDir, refused: frozenset[int]) -> Restored | None:
    """The knowledge of the checkpoint; None where it counts records that a refusal stopped."""
    found = restored_from(run_dir)
    if found is None or not refused:
        return found
    finished = found.checkpoint.seqs()
    return None if any(seq in finished for seq in refused) else found


def _of_latest(run_dir: RunDir, *, accepts_lost_mark: bool) -> History:
    path, refused, statuses = run_dir.path, _refused(run_dir), dict[int, str]()
    known = replay(path, accepts_lost_mark=accepts_lost_mark)

    def outcomes() -> Iterator[Outcome]:
        for outcome in iter_outcomes(path):
            if outcome.seq in refused:
                statuses[outcome.seq] = outcome.status
            else:
                yield outcome

    stats = stats_of(outcomes(), read_timeline(path / TIMELINE), started_s=_begun_s(run_dir))
    return History(known=known, stats=stats, meter=spent(path, run_dir), refused=statuses, is_sent_once=False)


def search(
    run_dir: RunDir, searches: Sequence[RedriveSearch], *, accepts_lost_mark: bool
) -> tuple[Replay, CostMeter]:
    """Let ``searches`` see the whole journal. Returns what is known of the run, and what it cost so far.

    One pass; with a checkpoint one that decodes little, and what came after the checkpoint once more.
    Blocking. Raises JournalError.
    """
    path = run_dir.path
    if restored_from(run_dir) is not None:
        seen = SeqSet()
        for heads in JournalBlocks(path, Head).read():
            repeated = seen.add_many([head.seq for head in heads.outcomes])
            for each in searches:
                each.add(heads, repeated)
        return replay(path, accepts_lost_mark=accepts_lost_mark), spent(path, run_dir)
    tally, meter, journal = Tally(), meter_of(run_dir.state), JournalBlocks(path, Figures)
    for block in journal.read():
        repeated = tally.add(block.outcomes)
        meter.add_many(counted(block))
        for each in searches:
            each.add(block, repeated)
    tally.whole_bytes = journal.position
    return tally.replay(path, accepts_lost_mark=accepts_lost_mark), meter


def spent(path: Path, run_dir: RunDir) -> CostMeter:
    """The cost of every outcome of a run, superseded ones included."""
    found = restored_from(run_dir)
    if found is None:
        meter, journal = meter_of(run_dir.state), JournalTail(path)
    else:
        before, meter = found.checkpoint, found.meter
        journal = JournalTail(path, position=before.position, lines_before=before.lines)
    for block in journal.read():
        meter.add_many(block)
    return meter


def _refused(run_dir: RunDir) -> frozenset[int]:
    return frozenset(run_dir.state.get("refused") or ())


def _begun_s(run_dir: RunDir) -> float:
    return unix_s(str(run_dir.state.get("started_at") or ""))
