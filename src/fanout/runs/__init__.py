"""One durable run: a source, a dispatcher, a journal and sinks, and when it stops."""

from __future__ import annotations

from fanout.outputs.files import OutputFiles
from fanout.runs.intake import Intake, RunIntake
from fanout.runs.ledger import Ledger, PassingLedger
from fanout.runs.one_run import Run, Watchers
from fanout.runs.redrive import Redrive, statuses_of
from fanout.runs.result import (
    RunResult,
    Stop,
)
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
