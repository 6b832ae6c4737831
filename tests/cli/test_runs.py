"""``fanout runs`` and what it stands on: which runs there are, and which of them is alive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fanout.cli import cli
from fanout.cli.runs import show_table
from fanout.errors import JournalError
from fanout.journal import RunDir
from fanout.journal.listing import latest_run, list_runs, live_state


def make_run(path: Path, begun: str, state: str = "finished") -> RunDir:
    return RunDir.create(
        path, {"function": "f", "state": state, "started_at": begun, "counts": {"succeeded": 3}}
    )


def test_the_latest_run_is_the_one_begun_last(tmp_path: Path) -> None:
    """By started_at, not by name; what is no run, or damaged, is passed over."""
    make_run(tmp_path / "a", "2026-11-27T10:00:00.000Z")
    make_run(tmp_path / "b", "2026-11-26T10:00:00.000Z")
    (tmp_path / "no-run").mkdir()
    (make_run(tmp_path / "z", "2027-01-01T00:00:00.000Z").path / "run.json").write_text("{")
    assert [run.path.name for run in list_runs(tmp_path)] == ["a", "b"]
    assert latest_run(tmp_path) == tmp_path / "a"
    with pytest.raises(JournalError, match="there is no run below"):
        latest_run(tmp_path / "nothing")


def test_a_run_that_nobody_holds_is_not_running(tmp_path: Path) -> None:
    """run.json of a killed run says running for ever; its lock says otherwise. Looking disturbs nobody."""
    run = make_run(tmp_path / "a", "2026-11-27T10:00:00.000Z", "running")
    assert live_state(run) == "interrupted"
    with run.lock():
        assert live_state(run) == "running"
        assert live_state(run) == "running"


def test_runs_are_listed_as_text_and_as_data(tmp_path: Path) -> None:
    """Name, function, state, counts, age and size."""
    make_run(tmp_path / "a", "2026-11-27T10:00:00.000Z")
    shown = CliRunner().invoke(cli, ["runs", str(tmp_path)])
    assert shown.exit_code == 0
    assert shown.output.split("\t")[:4] == ["a", "f", "finished", "3 succeeded"]
    (row,) = json.loads(CliRunner().invoke(cli, ["runs", str(tmp_path), "--json"]).output)
    assert row["counts"] == {"succeeded": 3}
    assert row["size_bytes"] > 0
    (tmp_path / "a" / "run.json").write_text('{"id":"i","state":"running"}')
    assert CliRunner().invoke(cli, ["runs", str(tmp_path)]).output.split("\t")[:3] == ["a", "", "interrupted"]
    with pytest.raises(JournalError, match="a is a run itself: give the directory above it"):
        list_runs(tmp_path / "a")
    (tmp_path / "a" / "run.json").write_text('{"counts":[1]}')
    shown = CliRunner().invoke(cli, ["runs", str(tmp_path)])
    assert (shown.exit_code, shown.output.count("\n"), "a/run.json is damaged" in shown.output) == (
        0,
        1,
        True,
    )


def test_a_resume_that_was_killed_has_outcomes_and_no_counts(tmp_path: Path) -> None:
    """The counts of run.json are those of an earlier command: nobody takes them for how it stands."""
    run = make_run(tmp_path / "a", "2026-11-27T10:00:00.000Z", "running")
    (run.path / "outcomes.jsonl").write_bytes(b"{}\n" * 7)
    shown = CliRunner().invoke(cli, ["runs", str(tmp_path)])
    assert shown.output.split("\t")[2:4] == ["interrupted", "7 so far"]
    (row,) = json.loads(CliRunner().invoke(cli, ["runs", str(tmp_path), "--json"]).output)
    assert (row["counts"], row["outcomes"]) == ({}, 7)


@pytest.mark.parametrize(("columns", "is_whole"), [(80, True), (50, False)])
def test_the_name_of_a_run_is_not_broken(
    columns: int,
    is_whole: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In 80 columns the name that a run has by default stands on one line, and nothing is cut."""
    name = "price-order-20261127T231008Z"
    counts = {"succeeded": 993, "function_error": 7}
    row: dict[str, Any] = {"name": name, "function": "price-order", "state": "finished", "counts": counts}
    row |= {"outcomes": None, "started_at": "2026-11-27T23:10:08.000Z", "size_bytes": 600_000}
    monkeypatch.setenv("COLUMNS", str(columns))
    show_table([row])
    shown = capsys.readouterr().out
    assert (name in shown) == is_whole
    assert max(map(len, shown.splitlines())) <= columns
    assert "993" in shown


def test_completion_scripts_are_printed() -> None:
    """For each shell, and no other."""
    for shell in ("bash", "zsh", "fish"):
        made = CliRunner().invoke(cli, ["completion", shell])
        assert made.exit_code == 0
        assert "_FANOUT_COMPLETE" in made.output
