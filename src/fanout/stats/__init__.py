"""Statistics of a whole run: counted live, replayed from a journal, sampled over time."""

from __future__ import annotations

from fanout.stats.causes import cause_words
from fanout.stats.failures import FailureCluster
from fanout.stats.outcome_stats import Stats
from fanout.stats.reservoir import Execution
from fanout.stats.snapshot import Snapshot, WorkerPace
from fanout.stats.story import stats_of
from fanout.stats.telemetry import CallTrace, Telemetry, inject_trace
from fanout.stats.text import printable
from fanout.stats.timeline import Sample, TimelineWriter, read_timeline

__all__ = [
    "CallTrace",
    "Execution",
    "FailureCluster",
    "Sample",
    "Snapshot",
    "Stats",
    "Telemetry",
    "TimelineWriter",
    "WorkerPace",
    "cause_words",
    "inject_trace",
    "printable",
    "read_timeline",
    "stats_of",
]
