"""Run directories that version 0.1 left behind, in every state: they go on as they would have then.

Made by that version with ``fanout run``, ``plan``, ``redrive`` and ``fanout.run``; the directory they
were made in stands as ``@DIRECTORY@``.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import fanout
from tests.cli.inside import Inside

MADE = Path(__file__).parent.parent / "data" / "runs-0.1"


def take_over(inside: Inside, name: str) -> Path:
    """Copy one of the directories, and the inputs, to where the test is."""
    for path in MADE.iterdir():
        if path.is_file():
            shutil.copy(path, inside.directory)
    run_dir = inside.directory / name
    shutil.copytree(MADE / name, run_dir)
    state = run_dir / "run.json"
    state.write_text(state.read_text().replace("@DIRECTORY@", str(inside.directory)))
    return run_dir


def latest(inside: Inside, name: str) -> dict[int, str]:
    """The latest status of each record."""
    return {outcome["seq"]: outcome["status"] for outcome in inside.outcomes(name)}


@pytest.mark.parametrize(
    ("name", "code", "records"),
    [
        ("deadline", 0, 40),
        ("interrupted", 0, 40),
        ("killed", 1, 40),  # what may have run becomes unknown
        ("planned", 0, 40),
        ("gz", 0, 40),
        ("stdin", 0, 40),
        ("csv", 1, 7),
        ("failures", 1, 40),
        ("take", 0, 5),
        ("redrive-cut", 1, 40),
    ],
)
def test_every_state_goes_on(inside: Inside, name: str, code: int, records: int) -> None:
    """A resume ends with an outcome for each record, once; report and export read the whole."""
    take_over(inside, name)
    before = latest(inside, name)
    resumed = inside.run("resume", name, "--no-report", "--deadline", "1m")
    assert resumed.code == code, resumed
    assert inside.state(name)["state"] == "finished"
    after = latest(inside, name)
    assert sorted(after) == list(range(records))
    if name != "redrive-cut":
        assert len(inside.outcomes(name)) == records
        assert {seq: after[seq] for seq in before} == before
    report = json.loads(inside.run("report", name, "--json").out)
    assert sum(report["counts"].values()) == records
    exported = inside.run("export", name, "--outcomes")
    assert exported.out.count("\n") == records


def test_rows_are_counted_as_they_were(inside: Inside) -> None:
    """A row of commas was a record in 0.1: none of the rows after it moves."""
    take_over(inside, "csv")
    assert inside.run("resume", "csv", "--no-report").code == 1
    outputs = {o["seq"]: o.get("output") for o in inside.outcomes("csv") if o["status"] == "succeeded"}
    assert outputs[1] == {"id": "", "qty": ""}
    assert [(outputs[seq] or {})["id"] for seq in (0, 2, 4, 5, 6)] == ["1", "3", "6", "8", "10"]


def test_a_fatal_run_is_as_fatal_now(inside: Inside) -> None:
    """Its function is still missing: exit 4, and the records wait."""
    take_over(inside, "fatal")
    assert inside.run("resume", "fatal", "--no-report").code == 4
    assert inside.run("report", "fatal").code == 0


@pytest.mark.parametrize("name", ["failures", "interrupted", "deadline"])
def test_every_state_is_redriven(inside: Inside, name: str) -> None:
    """What failed is sent again; nothing else is."""
    take_over(inside, name)
    before = latest(inside, name)
    failed = [seq for seq, status in before.items() if status == "function_error"]
    redriven = inside.run("redrive", name, "--no-report")
    assert "Traceback" not in redriven.err
    again = [outcome for outcome in inside.outcomes(name) if outcome.get("generation")]
    assert sorted(outcome["seq"] for outcome in again) == sorted(failed)


def test_a_program_goes_on_with_its_own(inside: Inside) -> None:
    """The records came from an iterable: the same iterable again finishes them."""
    run_dir = take_over(inside, "iterable")
    inside.run("resume", "iterable").assert_one_line(2, "came from a program")
    report = fanout.run(
        "steady", ({"n": n} for n in range(40)), out=run_dir, resume=True, report=False, deadline=60
    )
    assert (report.state, report.exit_code, report.records) == ("finished", 0, 40)
