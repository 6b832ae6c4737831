"""One durable run: a source, a dispatcher, a journal and sinks, and when it stops."""

from __future__ import annotations

from fanout.runs.ending import (
    RunResult,
    Stop,
)
from fanout.runs.ledgers import PassingLedger
from fanout.outputs.files import OutputFiles
from fanout.runs.redriving import Redrive, statuses_of
from fanout.runs.running import Run, Watchers, Work
from fanout.runs.stopping import StopRules

__all__ = [
    "OutputFiles",
    "PassingLedger",
    "Redrive",
    "Run",
    "RunResult",
    "Stop",
    "StopRules",
    "Watchers",
    "Work",
    "statuses_of",
]
