"""An emulator that does not start, or does not end: its parent gives it up, and leaves no process behind."""

from __future__ import annotations

import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fanout.emulator import EmulatorProcess, child
from fanout.errors import EmulatorError


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[subprocess.Popen[bytes]]:
    """In the place of the interpreter: says nothing, and does not heed SIGTERM. What was started of it."""
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\ntrap '' TERM\nexec sleep 20\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(child, "_STOP_LIMIT_S", 0.2)
    started: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def popen(*words: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(start(*words, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", popen)
    return started


def test_one_that_never_listens_is_given_up(
    monkeypatch: pytest.MonkeyPatch, deaf: list[subprocess.Popen[bytes]]
) -> None:
    """In one line; the process is killed."""
    monkeypatch.setattr(child, "START_LIMIT_S", 0.1)
    with pytest.raises(EmulatorError, match=r"the emulator did not start within 0\.1 seconds"):
        EmulatorProcess(simulate=["name=f"]).start()
    assert [process.returncode for process in deaf] in ([-signal.SIGKILL], [-signal.SIGTERM])


def test_who_stops_waiting_for_it_leaves_no_process(
    monkeypatch: pytest.MonkeyPatch, deaf: list[subprocess.Popen[bytes]]
) -> None:
    """As by Ctrl-C."""

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(select, "select", interrupted)
    with pytest.raises(KeyboardInterrupt):
        EmulatorProcess(simulate=["name=f"]).start()
    # It may be told to end before it has come to ignore that.
    assert [process.returncode for process in deaf] in ([-signal.SIGKILL], [-signal.SIGTERM])
