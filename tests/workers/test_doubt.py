"""What a lost worker may have sent stays in doubt, wherever the run stops afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import fanout
from fanout.cli import cli
from fanout.stats import Snapshot
from tests.workers.crew_here import CrewHere, Function, install

RECORDS = 32  # a window for each worker, at first
OPTIONS: dict[str, Any] = {
    "workers": 2,
    "concurrency": 20,
    "rate": 5000,
    "function_timeout": 2,
    "region": "us-east-1",
    "endpoint_url": "http://127.0.0.1:9",
    "report": False,
}


def _losing(crews: list[CrewHere]) -> Callable[[Snapshot], None]:
    def look(snapshot: Snapshot) -> None:
        if snapshot.in_flight >= 20:
            crews[0].lose("w1")

    return look


@pytest.mark.slow
@pytest.mark.parametrize("idempotent", [False, True])
def test_a_deadline_after_a_loss_leaves_the_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, idempotent: bool
) -> None:
    """The other worker has no permit for the lost one's records when the run stops: they never started
    there, and may have run all the same. A resume that is to skip such records sends none of them."""
    function = Function(latency_s=3)
    crews = install(monkeypatch, function)
    path = tmp_path / "in.jsonl"
    path.write_text("".join(f'{{"id":{number}}}\n' for number in range(RECORDS)))
    out = tmp_path / "run"
    fanout.run("f", path, out=out, idempotent=idempotent, deadline=2.5, on_progress=_losing(crews), **OPTIONS)
    ran = {json.loads(body)["id"] for body in function.runs}
    not_sent = set(json.loads((out / "run.json").read_text())["not_sent"])
    assert len(ran) >= 20
    assert not not_sent & ran
    words = ["resume", str(out), "--may-have-run", "skip", "--deadline", "60", "--quiet"]
    CliRunner().invoke(cli, words, catch_exceptions=False)
    assert len((out / "outcomes.jsonl").read_text().splitlines()) == RECORDS
    assert idempotent or set(function.runs.values()) == {1}
