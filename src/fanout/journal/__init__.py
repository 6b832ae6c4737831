"""The record of a run on disk: the run directory, its journal, and what a restart reads from it."""

from __future__ import annotations

from fanout.journal.block import BlockMaker, OutcomeBlock, PackedBlock
from fanout.journal.line_blocks import Figures, JournalBlocks, LineBlock, Sendable
from fanout.journal.lines import Head, LineFault, StoredOutcome, decode_line
from fanout.journal.lock import RunLock, is_locked
from fanout.journal.reader import Replay, Tally, iter_lines, iter_outcomes, read_blocks, replay
from fanout.journal.run_dir import (
    BEGUN_FILES,
    FORMAT,
    OUTCOMES_FILE,
    SPOOL_FILE,
    STATE_FILE,
    RunDir,
    command_of_same,
    shell_word,
)
from fanout.journal.samples import Samples, check_samples
from fanout.journal.seqs import SeqSet
from fanout.journal.superseded import Superseded
from fanout.journal.writer import Fsync, Journal, SyncListener

__all__ = [
    "BEGUN_FILES",
    "FORMAT",
    "OUTCOMES_FILE",
    "SPOOL_FILE",
    "STATE_FILE",
    "BlockMaker",
    "Figures",
    "Fsync",
    "Head",
    "Journal",
    "JournalBlocks",
    "LineBlock",
    "LineFault",
    "OutcomeBlock",
    "PackedBlock",
    "Replay",
    "RunDir",
    "RunLock",
    "Samples",
    "Sendable",
    "SeqSet",
    "StoredOutcome",
    "Superseded",
    "SyncListener",
    "Tally",
    "check_samples",
    "command_of_same",
    "decode_line",
    "is_locked",
    "iter_lines",
    "iter_outcomes",
    "read_blocks",
    "replay",
    "shell_word",
]
