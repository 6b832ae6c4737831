"""A run that is followed from elsewhere: what is new is read, each record counts once, nothing is written."""

from __future__ import annotations

import json
import time
from pathlib import Path
from shlex import quote

import msgspec
import pytest
from click.testing import CliRunner

from fanout.cli import cli
from fanout.commands.watch import STALE_S, Follower
from fanout.errors import JournalError
from fanout.journal import RunDir
from fanout.model import Outcome, Status
from fanout.progress import plain_line as render_line
from fanout.stats import Sample

START_S = 1_795_248_000.0


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run that has just begun."""
    RunDir.create(
        tmp_path / "run", {"function": "f", "state": "running", "started_at": "2026-11-21T08:00:00.000Z"}
    )
    (tmp_path / "run" / "outcomes.jsonl").touch()
    (tmp_path / "run" / "lock").write_text("1\n")
    return tmp_path / "run"


def line(seq: int, status: Status = "succeeded", second: int = 0, generation: int = 0) -> bytes:
    """A line of the journal."""
    outcome = Outcome(
        seq=seq,
        status=status,
        attempts=1,
        throttles=0,
        started_at=f"2026-11-21T08:00:{second:02}.000Z",
        duration_ms=100.0,
        generation=generation,
    )
    return msgspec.json.encode(outcome) + b"\n"


def append(run_dir: Path, *lines: bytes) -> None:
    """The run goes on."""
    with (run_dir / "outcomes.jsonl").open("ab") as file:
        file.write(b"".join(lines))


def tick(run_dir: Path, second: float, **members: object) -> None:
    """The run writes a sample."""
    with (run_dir / "timeline.jsonl").open("ab") as file:
        file.write(msgspec.json.encode(Sample(t=START_S + second, **members)) + b"\n")  # type: ignore[arg-type]


def test_what_is_new_is_read(run_dir: Path) -> None:
    """Whole lines count as they come, a torn one when it is whole; the rest is what the last sample says."""
    follower = Follower(run_dir)
    assert follower.look(START_S).done == 0
    tick(run_dir, 0, begins=True)
    append(run_dir, line(0), line(1)[:20])
    tick(
        run_dir,
        1,
        in_flight=5,
        limit=10.0,
        cause="fixed",
        total=40,
        cost_usd=0.5,
        lingering=2,
        linger_until=9.0,
    )
    seen = follower.look(START_S + 1.5)
    assert (seen.done, seen.total, seen.in_flight, seen.limit, seen.cause) == (1, 40, 5, 10.0, "fixed")
    assert (seen.cost_usd, seen.lingering, seen.linger_until) == (0.5, 2, 9.0)
    append(run_dir, line(1)[20:], line(2, "function_error", second=1))
    seen = follower.look(START_S + 2)
    assert (seen.done, seen.counts["function_error"]) == (3, 1)
    assert seen.elapsed_s == pytest.approx(2.0)


def test_a_record_sent_again_counts_once(run_dir: Path) -> None:
    """A redrive's outcome takes the place of the one before."""
    append(run_dir, line(0, "function_error"), line(1))
    follower = Follower(run_dir)
    assert follower.look(START_S + 1).counts["function_error"] == 1
    append(run_dir, line(0, generation=1))
    seen = follower.look(START_S + 2)
    assert (seen.done, seen.counts["function_error"], seen.counts["succeeded"]) == (2, 0, 2)


def test_a_run_whose_process_is_gone_has_ended(run_dir: Path) -> None:
    """As long as samples come it lives; without them, whether its lock is held decides."""
    follower = Follower(run_dir)
    tick(run_dir, 1)
    follower.look(START_S + 1)
    assert not follower.has_ended(START_S + 2)
    late_s = START_S + 2 + 2 * STALE_S
    with RunDir.open(run_dir).lock():
        assert not follower.has_ended(late_s)
    assert follower.has_ended(late_s + STALE_S + 1)


