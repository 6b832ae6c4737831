"""One durable run: a source, a dispatcher, a journal and sinks, and when it stops."""

from __future__ import annotations

from fanout.outputs.files import OutputFiles
from fanout.runs.ending import (
    RunResult,
    Stop,
)
from fanout.runs.intake import Intake, RunIntake
from fanout.runs.ledger import Ledger, PassingLedger
from fanout.runs.redriving import Redrive, statuses_of
from fanout.runs.running import Run, Watchers
from fanout.runs.stop_rules import StopRules

__all__ = [
    "Intake",
    "Ledger",
    "OutputFiles",
    "PassingLedger",
    "Redrive",
    "Run",
    "RunIntake",
    "RunResult",
    "Stop",
    "StopRules",
    "Watchers",
    "statuses_of",
]
