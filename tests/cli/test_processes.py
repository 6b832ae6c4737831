"""The command as a process: signals it was told to ignore, standard streams that are closed."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest

from tests.cli.running import FANOUT, Shell, end, interrupted


@pytest.mark.parametrize("signum", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_signal_ignored_at_the_start_stays_ignored(shell: Shell, signum: signal.Signals) -> None:
    """As ``nohup`` has it: the run goes to its end."""
    shell.write("in.jsonl", 60)
    process = subprocess.Popen(
        [FANOUT, "run", "steady", "in.jsonl", "--out", "run", "--no-report", "-q"],
        cwd=shell.directory,
        env=shell.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signum, signal.SIG_IGN) and None,  # noqa: PLW1509 - as nohup does
        restore_signals=False,
    )
    with interrupted(process):
        shell.wait_for_outcomes(1)
        process.send_signal(signum)
        assert end(process).code == 0
    assert len(shell.outcomes()) == 60


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_closed_streams_change_nothing(shell: Shell, closed: str) -> None:
    """Exit code and files are as ever; no file or socket gets the number of a stream."""
    shell.write("in.jsonl", 20)
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec '{FANOUT}' run fast in.jsonl --out run --no-report {closed}"],
        cwd=shell.directory,
        env=shell.environment,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done
    assert len(shell.outcomes()) == 20
    assert json.loads((shell.directory / "run" / "run.json").read_text())["state"] == "finished"


@pytest.mark.parametrize(
    ("words", "said"),
    [("in.jsonl --out - >&-", "standard output is closed"), ("- --out run <&-", "standard input is closed")],
)
def test_a_closed_stream_that_is_needed_is_said(shell: Shell, words: str, said: str) -> None:
    """One line, exit 2, nothing sent."""
    shell.write("in.jsonl", 2)
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec '{FANOUT}' run fast {words}"],
        cwd=shell.directory,
        env=shell.environment,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert said in done.stderr.decode()
    assert shell.executions() == {}
