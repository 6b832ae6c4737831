"""The account's limits, read from Lambda's APIs, and the budget that follows from them."""

from __future__ import annotations

from fanout.quotas.concurrency_file import ConcurrencyFile
from fanout.quotas.decide import Quotas, assumed, decide
from fanout.quotas.discover import ControlApi, discover, read_event_config, watch
from fanout.quotas.figures import Figure
from fanout.quotas.recent_answers import RECENT_ANSWERS, ScopedAnswers
from fanout.quotas.refusal import refusal_before_calls
from fanout.quotas.replies import Answer

__all__ = [
    "RECENT_ANSWERS",
    "Answer",
    "ConcurrencyFile",
    "ControlApi",
    "Figure",
    "Quotas",
    "ScopedAnswers",
    "assumed",
    "decide",
    "discover",
    "read_event_config",
    "refusal_before_calls",
    "watch",
]
