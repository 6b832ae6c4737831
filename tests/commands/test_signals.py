"""Signals from a run's first call to its summary: none of them cuts off what the summary needs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from shlex import quote
from typing import Any

import pytest

import fanout
from fanout import early_signals
from fanout.cli.interruption import Interruption
from fanout.commands.collection import CollectionStop
from fanout.commands.run_state import write_page
from fanout.commands.signals import Signals
from fanout.journal import RunDir
from fanout.private_files import write_whole
from tests.cli.inside import inside
from tests.cli.running import Shell, end, interrupted, shared_emulator, shell, wait_until
from tests.scripted import Scripted

__all__ = ["inside", "shared_emulator", "shell"]


def raising(signum: signal.Signals, count: int, then: Callable[..., Any]) -> Callable[..., Any]:
    """Send this process so many signals, and go on."""

    def call(*args: Any, **named: Any) -> Any:
        for _ in range(count):
            signal.raise_signal(signum)  # to this thread; os.kill lets the kernel choose one
        return then(*args, **named)

    return call


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_one_while_the_end_is_written_leaves_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signum: signal.Signals
) -> None:
    """The calls are over: it has nothing to stop, and run.json and the page are written."""
    before = signal.getsignal(signum)
    monkeypatch.setattr("fanout.commands.session.write_page", raising(signum, 1, write_page))
    report = fanout.run("f", range(5), transport=Scripted(), concurrency=5, out=tmp_path / "r")
    assert (report.exit_code, report.counts["succeeded"]) == (0, 5)
    assert json.loads((tmp_path / "r/run.json").read_text())["state"] == "finished"
    assert (tmp_path / "r/report.html").exists()
    assert signal.getsignal(signum) is before


def test_the_command_prints_its_summary_too(inside: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was: "interrupted", without a word of what had become of the records."""
    monkeypatch.setattr("fanout.commands.session.write_page", raising(signal.SIGINT, 1, write_page))
    inside.write("in.jsonl", 5)
    ended = inside.run("run", "fast", "in.jsonl", "--out", "run")
    assert ended.code == 0, ended
    assert "fast: 5 records" in ended.err
    assert "no calls are out" in ended.err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


async def test_one_between_two_works_is_the_next_ones() -> None:
    """Between the end of a run and its collection; a second then counts as a second."""
    said: list[str] = []
    signals = Signals(said.append)
    first, then = CollectionStop(), CollectionStop()
    signals.attach(first)()
    try:
        signals.on_signal("SIGINT")
        signals.attach(then)
        assert (first.reason, then.reason) == (None, "sigint")
    finally:
        signals.close()
    assert len(said) == 2


async def test_two_between_give_the_third_back_to_the_process() -> None:
    """What hangs there can be left."""
    said: list[str] = []
    signals = Signals(said.append)
    signals.attach(CollectionStop())()
    for _ in range(2):
        assert signals.is_listening
        signals.on_signal("SIGINT")
    assert not signals.is_listening
    assert "again to leave" in said[-1]


async def test_before_the_first_work_a_first_one_is_kept_and_a_second_ends(tmp_path: Path) -> None:
    """A run that has not begun cannot drain: the first is told to it at its start."""
    said: list[str] = []
    signals, stop = Signals(said.append), CollectionStop()
    signals.listen(tmp_path)
    signals.on_signal("SIGTERM")
    signals.attach(stop)()
    assert (stop.reason, stop.is_stopping) == ("sigterm", True)
    signals.close()
    signals = Signals(said.append)
    signals.listen(tmp_path)
    for _ in range(2):
        assert signals.is_listening
        signals.on_signal("SIGTERM")
    assert not signals.is_listening
    assert said[0] == "SIGTERM: the run stops before its first call"
    assert said[-1] == "SIGTERM: the run has not begun yet (again to end at once)"


