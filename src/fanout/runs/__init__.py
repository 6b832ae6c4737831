"""One run: an intake, a dispatcher, a ledger, and why it stops."""

from __future__ import annotations

from fanout.outputs.files import OutputFiles
from fanout.runs.audience import Audience, Stoppable
from fanout.runs.intake import Intake, RunIntake
from fanout.runs.ledger import Ledger, OnCommit, PassingLedger
from fanout.runs.redrive import Redrive, RedriveSearch, statuses_of
from fanout.runs.result import (
    RunResult,
    Stop,
)
from fanout.runs.run import Run, ThrottleCount
from fanout.runs.spending import Spending
from fanout.runs.stop_rules import StopRules

__all__ = [
    "Audience",
    "Intake",
    "Ledger",
    "OnCommit",
    "OutputFiles",
    "PassingLedger",
    "Redrive",
    "RedriveSearch",
    "Run",
    "RunIntake",
    "RunResult",
    "Spending",
    "Stop",
    "StopRules",
    "Stoppable",
    "ThrottleCount",
    "statuses_of",
]