def test_the_command_on_a_run_that_is_over(run_dir: Path) -> None:
    """One line, JSON, or the summary; the run directory stays as it was."""
    append(run_dir, line(0), line(1))
    RunDir.open(run_dir).write_state({"state": "finished", "records_read": 2})
    before = {path.name: path.read_bytes() for path in run_dir.iterdir()}
    runner = CliRunner()
    assert "finished after " in runner.invoke(cli, ["watch", str(run_dir), "--once"]).stdout
    seen = json.loads(runner.invoke(cli, ["watch", str(run_dir), "--json"]).stdout)
    assert (seen["done"], seen["state"]) == (2, "finished")
    shown = runner.invoke(cli, ["watch", str(run_dir)])
    assert (shown.exit_code, shown.stdout[:12]) == (0, "f: 2 records")
    assert {path.name: path.read_bytes() for path in run_dir.iterdir()} == before


def test_a_run_that_is_over_has_the_figures_of_its_report(run_dir: Path) -> None:
    """Its time ends with its last sample, and its cost counts the outcomes that came after that."""
    append(run_dir, *(line(seq, second=seq) for seq in range(4)))
    tick(run_dir, 0, begins=True)
    tick(run_dir, 3, in_flight=1, limit=10.0, cause="fixed", cost_usd=0.5)
    RunDir.open(run_dir).write_state({"state": "halted", "records_read": 4})
    runner = CliRunner()
    seen = json.loads(runner.invoke(cli, ["watch", str(run_dir), "--json"]).stdout)
    report = json.loads(runner.invoke(cli, ["report", str(run_dir), "--json"]).stdout)
    assert seen["elapsed_s"] == pytest.approx(report["elapsed_s"])
    assert seen["cost_usd"] == report["cost"]["usd"]
    assert (seen["p95_ms"], seen["throttles"]) == (report["latency_ms"]["p95"], 0)
    shown = runner.invoke(cli, ["watch", str(run_dir)])
    assert (shown.stdout[:12], shown.stderr) == ("f: 4 records", "")  # no frame of a run that goes on


def test_every_verb_knows_a_killed_run_from_one_that_goes_on(run_dir: Path) -> None:
    """Its lock says so: a killed run is not called running, and one that runs is not to be resumed."""
    append(run_dir, *(line(seq) for seq in range(30)))
    tick(run_dir, 1, in_flight=5, limit=10.0, cause="paused", fraction=0.5)
    runner = CliRunner()
    asked = (["watch", str(run_dir), "--once"], ["report", str(run_dir)], ["runs", str(run_dir.parent)])
    with RunDir.open(run_dir).lock():
        report, runs = (runner.invoke(cli, words).stdout for words in asked[1:])
        assert "paused" in render_line(Follower(run_dir).look(START_S + 1))
        assert "ETA" not in render_line(Follower(run_dir).look(START_S + 1))
    assert "it is still running" in report
    assert "fanout resume" not in report
    assert f"fanout watch {quote(str(run_dir))}" in report
    assert runs.split("\t")[2:4] == ["running", "30 so far"]
    watched, report, runs = (runner.invoke(cli, words).stdout for words in asked)
    assert watched.startswith("interrupted after ")
    assert "paused" not in watched
    assert "interrupted: its process was killed" in report
    assert f"fanout resume {quote(str(run_dir))}" in report
    assert runs.split("\t")[2:4] == ["interrupted", "30 so far"]


def test_no_run_there(tmp_path: Path) -> None:
    """One line."""
    with pytest.raises(JournalError, match="is not a run directory"):
        Follower(tmp_path)


@pytest.mark.parametrize("words", [["--json"], []], ids=["data", "summary"])
def test_the_command_follows_a_run_to_its_end(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """A line a second, or a live display with the summary below it."""
    append(run_dir, line(0))
    waits_s: list[float] = []

    def sleep(seconds: float) -> None:
        waits_s.append(seconds)
        append(run_dir, line(1))
        RunDir.open(run_dir).write_state({"state": "finished", "records_read": 2})

    monkeypatch.setattr(time, "sleep", sleep)
    with RunDir.open(run_dir).lock():
        done = CliRunner().invoke(cli, ["watch", str(run_dir), *words], catch_exceptions=False)
    assert (done.exit_code, len(waits_s)) == (0, 1)
    assert 0 <= waits_s[0] <= 1
    if words:
        seen = [json.loads(each) for each in done.stdout.splitlines()]
        assert [(each["state"], each["done"]) for each in seen] == [("running", 1), ("finished", 2)]
    else:
        assert done.stdout.startswith("f: 2 records")
