"""The command as a process: signals it was told to ignore, standard streams that are closed or full."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from unittest.mock import Mock

import pytest

from fanout.report import RunReport
from tests.cli.inside import Inside
from tests.cli.running import FANOUT, Shell, end, interrupted, wait_until


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


@pytest.mark.parametrize(
    "closed",
    [
        "<&-",
        "<&- >&- 2>&-",
        *(
            pytest.param(each, marks=pytest.mark.slow)
            for each in (">&-", "2>&-", "<&- >&-", "<&- 2>&-", ">&- 2>&-")
        ),
    ],
)
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


def _in_shell(shell: Shell, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=shell.directory,
        env=shell.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("run fast in.jsonl --out run --no-report", 0),
        ("run nosuch in.jsonl --out run", 4),
        ("run fast nosuch.jsonl", 2),
        ("invoke fast --log-type Tail", 0),
    ],
)
def test_messages_that_cannot_be_written_change_no_exit_code(shell: Shell, words: str, code: int) -> None:
    """The disk of a log is full, or its reader has gone: the command ends as it would have."""
    shell.write("in.jsonl", 20)
    assert _in_shell(shell, f"exec '{FANOUT}' {words} 2>/dev/full").returncode == code
    shutil.rmtree(shell.directory / "run", ignore_errors=True)
    command = [str(FANOUT), *words.split()]
    ends = os.pipe()
    os.close(ends[0])
    with subprocess.Popen(
        command, cwd=shell.directory, env=shell.environment, stdout=subprocess.DEVNULL, stderr=ends[1]
    ) as process:
        os.close(ends[1])
        assert process.wait(timeout=60) == code


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(
    "words",
    [
        "run fast in.jsonl --out run --no-report --json",
        "report done --json",
        "export done --outputs",
        "invoke fast",
        "--help",
    ],
)
def test_results_that_cannot_be_written_are_said(shell: Shell, words: str) -> None:
    """A full disk is one line and exit code 2, a reader that has gone is 141 and no line."""
    shell.write("in.jsonl", 20)
    assert shell.run("run", "fast", "in.jsonl", "--out", "done", "--no-report").code == 0
    full = _in_shell(shell, f"exec '{FANOUT}' {words} >/dev/full")
    assert (full.returncode, full.stderr.splitlines()[-1]) == (
        2,
        "fanout: standard output cannot be written: No space left on device",
    )
    shutil.rmtree(shell.directory / "run", ignore_errors=True)
    ends = os.pipe()
    os.close(ends[0])
    with subprocess.Popen(
        [FANOUT, *words.split()],
        cwd=shell.directory,
        env=shell.environment,
        stdout=ends[1],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(ends[1])
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (141, "")


def test_a_stream_that_takes_no_more_for_now_is_waited_for(shell: Shell) -> None:
    """Whoever shares a pipe may have made it non-blocking."""
    shell.write("in.jsonl", 3000)
    assert shell.run("run", "fast", "in.jsonl", "--out", "done", "--no-report").code == 0
    ends = os.pipe()
    os.set_blocking(ends[1], False)
    with subprocess.Popen(
        [FANOUT, "export", "done", "--outcomes"],
        cwd=shell.directory,
        env=shell.environment,
        stdout=ends[1],
        stderr=subprocess.PIPE,
    ) as process:
        os.close(ends[1])
        time.sleep(0.2)  # the pipe is full; the test holds without it
        with os.fdopen(ends[0], "rb") as file:
            assert file.read().count(b"\n") == 3000
        assert process.wait(timeout=60) == 0


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


def as_first_process(shell: Shell, *words: str | Path) -> subprocess.Popen[bytes]:
    """Start a command as process 1 of a PID namespace, as in a container."""
    first = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    if shutil.which(first[0]) is None or subprocess.run([*first, "true"], check=False).returncode:
        pytest.skip("no PID namespaces here: root may make them, and not in every container")
    return subprocess.Popen(
        [*first, *words],
        cwd=shell.directory,
        env=shell.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def has_child(pid: int) -> bool:
    """Whether this process has started another."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text() != ""


