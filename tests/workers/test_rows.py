"""Parquet with workers: they read the rows for themselves, and what comes of it is as of one process."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

import fanout
from fanout.cli import cli
from fanout.inputs import fingerprint as fanout_fingerprint
from fanout.workers.messages import Order
from tests.workers.crew_here import CrewHere, Function, Here

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ALONE: dict[str, Any] = {
    "concurrency": 40,
    "rate": 20_000,
    "function_timeout": 2,
    "region": "us-east-1",
    "endpoint_url": "http://127.0.0.1:9",
    "report": False,
}
SPREAD = {**ALONE, "workers": 3}


@pytest.fixture
def function() -> Function:
    return Function(latency_s=0.01)


def _write(path: Path, ids: range, *, group: int = 100) -> Path:
    rows = [
        {"id": each, "x": math.nan if each % 97 == 5 else each / 2, "s": "é" * (each % 7)} for each in ids
    ]
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=group)
    return path


def _outcomes(run_dir: Path) -> dict[int, dict[str, Any]]:
    lines = (run_dir / "outcomes.jsonl").read_text().splitlines()
    found = {each["seq"]: each for each in map(json.loads, lines)}
    assert len(found) == len(lines)
    kept = ("seq", "key", "status", "error", "input", "line", "source")
    return {seq: {name: each[name] for name in kept if name in each} for seq, each in found.items()}


def _state(run_dir: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((run_dir / "run.json").read_text())
    return state


def _alone(path: Any, run_dir: Path, **options: Any) -> tuple[fanout.RunReport, Function]:
    function = Function(latency_s=0.001)
    return fanout.run("f", path, out=run_dir, transport=function, **{**ALONE, **options}), function


@pytest.fixture
def travelled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the records whose bytes the coordinator sent."""
    seqs: list[int] = []
    exchange = Here.exchange

    async def spy(self: Here, order: bytes) -> bytes:
        decoded = msgspec.msgpack.decode(order, type=Order)
        seqs.extend(record.seq for record in decoded.records)
        for lines in decoded.handed_lines:
            seqs.extend(range(lines.first_seq, lines.first_seq + len(lines.bodies)))
        return await exchange(self, order)

    monkeypatch.setattr(Here, "exchange", spy)
    return seqs


def test_workers_read_the_rows(
    tmp_path: Path, crews: list[CrewHere], function: Function, travelled: list[int]
) -> None:
    """No record travels; each worker reads some, also of a single row group."""
    path = _write(tmp_path / "in.parquet", range(1000), group=1000)
    report = fanout.run("f", path, out=tmp_path / "r", **SPREAD, nan="null")
    assert report.counts["succeeded"] == 1000
    assert set(function.runs.values()) == {1}
    assert all(each["records"] for each in report.workers)
    assert travelled == []


def test_one_permit_goes_where_rows_are_left(
    tmp_path: Path, crews: list[CrewHere], function: Function
) -> None:
    """A worker that has sent its rows kept the only permit for those that another one has."""
    path = _write(tmp_path / "in.parquet", range(80), group=40)
    options = {**SPREAD, "concurrency": 1, "workers": 2, "deadline": 20}
    report = fanout.run("f", path, out=tmp_path / "r", **options, nan="null")
    assert (report.state, report.counts["succeeded"]) == ("finished", 80)


