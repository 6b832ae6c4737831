"""One durable run: a source, a dispatcher, a journal and sinks, and when it stops."""

from __future__ import annotations

from fanout.durable.ending import (
    EXIT_BOUND,
    EXIT_FAILURES,
    EXIT_FATAL,
    EXIT_OK,
    EXIT_THRESHOLD,
    EXIT_USAGE,
    RunResult,
    Stop,
)
from fanout.durable.ledgers import PassingLedger
from fanout.durable.outputs import OutputFiles
from fanout.durable.redriving import Redrive, statuses_of
from fanout.durable.running import Run, Watchers, Work
from fanout.durable.stopping import StopRules

__all__ = [
    "EXIT_BOUND",
    "EXIT_FAILURES",
    "EXIT_FATAL",
    "EXIT_OK",
    "EXIT_THRESHOLD",
    "EXIT_USAGE",
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
