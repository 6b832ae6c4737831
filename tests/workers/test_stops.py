"""What stops a run with workers, wherever it is noticed: a refusal, an outage, the disk, no worker left."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

import fanout
from fanout.errors import ConnectFailed
from fanout.journal.windows import WINDOWS_FILE, read_windows
from fanout.model import InvokeTemplate, Reply
from tests.workers.crew_here import RUN, CrewHere, Function

SOON_LOST: dict[str, Any] = {**RUN, "function_timeout": 0.2}


def _run(out: Path, **options: Any) -> tuple[fanout.RunReport, dict[str, Any]]:
    """The report, and run.json. No record of the run may be lost or doubled."""
    report = fanout.run("f", range(200), out=out, **{**SOON_LOST, **options})
    seqs = [json.loads(line)["seq"] for line in (out / "outcomes.jsonl").read_bytes().splitlines()]
    assert len(seqs) == len(set(seqs)) == sum(report.counts.values())
    state: dict[str, Any] = json.loads((out / "run.json").read_text())
    assert state["records_read"] == len(seqs) + report.pending
    return report, state


def test_a_refusal_that_befalls_all_stops_all(
    tmp_path: Path, crews: list[CrewHere], function: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 4 by the first worker that meets it; the line is Lambda's."""

    async def refuse(template: InvokeTemplate, body: bytes, on_chunk: object = None) -> Reply:
        function.runs[body] += 1
        return Reply(403, b'{"Message":"not allowed"}', error_type="AccessDeniedException")

    monkeypatch.setattr(function, "send", refuse)
    report, state = _run(tmp_path / "r")
    assert (report.exit_code, report.halted_by) == (4, "fatal")
    assert "not allowed" in state["message"]
    assert function.runs.total() < 50


def test_an_outage_stops_all(
    tmp_path: Path, crews: list[CrewHere], function: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 5, once a worker's patience is over: nothing more is sent, and all of it can be resumed."""
    send = function.send

    async def send_until(template: InvokeTemplate, body: bytes, on_chunk: object = None) -> Reply:
        if function.runs.total() >= 40:
            raise ConnectFailed("connection refused")
        return await send(template, body)

    monkeypatch.setattr(function, "send", send_until)
    report, _ = _run(tmp_path / "r", outage_patience=0.2)
    assert (report.exit_code, report.halted_by) == (5, "outage")
    assert report.counts["succeeded"] == 40
    assert report.counts["unknown"] == 0


def test_what_cannot_be_kept_is_not_sent(
    tmp_path: Path, crews: list[CrewHere], function: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full: a window that is not in the journal is no leave to send, and the run stops."""
    write = os.write

    def fill(descriptor: int, data: bytes) -> int:
        if function.runs and os.path.samestat(os.fstat(descriptor), (tmp_path / "r" / WINDOWS_FILE).stat()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", fill)
    report, state = _run(tmp_path / "r")
    assert report.exit_code == 5, state
    assert "No space left on device" in state["message"]
    assert report.counts["unknown"] == 0
    assert 0 < report.counts["succeeded"] == function.runs.total() < 200
    kept = [range(first, end) for first, end in read_windows(tmp_path / "r")[0]]
    assert [body for body in function.runs if not any(int(body) in window for window in kept)] == []


def test_without_a_worker_the_run_stops(
    tmp_path: Path, crews: list[CrewHere], function: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 5: what the lost ones had is unknown, and the rest is pending."""
    monkeypatch.setattr("fanout.workers.coordinator.ALONE_S", 0.1)
    monkeypatch.setattr("fanout.workers.coordinator.LOOK_EVERY_S", 0.05)
    send = function.send

    async def lose(template: InvokeTemplate, body: bytes, on_chunk: object = None) -> Reply:
        if function.runs.total() == 30:
            for name in crews[-1].workers:
                crews[-1].lose(name)
        return await send(template, body)

    monkeypatch.setattr(function, "send", lose)
    report, state = _run(tmp_path / "r")
    assert report.exit_code == 5
    assert state["message"] == "all workers were lost"
    assert all(each["lost"] for each in report.workers)
    assert report.pending > 0