def test_what_was_taken_grows_on_a_resume(tmp_path: Path, crews: list[CrewHere], function: Function) -> None:
    """A ``take`` that ends among the rows of a group has not exhausted the input."""
    path = _write(tmp_path / "in.parquet", range(80), group=80)
    for options in ({"take": 30}, {"take": 50, "resume": True}, {"take": 200, "resume": True}):
        report = fanout.run("f", path, out=tmp_path / "r", **{**SPREAD, **options}, nan="null")
        assert (report.state, report.counts["succeeded"]) == ("finished", min(80, int(options["take"])))
    assert set(function.runs.values()) == {1}


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"nan": "null"},
        {"key": "id", "select": "{n: id, t: s}"},
        {"key": "s", "select": "x"},
        {"take": 333},
        {"take": 1},
        {"batch": 7, "nan": "null"},
        {"select": "s | length(@)", "take": 450},
    ],
    ids=str,
)
@pytest.mark.parametrize("is_many", [False, True])
def test_outcomes_and_payloads_are_those_of_one_process(
    tmp_path: Path, crews: list[CrewHere], function: Function, options: dict[str, Any], is_many: bool
) -> None:
    """Faults, keys, selections, lines and sources; from one file, or a pattern with lines of text between."""
    path: Any = _write(tmp_path / "b.parquet", range(500), group=64)
    if is_many:
        _write(tmp_path / "a.parquet", range(900, 950))
        _write(tmp_path / "d.parquet", range(0))
        lines = [f'{{"id":{each},"s":"c"}}\n' for each in range(2000, 2200)]
        (tmp_path / "c.jsonl").write_text("".join(lines))
        path = fanout.Input(*(str(tmp_path / name) for name in ("a.parquet", "c.jsonl", "[bd].parquet")))
    report = fanout.run("f", path, out=tmp_path / "r", **{**SPREAD, **options})
    alone, other = _alone(path, tmp_path / "alone", **options)
    if "batch" not in options:
        assert function.runs == other.runs
    assert _outcomes(tmp_path / "r") == _outcomes(tmp_path / "alone")
    assert (report.exit_code, report.counts) == (alone.exit_code, alone.counts)
    assert _state(tmp_path / "r")["records_read"] == _state(tmp_path / "alone")["records_read"]


def _resume(run_dir: Path, **options: Any) -> dict[str, Any]:
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    found = CliRunner().invoke(cli, ["resume", str(run_dir), *words, "--json", "--quiet"])
    summary: dict[str, Any] = json.loads(found.stdout) if found.stdout else {}
    return {"exit_code": found.exit_code, "stderr": found.stderr, **summary}


@pytest.mark.slow
def test_what_was_stopped_goes_on(
    tmp_path: Path, crews: list[CrewHere], function: Function, travelled: list[int]
) -> None:
    """Each record is sent once; what was read and not sent counts as pending meanwhile."""
    path = _write(tmp_path / "in.parquet", range(1200))
    report = fanout.run("f", path, out=tmp_path / "r", **SPREAD, enough=200, nan="null")
    assert report.halted_by == "enough"
    assert _state(tmp_path / "r")["records_read"] == sum(report.counts.values()) + report.pending
    summary = _resume(tmp_path / "r", enough=500)
    assert summary["exit_code"] == 0
    summary = _resume(tmp_path / "r", enough=1200)
    assert summary["counts"]["succeeded"] == 1200
    assert set(function.runs.values()) == {1}
    assert len(function.runs) == 1200
    assert travelled == []


@pytest.mark.parametrize("change", ["rows", pytest.param("footer", marks=pytest.mark.slow)])
def test_a_file_that_has_changed_is_noticed(
    tmp_path: Path, crews: list[CrewHere], function: Function, change: str
) -> None:
    """By the samples that workers report, before any record is sent."""
    path = _write(tmp_path / "in.parquet", range(600))
    fanout.run("f", path, out=tmp_path / "r", **SPREAD, enough=100, nan="null")
    before, size = function.runs.total(), path.stat().st_size
    _write(path, range(1, 601) if change == "rows" else range(600), group=100 if change == "rows" else 90)
    if path.stat().st_size != size:
        kept = json.loads((tmp_path / "r/run.json").read_text())
        kept["input"]["fingerprint"] = fanout_fingerprint(str(path))
        (tmp_path / "r/run.json").write_text(json.dumps(kept))
    summary = _resume(tmp_path / "r", enough=600)
    if change == "footer":  # the same rows
        assert summary["exit_code"] == 0
        return
    assert summary["exit_code"] == 2
    said = re.search(r"is not the input the run began with: record \d+ is another", summary["stderr"])
    assert said is not None, summary["stderr"]
    assert function.runs.total() == before