# A shell heeds a signal when what runs in its foreground has ended; what it is just starting may miss one.
COMMAND = (
    "trap 'echo got-it >> heard; {then}' INT TERM; echo $$ > pid; "
    "sh -c 'trap \"echo got-it >> heard-below; exit\" INT TERM; : > begun; while :; do sleep 0.05; done'; "
    "while :; do sleep 0.05; done"
)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_command_at_the_end_gets_it_and_what_it_started(shell: Shell, signum: signal.Signals) -> None:
    """Its shell and the shell's children; fanout prints its summary and ends with the signal's code."""
    shell.write("in.jsonl", 5)
    process = shell.start(
        "run", "fast", "in.jsonl", "--out", "run", "--on-finish", COMMAND.format(then="exit 7")
    )
    with interrupted(process):
        pid = started(shell)
        process.send_signal(signum)
        ended = end(process)
    assert ended.code == 128 + signum, ended
    assert "fast: 5 records" in ended.err
    assert f"--on-finish was ended by {signum.name}" in ended.err
    for name in ("heard", "heard-below"):
        assert (shell.directory / name).read_text() == "got-it\n"
    assert not is_group_alive(pid)


def test_a_second_one_kills_a_command_that_heeds_none(shell: Shell) -> None:
    """A run must be able to end."""
    shell.write("in.jsonl", 5)
    process = shell.start("run", "fast", "in.jsonl", "--out", "run", "--on-finish", COMMAND.format(then=":"))
    with interrupted(process):
        pid = started(shell)
        process.send_signal(signal.SIGINT)
        wait_until((shell.directory / "heard").exists)
        process.send_signal(signal.SIGINT)
        ended = end(process)
    assert (ended.code, "fast: 5 records" in ended.err) == (130, True), ended
    assert not is_group_alive(pid)


def started(shell: Shell) -> int:
    """The process id of the command, which waits for another; both have set their traps."""
    wait_until((shell.directory / "begun").exists)
    return int((shell.directory / "pid").read_text())


