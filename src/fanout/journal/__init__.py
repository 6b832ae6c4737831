"""What became of each record, on disk: the run directory, its journal, and what a restart learns of it."""

from __future__ import annotations

from fanout.journal.lock import RunLock
from fanout.journal.replaying import Head, Replay, StoredOutcome, iter_lines, iter_outcomes, replay
from fanout.journal.run_dir import FORMAT, OUTCOMES_FILE, SPOOL_FILE, STATE_FILE, RunDir
from fanout.journal.samples import Samples, check_samples
from fanout.journal.seqs import SeqSet
from fanout.journal.writing import Fsync, Journal

__all__ = [
    "FORMAT",
    "OUTCOMES_FILE",
    "SPOOL_FILE",
    "STATE_FILE",
    "Fsync",
    "Head",
    "Journal",
    "Replay",
    "RunDir",
    "RunLock",
    "Samples",
    "SeqSet",
    "StoredOutcome",
    "check_samples",
    "iter_lines",
    "iter_outcomes",
    "replay",
]
