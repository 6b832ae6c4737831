"""Checkpoints of a run: taken after every so many outcomes and when the run stops; read when it goes on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from operator import attrgetter
from typing import Any

import msgspec

from fanout.cost import CostMeter, meter_of
from fanout.journal import OutcomeBlock, RunDir, SeqSet
from fanout.journal.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from fanout.model import Outcome
from fanout.runs import Spending
from fanout.stats import Stats
from fanout.stats.saved import restore_stats, save_stats
from fanout.stats.timeline import NAME as TIMELINE

EVERY_OUTCOMES = 50_000  # one takes 4 to 8 ms of CPU
_AT_ONCE = 2_048  # seqs; in runs, as most come, they take a millisecond
_seq = attrgetter("seq")
LEAST_OUTCOMES = 20_000  # a shorter journal is read at once


class Checkpointer:
    """Writes the checkpoints of one session, in a thread.

    ``finished``: the records with an outcome before it, each of which was sent once. Where a record comes
    to have two outcomes there are no more checkpoints: only the latest counts, and that is found by reading
    the journal. A disk that refuses a checkpoint leaves the run without it.
    """

    def __init__(self, run_dir: RunDir, stats: Stats, spending: Spending, finished: SeqSet) -> None:
        self._run_dir = run_dir
        self._stats = stats
        self._spending = spending
        self._finished = SeqSet.of_pages(finished.pages(), finished.max)
        self._seqs: list[int] = []  # that are to come into it
        self._position = 0
        self._since = 0
        self._is_off = not run_dir.state.get("id")
        self._threads: ThreadPoolExecutor | None = None
        self._latest: Future[None] | None = None

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Take outcomes that were committed and counted."""
        if self._is_off:
            return
        self._seqs += outcomes.seqs if isinstance(outcomes, OutcomeBlock) else map(_seq, outcomes)
        if len(self._seqs) >= _AT_ONCE:
            self._sort_in()
        self._since += len(outcomes)

    def _sort_in(self) -> None:
        if self._finished.add_many(self._seqs):
            self._is_off = True
        self._seqs.clear()

    def on_batch(self, position: int) -> None:
        """All outcomes were taken of a journal that is so long: write a checkpoint if one is due."""
        self._position = position
        if self._since >= EVERY_OUTCOMES:
            self._write()

    def close(self) -> None:
        """Write the last one, and wait until it is written. Blocking."""
        self._sort_in()
        if self._since and len(self._finished) >= LEAST_OUTCOMES:
            self._write(is_last=True)
        if self._threads is not None:
            self._threads.shutdown()

    def _write(self, *, is_last: bool = False) -> None:
        self._sort_in()
        meter = self._spending.meter
        is_slow = self._latest is not None and not self._latest.done() and not is_last
        is_whole = self._stats.done == len(self._finished)  # every outcome was counted, and here too
        if self._is_off or is_slow or not is_whole or meter is None:
            return
        self._since = 0
        checkpoint = checkpoint_of(
            self._run_dir, self._position, self._finished, stats=self._stats, meter=meter
        )
        if self._threads is None:
            self._threads = ThreadPoolExecutor(1, thread_name_prefix="fanout-checkpoint")
        self._latest = self._threads.submit(self._put, checkpoint)

    def _put(self, checkpoint: Checkpoint) -> None:
        with suppress(OSError):
            write_checkpoint(self._run_dir.path, checkpoint)


def checkpoint_of(
    run_dir: RunDir, position: int, finished: SeqSet, *, stats: Stats, meter: CostMeter
) -> Checkpoint:
    """The knowledge of a run whose journal is ``position`` bytes long."""
    try:
        timeline_bytes = (run_dir.path / TIMELINE).stat().st_size
    except OSError:
        timeline_bytes = 0
    return Checkpoint(
        run_id=str(run_dir.state.get("id")),
        position=position,
        lines=len(finished),
        counts={status: count for status, count in stats.counts.items() if count},
        finished=finished.pages(),
        finished_max=finished.max,
        figures={"stats": save_stats(stats), "meter": meter.saved()},
        timeline_bytes=timeline_bytes,
        at_s=time.time(),
    )


class Restored(msgspec.Struct, frozen=True):
    """The statistics and the cost that a checkpoint holds, to go on with."""

    checkpoint: Checkpoint
    stats: Stats
    meter: CostMeter


def restored_from(run_dir: RunDir) -> Restored | None:
    """The figures of a run's checkpoint, where it has one that holds."""
    checkpoint = read_checkpoint(run_dir.path, run_dir.state.get("id"))
    if checkpoint is None:
        return None
    found: dict[str, Any] = checkpoint.figures
    meter = meter_of(run_dir.state)
    try:
        stats = restore_stats(found["stats"])
        meter.restore(found["meter"])
    except (KeyError, ValueError, TypeError, IndexError, AttributeError):
        return None
    return Restored(checkpoint, stats, meter)