def is_group_alive(pid: int) -> bool:
    """Whether any process of the group is left; a killed one may take a moment."""
    for _ in range(2_000):
        try:
            os.killpg(pid, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize(("verb", "write"), [("run", 0), ("resume", 0), ("redrive", 0), ("redrive", 1)])
def test_one_at_any_writing_of_the_state_ends_the_run_in_order(
    inside: Any, monkeypatch: pytest.MonkeyPatch, verb: str, write: int
) -> None:
    """From before there is a run.json that says ``running`` on: no signal leaves that word behind."""
    inside.write("in.jsonl", 6)
    begun = ("run", "errors" if verb == "redrive" else "fast", "in.jsonl", "--out", "run", "--quiet")
    if verb == "resume":
        assert inside.run(*begun, "--enough", "1", "-j", "1").code == 0
    elif verb == "redrive":
        assert inside.run(*begun).code == 1
    again = ["--all"] if verb == "resume" else []
    count = 0

    def counted(*args: Any, **named: Any) -> None:
        nonlocal count
        write_whole(*args, **named)
        if count == write:
            signal.raise_signal(signal.SIGTERM)
        count += 1

    with monkeypatch.context() as patch:
        patch.setattr("fanout.journal.run_dir.write_whole", counted)
        ended = inside.run(*(begun if verb == "run" else (verb, "run", "--quiet", *again)))
    assert inside.state()["state"] in ("interrupted", "finished"), ended
    assert ended.code in (143, {"run": 0, "resume": 0, "redrive": 1}[verb]), ended


_ENDING = """
import os, sys
from fanout import early_signals


class Last:
    def __del__(self, kill=os.kill, pid=os.getpid(), number=int(sys.argv[1])):
        kill(pid, number)


sys.last = Last()  # until the modules are taken apart
early_signals.end_at_once()
early_signals.leave_with(7)
sys.exit(7)
"""
SAID = {signal.SIGINT: "interrupted", signal.SIGTERM: "ended by SIGTERM"}
_IMPORTING = """
import os, sys
from fanout import __main__


class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "fanout.cli":
            os.kill(os.getpid(), int(sys.argv[1]))


sys.meta_path.insert(0, Finder())
__main__.main()
"""


@pytest.mark.parametrize("signum", SAID)
def test_one_while_the_process_ends_changes_nothing(signum: signal.Signals) -> None:
    """Its exit code is what the command has said it is."""
    words = [sys.executable, "-c", _ENDING, str(int(signum))]
    assert subprocess.run(words, capture_output=True, check=False).returncode == 7


@pytest.mark.parametrize("signum", SAID)
def test_one_while_the_command_is_imported_ends_it(signum: signal.Signals) -> None:
    """In one line, and not by an exception, which an import may swallow."""
    words = [sys.executable, "-c", _IMPORTING, str(int(signum))]
    done = subprocess.run(words, capture_output=True, check=False, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signum, "", f"fanout: {SAID[signum]}\n")


@pytest.mark.parametrize("signum", SAID)
@pytest.mark.parametrize("verb", ["resume", "redrive"])
def test_one_before_a_run_goes_on_changes_nothing(
    inside: Any, monkeypatch: pytest.MonkeyPatch, verb: str, signum: signal.Signals
) -> None:
    """The run is as it was, and the command says how it goes on."""
    inside.write("in.jsonl", 4)
    function, enough = ("errors", ()) if verb == "redrive" else ("fast", ("--enough", "1", "-j", "1"))
    inside.run("run", function, "in.jsonl", "--out", "run", "--quiet", *enough)
    before, search = (
        inside.state(),
        f"fanout.commands.{verb}.{'search' if verb == 'redrive' else 'read_history'}",
    )
    found = resolve_name(search)
    monkeypatch.setattr(search, raising(signum, 1, found))
    ended = inside.run(verb, "run", *(["--all"] if enough else []))
    assert (ended.code, inside.state()) == (128 + signum, before)
    on = f"fanout {verb} {quote(f'{inside.directory}/run')}"
    assert ended.err == f"fanout: {SAID[signum]}\ngo on with: {on}\n"


async def test_a_third_one_ends_a_command_with_its_own_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What has begun, and does not come to its first call, can be left, and is gone on with."""
    ends: list[int] = []
    monkeypatch.setattr(os, "_exit", ends.append)
    inputs = {"location": "in.jsonl", "fingerprint": {}}
    run = RunDir.create(
        tmp_path / "run", {"state": "running", "function": "f", "options": {}, "input": inputs}
    )
    signals = Interruption(lambda _: None).signals
    signals.listen(run.path)
    try:
        for _ in range(2):
            signals.on_signal("SIGTERM")
        assert not ends
        signals.on_signal("SIGTERM")
    finally:
        signals.close()
    assert ends == [143]
    resume = f"fanout resume {quote(str(run.path))}"
    assert capsys.readouterr().err == f"fanout: ended by SIGTERM\ngo on with: {resume}\n"


@pytest.mark.parametrize("signum", SAID)
def test_one_while_the_summary_is_printed_hides_none_of_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], signum: signal.Signals
) -> None:
    """The end is decided, and comes at once; where it does not, as a pipe is full, the second one ends it."""
    ends: list[int] = []
    monkeypatch.setattr(os, "_exit", ends.append)
    before = signal.getsignal(signum)
    early_signals.end_at_once()
    try:
        asyncio.run(Interruption(print).heed(asyncio.sleep(0)))
        signal.raise_signal(signum)
        assert (ends, capsys.readouterr().err) == ([], "")
        signal.raise_signal(signum)
    finally:
        early_signals.hand_back()
    assert (ends, capsys.readouterr().err) == ([128 + signum], f"fanout: {SAID[signum]}\n")
    assert signal.getsignal(signum) is before
