"""Every verb, killed at each of its writes to the run directory: what is left can be gone on with."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fanout import private_files
from fanout.cli import main
from fanout.journal import marks, run_dir
from tests.cli.inside import Inside

KILLED = 77
WHERE = ("before", "half", "after")


def killed(inside: Inside, nth: int, where: str, *words: str) -> bool:
    """Run a command in a child that dies at its ``nth`` whole write; False when it ended before that."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == KILLED
    write = private_files.write_whole
    writes = 0

    def write_and_die(path: Path, content: bytes) -> None:
        nonlocal writes
        writes += 1
        if writes == nth and where == "before":
            os._exit(KILLED)
        if writes == nth and where == "half":
            path.with_name(path.name + ".new").write_bytes(content[: len(content) // 2])
            os._exit(KILLED)
        write(path, content)
        if writes == nth:
            os._exit(KILLED)

    for module in (run_dir, marks):
        module.write_whole = write_and_die  # type: ignore[attr-defined]
    code: Any = 1
    try:
        sys.argv = ["fanout", *words]
        sys.stdin = open(os.devnull)  # noqa: PTH123, SIM115 - until the child ends
        main()
    except SystemExit as end:
        code = end.code
    finally:
        os._exit(int(code or 0))


def finish(inside: Inside, again: tuple[str, ...]) -> None:
    """What a person does: begin again where there is no run, else go on, until nothing is left."""
    if not (inside.directory / "run" / "run.json").exists():
        assert inside.run(*again).code in (0, 1)
    resumed = inside.run("resume", "run", "--may-have-run", "send", "--no-report", "--deadline", "1m")
    assert resumed.code in (0, 1), resumed
    state = inside.state()
    assert (state["state"], state.get("redrive")) == ("finished", None)


def each_kill(inside: Inside, words: tuple[str, ...], before: Callable[[], object]) -> int:
    """Yields after each kill; counts them."""
    kills = 0
    for nth in range(1, 30):
        for where in WHERE:
            for path in inside.directory.glob("run/*"):
                path.unlink()
            before()
            if not killed(inside, nth, where, *words):
                return kills
            kills += 1
            finish(inside, words)
            latest = {outcome["seq"]: outcome["status"] for outcome in inside.outcomes()}
            assert sorted(latest) == list(range(6))
    raise AssertionError("it never ended")


RUN = ("run", "fast", "in.jsonl", "--out", "run", "--no-report", "-j", "2")


@pytest.fixture
def six(inside: Inside) -> Inside:
    """An input of six records."""
    inside.write("in.jsonl", 6)
    return inside


@pytest.mark.slow
def test_run(six: Inside) -> None:
    """A run killed at any of its writes is begun again, or resumed to its end."""
    assert each_kill(six, RUN, lambda: None) >= 9


@pytest.mark.slow
def test_resume(six: Inside) -> None:
    """So is the resume of one."""
    assert each_kill(six, ("resume", "run", "--no-report"), lambda: six.run(*RUN, "--deadline", "1ms")) >= 6


@pytest.mark.slow
def test_plan(six: Inside) -> None:
    """A canary is one that a run, or a resume, goes on with."""
    words = ("plan", "fast", "in.jsonl", "--canary", "3", "--out", "run", "--yes", "--no-report")
    assert each_kill(six, words, lambda: None) >= 9


@pytest.mark.slow
def test_redrive(six: Inside) -> None:
    """A redrive too; and what it had not sent is still sent, by the resume or by the next redrive."""
    first = ("run", "errors", "in.jsonl", "--out", "run", "--no-report")
    assert each_kill(six, ("redrive", "run", "--no-report"), lambda: six.run(*first)) >= 9
