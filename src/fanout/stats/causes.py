"""The words for what holds calls back: the same on the terminal, the live page and the report."""

from __future__ import annotations

from fanout.stats.text import printable

_CAUSES = {
    "reserved": "reserved concurrency",
    "account": "account concurrency",
    "provisioned": "provisioned concurrency",
    "managed": "managed instances",
    "left": "--leave",
    "fixed": "as asked",
    "assumed": "assumed",
    "throttles": "throttles",
    "ramp": "Lambda's scaling rate",
    "rate": "rate",
    "source": "input",
    "consumer": "consumer",
    "outage": "no answer",
    "paused": "paused",
}


def cause_words(cause: str) -> str:
    """For people; an unknown cause is shown as it came."""
    return _CAUSES.get(cause) or printable(cause, 40)
