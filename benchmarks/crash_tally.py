"""What the rounds of the crash benchmark share: counting, checking, and the environment of the commands."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass, field

from fanout.emulator import EmulatorProcess

ENVIRONMENT = {
    **os.environ,
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
# The emulator counts by this: the ids of a batch come as one key.
COUNT_BY = "Items[].id || Records[].body || [].id || id"
_SETTLED_S = 30.0


@dataclass
class Tally:
    """What all rounds together came to."""

    rounds: int = 0
    breaks: int = 0
    executions_repeated: int = 0
    records_unknown: int = 0
    most_unjournaled: int = 0  # executions without a line at one break: in flight plus unflushed
    states_read: int = 0  # run directories of a broken run that report and export were asked about
    exit_codes: Counter[int] = field(default_factory=Counter)


class Wrong(AssertionError):
    """A promise was broken."""


def check(holds: bool, what: str) -> None:
    """Raise Wrong unless it holds."""
    if not holds:
        raise Wrong(what)


def settled_counts(emulator: EmulatorProcess) -> dict[str, int]:
    """Executions by key, once the calls of a process that is gone have ended."""
    give_up_at_s = time.monotonic() + _SETTLED_S
    quiet = 0
    while True:
        stats = emulator.stats()
        quiet = 0 if stats["in_flight"] else quiet + 1
        if quiet > 1:  # what stood in a socket has been read in between
            counts: dict[str, int] = stats["executions_by_key"]
            return counts
        check(time.monotonic() < give_up_at_s, "calls that never end")
        time.sleep(0.01)
