"""A stop rule that comes while the run goes on holds for the whole run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fanout
from fanout.runs.tuning import TuneRequest, Tuning
from fanout.stats import Snapshot
from tests.scripted import Scripted, function_error


@pytest.mark.parametrize(
    "rule",
    [{"tolerated_failure_count": 200}, {"tolerated_failure_percentage": 10.0}],
    ids=["count", "share"],
)
def test_failures_before_a_tolerance_was_tuned_count(tmp_path: Path, rule: dict[str, Any]) -> None:
    """More had failed than are tolerated now: the run stops at once."""
    out, asked_at = tmp_path / "run", list[int]()

    def ask(snapshot: Snapshot) -> None:
        if snapshot.done >= 300 and not asked_at:
            asked_at.append(snapshot.done)
            TuneRequest(out, Tuning(**rule)).send()

    transport = Scripted(lambda _: function_error(), latency_s=0.02, keeps_calls=False)
    report = fanout.run(
        "f", range(2000), transport=transport, concurrency=5, out=out, report=False, on_progress=ask
    )
    assert report.exit_code == 3
    assert report.counts["function_error"] < asked_at[0] + 90
