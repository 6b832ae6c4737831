"""Whole runs, killed and resumed: a short form of benchmarks/crash.py."""

from __future__ import annotations

import pytest
from benchmarks.crash import crash


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("transport", ["direct", "sdk"])
def test_nothing_is_lost_or_doubled(transport: str) -> None:
    """SIGKILL, SIGTERM and a full disk at random moments: one outcome each, and no execution too many."""
    tallies = crash(
        rounds=6, records=1000, transports=[transport], kinds=["kill", "term", "disk"], seed=20261121
    )
    assert sum(tally.rounds for tally in tallies.values()) == 6
    assert all(tally.breaks for tally in tallies.values())