def _at(function: Function, runs: int, do: Callable[[], None]) -> None:
    """Do something once so many calls have begun."""
    send = function.send
    done: list[bool] = []

    async def send_then(*words: Any) -> Any:
        if function.runs.total() >= runs and not done:
            done.append(True)
            do()
        return await send(*words)

    function.send = send_then  # type: ignore[assignment,method-assign]


@pytest.mark.parametrize("is_idempotent", [True, False])
def test_a_lost_worker_costs_its_windows(
    tmp_path: Path, crews: list[CrewHere], function: Function, travelled: list[int], is_idempotent: bool
) -> None:
    """Others read on where it was; what it may have sent is read again, and alone travels."""
    path = _write(tmp_path / "in.parquet", range(1500), group=500)
    _at(function, 400, lambda: crews[-1].lose("w0"))
    report = fanout.run("f", path, out=tmp_path / "r", **SPREAD, nan="null", idempotent=is_idempotent)
    outcomes = _outcomes(tmp_path / "r")
    assert sorted(outcomes) == list(range(1500))
    lost = next(each for each in report.workers if each["lost"])
    assert 0 < lost["lost_records"] == len(travelled) <= 150
    unknown = [each for each in outcomes.values() if each["status"] == "unknown"]
    assert all(each["input"]["id"] == each["line"] - 1 for each in unknown)
    assert len(unknown) == (0 if is_idempotent else lost["lost_records"])
    assert function.runs.total() <= 1500 + (lost["lost_records"] if is_idempotent else 0)


def _elsewhere(monkeypatch: pytest.MonkeyPatch, crews: list[CrewHere], names: set[str]) -> None:
    """On the machines of these workers, the files are not there."""
    exchange = Here.exchange

    async def other_paths(self: Here, order: bytes) -> bytes:
        if next(name for name, worker in crews[-1].workers.items() if worker is self) in names:
            order = order.replace(b"in.parquet", b"no.parquet")
        return await exchange(self, order)

    monkeypatch.setattr(Here, "exchange", other_paths)


@pytest.mark.parametrize("names", [{"w1"}, {"w0", "w1", "w2"}], ids=["one", "all"])
def test_what_a_worker_cannot_read_comes_from_the_coordinator(
    tmp_path: Path,
    crews: list[CrewHere],
    function: Function,
    travelled: list[int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    names: set[str],
) -> None:
    """Said once for each; every worker works, and no record is lost or faulted."""
    _elsewhere(monkeypatch, crews, names)
    path = _write(tmp_path / "in.parquet", range(1000))
    report = fanout.run("f", path, out=tmp_path / "r", **SPREAD, nan="null", key="id")
    assert report.counts["succeeded"] == 1000
    assert set(function.runs.values()) == {1}
    assert all(each["records"] for each in report.workers)
    assert all(each["key"] == str(seq) for seq, each in _outcomes(tmp_path / "r").items())
    assert 0 < len(travelled) < 1000 if len(names) == 1 else len(travelled) == 1000
    said = [each.message for each in caplog.records if "cannot read rows" in each.message]
    assert len(said) == len(names)
    assert "no.parquet: No such file or directory" in said[0]


def test_rows_that_nobody_can_read_end_the_run(
    tmp_path: Path, crews: list[CrewHere], function: Function
) -> None:
    """Exit 2 and one line, as with one process; what stands before them is sent, and the rest is pending."""
    path = _write(tmp_path / "in.parquet", range(1000), group=500)
    data = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    data[start : start + 200] = b"\xff" * 200
    path.write_bytes(data)
    report = fanout.run("f", path, out=tmp_path / "r", **SPREAD, nan="null")
    alone, _ = _alone(path, tmp_path / "alone", nan="null")
    assert (report.exit_code, report.halted_by) == (alone.exit_code, alone.halted_by) == (2, "source")
    assert report.counts["succeeded"] == alone.counts["succeeded"] == 500
    said = [_state(tmp_path / name)["message"].split(": ")[:2] for name in ("r", "alone")]
    assert said == [[str(path), "cannot be read as Parquet"]] * 2
