"""``--enough``, ``--threshold``, ``--name`` and ``--label``, by the command and by the library."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import fanout
from fanout.model import Reply
from tests.cli.inside import Inside
from tests.scripted import UNAVAILABLE, Call, Scripted, function_error, ok


def test_a_run_stops_when_enough_succeeded_and_goes_on_when_asked(inside: Inside) -> None:
    """Exit 0, the rest pending; a resume wants another number, or all."""
    inside.write("in.jsonl", 120)
    run = inside.run("run", "steady", "in.jsonl", "--enough", "10", "-j", "4", "--out", "run", "--no-report")
    state = inside.state()
    assert (run.code, state["state"], state["halted_by"]) == (0, "halted", "enough")
    assert 10 <= len(inside.outcomes()) <= 20
    inside.run("resume", "run").assert_one_line(2, "give another --enough, or --all")
    more = inside.run("resume", "run", "--enough", "30", "--no-report")
    assert (more.code, inside.state()["halted_by"]) == (0, "enough")
    assert 30 <= len(inside.outcomes()) < 60
    again = ("run", "steady", "in.jsonl", "--enough", "10", "--out", "run", "--resume", "--no-report")
    before = len(inside.outcomes())
    assert (inside.run(*again).code, len(inside.outcomes())) == (0, before)  # as many have succeeded already
    assert inside.run("resume", "run", "--all", "--no-report").code == 0
    assert sorted(outcome["seq"] for outcome in inside.outcomes()) == list(range(120))


def test_too_few_in_all_is_a_failure(inside: Inside) -> None:
    """Exit 1, and the summary says how many there were."""
    inside.write("in.jsonl", 5)
    run = inside.run("run", "fast", "in.jsonl", "--enough", "6", "--out", "run", "--no-report")
    assert run.code == 1
    assert "5 records succeeded, and 6 were to be enough" in run.err


def test_a_threshold_that_does_not_hold(inside: Inside) -> None:
    """Exit 3, with every record sent; with --threshold-abort the run stops."""
    inside.write("in.jsonl", 150)
    slow = ("run", "steady", "in.jsonl", "--threshold", "p95<1ms", "--no-report")
    run = inside.run(*slow, "--out", "run")
    assert (run.code, len(inside.outcomes())) == (3, 150)
    assert "threshold p95<1ms does not hold: p95 is" in run.err
    inside.write("long.jsonl", 1000)
    words = ("run", "steady", "long.jsonl", "--threshold", "mean<1ms", "--threshold-abort", "--no-report")
    assert inside.run(*words, "--out", "aborted").code == 3
    assert len(inside.outcomes("aborted")) < 400
    assert inside.state("aborted")["halted_by"] == "threshold"
    held = inside.run("run", "fast", "in.jsonl", "--threshold", "p95<10s", "--out", "held", "--no-report")
    assert held.code == 0


def test_a_run_has_a_name_and_labels(inside: Inside) -> None:
    """Lists show them; the default directory is called so."""
    inside.write("in.jsonl", 1)
    named = ("--name", "nightly", "--label", "team=data", "--label", "day=2026-11-27")
    assert inside.run("run", "fast", "in.jsonl", *named, "--no-report").code == 0
    (run,) = json.loads(inside.run("runs", "--json").out)
    assert (run["name"], run["labels"]) == ("nightly", {"team": "data", "day": "2026-11-27"})
    assert Path(run["run_dir"]).name.startswith("nightly-2")
    inside.run("run", "fast", "in.jsonl", "--label", "x", "--out", "run").assert_one_line(2, "KEY=VALUE")
    assert not (inside.directory / "run").exists()


def test_the_library_has_them_too(tmp_path: Path) -> None:
    """With an iterable, and with a path; failures as an exception where one is wanted."""

    def some_fail(call: Call) -> Reply:
        return function_error() if call.json() % 2 else ok(call.body)

    report = fanout.run("f", range(500), transport=Scripted(some_fail), concurrency=2, enough=20)
    assert (report.state, report.halted_by, report.exit_code) == ("halted", "enough", 0)
    assert report.counts["function_error"]
    report.raise_for_failures()  # it has what was to be enough
    path = tmp_path / "in.jsonl"
    path.write_text("".join(f"{n}\n" for n in range(200)))
    report = fanout.run("f", path, transport=Scripted(some_fail), concurrency=2, threshold="failure_rate<10%")
    assert (report.state, report.exit_code) == ("finished", 3)
    with pytest.raises(fanout.RecordsFailed, match="100 succeeded, 100 function_error: threshold") as failed:
        report.raise_for_failures()
    assert failed.value.report is report
    fanout.run("f", [2], transport=Scripted(), concurrency=1).raise_for_failures()


def test_what_waits_to_be_committed_counts_too() -> None:
    """With the order kept, one record in pauses holds the others back; no more run than are in flight."""

    def answer(call: Call) -> Reply:
        return UNAVAILABLE if call.json() == 0 and call.attempt < 4 else ok(call.body)

    transport = Scripted(answer, latency_s=0.002)
    report = fanout.run(
        "f", range(5_000), keep_order=True, transport=transport, concurrency=8, enough=100, out=None
    )
    assert (report.halted_by, report.exit_code) == ("enough", 0)
    assert 100 <= report.counts["succeeded"] <= 100 + 8


def test_a_journal_that_cannot_be_written_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Enough calls have succeeded, and their outcomes are lost: not exit 0."""

    def full(self: object, data: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fanout.journal.disk.AppendFile.append", full)
    report = fanout.run(
        "f", range(50), out=tmp_path / "run", transport=Scripted(latency_s=0.001), concurrency=8, enough=5
    )
    assert report.exit_code == 5


def test_a_deadline_that_comes_too_late_stops_nothing(tmp_path: Path) -> None:
    """It passes while the last calls are out: every record has its outcome, so the run is finished."""
    transport = Scripted(latency_s=0.9)
    report = fanout.run("f", range(3), transport=transport, concurrency=5, deadline=0.6, out=tmp_path / "r")
    assert (report.state, report.exit_code, report.counts["succeeded"]) == ("finished", 0, 3)
