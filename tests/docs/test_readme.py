"""What the README shows works as it stands: its three uses are run against a function."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fanout.emulator import EmulatorProcess

from .pages import ROOT, blocks, sections

README = ROOT / "README.md"
COMMANDS = [
    line.removeprefix("$ ")
    for block in blocks(README, "console")
    for line in block.text.splitlines()
    if line.startswith("$ ")
]
SCRIPTS = list(blocks(README, "python"))


def test_the_readme_shows_three_uses() -> None:
    """The command, a batch script and an async service: none is lost unnoticed."""
    assert [block.text.count("fanout.run(") for block in SCRIPTS] == [1, 0]
    assert "fanout.Dispatcher(" in SCRIPTS[1].text
    assert len(COMMANDS) == 2
    parts = sections(README)
    assert {"The command", "A batch script", "An async service"} <= set(parts)


def in_a_shell(script: str, folder: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run it where ``fanout`` is this one."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**environ, "PATH": path, "HOME": str(folder)},
        timeout=100,
        check=False,
    )


def test_the_command_runs(my_function: EmulatorProcess, tmp_path: Path) -> None:
    """``fanout run`` with a file: a run directory with one outcome for each line, and exit code 0."""
    (tmp_path / "orders.jsonl").write_text('{"id":"a"}\n{"id":"b"}\n')
    done = in_a_shell(f"{COMMANDS[0]} --no-report", tmp_path, dict(os.environ))
    assert done.returncode == 0, done.stderr
    (journal,) = tmp_path.glob("runs/my-function-*/outcomes.jsonl")
    outcomes = [json.loads(line) for line in journal.read_text().splitlines()]
    assert {outcome["key"]: outcome["status"] for outcome in outcomes} == {"a": "succeeded", "b": "succeeded"}


@pytest.mark.skipif(shutil.which("jq") is None, reason="no jq here")
def test_the_pipe_runs(my_function: EmulatorProcess, tmp_path: Path) -> None:
    """From one program to the next: what the function returned comes out at the end, and no file is left."""
    (tmp_path / "orders.jsonl").write_text('{"id":"a"}\n{"id":"b"}\n')
    done = in_a_shell(COMMANDS[1].replace("jq ", "jq -c "), tmp_path, dict(os.environ))
    assert sorted(done.stdout.splitlines()) == ['{"id":"a"}', '{"id":"b"}'], done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["orders.jsonl"]


@pytest.mark.parametrize("block", SCRIPTS, ids=["batch", "service"])
def test_the_scripts_run(block: object, my_function: EmulatorProcess, tmp_path: Path) -> None:
    """Pasted into a file, they run to their end."""
    script = tmp_path / "script.py"
    script.write_text(block.text)  # type: ignore[attr-defined]
    my_function.reset()

    done = run_script(script)
    assert (done.returncode, done.stderr) == (0, "")
    executions = my_function.stats()["executions"]
    if "fanout.run" in script.read_text():
        assert executions == 1000
        assert done.stdout.startswith("1000 of 1000 in ")
        again = run_script(script)  # the job is started twice: nothing is sent a second time
        assert (again.returncode, again.stdout) == (0, done.stdout)
        assert my_function.stats()["executions"] == 1000
    else:
        assert executions == 101
        assert done.stdout == "succeeded {'id': 17, 'quantity': 2}\n"


def run_script(script: Path) -> subprocess.CompletedProcess[str]:
    """Run it where it lies; a warning is an error."""
    return subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=script.parent,
        capture_output=True,
        text=True,
        env=os.environ,
        timeout=60,
        check=False,
    )


@pytest.mark.slow
def test_the_quick_start_runs_as_printed(tmp_path: Path) -> None:
    """In a shell that knows of no account: a run that is stopped, its resume, and a redrive that mends it."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (block,) = (block for block in blocks(README, "sh") if "emulate" in block.text)
    lines = block.text.replace("\\\n", " ").splitlines()
    done = in_a_shell("\n".join(f"{line}; echo exit $?" for line in lines), tmp_path, {})
    codes = [line for line in done.stdout.splitlines() if line.startswith("exit ")]
    assert codes == ["exit 0", "exit 5", "exit 1", "exit 0", "exit 0"], done.stderr
    assert "Traceback" not in done.stderr
    last = json.loads((tmp_path / "runs" / "first" / "run.json").read_bytes())
    assert last["counts"] == {"succeeded": 1000}


def test_a_script_runs_by_the_emulator_as_printed(tmp_path: Path) -> None:
    """``fanout emulate --simulate name=my-function --`` in front of a script of this page is all it needs."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPTS[0].text)
    command = "emulate --simulate name=my-function --"
    assert command in README.read_text()
    done = subprocess.run(
        [sys.executable, "-m", "fanout", *command.split(), sys.executable, str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("1000 of 1000 in ")
