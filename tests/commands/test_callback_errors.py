"""An exception of a callback ends the run, and never its journal, whatever its type."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import fanout
from tests.scripted import Scripted, ok


@pytest.mark.parametrize("kind", [fanout.ConfigError, fanout.FatalRefusal, fanout.SourceError, ValueError])
@pytest.mark.parametrize("callback", ["on_outcome", "on_progress"])
def test_the_errors_of_fanout_too(tmp_path: Path, kind: type[Exception], callback: str) -> None:
    """As when the callback itself uses fanout. It is raised, and the directory can be resumed."""
    heard: list[object] = []

    def hear(what: object) -> None:
        heard.append(what)
        if len(heard) == 3:
            raise kind("mine")

    transport = Scripted(lambda _: ok(), latency_s=0.02)
    with pytest.raises(kind, match="mine"):
        if callback == "on_outcome":
            fanout.run(
                "f", range(300), transport=transport, concurrency=5, out=tmp_path / "r", on_outcome=hear
            )
        else:
            fanout.run(
                "f", range(300), transport=transport, concurrency=5, out=tmp_path / "r", on_progress=hear
            )
    lines = (tmp_path / "r/outcomes.jsonl").read_text().splitlines()
    assert len(lines) >= 3
    assert json.loads((tmp_path / "r/run.json").read_text())["state"] == "interrupted"
    report = fanout.run(
        "f", range(300), transport=transport, concurrency=99, out=tmp_path / "r", resume=True, report=False
    )
    assert sum(report.counts.values()) == 300
