"""The run directory: made once, held by one process, its run.json never half written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fanout.errors import JournalError
from fanout.journal import RunDir
from tests.journal.outcomes import new_run


def test_a_run_is_made_with_its_parents(tmp_path: Path) -> None:
    """`--out a/b/c` makes what is missing; an empty directory, or a new disk's, is taken."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "lost+found").mkdir()
    for path in (tmp_path / "a", tmp_path / "b" / "c" / "d"):
        run_dir = new_run(path)
        assert json.loads((path / "run.json").read_text()) == run_dir.state
        assert re.fullmatch(r"[\w-]{22}", run_dir.state["id"])
        known = {name: value for name, value in run_dir.state.items() if name != "id"}
        assert known == {"format": 1, "generation": 0, "state": "running", "function": "f"}


def test_a_directory_with_a_run_is_refused(tmp_path: Path) -> None:
    """Nothing of an earlier run is ever overwritten, and the line says how to go on with it."""
    new_run(tmp_path / "run")
    with pytest.raises(JournalError, match=r"holds a run already: go on with `fanout resume "):
        new_run(tmp_path / "run")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "today.txt").touch()
    with pytest.raises(JournalError, match="is not empty and holds no run: choose another --out"):
        new_run(tmp_path / "notes")
    (tmp_path / "run" / "run.json").unlink()
    (tmp_path / "run" / "outcomes.jsonl").write_text("{}\n")
    with pytest.raises(JournalError, match=r"has outcomes but no run\.json"):
        new_run(tmp_path / "run")


def test_what_a_kill_left_before_there_was_a_run_is_no_obstacle(tmp_path: Path) -> None:
    """Killed at any line of its beginning, a run has no run.json yet, and the next begins in its place."""
    left = new_run(tmp_path / "run").path
    (left / "run.json").rename(left / "run.json.new")
    (left / "spool").write_bytes(b"half of")
    assert new_run(left).state["state"] == "running"
    assert sorted(path.name for path in left.iterdir()) == ["lock", "mark", "outcomes.jsonl", "run.json"]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """One line, with what to do."""
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="is not a directory: choose another --out"):
        new_run(tmp_path / "file")
    with pytest.raises(JournalError, match=r"cannot be written: .*: choose another --out"):
        new_run(tmp_path / "file" / "run")
    with pytest.raises(JournalError, match="cannot be written"):
        new_run(Path("/proc/no/run") if Path("/proc").exists() else tmp_path / "file" / "x")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "there is no such directory"),
        (lambda path: path.mkdir(), "it has no run.json"),
        (lambda path: path.touch(), "it is a file, not a directory"),
        (lambda path: (new_run(path).path / "outcomes.jsonl").unlink(), "it has no outcomes.jsonl"),
        (lambda path: (new_run(path).path / "run.json").write_bytes(b'{"state"'), "is damaged"),
        (lambda path: (new_run(path).path / "run.json").write_bytes(b"[]"), "is damaged"),
        (
            lambda path: new_run(path).write_state({"counts": {"succeeded": "x"}}),
            "is damaged: Expected `int`",
        ),
        (lambda path: new_run(path).write_state({"records_read": -1}), "is damaged: Expected `int` >= 0"),
        (lambda path: new_run(path).write_state({"started_at": "never"}), "at `$.started_at`"),
        (lambda path: new_run(path).write_state({"input": {"location": 5}}), "at `$.input.location`"),
        (
            lambda path: new_run(path).write_state({"format": 3, "fanout_version": "9.1"}),
            "format 3, written by fanout 9.1; this one reads up to 2: upgrade fanout",
        ),
    ],
)
def test_what_is_no_run_is_told(tmp_path: Path, make: object, words: str) -> None:
    """Each message names what is missing, wrong or too new."""
    assert callable(make)
    make(tmp_path / "run")
    with pytest.raises(JournalError) as caught:
        RunDir.open(tmp_path / "run")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_members_that_nobody_knows_are_kept(tmp_path: Path) -> None:
    """A later fanout's notes survive an earlier one's writing."""
    new_run(tmp_path / "run", colour="red")
    run_dir = RunDir.open(tmp_path / "run")
    run_dir.write_state({"state": "finished"})
    assert RunDir.open(tmp_path / "run").state == {
        "format": 1,
        "id": run_dir.state["id"],
        "generation": 0,
        "state": "finished",
        "function": "f",
        "colour": "red",
    }


def test_run_json_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    """A draft that a crash left behind is not looked at, and a failure to write keeps the old."""
    run_dir = new_run(tmp_path / "run")
    (run_dir.path / "run.json.new").write_text('{"state":"fin')
    assert RunDir.open(run_dir.path).state["state"] == "running"
    (run_dir.path / "run.json.new").unlink()
    (run_dir.path / "run.json.new").mkdir()
    with pytest.raises(JournalError, match=r"run\.json cannot be written"):
        run_dir.write_state({"state": "finished"})
    assert run_dir.state["state"] == "running"
    assert RunDir.open(run_dir.path).state["state"] == "running"


HOLDER = """
import sys, time
from pathlib import Path
from fanout.journal import RunLock
lock = RunLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_lock_dies_with_its_holder(tmp_path: Path) -> None:
    """A second process is told who holds the run; after kill -9 of that one it gets in at once."""
    run_dir = new_run(tmp_path / "run")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run_dir.path)], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(JournalError, match=rf"is in use by process {holder.pid}: wait"):
            run_dir.lock()
        holder.kill()
    with run_dir.lock(), pytest.raises(JournalError, match=f"in use by process {os.getpid()}"):
        run_dir.lock()
    run_dir.lock().release()
