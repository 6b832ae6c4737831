"""When a run is looked at."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import fanout
from fanout.stats import Snapshot
from tests.scripted import Scripted


def test_a_clock_that_is_set_back_holds_up_no_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The display goes on, and a run can be tuned, though the system's clock was set back by an hour."""
    unix_time, looks = time.time, list[Snapshot]()
    monkeypatch.setattr("time.time", lambda: unix_time() - (3600 if looks else 0))
    report = fanout.run(
        "f",
        range(200),
        transport=Scripted(latency_s=0.02),
        concurrency=2,
        out=tmp_path / "run",
        report=False,
        on_progress=looks.append,
    )
    assert report.ok
    assert len(looks) > 5