def child_of(pid: int) -> int:
    """The process that this one started first."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def states_in(pid: int) -> list[str]:
    """The states of all processes in the PID namespace of this one: Z is one that nobody waited for."""
    namespace = Path(f"/proc/{pid}/ns/pid").readlink()
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (each / "ns/pid").readlink() == namespace:
                found.append((each / "stat").read_text().rpartition(")")[2].split()[0])
    return found


def test_as_process_1_a_run_drains_and_takes_in_orphans(shell: Shell) -> None:
    """SIGTERM drains: exit 143, a line for every call. What a finished child leaves behind is waited for."""
    shell.write("in.jsonl", 4000)
    orphans = "sh -c 'sleep 0.2 & sleep 0.2 & true'; exec"
    run = f"'{FANOUT}' run steady in.jsonl --out run --no-report -q -j 10"
    process = as_first_process(shell, "/bin/sh", "-c", f"{orphans} {run}")
    with interrupted(process):
        shell.wait_for_outcomes(30)
        first = child_of(process.pid)
        wait_until(lambda: "Z" not in states_in(first))
        os.kill(first, signal.SIGTERM)
        assert end(process).code == 143
    state = shell.state()
    assert (state["state"], state["halted_by"]) == ("interrupted", "sigterm")
    assert len(shell.outcomes()) == len(shell.executions()) < 4000


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.0, 0.15, 0.35, 0.65])
def test_as_process_1_a_run_ends_by_a_signal_at_any_moment(shell: Shell, after_s: float) -> None:
    """Not only once it has begun to send, but from fanout's first lines on: exit 143, and nothing lost."""
    shell.write("in.jsonl", 4000)
    words = ("run", "steady", "in.jsonl", "--out", "run", "--no-report", "-q", "-j", "10")
    process = as_first_process(shell, FANOUT, *words)
    with interrupted(process):
        wait_until(lambda: has_child(process.pid))
        first = child_of(process.pid)
        wait_until(lambda: has_child(first))  # what comes before, the kernel keeps from a process 1
        time.sleep(after_s)
        os.kill(first, signal.SIGTERM)
        assert end(process).code == 143
    done = len(shell.outcomes()) if (shell.directory / "run" / "outcomes.jsonl").exists() else 0
    assert done == len(shell.executions())


def test_as_process_1_an_emulator_ends_its_command(shell: Shell) -> None:
    """SIGTERM goes on to the command, whose exit code it ends with; its orphans are waited for."""
    inner = "sh -c 'sleep 0.2 & true'; trap 'exit 7' TERM; touch begun; while :; do sleep 0.1; done"
    process = as_first_process(
        shell, FANOUT, "emulate", "--simulate", "latency=1ms", "--", "/bin/sh", "-c", inner
    )
    with interrupted(process):
        wait_until((shell.directory / "begun").exists)
        first = child_of(process.pid)
        time.sleep(0.4)
        wait_until(lambda: "Z" not in states_in(first))  # one of the moment may be
        os.kill(first, signal.SIGTERM)
        assert end(process).code == 7


@pytest.mark.slow
def test_too_little_memory_is_one_line(shell: Shell) -> None:
    """Wherever it ends: in the loading of a library, at a thread, in the work. What finished is finished."""
    shell.write("in.jsonl", 20)
    codes = []
    for number, limit_kb in enumerate((45_000, 60_000, 75_000, 90_000)):
        done = subprocess.run(
            [
                "/bin/sh",
                "-c",
                f"ulimit -v {limit_kb}; exec '{FANOUT}' run fast in.jsonl --out run-{number} -q",
            ],
            cwd=shell.directory,
            env=shell.environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
        said = done.stderr.decode()
        assert "Traceback" not in said, said
        codes.append(done.returncode)
        if done.returncode == 2:
            assert said.startswith("fanout: ")
            assert "memory" in said or "thread" in said
        else:
            assert (done.returncode, shell.state(f"run-{number}")["state"]) == (0, "finished")
    assert 2 in codes


def test_a_page_for_which_memory_is_too_little_is_said(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is as finished as it was, with its own exit code."""
    inside.write("in.jsonl", 3)
    shortages = (
        MemoryError(),
        ImportError("_x.so: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
    )
    for number, error in enumerate(shortages):
        monkeypatch.setattr(RunReport, "write_html", Mock(side_effect=error))
        done = inside.run("run", "fast", "in.jsonl", "--out", f"run-{number}", "-q")
        assert (done.code, done.err.count("\n")) == (0, 1)
        assert "report.html was not written: not enough memory" in done.err
        assert inside.state(f"run-{number}")["state"] == "finished"
